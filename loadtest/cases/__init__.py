"""Cases: what can be measured, one module for each kind.

To add one, write a module here with a tuple ``CASES`` of objects that satisfy `loadtest.cases.base.Case`; nothing
else has to know of it. `all_cases` finds it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from loadtest.cases.base import Case

__all__ = ["Case", "all_cases"]


def all_cases() -> Mapping[str, Case]:
    """Every case by name.

    Raises:
        ValueError: Two have one name.
    """
    found: dict[str, Case] = {}
    for module in pkgutil.iter_modules(__path__):
        for case in getattr(importlib.import_module(f"{__name__}.{module.name}"), "CASES", ()):
            if case.name in found:
                raise ValueError(f"two cases are called {case.name!r}")
            found[case.name] = case
    return MappingProxyType(dict(sorted(found.items())))
