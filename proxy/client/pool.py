"""The prefetch pool: tokens of one quota, fetched ahead so that requests need not wait for Mixer.

No I/O and no clock of its own: `check` says what to fetch, and the answer is brought by `answer`, later than the check
that caused it. Small quotas (below some tens for each second of window) are counted with an error of a quarter and
more; that is the price of not asking.

Source: spec proxy 8.3.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Final, NamedTuple

SLOTS: Final = 20
SLOT_S: Final = 0.05
MINIMUM: Final = 10
CLOSE_WAIT_S: Final = 0.5
PROVISIONAL_S: Final = 60.0
FAILED: Final = -1
"""Stands for the amount granted when there was no answer."""


class RateCounter:
    """Units in the last second, in slots of 50 ms."""

    __slots__ = ("_slot", "_slots", "total")

    def __init__(self) -> None:
        self._slots = [0] * SLOTS
        self._slot = 0
        self.total = 0

    def advance(self, now: float) -> None:
        """Forget what is older than the window."""
        slot = int(now / SLOT_S)
        passed = slot - self._slot
        if passed <= 0:
            return
        if passed >= SLOTS:
            self._slots = [0] * SLOTS
            self.total = 0
        else:
            for index in range(self._slot + 1, slot + 1):
                self.total -= self._slots[index % SLOTS]
                self._slots[index % SLOTS] = 0
        self._slot = slot

    def add(self, amount: int) -> None:
        """Count units, in the slot that was advanced to."""
        self._slots[self._slot % SLOTS] += amount
        self.total += amount


class Grant:
    """Tokens that may be spent until ``expiry``."""

    __slots__ = ("available", "expiry", "number")

    def __init__(self, number: int, available: int, expiry: float) -> None:
        self.number = number
        self.available = available
        self.expiry = expiry


class Prefetch(NamedTuple):
    """What the pool wants: ``amount`` tokens; ``grant`` is the provisional grant that they stand for, 0 for none."""

    amount: int
    grant: int


class PrefetchPool:
    """Tokens of one quota for one kind of request.

    Attributes:
        open: Answers were given in full of late; when not, only one call at a time and one in 500 ms is made.
        in_flight: Prefetches that wait for their answer.
        granted: Tokens that the server (or, where it failed, the pool itself) granted in all.
        passed: Tokens spent in all.
    """

    __slots__ = ("_counter", "_grants", "_last", "_numbers", "granted", "in_flight", "open", "passed")

    def __init__(self) -> None:
        self._counter = RateCounter()
        self._grants: deque[Grant] = deque()
        self._numbers = count(1)
        self._last = float("-inf")
        self.open = True
        self.in_flight = 0
        self.granted = 0
        self.passed = 0

    def available(self, now: float) -> int:
        """Tokens that may be spent."""
        return sum(grant.available for grant in self._grants if now <= grant.expiry)

    def check(self, amount: int, now: float) -> tuple[list[tuple[Grant, int]] | None, Prefetch | None]:
        """Take tokens, all of them or none, and say what to fetch.

        Returns:
            What was taken of which grants, or None for a refusal; and what the pool wants, if anything.
        """
        prefetch = self._consider(amount, now)
        self._counter.add(amount)
        if amount > 1 and self.available(now) < amount:
            return None, prefetch
        return self._take(amount, now), prefetch

    def give_back(self, taken: list[tuple[Grant, int]]) -> None:
        """Undo a `check`, before anything else happens to the pool."""
        for grant, amount in reversed(taken):
            if grant.available == 0 and grant not in self._grants:
                self._grants.appendleft(grant)
            grant.available += amount
            self.passed -= amount

    def answer(self, prefetch: Prefetch, granted: int, valid_s: float, now: float) -> None:
        """Bring the answer to a prefetch.

        Args:
            prefetch: What was wanted.
            granted: Tokens; `FAILED` grants all that was wanted.
            valid_s: How long the grant holds; not used with `FAILED`.
            now: The time.
        """
        self.in_flight -= 1
        amount = prefetch.amount
        if granted == FAILED:
            granted, valid_s = amount, PROVISIONAL_S
        granted = max(0, granted)
        self.granted += granted
        if not prefetch.grant:
            if granted:
                self._grants.append(Grant(next(self._numbers), granted, now + valid_s))
        else:
            own = next((grant for grant in self._grants if grant.number == prefetch.grant), None)
            shortfall = amount - granted
            if own is not None:
                paid = min(own.available, shortfall) if shortfall > 0 else shortfall
                own.available -= paid
                shortfall -= paid
                if own.available:
                    own.expiry = now + valid_s
            if shortfall > 0:
                self._pay(shortfall, now)
            elif shortfall < 0:  # more than was asked for, and the provisional grant is spent
                self._grants.append(Grant(next(self._numbers), -shortfall, now + valid_s))
        self.open = granted == amount

    def _consider(self, amount: int, now: float) -> Prefetch | None:
        self._counter.advance(now)
        if not self.open and (self.in_flight or now - self._last < CLOSE_WAIT_S):
            return None
        available = self.available(now)
        wanted = max(self._counter.total, MINIMUM)
        if available >= amount and (self.in_flight or available >= wanted // 2):
            return None
        wanted = max(amount, wanted)
        number = 0
        if not available and self.open:
            number = next(self._numbers)
            self._grants.append(Grant(number, wanted, now + PROVISIONAL_S))
        self._last = now
        self.in_flight += 1
        return Prefetch(wanted, number)

    def _take(self, amount: int, now: float) -> list[tuple[Grant, int]] | None:
        """Spend tokens, oldest first; None, and nothing spent, when there are none."""
        taken = []
        left = amount
        grants = self._grants
        while grants:
            grant = grants[0]
            if grant.available and now <= grant.expiry:
                part = min(left, grant.available)
                grant.available -= part
                left -= part
                taken.append((grant, part))
                if not left:
                    break
            grants.popleft()
        if left:
            return None
        self.passed += amount
        return taken

    def _pay(self, debt: int, now: float) -> None:
        """Cancel tokens of other grants, oldest first; what was spent already cannot be paid."""
        grants = self._grants
        while grants and debt:
            grant = grants[0]
            if grant.available and now <= grant.expiry:
                part = min(debt, grant.available)
                grant.available -= part
                debt -= part
                if grant.available:
                    break
            grants.popleft()
