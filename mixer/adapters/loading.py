"""Finds the adapters that installed packages offer as entry points of the group ``mixer.adapters``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import NamedTuple

from mixer.adapters.base import AdapterInfo
from mixer.errors import MixerError

GROUP = "mixer.adapters"
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


class AdapterLoadError(MixerError):
    """An installed adapter cannot be used; Mixer does not start with half of what it was given."""


class InstalledAdapter(NamedTuple):
    """An adapter and the package that it came with."""

    info: AdapterInfo
    package: str
    version: str


def load_adapters() -> Mapping[str, AdapterInfo]:
    """Load every installed adapter.

    Raises:
        AdapterLoadError: An entry point does not load, is no `AdapterInfo`, or shares its name with another.
    """
    return by_name(installed.info for installed in load_installed())


def load_installed() -> list[InstalledAdapter]:
    """Load every installed adapter, sorted by name, with the package that it came with.

    Raises:
        AdapterLoadError: An entry point does not load, is no `AdapterInfo`, or shares its name with another.
    """
    found = []
    for entry in entry_points(group=GROUP):
        try:
            info = entry.load()
        except Exception as exc:
            raise AdapterLoadError(f"adapter {entry.name!r} ({entry.value}) does not load: {exc}") from exc
        if not isinstance(info, AdapterInfo):
            raise AdapterLoadError(
                f"adapter {entry.name!r}: {entry.value} is a {type(info).__name__}, not an AdapterInfo"
            )
        package, version = (entry.dist.name, entry.dist.version) if entry.dist is not None else ("", "")
        found.append(InstalledAdapter(info, package, version))
    by_name(installed.info for installed in found)  # names are sound, and each is there once
    return sorted(found, key=lambda installed: installed.info.name)


def by_name(infos: Iterable[AdapterInfo]) -> Mapping[str, AdapterInfo]:
    """A read-only table of adapters, sorted by name.

    Raises:
        AdapterLoadError: A name is malformed or taken twice.
    """
    table: dict[str, AdapterInfo] = {}
    for info in sorted(infos, key=lambda info: info.name):
        if not _NAME.fullmatch(info.name):
            raise AdapterLoadError(f"adapter name {info.name!r} does not match {_NAME.pattern}")
        if info.name in table:
            raise AdapterLoadError(f"two adapters are named {info.name!r}")
        table[info.name] = info
    return MappingProxyType(table)
