"""opa: policies in Rego decide, in this process or in an Open Policy Agent. Source: spec adapters 4.11.

Read in this order: `params` (what an operator writes, and its faults), `document` (what a policy sees of an instance),
`rego` (policies in this process), `server` and `breaker` (an agent that is asked), `handler` (from an outcome to an
answer), `ledger` (how checks ended).

Policies in this process need the extra ``mixer[rego]``, an interpreter called regorus. It was chosen over ``regopy``,
which admits what OPA refuses to compile: with a misspelt variable in it, ``allow { not q }`` is true there. Where
regorus is stricter than OPA, a request is rejected (`rego`). An agent is the reference, and needs no extra.
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.opa.handler import OpaHandler, build
from mixer.adapters.opa.params import OpaParams, validate
from mixer.templates import AUTHORIZATION

INFO: Final = AdapterInfo(
    name="opa",
    templates=(AUTHORIZATION,),
    params=OpaParams,
    build=build,
    validate=validate,
    description="Lets policies in Rego decide, given in the params or kept by an Open Policy Agent.",
)

__all__ = ["INFO", "OpaHandler", "OpaParams", "build"]
