"""Adapters that are processes of their own: what Mixer must know to speak with them over gRPC.

No adapter itself: `mixer.rules.dynamic` makes one of each `adapter` resource, with this as its code.

* `descriptors`: what `template` and `adapter` resources describe;
* `standard`: the descriptors of the templates that are compiled in;
* `connection`: what an operator writes below ``connection``, and its faults;
* `credentials`, `relay`: tokens and certificates, and their files;
* `backend`: connection, session and calls;
* `answers`: messages of the model, to results and back;
* `handler`: puts them together.

Source: spec runtime 6.
"""

from mixer.adapters.remote.connection import Connection
from mixer.adapters.remote.descriptors import EncodedInstance, RemoteTemplate, TemplateModel, read_params, read_template
from mixer.adapters.remote.handler import RemoteParams, build

__all__ = [
    "Connection",
    "EncodedInstance",
    "RemoteParams",
    "RemoteTemplate",
    "TemplateModel",
    "build",
    "read_params",
    "read_template",
]
