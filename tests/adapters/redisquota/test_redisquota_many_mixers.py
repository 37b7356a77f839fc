"""Many Mixers on one Redis grant no more than one would."""

import asyncio
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ALGORITHMS = ("FIXED_WINDOW", "ROLLING_WINDOW", "TOKEN_BUCKET", "CONCURRENCY")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_handlers_that_hammer_one_key_grant_the_limit_together(redis, running, algorithm):
    quota = {
        "name": "q",
        "maxAmount": 100,
        "validDuration": "600s",
        "bucketDuration": "1s",
        "rateLimitAlgorithm": algorithm,
    }
    takes = [
        await running(redisServerUrl=redis.address, quotas=[quota], requestTimeout="5s", connectionPoolSize=2)
        for _ in range(5)
    ]
    asks = [take("q", amount, best_effort=amount > 2) for take in takes for amount in (1, 2, 3) for _ in range(15)]
    assert sum(result.amount for result in await asyncio.gather(*asks)) == 100


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_counters_and_answers_leave_redis_empty(redis, running, algorithm):
    quota = {
        "name": "q",
        "maxAmount": 5,
        "validDuration": "200ms",
        "bucketDuration": "50ms",
        "rateLimitAlgorithm": algorithm,
    }
    take = await running(
        redisServerUrl=redis.address, quotas=[quota], requestTimeout="5s", deduplicationDuration="200ms"
    )
    await asyncio.gather(*(take("q", 1, source=f"{n % 20}") for n in range(300)))
    assert redis.command("DBSIZE") > 20
    async with asyncio.timeout(2):
        while redis.command("DBSIZE"):  # noqa: ASYNC110  only Redis knows
            await asyncio.sleep(0.02)


PROCESS = """
import asyncio, sys, time
from mixer.adapters.base import QuotaArgs
from mixer.adapters.redisquota import INFO
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.server.clock import SystemClock
from mixer.templates.quota import QuotaInstance

async def main(address, seconds):
    quota = {"name": "q", "maxAmount": 40, "validDuration": "500ms"}
    env = RecordingEnv(SystemClock())
    params = {"redisServerUrl": address, "quotas": [quota], "requestTimeout": "5s"}
    handler = await build_handler(INFO, params, env=env)
    until = time.monotonic() + seconds
    async def worker():
        while time.monotonic() < until:
            before = time.time()
            result = await handler.handle_quota(QuotaInstance("q", {}), QuotaArgs(1))
            if result.amount:
                ends = result.valid_duration.seconds
                print(before + ends, time.time() + ends, result.amount)
            await asyncio.sleep(0.001)
    await asyncio.gather(*(worker() for _ in range(8)))
    await handler.aclose()
    await env.aclose()

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def test_processes_grant_the_limit_in_each_window(redis):
    """Each grant says when its window ends, give or take its journey, so grants are told apart by window."""
    started = time.monotonic()
    children = [
        subprocess.Popen([sys.executable, "-c", PROCESS, redis.address, "1.3"], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    grants = []
    for child in children:
        output, _ = child.communicate(timeout=30)
        assert child.returncode == 0
        grants += [
            (float(early), float(late), int(units)) for early, late, units in map(str.split, output.splitlines())
        ]
    grants.sort()
    windows = []
    for early, late, units in grants:
        middle = (early + late) / 2
        if windows and middle - windows[-1][0] < 0.25:
            windows[-1][1] += units
        else:
            windows.append([middle, units])
    assert time.monotonic() - started < 15
    assert len(windows) >= 2
    assert all(units <= 40 for _, units in windows)
    assert any(units == 40 for _, units in windows)
