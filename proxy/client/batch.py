"""Reports: records wait for company, batches wait for their turn, and what cannot wait is dropped and counted.

Source: spec proxy 10.5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from mixer.api.codes import Code
from mixer.attributes import AttributeBag
from mixer.errors import MixerCallError
from proxy.client.config import Transport
from proxy.client.stats import DROP_FAILED, DROP_FULL, DROP_SHUT_DOWN, Counters
from proxy.mixer import Mixer

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.batch")

OUTSTANDING: Final = 10_000
IN_FLIGHT: Final = 4


class Batcher:
    """The open batch. Knows no time: its owner starts a timer when `add` says so."""

    __slots__ = ("_entries", "open")

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self.open: list[AttributeBag] = []

    def add(self, records: Sequence[AttributeBag]) -> list[list[AttributeBag]]:
        """Add records; the batches that are full now, in order."""
        full = []
        self.open += records
        while len(self.open) >= self._entries:
            full.append(self.open[: self._entries])
            self.open = self.open[self._entries :]
        return full

    def flush(self) -> list[AttributeBag]:
        """What is there; the next record begins a new batch."""
        batch, self.open = self.open, []
        return batch


class Reporter:
    """Takes records and sends them as the transport says.

    With batches disabled each call is handed on as it is, and its awaitable is the caller's back-pressure.

    Args:
        mixer: Who gets them.
        transport: Size and age of batches; how long sending one may take.
        counters: Where everything is counted.
        outstanding: Records that may wait or be on their way; older batches make room for newer ones.
        in_flight: Calls at the same time.
    """

    def __init__(
        self,
        mixer: Mixer,
        transport: Transport,
        counters: Counters,
        *,
        outstanding: int = OUTSTANDING,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._mixer = mixer
        self._counters = counters
        self._batcher = None if transport.disable_report_batch else Batcher(transport.batch_entries)
        self._batch_time_s = transport.batch_time_s
        self._timeout_s = transport.report_timeout_s
        self._bound = max(outstanding, transport.batch_entries)
        self._in_flight = in_flight
        self._waiting: deque[list[AttributeBag]] = deque()
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._failures = 0

    @property
    def pending(self) -> int:
        """Records that wait or are on their way."""
        return self._held + (len(self._batcher.open) if self._batcher is not None else 0)

    def report(self, records: Sequence[AttributeBag]) -> Awaitable[None] | None:
        """Take records; they must stay as they are. An awaitable is done when they are sent; it never raises."""
        self._counters.report_calls += len(records)
        if self._batcher is None:
            return self._send(records)
        if self._closed:
            self._counters.drop(DROP_SHUT_DOWN, len(records))
            return None
        for batch in self._batcher.add(records):
            self._enqueue(batch)
        if not self._batcher.open:
            self._stop_timer()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch_time_s, self.flush)
        return None

    def flush(self) -> None:
        """Send what is there."""
        self._stop_timer()
        if self._batcher is not None and self._batcher.open:
            self._enqueue(self._batcher.flush())

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Send what is there for so long, then drop the rest; safe twice."""
        self.flush()
        self._closed = True
        if grace_s > 0:
            deadline = asyncio.get_running_loop().time() + grace_s
            while self._tasks and (left := deadline - asyncio.get_running_loop().time()) > 0:
                await asyncio.wait(self._tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        while self._waiting:
            self._drop(DROP_SHUT_DOWN)
        left_over = list(self._tasks)
        for task in left_over:
            task.cancel()
        await asyncio.gather(*left_over, return_exceptions=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _enqueue(self, batch: list[AttributeBag]) -> None:
        self._waiting.append(batch)
        self._held += len(batch)
        while self._held > self._bound and self._waiting:
            self._drop(DROP_FULL)
        self._start()

    def _drop(self, reason: str) -> None:
        batch = self._waiting.popleft()
        self._held -= len(batch)
        self._counters.drop(reason, len(batch))

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < self._in_flight:
            batch = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._deliver(batch), name="send reports")
            self._tasks.add(task)
            task.add_done_callback(self._delivered(len(batch)))

    def _delivered(self, records: int) -> Callable[[asyncio.Task[None]], None]:
        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._held -= records
            if task.cancelled():
                self._counters.drop(DROP_SHUT_DOWN, records)
            else:
                self._start()

        return done

    async def _deliver(self, batch: list[AttributeBag]) -> None:
        await self._send(batch, self._timeout_s)

    async def _send(self, records: Sequence[AttributeBag], timeout_s: float | None = None) -> None:
        counters = self._counters
        counters.remote_report_calls += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._mixer.report(records)
        except MixerCallError as exc:
            self._failed(exc.code, records, exc)
        except TimeoutError as exc:
            self._failed(Code.DEADLINE_EXCEEDED, records, exc)
        except Exception as exc:  # noqa: BLE001  whatever a Mixer does wrong, the host goes on
            self._failed(Code.INTERNAL, records, exc)
        else:
            counters.remote_report_successes += 1

    def _failed(self, code: int, records: Sequence[AttributeBag], exc: Exception) -> None:
        self._counters.report_failed(code)
        self._counters.drop(DROP_FAILED, len(records))
        if self._failures % 100 == 0:
            log.warning("report_failed", code=code, records=len(records), error=str(exc), failures=self._failures + 1)
        self._failures += 1
