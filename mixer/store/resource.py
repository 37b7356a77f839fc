"""Resources: configuration objects as a store gives them, with the place they came from.

Source: spec runtime 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Where in a document something stands: keys and list positions from the root, ``("spec", "actions", 0)``."""


class ResourceKey(NamedTuple):
    """The identity of a resource; prints as its full name ``name.kind.namespace``."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}.{self.kind}.{self.namespace}"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The place of a document; ``document`` and ``line`` count from 0 and 1, line 0 means unknown."""

    file: str
    document: int = 0
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE: Final = Origin("")
"""The origin of what no file holds."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One configuration object, its spec not yet decoded.

    Two resources are equal when their content is; where they stand does not matter.
    """

    key: ResourceKey
    spec: Mapping[str, Any]
    annotations: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = field(default=NOWHERE, compare=False)
    lines: Mapping[Path, int] = field(default_factory=dict, compare=False, repr=False)

    def origin_of(self, path: Sequence[str | int]) -> Origin:
        """The place of a field, or of the nearest thing around it; both spellings of field names are tried."""
        path = tuple(path)
        for end in range(len(path), 0, -1):
            head, last = path[: end - 1], path[end - 1]
            for spelling in _spellings(last):
                line = self.lines.get((*self._as_written(head), spelling))
                if line is not None:
                    return Origin(self.origin.file, self.origin.document, line)
        return self.origin

    def _as_written(self, path: Path) -> Path:
        written: Path = ()
        for part in path:
            written += (next((s for s in _spellings(part) if (*written, s) in self.lines), part),)
        return written


def _spellings(part: str | int) -> tuple[str | int, ...]:
    return (part, to_camel(part), to_snake(part)) if isinstance(part, str) else (part,)


def to_camel(name: str) -> str:
    """``instance_name`` -> ``instanceName``, as protobuf's JSON mapping does it."""
    return re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), name)


def to_snake(name: str) -> str:
    """``instanceName`` -> ``instance_name``."""
    return re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), name)
