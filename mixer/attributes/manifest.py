"""The vocabulary: which attributes there are, and of which type.

Source: spec language 4.1, spec runtime 1.7 and 3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from mixer.attributes.values import ValueType


class Vocabulary(Mapping[str, ValueType]):
    """An immutable map from attribute name to type; hashable, so that what is compiled with it can be remembered.

    ``fingerprint`` is equal for equal content.
    """

    __slots__ = ("_types", "fingerprint")

    def __init__(self, types: Mapping[str, ValueType]) -> None:
        self._types = MappingProxyType(dict(types))
        lines = "\n".join(f"{name} {int(kind)}" for name, kind in sorted(types.items()))
        self.fingerprint = hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()

    def __getitem__(self, name: str) -> ValueType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, Vocabulary) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def extended(self, types: Mapping[str, ValueType]) -> Vocabulary:
        """This vocabulary with more names; the added ones win."""
        return Vocabulary({**self._types, **types})
