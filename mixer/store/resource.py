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
    """A place in a file; ``document`` counts from 0, ``line`` and ``column`` from 1, 0 means unknown."""

    file: str
    document: int = 0
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        column = f":{self.column}" if self.line and self.column else ""
        return f"{self.file}{line}{column}"


NOWHERE: Final = Origin("")
"""The origin of what no file holds."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One configuration object, its spec not yet decoded.

    Two resources are equal when their content is; where they stand does not matter. ``1``, ``1.0`` and
    ``true`` are three different contents, though Python finds them equal.
    """

    key: ResourceKey
    spec: Mapping[str, Any] = field(repr=False)  # passwords are in it
    annotations: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = field(default=NOWHERE, compare=False)
    lines: Mapping[Path, int] = field(default_factory=dict, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Resource):
            return NotImplemented
        return self.key == other.key and self.annotations == other.annotations and _same_data(self.spec, other.spec)

    __hash__ = None  # type: ignore[assignment]

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


def _same_data(left: object, right: object) -> bool:
    if left is right:
        return True
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same_data(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same_data, left, right))
    return type(left) is type(right) and (left == right or (left != left and right != right))


def _spellings(part: str | int) -> tuple[str | int, ...]:
    return (part, to_camel(part), to_snake(part)) if isinstance(part, str) else (part,)


def to_camel(name: str) -> str:
    """``instance_name`` -> ``instanceName``, as protobuf's JSON mapping does it."""
    return re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), name)


def to_snake(name: str) -> str:
    """``instanceName`` -> ``instance_name``."""
    return re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), name)
