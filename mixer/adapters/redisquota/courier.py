"""Carries decisions to Redis: those that wait go together, none waits longer than its time, and none for a Redis that is away.

A few tasks each own a link. A task that is free takes all that waits at the end of the event loop's turn, so what is asked in
one turn shares a round trip, and while all tasks are busy the next batch grows.

After `FAILURES` batches in a row without an answer the circuit opens: decisions fail at once, until a task of the
courier has seen Redis answer, which it tries every `PROBE_S` seconds. Source: spec adapters 4.7, result mapping.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, OutOfMemoryError, RedisError

from mixer.adapters.base import Env
from mixer.adapters.redisquota.ledger import Ledger, Reason
from mixer.adapters.redisquota.link import LINK_ERRORS, Call, Link

FAILURES: Final = 3
PROBE_S: Final = 0.2
MAX_BATCH: Final = 256
MAX_WAITING: Final = 20_000


class NoDecisionError(Exception):
    """Redis did not decide; for the courier's caller, who never lets it out."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Courier:
    """Carries calls of one handler; `start` spawns its tasks, `aclose` ends them."""

    def __init__(self, links: Sequence[Link], ledger: Ledger, *, timeout_s: float, env: Env) -> None:
        self._links, self._ledger, self._env = links, ledger, env
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Call, asyncio.Future[Any]]] = deque()
        self._deadlines: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._woken = False
        self._failures = 0
        self._open = False
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Begin; connections are made at once, though nobody waits for them."""
        for link in self._links:
            self._env.spawn(self._serve(link))

    @property
    def available(self) -> bool:
        """Whether it makes sense to ask."""
        return not (self._open or self._closed)

    @property
    def why_not(self) -> Reason:
        """Why it is not available."""
        return Reason.CLOSED if self._closed else Reason.CIRCUIT_OPEN

    def ask(self, call: Call) -> asyncio.Future[Any]:
        """The reply to a call, when it comes; only while `available`.

        The future raises `NoDecisionError` when there is none, after the time-out at the latest.
        """
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        if len(self._waiting) >= MAX_WAITING:
            future.set_exception(NoDecisionError(Reason.OVERLOAD))
            return future
        self._waiting.append((call, future))
        self._deadlines.append((loop.time() + self._timeout_s, future))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._expire)
        if not self._woken and self._idle:
            self._wake()
        return future

    def _wake(self) -> None:
        self._woken = True
        waiter = self._idle.pop()
        if not waiter.done():
            waiter.set_result(None)

    def _expire(self) -> None:
        """One timer for all: deadlines come in the order of the calls."""
        now, deadlines = self._loop.time(), self._deadlines
        while deadlines and (deadlines[0][1].done() or deadlines[0][0] <= now):
            _, future = deadlines.popleft()
            if not future.done():
                future.set_exception(NoDecisionError(Reason.TIMEOUT))
        self._timer = self._loop.call_at(deadlines[0][0], self._expire) if deadlines else None

    async def _serve(self, link: Link) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._closed:
                await self._warm_up(link)
            while not self._closed:
                if batch := await self._next_batch():
                    await self._deliver(link, batch)
        except asyncio.CancelledError:
            if not self._closed:
                raise
        finally:
            self._tasks.discard(task)

    async def _warm_up(self, link: Link) -> None:
        try:
            await link.connect()
        except LINK_ERRORS as exc:
            await self._failed(link, exc)

    async def _next_batch(self) -> list[tuple[Call, asyncio.Future[Any]]]:
        waiting = self._waiting
        if not waiting:
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter
            self._woken = False
        batch: list[tuple[Call, asyncio.Future[Any]]] = []
        while waiting and len(batch) < MAX_BATCH:
            item = waiting.popleft()
            if not item[1].done():
                batch.append(item)
        if waiting and self._idle and not self._woken:
            self._wake()
        return batch

    async def _deliver(self, link: Link, batch: Sequence[tuple[Call, asyncio.Future[Any]]]) -> None:
        self._ledger.batch()
        try:
            replies = await link.run([call for call, _ in batch], self._timeout_s)
        except LINK_ERRORS as exc:
            for _, future in batch:
                if not future.done():
                    future.set_exception(NoDecisionError(_reason(exc), describe_error(exc)))
            await self._failed(link, exc)
            return
        self._failures = 0
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(NoDecisionError(_reason(reply), describe_error(reply)))
            else:
                future.set_result(reply)

    async def _failed(self, link: Link, exc: BaseException) -> None:
        """Count a failure; the one that opens the circuit stays until Redis is back."""
        self._ledger.complain(_reason(exc), "redis_does_not_answer", error=describe_error(exc))
        self._failures += 1
        if self._open or self._failures < FAILURES:
            return
        self._open = True
        self._ledger.reachable(False)
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(NoDecisionError(Reason.CIRCUIT_OPEN))
        while not self._closed:
            await self._env.clock.sleep(PROBE_S)
            try:
                await link.ping(self._timeout_s)
                break
            except LINK_ERRORS as again:
                self._ledger.complain(_reason(again), "redis_does_not_answer", error=describe_error(again))
        if not self._closed:
            self._failures, self._open = 0, False
            self._ledger.reachable(True)

    async def aclose(self) -> None:
        """Fail what waits, end the tasks, drop the connections."""
        if self._closed:
            return
        self._closed = True
        for _, future in (*self._waiting, *self._deadlines):
            if not future.done():
                future.set_exception(NoDecisionError(Reason.CLOSED))
        self._waiting.clear()
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in self._links:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await link.aclose()
            except LINK_ERRORS:
                pass


_ACCESS_MARKS: Final = ("NOAUTH", "NOPERM", "WRONGPASS", "user executing the script", "ACL failure in script")


def _reason(exc: BaseException) -> Reason:
    text = str(exc)
    if isinstance(exc, TimeoutError) or "Timeout" in type(exc).__name__:
        return Reason.TIMEOUT
    if isinstance(exc, OutOfMemoryError) or "OOM command not allowed" in text:
        return Reason.OUT_OF_MEMORY
    if isinstance(exc, AuthenticationError | AuthorizationError | NoPermissionError) or any(
        mark in text for mark in _ACCESS_MARKS
    ):
        return Reason.ACCESS
    if isinstance(exc, OSError) or "Connection" in type(exc).__name__:
        return Reason.CONNECTION
    return Reason.SERVER_ERROR if isinstance(exc, RedisError) else Reason.CONNECTION


def describe_error(exc: BaseException) -> str:
    """An error for the log: its class, and its text unless that could repeat what was sent, credentials among it."""
    text = str(exc)
    if not text or "args beginning with" in text or "AUTH" in text or "password" in text:
        return type(exc).__name__
    return f"{type(exc).__name__}: {text[:200]}"
