"""A bounded memory of what follows from a key, which notices when it does not pay."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

LIMIT: Final = 32_768
"""Entries of one generation; two are kept, so that what is in use survives the end of one."""

_PAUSE: Final = 2
"""How many generations' worth of look-ups a memo that did not pay stays off, before it is tried again."""


class Memo(Generic[V]):
    """Remembers values by key.

    When a generation is full the older one is forgotten. A generation that filled up with few hits (unique ids
    among the keys) did not pay: the memo empties itself and pauses, so that `get` finds nothing and
    `put` keeps nothing for a while.
    """

    __slots__ = ("_hits", "_limit", "_new", "_old", "_paused")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._new: dict[Hashable, V] = {}
        self._old: dict[Hashable, V] = {}
        self._hits = 0
        self._paused = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: Hashable) -> V | None:
        """The value of a key, or None; raises TypeError for a key that cannot be hashed."""
        value = self._new.get(key)
        if value is not None:
            self._hits += 1
            return value
        if self._paused:
            self._paused -= 1
            return None
        value = self._old.pop(key, None)
        if value is not None:
            self._hits += 1
            self.put(key, value)
        return value

    def put(self, key: Hashable, value: V) -> None:
        """Remember the value of a key."""
        if self._paused:
            return
        if len(self._new) >= self._limit and not self._turn():
            return
        self._new[key] = value

    def _turn(self) -> bool:
        """A generation is full: it becomes the older one, unless it did not pay; answers whether it did."""
        paid = self._hits * 2 >= self._limit
        self._old, self._new, self._hits = self._new if paid else {}, {}, 0
        if not paid:
            self._paused = _PAUSE * self._limit
        return paid
