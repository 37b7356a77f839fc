"""The sidecar client: attributes in, a verdict out, with as few calls to Mixer as correctness allows.

::

    from mixer.attributes import MappingBag
    from proxy.client import HttpClientConfig, SidecarClient, Verdict, check_attributes, read_config, with_report
    from proxy.client.remote import RemoteMixer, RemoteOptions

    config, problems = read_config(HttpClientConfig, {
        "serviceConfigs": {"default": {"quotaSpec": [{"rules": [{"quotas": [{"quota": "requests", "charge": 1}]}]}]}},
        "defaultDestinationService": "default",
        "transport": {"networkFailPolicy": {"policy": "FAIL_CLOSE"}},
    })
    client = SidecarClient(RemoteMixer(RemoteOptions("127.0.0.1:9091")), config)

    bag = client.compose(MappingBag({"request.path": "/cart", "source.user": "ada"}))
    verdict = client.check(bag)             # a Verdict when the caches know ...
    if not isinstance(verdict, Verdict):
        verdict = await verdict             # ... else Mixer is asked
    if not verdict.ok:
        ...                                 # answer with http_status(verdict.code)
    client.report([with_report(bag, {**check_attributes(verdict), "response.code": 200})])

* `sidecar` puts everything together; `config`, `services`, `bindings`, `node` say what holds for a request;
* `engine` asks: `checkcache`, `quotacache` and `pool` remember, `shapes` are their keys; `flights` are calls that requests share;
* `quotaspec`, `apispec` and `templates` are what a request is charged and which API it calls;
* `bags`, `forwarded`, `values` make its attributes, `outcome` what its user sees of it;
* `batch` and `delivery` bring reports away, `remote` is a Mixer far away; `connection` is a TCP connection's life.
"""

from proxy.client.bags import LayeredBag, with_report
from proxy.client.bindings import SpecBuilder, SpecIndex
from proxy.client.config import (
    PASS_THROUGH,
    FailPolicy,
    HttpClientConfig,
    NetworkFailPolicy,
    ServiceConfig,
    TcpClientConfig,
    Transport,
    for_all_services,
    read_config,
)
from proxy.client.connection import TcpConnection
from proxy.client.node import LocalNode, local_node
from proxy.client.outcome import check_attributes, http_status, status_text
from proxy.client.sidecar import SidecarClient
from proxy.policy import Verdict

__all__ = [
    "PASS_THROUGH",
    "FailPolicy",
    "HttpClientConfig",
    "LayeredBag",
    "LocalNode",
    "NetworkFailPolicy",
    "ServiceConfig",
    "SidecarClient",
    "SpecBuilder",
    "SpecIndex",
    "TcpClientConfig",
    "TcpConnection",
    "Transport",
    "Verdict",
    "check_attributes",
    "for_all_services",
    "http_status",
    "local_node",
    "read_config",
    "status_text",
    "with_report",
]
