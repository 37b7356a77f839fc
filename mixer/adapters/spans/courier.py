"""Where spans wait, and the task that carries them to a receiver, batch by batch.

One batch is under way at a time. Source: spec adapters 4.10, "Reporter".
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from mixer.adapters.base import Clock
from mixer.adapters.spans.ledger import Drop, Ledger
from mixer.adapters.spans.params import Limits
from mixer.adapters.spans.span import Span

FIRST_BACKOFF_S: Final = 0.25
MAX_BACKOFF_S: Final = 30.0
MAX_ASKED_PAUSE_S: Final = 60.0
"""The longest pause that a receiver may ask for."""
_LAST_PAUSES_S: Final = (0.1, 0.2, 0.4)
"""Between the attempts at closing: a receiver that is just being replaced may be back."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The receiver took a batch, all or in part.

    Attributes:
        rejected: How many spans it refused, if it tells.
        message: What it says about them, or, if it refused none, a warning.
    """

    rejected: int = 0
    message: str = ""


class NotTakenError(Exception):
    """The receiver did not take a batch now and may do so later; ``pause_s`` is how long it asks to be left alone."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class RefusedError(Exception):
    """The receiver refuses a batch, and would do so again."""


class Receiver(Protocol):
    """The way to one receiver."""

    def encode(self, spans: Sequence[Span], /) -> bytes:
        """The bytes to send, at least one span; runs in a thread.

        Raises:
            ValueError: There is a span among them that cannot be sent.
        """
        ...

    async def send(self, body: bytes, /) -> Taken:
        """Send what was encoded, within the time that the handler was given.

        Raises:
            NotTakenError: It may be taken later.
            RefusedError: It will never be taken.
        """
        ...

    async def aclose(self) -> None:
        """Free what is held."""
        ...


_SHOWN_CHARACTERS: Final = 300


def _brief(text: str) -> str:
    """What a stranger says, at a length fit for a log."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


class Courier:
    """A bounded queue and the task that empties it; a full queue loses the span that waits longest."""

    def __init__(
        self, receiver: Receiver, ledger: Ledger, limits: Limits, *, clock: Clock, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._receiver, self._ledger, self._limits = receiver, ledger, limits
        self._clock, self._log = clock, log
        self._waiting: deque[Span] = deque()
        self._under_way = 0
        self._bell = asyncio.Event()
        self._closing = self._abandoned = False
        self._overflowing = False
        self._failures = self._refusals = 0
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._last_pauses = list(_LAST_PAUSES_S)
        self._spread = random.Random()

    def put(self, spans: Sequence[Span]) -> None:
        """Take spans; never waits."""
        waiting = self._waiting
        waiting.extend(spans)
        over = len(waiting) + self._under_way - self._limits.buffer
        if over > 0:
            for _ in range(over):
                waiting.popleft()
            self._ledger.drop(Drop.BUFFER_FULL, over)
            if not self._overflowing:
                self._log.warning("spans_overflow", limit=self._limits.buffer, outcome="the oldest are dropped")
            self._overflowing = True
        if self._is_ripe:
            self._bell.set()

    @property
    def _is_ripe(self) -> bool:
        return len(self._waiting) >= min(self._limits.batch, (self._limits.buffer + 1) // 2)

    async def run(self) -> None:
        """The background task; ends when the courier is closed and nothing waits."""
        self._task = asyncio.current_task()
        try:
            while not self._closing:
                if not self._is_ripe:
                    await self._pause(self._limits.interval_s)
                await self._empty()
        finally:
            self._ended.set()

    async def _empty(self) -> None:
        """Send what waits, a batch after the other, as long as there is a full one or some waited before."""
        owed = len(self._waiting)
        while self._waiting and not self._abandoned and (owed > 0 or self._is_ripe or self._closing):
            spans = [self._waiting.popleft() for _ in range(min(self._limits.batch, len(self._waiting)))]
            owed -= len(spans)
            self._under_way = len(spans)
            try:
                await self._deliver(spans)
            except Exception:  # noqa: BLE001 a bug must not silence the handler for good
                lost = self._ledger.buffered - len(self._waiting)
                self._ledger.drop(Drop.FAILED, lost)
                self._log.exception("spans_delivery_crashed", spans=lost)
            self._under_way = 0

    async def _deliver(self, spans: Sequence[Span]) -> None:
        body, count = await self._encode(spans)
        if not count:
            return
        give_up_at = self._clock.monotonic() + self._limits.retry_s
        while True:
            try:
                taken = await self._receiver.send(body)
            except NotTakenError as exc:
                pause_s = self._failed(str(exc), exc.pause_s)
                if self._abandoned:
                    return  # what is left is dropped together
                if self._clock.monotonic() + pause_s >= give_up_at:
                    self._lost(Drop.GAVE_UP, count, str(exc))
                    return
                self._ledger.retry()
                await self._rest(pause_s)
            except RefusedError as exc:
                self._lost(Drop.REJECTED, count, str(exc))
                return
            else:
                self._delivered(count, taken)
                return

    async def _encode(self, spans: Sequence[Span]) -> tuple[bytes, int]:
        """The bytes of a batch and how many spans are in it; one that has no form does not cost the others."""
        encode = self._receiver.encode
        try:
            return await asyncio.to_thread(encode, spans), len(spans)
        except (ValueError, TypeError, OverflowError) as exc:
            if len(spans) == 1:
                self._lost(Drop.UNENCODABLE, 1, str(exc))
                return b"", 0
        sound = []
        for span in spans:
            try:
                encode([span])
            except (ValueError, TypeError, OverflowError) as exc:
                self._lost(Drop.UNENCODABLE, 1, str(exc))
            else:
                sound.append(span)
        self._under_way = len(sound)
        return (await asyncio.to_thread(encode, sound) if sound else b""), len(sound)

    def _delivered(self, count: int, taken: Taken) -> None:
        rejected = min(max(taken.rejected, 0), count)
        self._ledger.deliver(count - rejected)
        if rejected:
            self._lost(Drop.REJECTED, rejected, taken.message)
        else:
            self._refusals = 0
            if taken.message:
                self._log.warning("spans_receiver_warns", message=_brief(taken.message))
        if self._failures:
            self._log.info("spans_delivery_resumed", failures=self._failures)
        self._failures = 0
        self._overflowing = False

    def _lost(self, reason: Drop, count: int, error: str) -> None:
        self._ledger.drop(reason, count)
        self._refusals += reason is Drop.REJECTED
        report = self._log.debug if self._refusals > 1 and reason is Drop.REJECTED else self._log.warning
        report("spans_dropped", reason=reason.value, spans=count, error=_brief(error))

    def _failed(self, error: str, asked_s: float) -> float:
        """Note a failure; how long to wait before the next attempt, in seconds."""
        self._failures += 1
        report = self._log.warning if self._failures == 1 else self._log.debug
        report("spans_delivery_failed", error=_brief(error), waiting=self._ledger.buffered, outcome="will try again")
        if self._closing:
            self._abandoned = not self._last_pauses
            return self._last_pauses.pop(0) if self._last_pauses else 0.0
        growing_s = float(min(FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 20), MAX_BACKOFF_S))
        return max(growing_s * (1 - self._spread.random() / 2), min(asked_s, MAX_ASKED_PAUSE_S))

    async def _rest(self, seconds: float) -> None:
        """Wait before the next attempt; closing cuts it short, new spans do not."""
        if self._closing:
            await asyncio.sleep(seconds)
            return
        end = self._clock.monotonic() + seconds
        while not self._closing and (left_s := end - self._clock.monotonic()) > 0:
            self._bell.clear()
            await self._pause(left_s)

    async def _pause(self, seconds: float) -> None:
        """Wait that long, or until the bell rings."""
        if not self._bell.is_set():
            waits = [asyncio.ensure_future(w) for w in (self._clock.sleep(seconds), self._bell.wait())]
            try:  # both end with this call
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        self._bell.clear()

    async def aclose(self, timeout_s: float) -> None:
        """Send what waits, for the given time at most; what is left then is dropped."""
        if self._closing:
            return
        self._closing = True
        self._bell.set()
        try:
            async with asyncio.timeout(timeout_s):
                if self._task is not None:
                    await self._ended.wait()
                await self._empty()
        except TimeoutError:
            if self._task is not None and not self._ended.is_set():
                self._task.cancel()
                await self._ended.wait()
        self._waiting.clear()
        if self._ledger.buffered:
            self._lost(Drop.CLOSED, self._ledger.buffered, "the handler closes")
        await self._receiver.aclose()
