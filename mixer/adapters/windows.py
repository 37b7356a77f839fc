"""Rolling windows: units that are out for a number of ticks and then come back by themselves.

The reference keeps a ring of slots, one for each tick. Here only ticks in which something was charged
have an entry, so an hour-long window that was used twice holds two. Source: spec adapters 4.6.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from mixer.attributes import Duration

TICK_NS: Final = 100_000_000
_SECOND_NS: Final = 1_000_000_000
_TICKS_PER_SECOND: Final = _SECOND_NS // TICK_NS


def window_ticks(valid_duration: Duration) -> int:
    """How many ticks a charge stays: whole seconds, at least one."""
    return max(1, -(-int(valid_duration) // _SECOND_NS)) * _TICKS_PER_SECOND


class RollingWindow:
    """At most ``limit`` units out in any ``ticks`` successive ticks; a charge at tick t is back at t + ticks.

    A tick before the newest one seen counts as the newest: time never runs backwards here.
    """

    __slots__ = ("_amounts", "_charged_at", "available", "ticks")

    def __init__(self, limit: int, ticks: int) -> None:
        self.available = limit
        self.ticks = ticks
        self._charged_at = array("q")  # ascending
        self._amounts = array("q")

    def roll(self, tick: int) -> int:
        """Take back what was charged long enough ago; answers with the tick that now holds."""
        charged_at = self._charged_at
        if charged_at:
            tick = max(tick, charged_at[-1])
            if charged_at[0] <= tick - self.ticks:
                expired = bisect_right(charged_at, tick - self.ticks)
                self.available += sum(self._amounts[:expired])
                del charged_at[:expired], self._amounts[:expired]
        return tick

    def alloc(self, amount: int, tick: int) -> bool:
        """Charge all of ``amount``, or nothing and answer False."""
        tick = self.roll(tick)
        if amount > self.available:
            return False
        if amount:
            self.available -= amount
            if self._charged_at and self._charged_at[-1] == tick:
                self._amounts[-1] += amount
            else:
                self._charged_at.append(tick)
                self._amounts.append(amount)
        return True

    def release(self, amount: int, tick: int) -> int:
        """Give back up to ``amount`` units, the newest charges first; answers with how many were out."""
        self.roll(tick)
        left = amount
        while left > 0 and self._amounts:
            part = min(left, self._amounts[-1])
            left -= part
            self._amounts[-1] -= part
            if not self._amounts[-1]:
                self._amounts.pop()
                self._charged_at.pop()
        self.available += amount - left
        return amount - left

    def reset_ticks(self, tick: int) -> int:
        """Until the oldest charge is back, as far as rolled; 0 when nothing is out."""
        return self._charged_at[0] + self.ticks - tick if self._charged_at else 0

    @property
    def full(self) -> bool:
        """Whether nothing is out, as far as rolled: the window is as good as new."""
        return not self._amounts

    def is_idle(self, tick: int) -> bool:
        """Whether nothing will be out once rolled to ``tick``."""
        return self.full or self._charged_at[-1] <= tick - self.ticks


class WindowTable:
    """The windows of one limit, by counter; those in which nothing is out any more are dropped on the way.

    Windows stand in the order of their last charge, and all have the same length, so the idle ones are in front.
    A window costs about 500 bytes with its key, and 16 bytes more for each tick (100 ms) in which it was charged.
    """

    def __init__(self, limit: int, valid_duration: Duration) -> None:
        self._limit = max(limit, 0)
        self._ticks = window_ticks(valid_duration)
        self.length = Duration(self._ticks * TICK_NS)
        self._windows: OrderedDict[Hashable, RollingWindow] = OrderedDict()

    def level(self, key: Hashable, tick: int) -> tuple[int, int]:
        """Units available, and the ticks until one more comes back."""
        window = self._windows.get(key)
        if window is None:
            return self._limit, 0
        tick = window.roll(tick)
        return window.available, window.reset_ticks(tick)

    def __len__(self) -> int:
        return len(self._windows)

    def alloc(self, key: Hashable, amount: int, *, best_effort: bool, tick: int) -> int:
        """Charge ``amount`` units, or with best effort what is available of them; answers with how many."""
        self.sweep(tick, at_most=2)
        window = self._windows.get(key) or RollingWindow(self._limit, self._ticks)
        if not window.alloc(amount, tick):
            amount = window.available if best_effort else 0
            window.alloc(amount, tick)
        if amount:
            self._windows[key] = window
            self._windows.move_to_end(key)
        return amount

    def release(self, key: Hashable, amount: int, *, tick: int) -> int:
        """Give back up to ``amount`` units; answers with how many were out."""
        window = self._windows.get(key)
        if window is None:
            return 0
        released = window.release(amount, tick)
        if window.full:
            del self._windows[key]
        return released

    def sweep(self, tick: int, *, at_most: int) -> None:
        """Drop idle windows from the front, a few at a time so that no call pays for many."""
        windows = self._windows
        for _ in range(at_most):
            if not windows:
                return
            key = next(iter(windows))
            if not windows[key].is_idle(tick):
                return
            del windows[key]
