"""Three Mixers on one Redis, asked over gRPC: together they grant what one would, and leave nothing behind."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from mixer.api.encode import encode_check
from mixer.api.messages import QuotaParams
from mixer.api.service import MixerStub
from tests.e2e.backends.configuration import INSTANCES, QUOTA, made, redisquota, write
from tests.e2e.backends.programs import Mixs
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("backends")]

MIXERS = 3
ASKING = 4
"""Clients of each Mixer; each asks again as soon as it is answered."""
LIMIT = 50
WINDOW_S = 1.5
DEDUP_S = 1.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Units, and the moment at which their window ends, as seen by a client: not before ``early``, not after ``late``."""

    units: int
    early: float
    late: float


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer.start() as server:
        yield server


@pytest.fixture
async def mixers(tmp_path: Path, redis: RedisServer) -> AsyncIterator[list[Mixs]]:
    config = tmp_path / "config"
    config.mkdir()
    params = redisquota(
        redis.address,
        limit=LIMIT,
        window=f"{WINDOW_S}s",
        requestTimeout="5s",
        deduplicationDuration=f"{DEDUP_S}s",
    )
    objects = [
        made("handler", "redis", {"compiledAdapter": "redisquota", "params": params}),
        made("instance", QUOTA, dict(zip(("compiledTemplate", "params"), INSTANCES[QUOTA], strict=True))),
        made("rule", "redis", {"actions": [{"handler": "redis", "instances": [QUOTA]}]}),
    ]
    write(config, objects)
    started = [Mixs(config, tmp_path / f"mixs-{number}.log") for number in range(MIXERS)]
    try:
        await asyncio.gather(*(asyncio.to_thread(mixs.start) for mixs in started))
        yield started
        assert await asyncio.gather(*(asyncio.to_thread(mixs.stop) for mixs in started)) == [0] * MIXERS
    finally:
        for mixs in started:
            mixs.stop(signal.SIGKILL)


def request(key: str, amount: int, dedup_id: str, *, best_effort: bool = False) -> object:
    return encode_check(
        {"request.headers": {"key": key}},
        quotas={QUOTA: QuotaParams(amount=amount, best_effort=best_effort)},
        deduplication_id=dedup_id,
    )


def per_window(grants: list[Grant]) -> list[int]:
    """Units granted in each window; a grant's end is known to within its journey, which is far below half a window."""
    windows: list[int] = []
    last = float("-inf")
    for grant in sorted(grants, key=lambda grant: grant.early + grant.late):
        assert grant.late - grant.early < WINDOW_S / 2, "the machine is too slow to tell windows apart"
        end = (grant.early + grant.late) / 2
        if end - last < WINDOW_S / 2:
            windows[-1] += grant.units
        else:
            windows.append(grant.units)
            last = end
    return windows


async def test_three_mixers_grant_the_limit_of_each_window_and_leave_redis_empty(
    mixers: list[Mixs], redis: RedisServer
) -> None:
    keys = ("a", "b", "c")
    grants: dict[str, list[Grant]] = {key: [] for key in keys}
    answered: Counter[str] = Counter()
    numbers = itertools.count()
    until = time.monotonic() + 3 * WINDOW_S

    async def ask(stub: object) -> None:
        while time.monotonic() < until:
            number = next(numbers)
            key, amount = keys[number % len(keys)], 1 + number % 3
            question = request(key, amount, f"ask-{number}", best_effort=amount == 3)
            before = time.monotonic()
            answer = await stub.Check(question, timeout=10)
            assert answer.precondition.status.code == 0
            quota = answer.quotas[QUOTA]
            answered[key] += 1
            assert 0 <= quota.granted_amount <= amount
            if quota.granted_amount:
                ends = quota.valid_duration.ToNanoseconds() / 1e9
                grants[key].append(Grant(quota.granted_amount, before + ends, time.monotonic() + ends))

    async with AsyncExitStack() as stack:
        stubs = []
        for mixs in mixers:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(mixs.target))
            stubs.append(MixerStub(channel))
        await asyncio.gather(*(ask(stub) for stub in stubs for _ in range(ASKING)))

        # A charge that is repeated, at another Mixer, is none: all three are told of the same grant.
        twice = [await stub.Check(request("retry", 7, "same"), timeout=10) for stub in stubs]
        assert [answer.quotas[QUOTA].granted_amount for answer in twice] == [7] * MIXERS
        whole = await stubs[0].Check(request("retry", LIMIT, "rest", best_effort=True), timeout=10)
        assert whole.quotas[QUOTA].granted_amount == LIMIT - 7

    for key in keys:
        windows = per_window(grants[key])
        assert all(units <= LIMIT for units in windows), (key, windows)
        assert windows.count(LIMIT) >= 2, (key, windows, "too little was asked to find out")
        assert answered[key] > LIMIT
    assert redis.command("DBSIZE") > 0
    async with asyncio.timeout(WINDOW_S + DEDUP_S + 2):
        while redis.command("DBSIZE"):  # noqa: ASYNC110  only Redis knows
            await asyncio.sleep(0.05)
