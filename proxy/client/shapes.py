"""Shapes: which attributes answers depended on, as keys for what other requests may reuse.

Of an answer's referenced attributes those that were absent and those that counted with their value are kept apart. A
bag that lacks the former and has the latter gets a signature; two bags with one signature are the same to the server.

Absence of a map's key holds only for bags that have the map, as the bag had from which it was learned: the server
looks elsewhere when there is no map at all, and says so with another reference. (The reference client lets any bag
without the map pass.)

Source: spec proxy 6.1 and 6.2.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Mapping
from itertools import count
from typing import Final, TypeAlias

from mixer.api.answer import Referenced
from mixer.attributes import ABSENT, AttributeBag, Condition

Signature: TypeAlias = tuple[Hashable, ...]
"""The number of a shape and the values that a bag has for it."""

_NUMBERS = count()
_PACK: Final = struct.Struct("<d").pack


class Shape:
    """One set of referenced attributes. Equal when the content is; each has a number of its own."""

    __slots__ = ("_absent", "_absent_keys", "_content", "_exact", "_exact_keys", "number")

    def __init__(self, referenced: Referenced) -> None:
        absent_keys: dict[str, list[str]] = {}
        exact_keys: dict[str, list[str]] = {}
        absent, exact = [], []
        for (name, key), condition in sorted(referenced.items()):
            if condition is Condition.ABSENCE:
                absent_keys.setdefault(name, []).append(key) if key else absent.append(name)
            elif condition is Condition.EXACT:
                exact_keys.setdefault(name, []).append(key) if key else exact.append(name)
        self.number: Final = next(_NUMBERS)
        self._absent: Final = tuple(absent)
        self._exact: Final = tuple(exact)
        self._absent_keys: Final = tuple((name, tuple(keys)) for name, keys in absent_keys.items())
        self._exact_keys: Final = tuple((name, tuple(keys)) for name, keys in exact_keys.items())
        self._content: Final = (self._absent, self._exact, self._absent_keys, self._exact_keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def signature(self, bag: AttributeBag) -> Signature | None:
        """What identifies the bag among those of this shape; None when it is not of this shape."""
        look = bag.lookup
        for name in self._absent:
            if look(name, ABSENT) is not ABSENT:
                return None
        values: list[Hashable] = [self.number]
        for name in self._exact:
            value = look(name, ABSENT)
            if value.__class__ is str:
                values.append(value)  # by far the most; equal to no other type's value
            elif value is ABSENT:
                return None
            else:
                values.append(_exactly(value))
        for name, keys in self._exact_keys:
            entries = look(name, ABSENT)
            if not isinstance(entries, Mapping):
                return None
            for key in keys:
                text = entries.get(key)
                if text is None:
                    return None
                values.append(text)
        for name, keys in self._absent_keys:
            entries = look(name, ABSENT)
            if not isinstance(entries, Mapping):
                return None
            for key in keys:
                if entries.get(key) is not None:
                    return None
        return tuple(values)


def _exactly(value: object) -> Hashable:
    """A key that is equal for equal values of the same type only: 1, True and 1.0 are three."""
    if isinstance(value, Mapping):
        return frozenset(value.items())
    if isinstance(value, float):
        return float, _PACK(value)  # 0.0 is not -0.0, and NaN is NaN
    return value.__class__, value


class ShapeList:
    """The shapes that were learned, those that led to a hit last in front; bounded, the least useful goes first."""

    __slots__ = ("_bound", "shapes")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self.shapes: list[Shape] = []

    def __len__(self) -> int:
        return len(self.shapes)

    def learn(self, referenced: Referenced, bag: AttributeBag) -> Signature | None:
        """The signature of a bag by what its answer referenced; None, and nothing learned, when they do not agree."""
        shape = Shape(referenced)
        known = self.shapes
        place = known.index(shape) if shape in known else -1
        if place >= 0:
            shape = known[place]
        signature = shape.signature(bag)
        if signature is not None and place < 0:
            known.insert(0, shape)
            if len(known) > self._bound:
                known.pop()
        return signature

    def useful(self, place: int) -> None:
        """The shape at a place led to a hit."""
        if place:
            self.shapes.insert(0, self.shapes.pop(place))
