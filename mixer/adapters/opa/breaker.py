"""Spares a backend that fails: after some failures in a row nobody asks it for a while, then one request at a time does."""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import Clock

FAILURES: Final = 5
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


class Breaker:
    """Closed, it lets everybody through; open, nobody; half open, one, whose fate decides."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._closed_again_s = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the backend is being spared, or tried out."""
        return self._failures >= FAILURES

    def enter(self) -> bool:
        """Whether the backend may be asked; who may tells the end by `succeed`, `fail` or `abandon`."""
        if not self.is_open:
            return True
        if self._probing or self._clock.monotonic() < self._closed_again_s:
            return False
        self._probing = True
        return True

    def succeed(self) -> None:
        """It answered."""
        self._failures, self._probing = 0, False

    def fail(self) -> None:
        """It did not."""
        was_open, was_probe = self.is_open, self._probing
        if was_open and not was_probe:
            return  # asked before it opened
        self._failures += 1
        self._probing = False
        if self.is_open:
            pause_s = min(FIRST_PAUSE_S * 2 ** min(self._failures - FAILURES, 10), LONGEST_PAUSE_S)
            self._closed_again_s = self._clock.monotonic() + pause_s

    def abandon(self) -> None:
        """Nobody waited for the answer."""
        self._probing = False
