"""The task that empties a queue into a connection: when to send, when to try again, when to stop.

Source: spec adapters 4.2, "Daemon" and "Delivery failures".
"""

from __future__ import annotations

import asyncio
import enum
import random
from typing import Final

import structlog

from mixer.adapters.base import Clock
from mixer.adapters.fluentd.chunks import Chunk, EntryQueue
from mixer.adapters.fluentd.connection import DeliveryError, ForwardConnection
from mixer.adapters.fluentd.ledger import Ledger

FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 30.0
_LAST_PAUSES_S: Final = (0.1, 0.2, 0.4)
"""Between the attempts at closing: a receiver that is just being replaced may be back."""


def backoff_s(failures: int, spread: float) -> float:
    """How long to wait after the nth failure in a row (from 1): doubles up to a bound.

    ``spread``, from 0 to 1, takes up to half away, so that many Mixers do not come back all at once.
    """
    return float(min(FIRST_BACKOFF_S * 2 ** min(failures - 1, 20), MAX_BACKOFF_S)) * (1 - spread / 2)


class Outcome(enum.Enum):
    """What an attempt came to; IDLE is that nothing waits."""

    IDLE = enum.auto()
    SENT = enum.auto()
    FAILED = enum.auto()


class Alarm:
    """A sleep that can be cut short."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._sleep: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """End the wait, or the next one when there is none."""
        self._rung = True
        if self._sleep is not None:
            self._sleep.cancel()

    async def wait(self, seconds: float) -> None:
        """Wait that long, or until it rings."""
        if not self._rung:
            self._sleep = asyncio.ensure_future(self._clock.sleep(seconds))  # ends with this call
            try:
                await asyncio.wait((self._sleep,))
            finally:
                self._sleep.cancel()
                self._sleep = None
        self._rung = False


class Shipper:
    """Sends batches at the interval, or as soon as the queue is ripe; keeps trying until closed."""

    def __init__(
        self,
        queue: EntryQueue,
        connection: ForwardConnection,
        ledger: Ledger,
        *,
        interval_s: float,
        clock: Clock,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._queue, self._connection, self._ledger = queue, connection, ledger
        self._interval_s, self._log = interval_s, log
        self._push, self._backoff = Alarm(clock), Alarm(clock)
        self._closing = False
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._spread = random.Random()

    def wake(self) -> None:
        """Send now; harmless when there is nothing."""
        self._push.ring()

    async def run(self) -> None:
        """The background task."""
        self._task = asyncio.current_task()
        try:
            idle = False
            while not self._closing:
                if idle or not self._queue.ripe:
                    await self._push.wait(self._interval_s)
                idle = not await self._ship_what_waits()
        finally:
            self._ended.set()

    async def _ship_what_waits(self) -> bool:
        """Deliver what waits now, and not what comes meanwhile; whether there was anything."""
        self._queue.prepare()
        goal = self._ledger.settled + self._ledger.buffered
        attempted = False
        while self._ledger.settled < goal and not self._closing:
            outcome = await self._attempt()
            if outcome is Outcome.IDLE:
                break
            attempted = True
            if outcome is Outcome.FAILED and not self._closing:
                await self._backoff.wait(backoff_s(self._failures, self._spread.random()))
        return attempted

    async def _attempt(self) -> Outcome:
        """Send the batch at the front, if there is one."""
        try:
            batch = self._queue.next_batch()
            if batch is None:
                return Outcome.IDLE
            await self._connection.push(batch, self._delivered)
        except (DeliveryError, OSError) as exc:
            self._failures += 1
            self._ledger.retry()
            report = self._log.warning if self._failures == 1 else self._log.debug
            report("fluentd_delivery_failed", error=str(exc), waiting=self._ledger.buffered, outcome="will try again")
            return Outcome.FAILED
        if self._failures:
            self._log.info("fluentd_delivery_resumed", failures=self._failures)
            self._failures = 0
        self._queue.finish(batch)
        return Outcome.SENT

    def _delivered(self, chunk: Chunk) -> None:
        self._ledger.deliver(chunk.count)

    async def aclose(self, timeout_s: float) -> None:
        """Stop the task and send what waits, as long as the time and the receiver allow.

        An attempt under way may finish, so that nothing is sent twice without need. Waits the given time at most.
        """
        if self._closing:
            return
        self._closing = True
        self._push.ring()
        self._backoff.ring()
        try:
            async with asyncio.timeout(timeout_s):
                if self._task is not None:
                    await self._ended.wait()
                await self._flush()
                await self._connection.aclose()
        except TimeoutError:
            if self._task is not None and not self._ended.is_set():
                self._task.cancel()
                await self._ended.wait()

    async def _flush(self) -> None:
        pauses = iter(_LAST_PAUSES_S)
        while (outcome := await self._attempt()) is not Outcome.IDLE:
            if outcome is Outcome.FAILED:
                if (pause_s := next(pauses, None)) is None:
                    return
                await asyncio.sleep(pause_s)
