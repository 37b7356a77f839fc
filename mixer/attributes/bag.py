"""Attribute bags: one request's attributes, and the record of what was looked at.

A bag answers one question, ``get(name)``. Everything that reads attributes (compiled expressions,
instance builders, the dispatcher) goes through it, so that a `TrackingBag` sees every look and a Check's
answer can say exactly on what it depended.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import NamedTuple, Protocol

from mixer.attributes.values import ABSENT, Absent, AttributeValue


class AttributeBag(Protocol):
    """The attributes of one request.

    A string map is given as a ``Mapping``; its ``get(key, default)`` is how a key is looked up. Values are
    never changed by a reader.
    """

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`; counts as a look at it."""
        ...

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """Like ``get``, with the answer for absence given: what generated code calls, and mostly a dict's own method."""
        ...

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """Like ``get``, but the look is not recorded."""
        ...

    def names(self) -> Iterable[str]:
        """Names of the attributes present, in no order; not recorded."""
        ...


class MappingBag:
    """A bag over a plain mapping: tests, the command line, attributes that adapters generate."""

    __slots__ = ("_values", "lookup")

    def __init__(self, values: Mapping[str, AttributeValue]) -> None:
        self._values = values
        self.lookup: Callable[[str, Absent], AttributeValue | Absent] = values.get

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        return self.lookup(name, ABSENT)

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        return self._values.get(name, ABSENT)

    def names(self) -> Iterable[str]:
        """Names of the attributes present."""
        return self._values.keys()


class OverlayBag:
    """A bag with generated attributes on top; those never hide what the caller sent.

    Every read goes down first, so a `TrackingBag` below records the absence that lets a generated value be seen:
    an answer that used it holds only for requests that do not carry the attribute themselves.
    Source: spec runtime 4.1, which records nothing here.
    """

    __slots__ = ("_below", "_values")

    def __init__(self, below: AttributeBag) -> None:
        self._below = below
        self._values: dict[str, AttributeValue] = {}

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value below, or else the generated one."""
        return self.lookup(name, ABSENT)

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """The value below, or else the generated one."""
        value = self._below.lookup(name, default)
        return self._values.get(name, default) if value is default else value

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """Like ``get``, unrecorded."""
        value = self._below.peek(name)
        return self._values.get(name, ABSENT) if value is ABSENT else value

    def names(self) -> Iterable[str]:
        """Names of both layers, each once."""
        return {*self._below.names(), *self._values}

    def merge(self, values: Mapping[str, AttributeValue]) -> list[str]:
        """Add generated attributes, except those whose name is already visible.

        Returns:
            The names that the layer below has already.
        """
        hidden = []
        for name, value in values.items():
            if self._below.peek(name) is not ABSENT:
                hidden.append(name)
            else:
                self._values.setdefault(name, value)
        return hidden


class Condition(enum.IntEnum):
    """How an answer depended on an attribute. Source: ``ReferencedAttributes.Condition``."""

    CONDITION_UNSPECIFIED = 0
    ABSENCE = 1
    EXACT = 2
    REGEX = 3


class Reference(NamedTuple):
    """An attribute, or one key of a string map; ``key`` is empty for a whole attribute."""

    name: str
    key: str = ""


class TrackingBag:
    """A bag that records what is looked at.

    Present attributes are EXACT, missing ones ABSENCE. A string map is recorded by the keys that are looked
    up in it; reading the map as such records nothing until someone uses it as a whole (`whole_map`).
    Source: spec language 6.1, spec runtime 4.11.
    """

    __slots__ = ("_below", "_instead", "_maps", "referenced")

    def __init__(self, below: AttributeBag) -> None:
        self._below = below
        self._maps: dict[str, TrackedMap] = {}
        self._instead: set[str] = set()
        self.referenced: dict[Reference | tuple[str, str], Condition] = {}

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`; recorded."""
        return self.lookup(name, ABSENT)

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """The value of an attribute, or the default; recorded."""
        tracked = self._maps.get(name)
        if tracked is not None:
            return tracked
        value = self._below.lookup(name, default)
        if value is default:
            self.referenced[name, ""] = Condition.ABSENCE
        elif isinstance(value, Mapping):
            value = self._maps[name] = TrackedMap(name, value, self.referenced)
        else:
            self.referenced[name, ""] = Condition.EXACT
        return value

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """Like ``get``, unrecorded; maps are given as they are."""
        return self._below.peek(name)

    def names(self) -> Iterable[str]:
        """Names of the attributes present; not recorded."""
        return self._below.names()

    def stands_in_for(self, names: Iterable[str]) -> None:
        """Say that attributes present here keep others of their name from being seen."""
        self._instead.update(names)

    def record(self) -> dict[Reference | tuple[str, str], Condition]:
        """What an answer given now depends on: a copy of what is referenced, made complete.

        A missing key is the same as a missing map, except where another map would then be seen: there the answer
        needs this map to be present. An entry that was found says so; where none was, the whole map is recorded,
        as no other entry could say it. Nor can any speak of the empty key, whose entry would say that there is no map.
        """
        record = dict(self.referenced)
        for name in self._maps:
            if record.get((name, "")) is Condition.ABSENCE:
                record[name, ""] = Condition.EXACT
        if self._instead:
            looked: dict[str, bool] = {}
            for (name, _), condition in record.items():
                if name in self._instead and name in self._maps:
                    looked[name] = looked.get(name, False) or condition is Condition.EXACT
            record |= {(name, ""): Condition.EXACT for name, found in looked.items() if not found}
        return record


class TrackedMap(Mapping[str, str]):
    """A string attribute map that records the keys that are looked up, and its use as a whole.

    Iterating, counting and comparing are uses of the whole: their outcome depends on keys that are absent.
    """

    __slots__ = ("_referenced", "_values", "name")

    def __init__(
        self, name: str, values: Mapping[str, str], referenced: dict[Reference | tuple[str, str], Condition]
    ) -> None:
        self.name = name
        self._values = values
        self._referenced = referenced

    def get(self, key: str, default: object = None, /) -> object:  # type: ignore[override]
        """The value under a key; recorded as EXACT, or as ABSENCE when the default is given."""
        value = self._values.get(key)
        if value is None:
            self._referenced[self.name, key] = Condition.ABSENCE
            return default
        self._referenced[self.name, key] = Condition.EXACT
        return value

    def __getitem__(self, key: str) -> str:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())

    def items(self) -> ItemsView[str, str]:
        """All entries; recorded as a use of the whole, not key by key."""
        return self.whole().items()

    def values(self) -> ValuesView[str]:
        """All values; recorded as a use of the whole, not key by key."""
        return self.whole().values()

    def whole(self) -> Mapping[str, str]:
        """The map itself, with the dependency on all of it recorded."""
        self._referenced[self.name, ""] = Condition.EXACT
        return self._values

    def untracked(self) -> Mapping[str, str]:
        """The map itself; nothing is recorded."""
        return self._values

    def __repr__(self) -> str:
        return f"TrackedMap({self.name!r}, {dict(self._values)!r})"
