"""For authors of adapters that run as a process of their own.

An adapter is written as one that runs inside of Mixer: an `AdapterInfo` with params, ``build`` and a `Handler`. What
this package adds is the process around it: ``serve(INFO)`` makes a command of it that speaks Istio's protocol for
adapters of other processes, and prints the resources by which Mixer finds it. Moving an adapter in or out is no
change of its code.

* `params`: a model of params as a protobuf message, and back;
* `decoding`: instances from the wire;
* `sessions`: one handler for each configuration that Mixer sends;
* `server`: the gRPC server;
* `resources`: the `adapter` and `template` resources;
* `command`: `serve`.

Source: spec runtime 6, ADR 0017.
"""

from mixer.adapters.base import (
    AdapterInfo,
    CheckResult,
    Code,
    DirectResponse,
    Env,
    Handler,
    InstanceInfo,
    Params,
    QuotaArgs,
    QuotaResult,
    Status,
)
from mixer.attributes import Duration, Timestamp
from mixer.sdk.command import serve
from mixer.sdk.decoding import template_of
from mixer.sdk.server import AdapterServer, ServerSecurity

__all__ = [
    "AdapterInfo",
    "AdapterServer",
    "CheckResult",
    "Code",
    "DirectResponse",
    "Duration",
    "Env",
    "Handler",
    "InstanceInfo",
    "Params",
    "QuotaArgs",
    "QuotaResult",
    "ServerSecurity",
    "Status",
    "Timestamp",
    "serve",
    "template_of",
]
