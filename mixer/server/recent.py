"""The memory of Reports that were taken, so that a proxy may send one again when it missed the answer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

REMEMBERED: Final = 65_536
"""Ids, the newest; a proxy that is away for longer than so many batches of everybody counts its last one twice."""


class RecentIds:
    """A bounded set of ids in the order of their arrival. About 200 bytes an id."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._capacity = capacity
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, new: str) -> bool:
        """Remember an id; False when it is there already."""
        if new in self._ids:
            return False
        if len(self._ids) >= self._capacity:
            self._ids.popitem(last=False)
        self._ids[new] = None
        return True

    def discard(self, old: str) -> None:
        """Forget an id."""
        self._ids.pop(old, None)

    def __len__(self) -> int:
        return len(self._ids)
