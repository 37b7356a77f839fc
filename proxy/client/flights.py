"""Calls under way that requests alike wait for.

A request that waits is not bound to the one that called: when that one is given up, a waiting one takes its place, and
when a waiting one is given up, nobody notices.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Hashable
from typing import Final, TypeVar

T = TypeVar("T")

BOUND: Final = 10_000


class Landing(enum.Enum):
    """How a call ended for one who waited: it is DONE, it was GIVEN_UP, or it is TOO_LATE for the one who waited."""

    DONE = 1
    GIVEN_UP = 2
    TOO_LATE = 3


class Flight:
    """A call, and those who wait for it."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[Landing]] = []

    async def join(self, left_s: float) -> Landing:
        """Wait for the end of the call, so long at most."""
        waiter: asyncio.Future[Landing] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                return await waiter
        except TimeoutError:
            return Landing.TOO_LATE

    def land(self, landing: Landing) -> None:
        """Wake those who wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(landing)


class Flights:
    """The calls under way, by what makes requests alike; bounded."""

    __slots__ = ("_bound", "_flights")

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._flights: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def full(self) -> bool:
        """Whether no further call can be waited for."""
        return len(self._flights) >= self._bound

    def of(self, key: Hashable) -> Flight | None:
        """The call for requests of this kind."""
        return self._flights.get(key)

    async def fly(self, key: Hashable, asking: Awaitable[T]) -> T:
        """Make the call for this kind of requests; there must be none under way."""
        flight = self._flights[key] = Flight()
        landing = Landing.GIVEN_UP
        try:
            answer = await asking
            landing = Landing.DONE
            return answer
        finally:
            del self._flights[key]
            flight.land(landing)
