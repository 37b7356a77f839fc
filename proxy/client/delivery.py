"""Delivery of encoded Reports to a Mixer that may be away: a bounded buffer, attempts, and exact books.

Once `put` has taken a batch it is delivered, or refused by Mixer, or dropped for a counted reason; nothing else can
become of it. An attempt that failed without an answer is made again with the same bytes, hence with the same
deduplication id, which a Mixer of ours counts once. The reference loses such batches (spec proxy 10.1 and 10.5).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog

from mixer.api.codes import Code
from mixer.errors import MixerCallError

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.delivery")

TRANSIENT: Final = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.CANCELLED}
)
"""Codes after which the same call may succeed. Source: spec proxy 10.1."""

BUFFER_FULL: Final = "buffer_full"
SHUT_DOWN: Final = "shut_down"
TOO_LARGE: Final = "too_large"
NOT_ENCODABLE: Final = "not_encodable"
CRASHED: Final = "crashed"
DROP_REASONS: Final = (BUFFER_FULL, SHUT_DOWN, TOO_LARGE, NOT_ENCODABLE, CRASHED)


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """Bounds of a delivery.

    Attributes:
        records: Kept while Mixer is away; the oldest make room for new ones.
        bytes: The same, of encoded batches.
        in_flight: Calls at the same time.
        base_wait_s: Before the second attempt; doubled for each further one.
        max_wait_s: Between any two attempts.
        call_timeout_s: One attempt may take so long.
    """

    records: int = 100_000
    bytes: int = 64 << 20
    in_flight: int = 2
    base_wait_s: float = 0.05
    max_wait_s: float = 1.0
    call_timeout_s: float = 5.0


@dataclass(slots=True)
class Books:
    """What became of records; ``accepted`` = ``delivered`` + ``refused`` + all ``dropped`` + `ReportDelivery.pending`.

    Attributes:
        accepted: Given to the delivery, those that could not be encoded included.
        delivered: Mixer answered OK.
        refused: Mixer took the batch and answered with an error, for records that it could not use or deliver.
        dropped: By reason.
        attempts: Calls, by the code of their outcome.
    """

    accepted: int = 0
    delivered: int = 0
    refused: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    attempts: Counter[Code] = field(default_factory=Counter)


class _Batch(NamedTuple):
    data: bytes
    records: int


class ReportDelivery:
    """Sends batches in the order of their arrival, as far as attempts at the same time keep it.

    Args:
        send: Makes one attempt within so many seconds; raises MixerCallError when there was no good answer.
        limits: Bounds.
        rng: Spreads the attempts of many proxies.
    """

    def __init__(
        self,
        send: Callable[[bytes, float], Awaitable[None]],
        limits: DeliveryLimits = DeliveryLimits(),
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._send = send
        self._limits = limits
        self._rng = rng or random.Random()
        self._waiting: deque[_Batch] = deque()
        self._waiting_bytes = 0
        self._waiting_records = 0
        self._sending = 0
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self.books: Final = Books()

    @property
    def pending(self) -> int:
        """Records that are waiting or on their way."""
        return self._waiting_records + self._sending

    def put(self, data: bytes, records: int) -> None:
        """Take a batch; the oldest ones are dropped to make room. Never waits."""
        self.books.accepted += records
        if self._closed:
            self.books.dropped[SHUT_DOWN] += records
            return
        if len(data) > self._limits.bytes:
            self.books.dropped[TOO_LARGE] += records
            return
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._serve(), name="deliver reports") for _ in range(self._limits.in_flight)
            ]
        self._waiting.append(_Batch(data, records))
        self._waiting_bytes += len(data)
        self._waiting_records += records
        self._make_room()
        self._idle.clear()
        self._work.set()

    def drop(self, reason: str, records: int) -> None:
        """Book records that never became a batch."""
        self.books.accepted += records
        self.books.dropped[reason] += records

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Deliver what there is for so long, then drop the rest; safe twice."""
        self._closed = True
        if self._tasks:
            try:
                await asyncio.wait_for(self._idle.wait(), grace_s)
            except TimeoutError:
                log.warning("reports_dropped", reason=SHUT_DOWN, records=self.pending)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for batch in self._waiting:
            self.books.dropped[SHUT_DOWN] += batch.records
        self._waiting.clear()
        self._waiting_bytes = self._waiting_records = 0

    def _make_room(self) -> None:
        limits = self._limits
        while len(self._waiting) > 1 and (self.pending > limits.records or self._waiting_bytes > limits.bytes):
            self.books.dropped[BUFFER_FULL] += self._next().records

    def _next(self) -> _Batch:
        batch = self._waiting.popleft()
        self._waiting_bytes -= len(batch.data)
        self._waiting_records -= batch.records
        return batch

    async def _serve(self) -> None:
        while True:
            while not self._waiting:
                if not self._sending:
                    self._idle.set()
                self._work.clear()
                await self._work.wait()
            batch = self._next()
            self._sending += batch.records
            try:
                await self._deliver(batch)
            except asyncio.CancelledError:
                self.books.dropped[SHUT_DOWN] += batch.records
                raise
            except Exception as exc:
                self.books.dropped[CRASHED] += batch.records
                log.error("report_crashed", records=batch.records, exc_info=exc)
            finally:
                self._sending -= batch.records

    async def _deliver(self, batch: _Batch) -> None:
        """Attempt until there is an answer."""
        books, limits = self.books, self._limits
        attempt = 0
        while True:
            try:
                await self._send(batch.data, limits.call_timeout_s)
            except MixerCallError as exc:
                code = Code(exc.code)
                books.attempts[code] += 1
                if code is Code.RESOURCE_EXHAUSTED and "larger than max" in str(exc):
                    books.dropped[TOO_LARGE] += batch.records
                    log.warning("reports_dropped", reason=TOO_LARGE, records=batch.records, error=str(exc))
                    return
                if code not in TRANSIENT:
                    books.refused += batch.records
                    log.debug("reports_refused", records=batch.records, error=str(exc))
                    return
                if attempt == 0:
                    log.debug("report_failed", code=code.name, error=str(exc))
                longest = min(limits.max_wait_s, limits.base_wait_s * 2**attempt)
                attempt = min(attempt + 1, 30)
                await asyncio.sleep(self._rng.uniform(min(limits.base_wait_s, longest), longest))
            else:
                books.attempts[Code.OK] += 1
                books.delivered += batch.records
                return
