"""A real Redis for each module, and drivers of handlers on it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mixer.adapters.base import Handler, QuotaArgs, QuotaResult
from mixer.adapters.redisquota import INFO
from mixer.adapters.testing import FakeClock, RecordingEnv, build_handler
from mixer.server.clock import SystemClock
from mixer.templates.quota import QuotaInstance
from tests.adapters.redisquota.clocked import clocked_handler
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_process() -> Iterator[RedisServer]:
    with RedisServer.start() as server:
        yield server


@pytest.fixture
def redis(redis_process: RedisServer) -> RedisServer:
    """Empty."""
    redis_process.command("FLUSHALL")
    return redis_process


_IDS = itertools.count()


class Driver:
    """A handler under test, its clock, and ids that never repeat unless given."""

    def __init__(self, handler: Handler, env: RecordingEnv) -> None:
        self.handler, self.env = handler, env

    async def at(self, seconds: float) -> None:
        await self.env.clock.advance(seconds - self.env.clock.monotonic())

    async def __call__(
        self, name: str, amount: int, *, best_effort: bool = False, id: str | None = None, **dimensions: Any
    ) -> QuotaResult:
        dedup_id = f"unique-{next(_IDS)}" if id is None else id
        answer = self.handler.handle_quota(QuotaInstance(name, dimensions), QuotaArgs(amount, best_effort, dedup_id))
        return answer if isinstance(answer, QuotaResult) else await answer

    def count(self, metric: str, **labels: str) -> float:
        return (
            self.env.metrics.get_sample_value(
                f"mixer_redisquota_{metric}_total", {"handler": "test.istio-system", **labels}
            )
            or 0.0
        )


@pytest.fixture
async def clocked(redis: RedisServer) -> AsyncIterator[Callable[..., Driver]]:
    """Makes drivers on the test's clock, from quotas and other params."""
    drivers: list[Driver] = []

    def make(*quotas: dict[str, Any], **params: Any) -> Driver:
        env = RecordingEnv(FakeClock())
        handler = clocked_handler({"redisServerUrl": redis.address, "quotas": list(quotas), **params}, env)
        drivers.append(Driver(handler, env))
        return drivers[-1]

    yield make
    for driver in drivers:
        await driver.handler.aclose()
        await driver.env.aclose()
        assert driver.env.crashes == []


@pytest.fixture
async def running() -> AsyncIterator[Callable[..., Any]]:
    """Builds drivers on the machine's clock, from params."""
    drivers: list[Driver] = []

    async def make(**params: Any) -> Driver:
        env = RecordingEnv(SystemClock())
        drivers.append(Driver(await build_handler(INFO, params, env=env), env))
        return drivers[-1]

    yield make
    for driver in drivers:
        await driver.handler.aclose()
        await driver.env.aclose()
        assert driver.env.crashes == []
