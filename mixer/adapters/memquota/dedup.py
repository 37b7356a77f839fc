"""The memory of recent answers, so that a retried call is not charged twice. Source: spec adapters 4.6."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """What was granted; ``expires_ns`` is an instant of the monotonic clock, None for a grant without expiry."""

    amount: int
    expires_ns: int | None = None

    def remaining_ns(self, now_ns: int) -> int:
        """How long the grant still holds; 0 when it does not expire, or has."""
        return 0 if self.expires_ns is None else max(0, self.expires_ns - now_ns)


class DedupMemory:
    """Outcomes by deduplication id, each remembered between one and two periods.

    Two generations take turns when a period is over. Turns are made up for when the next call comes,
    so nobody has to wait for them in the background.
    """

    def __init__(self, period_ns: int, *, now_ns: int) -> None:
        self._period_ns = period_ns
        self._turned_ns = now_ns
        self._recent: dict[str, Outcome] = {}
        self._old: dict[str, Outcome] = {}

    def turn(self, now_ns: int) -> bool:
        """Forget what is old enough; answers whether a period was over."""
        periods = (now_ns - self._turned_ns) // self._period_ns
        if periods <= 0:
            return False
        self._turned_ns += periods * self._period_ns
        self._old = self._recent if periods == 1 else {}
        self._recent = {}
        return True

    def find(self, dedup_id: str) -> Outcome | None:
        """What the id got before, or None; "" is an id like any other."""
        return self._recent.get(dedup_id) or self._old.get(dedup_id)

    def remember(self, dedup_id: str, outcome: Outcome) -> None:
        """Keep an outcome, also one of 0 units."""
        self._recent[dedup_id] = outcome

    def __len__(self) -> int:
        return len(self._recent) + len(self._old)
