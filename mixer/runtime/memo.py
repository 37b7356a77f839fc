"""A bounded memory of what follows from a key, which notices when it does not pay."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

LIMIT: Final = 32_768
"""Entries of one generation; two are kept, so that what is in use survives the end of one."""

_WINDOW: Final = 8_192
"""Look-ups after which the share of hits is judged."""

_PAUSE: Final = 64
"""Windows that a memo which did not pay stays off for, before it is tried again."""


class Memo(Generic[V]):
    """Remembers values by key.

    When a generation is full the older one is forgotten. When fewer than half of the look-ups of a window hit
    (unique ids among the keys), the memo empties itself and pauses: `get` then finds nothing and `put` keeps nothing.
    """

    __slots__ = ("_limit", "_misses", "_new", "_old", "_paused", "_seen")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._new: dict[Hashable, V] = {}
        self._old: dict[Hashable, V] = {}
        self._seen = 0
        self._misses = 0
        self._paused = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: Hashable) -> V | None:
        """The value of a key, or None; raises TypeError for a key that cannot be hashed."""
        value = self._new.get(key)
        self._seen += 1
        if value is None:
            value = self._find_older(key)
        if self._seen >= _WINDOW:
            self._judge()
        return value

    def put(self, key: Hashable, value: V) -> None:
        """Remember the value of a key."""
        if self._paused:
            return
        if len(self._new) >= self._limit:
            self._old, self._new = self._new, {}
        self._new[key] = value

    def _find_older(self, key: Hashable) -> V | None:
        value = self._old.get(key)
        if value is None:
            self._misses += 1
        else:
            self.put(key, value)
        return value

    def _judge(self) -> None:
        if self._paused:
            self._paused -= 1
        elif self._misses * 2 > self._seen:
            self._paused = _PAUSE
            self._new, self._old = {}, {}
        self._seen = self._misses = 0
