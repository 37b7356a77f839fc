"""What a configuration can read of a request, so that decoders may leave out the rest.

A mesh sends forty attributes and four string maps, and its metrics read a dozen names and four keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

from mixer.attributes import AttributeValue


@final
class Wanted:
    """The attributes that are read, by name; immutable.

    Of a string map, either all of it is wanted (None) or the keys that are ever looked up. Keys say nothing
    about an attribute that turns out to be no map: such a value is wanted whole.
    """

    __slots__ = ("_hash", "_keyed", "_names", "attributes", "tables")

    attributes: Final[Mapping[str, frozenset[str] | None]]
    tables: object
    """Place for what the compiled decoder derives from this once; no part of the value."""

    def __init__(self, attributes: Mapping[str, frozenset[str] | None]) -> None:
        self.attributes = MappingProxyType(dict(attributes))
        self._names = frozenset(self.attributes)
        self._keyed = tuple((name, keys) for name, keys in self.attributes.items() if keys is not None)
        self._hash = hash(frozenset(self.attributes.items()))
        self.tables = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wanted) and self.attributes == other.attributes

    def __hash__(self) -> int:
        return self._hash

    def __or__(self, other: Wanted) -> Wanted:
        """What either of the two wants."""
        merged = dict(self.attributes)
        for name, keys in other.attributes.items():
            known = merged.get(name, frozenset())
            merged[name] = None if known is None or keys is None else known | keys
        return Wanted(merged)

    def __repr__(self) -> str:
        return f"Wanted({dict(self.attributes)!r})"

    def of(self, values: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
        """Those of the values, and of their maps those entries, that are wanted."""
        names = self._names
        kept = {name: value for name, value in values.items() if name in names}
        for name, keys in self._keyed:
            value = kept.get(name)
            if isinstance(value, Mapping):
                kept[name] = {key: text for key, text in value.items() if key in keys}
        return kept
