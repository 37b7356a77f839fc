"""A Redis that is away, frozen, full, restarted or lying: no call waits longer than its time, and the policy decides."""

import asyncio
import time

import pytest

from mixer.api.codes import Code
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

QUOTA = {"name": "q", "maxAmount": 1_000_000, "validDuration": "60s"}
TIMEOUT_S = 0.05
SLACK_S = 0.15  # for a machine that is busy with other tests
POLICIES = {
    "UNAVAILABLE": (Code.UNAVAILABLE, 0),
    "CLOSED": (Code.RESOURCE_EXHAUSTED, 0),
    "OPEN": (Code.OK, 1),
    "LOCAL": (Code.OK, 1),
}


@pytest.fixture
def own_redis():
    with RedisServer.start() as server:
        yield server


class Load:
    """Workers that ask again and again; what they got, and how long the slowest answer took."""

    def __init__(self, take, workers=16):
        self.take, self.results, self.slowest = take, [], 0.0
        self._tasks = [asyncio.ensure_future(self._work()) for _ in range(workers)]

    async def _work(self):
        while True:
            started = time.perf_counter()
            result = await self.take("q", 1)
            self.slowest = max(self.slowest, time.perf_counter() - started)
            self.results.append((time.perf_counter(), result))
            await asyncio.sleep(0.002)

    def since(self, at):
        return [result for when, result in self.results if when > at]

    async def until_redis_decides(self):
        """How long it took."""
        started = time.perf_counter()
        async with asyncio.timeout(5):
            while not any(  # noqa: ASYNC110  many workers, no event
                result.level is not None and result.amount for result in self.since(started)[-8:]
            ):
                await asyncio.sleep(0.005)
        return time.perf_counter() - started

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def assert_policy(results, policy):
    code, amount = POLICIES[policy]
    assert results
    assert {(result.status.code, result.amount) for result in results} == {(code, amount)}


@pytest.mark.parametrize("policy", POLICIES)
async def test_frozen_redis_stalls_nobody(running, own_redis, policy):
    take = await running(redisServerUrl=own_redis.address, quotas=[QUOTA], failurePolicy=policy)
    load = Load(take)
    await load.until_redis_decides()
    with own_redis.frozen():
        await asyncio.sleep(2 * TIMEOUT_S)
        frozen_at = time.perf_counter()
        await asyncio.sleep(0.4)
        results = load.since(frozen_at)
    back_after = await load.until_redis_decides()
    await load.stop()
    assert_policy(results, policy)
    assert len(results) > 16 * 20, "an open circuit answers at once"
    assert load.slowest < TIMEOUT_S + SLACK_S
    assert back_after < 1
    assert take.count("failures", reason="timeout") > 0
    assert take.count("failures", reason="circuit_open") > 0
    assert [line["event"] for line in take.env.logged].count("redis_is_back") == 1


@pytest.mark.parametrize("policy", POLICIES)
async def test_killed_redis_stalls_nobody_and_is_found_again(running, own_redis, policy):
    take = await running(redisServerUrl=own_redis.address, quotas=[QUOTA], failurePolicy=policy)
    load = Load(take)
    await load.until_redis_decides()
    own_redis.stop()
    await asyncio.sleep(2 * TIMEOUT_S)
    killed_at = time.perf_counter()
    await asyncio.sleep(0.3)
    results = load.since(killed_at)
    await asyncio.to_thread(own_redis.restart)
    back_after = await load.until_redis_decides()
    await load.stop()
    assert_policy(results, policy)
    assert load.slowest < TIMEOUT_S + SLACK_S
    assert back_after < 1
    assert take.count("failures", reason="connection") > 0


async def test_idle_connection_to_a_restarted_redis_costs_no_decision(running, own_redis):
    take = await running(redisServerUrl=own_redis.address, quotas=[QUOTA], requestTimeout="2s")
    assert (await take("q", 1)).amount == 1
    await asyncio.to_thread(own_redis.restart)
    await asyncio.sleep(0.15)
    assert (await take("q", 1)).level.remaining == QUOTA["maxAmount"] - 1
    assert (await take("q", 1)).amount == 1
    assert take.count("failures", reason="connection") == 0


async def test_full_redis_leaves_it_to_the_policy_and_keeps_the_circuit_closed(running, own_redis):
    take = await running(redisServerUrl=own_redis.address, quotas=[QUOTA], requestTimeout="2s")
    assert (await take("q", 1)).amount == 1
    own_redis.command("CONFIG", "SET", "maxmemory", "1")
    results = [await take("q", 1) for _ in range(10)]
    assert_policy(results, "UNAVAILABLE")
    assert take.count("failures", reason="out_of_memory") == 10
    assert len([line for line in take.env.logged if line["log_level"] == "error"]) == 1
    own_redis.command("CONFIG", "SET", "maxmemory", "0")
    assert (await take("q", 1)).level.remaining == QUOTA["maxAmount"] - 2


async def test_redis_that_is_away_at_the_start_is_found_when_it_comes(running):
    with RedisServer.start() as server:
        server.stop()
        take = await running(redisServerUrl=server.address, quotas=[QUOTA])
        started = time.perf_counter()
        assert_policy([await take("q", 1) for _ in range(20)], "UNAVAILABLE")
        assert time.perf_counter() - started < 1
        await asyncio.to_thread(server.restart)
        load = Load(take, workers=1)
        assert await load.until_redis_decides() < 1
        await load.stop()


async def test_killed_connections_are_made_again(running, redis):
    take = await running(redisServerUrl=redis.address, quotas=[QUOTA], requestTimeout="1s")
    load = Load(take, workers=8)
    await load.until_redis_decides()
    for _ in range(5):
        redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await load.until_redis_decides() < 1
    await load.stop()
    granted = sum(result.amount for _, result in load.results)
    used = QUOTA["maxAmount"] - (await take("q", 1)).level.remaining - 1
    assert granted <= used, "what Redis charged may have lost its way back, never the other way round"


async def test_local_policy_counts_for_itself_and_gives_back(running):
    quota = {**QUOTA, "maxAmount": 10}
    take = await running(redisServerUrl="127.0.0.1:1", quotas=[quota], failurePolicy="LOCAL")
    assert (await take("q", 8)).amount == 8
    refused = await take("q", 8)
    assert (refused.amount, refused.status.code, refused.level.remaining) == (0, Code.RESOURCE_EXHAUSTED, 0)
    assert (await take("q", -3)).amount == 3
    assert (await take("q", 8, best_effort=True)).amount == 5
    assert (await take("q", 8, source="other")).amount == 8


async def test_open_policy_grants_for_a_second(running):
    take = await running(redisServerUrl="127.0.0.1:1", quotas=[QUOTA], failurePolicy="OPEN")
    result = await take("q", 7)
    assert (result.amount, result.valid_duration.seconds, result.level) == (7, 1, None)
    assert (await take("q", -7)).amount == 0
