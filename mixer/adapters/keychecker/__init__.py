"""keychecker: does an API key exist, and what may its holder do? Source: spec adapters 2.8, the template apikey.

The original hands API keys to services outside; this adapter is ours. It is not called ``apikey``, as the legacy form of
configuration could not tell the adapter's objects from the template's then.

Read in this order: `params` (what an operator writes, and its faults), `keys` (keys in a form that answers quickly and
tells nothing), `file` (keys that change without the configuration), `handler` (answers).
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.keychecker.handler import KeyHandler, build
from mixer.adapters.keychecker.params import KeyCheckerParams, validate
from mixer.templates import APIKEY

INFO: Final = AdapterInfo(
    name="keychecker",
    templates=(APIKEY,),
    params=KeyCheckerParams,
    build=build,
    validate=validate,
    description="Admits by API key, each for the operations that it is good for.",
)

__all__ = ["INFO", "KeyCheckerParams", "KeyHandler", "build"]
