"""The clock that handlers get outside of tests."""

from __future__ import annotations

import asyncio
from time import monotonic, time_ns

from mixer.attributes import Timestamp


class SystemClock:
    """The time of the machine."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return monotonic()

    def now(self) -> Timestamp:
        """The wall clock."""
        return Timestamp(time_ns())

    async def sleep(self, seconds: float, /) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
