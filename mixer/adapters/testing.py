"""The test kit: what an adapter's tests need, shipped with the contract.

`FakeClock` owns the time, `RecordingEnv` lends a handler all that it may ask for and remembers what it
did, `assert_handler_lifecycle` is the suite that every adapter passes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine, MutableMapping, Sequence
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from mixer.adapters.base import AdapterInfo, Env, Handler, InstanceInfo, Params
from mixer.attributes import Timestamp
from mixer.store.protojson import decode


class FakeClock:
    """A clock that stands still until told otherwise; sleepers wake in the order of their time."""

    def __init__(self, *, now_s: float = 1_000_000_000.0) -> None:
        self._elapsed = 0.0
        self._start_s = now_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed

    def now(self) -> Timestamp:
        """The wall clock: the start plus what has passed."""
        return Timestamp(round((self._start_s + self._elapsed) * 1e9))

    async def sleep(self, seconds: float, /) -> None:
        """Wait until `advance` has moved the time that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass; every sleeper due on the way runs until it waits again."""
        end = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not future.done():
                future.set_result(None)
            await settle()
        self._elapsed = end


async def settle(rounds: int = 20) -> None:
    """Let every task that can run, run until it waits."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class RecordingEnv:
    """An environment for handlers under test.

    Attributes:
        clock: The time, which the test moves.
        scrape: The registry that the handler may register with.
        metrics: The registry of Mixer's metrics of itself.
        logged: One dict for each log line, with ``event`` and ``log_level``.
        crashes: What background tasks died of.
    """

    def __init__(self, clock: FakeClock | None = None, *, shared: dict[str, Any] | None = None) -> None:
        self.clock = clock or FakeClock()
        self.scrape = CollectorRegistry()
        self.metrics = CollectorRegistry()
        self.shared: dict[str, Any] = {} if shared is None else shared
        self.logged: list[dict[str, Any]] = []
        self.crashes: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def env(self, handler: str = "test.istio-system") -> Env:
        """The environment, as a handler of that name sees it."""

        def keep(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
            self.logged.append({**event, "log_level": method})
            raise structlog.DropEvent

        log = structlog.wrap_logger(None, processors=[keep]).bind(handler=handler)
        return Env(handler, log, self.clock, self._spawn, self.shared, self.scrape, self.metrics)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.crashes.append(exc)

    @property
    def running(self) -> int:
        """Background tasks that have not ended."""
        return len(self._tasks)

    async def aclose(self) -> None:
        """End what the handler left running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def parse_params(info: AdapterInfo, params: object, instances: Sequence[InstanceInfo] = ()) -> Params:
    """Decode and validate params as Mixer does; a fault is an AssertionError that lists all of them."""
    model, faults = decode(info.params, params)
    if model is not None:
        faults = list(info.validate(model, instances))
    if model is None or faults:
        raise AssertionError(f"{info.name} params: {faults}")
    return model


async def build_handler(
    info: AdapterInfo, params: object = None, *, instances: Sequence[InstanceInfo] = (), env: RecordingEnv | None = None
) -> Handler:
    """A running handler of plain params."""
    return await info.build(parse_params(info, params, instances), instances, (env or RecordingEnv()).env())


async def assert_handler_lifecycle(
    info: AdapterInfo, params: object = None, *, instances: Sequence[InstanceInfo] = ()
) -> None:
    """Every adapter's promise: builds from these params, closes unused, closes twice, leaves no task behind."""
    env = RecordingEnv()
    handler = await build_handler(info, params, instances=instances, env=env)
    await settle()
    await handler.aclose()
    await handler.aclose()
    await settle()
    left, crashes = env.running, list(env.crashes)
    await env.aclose()
    assert left == 0, f"{info.name} leaves {left} background task(s) running after aclose()"
    assert not crashes, f"background tasks of {info.name} crashed: {crashes}"
