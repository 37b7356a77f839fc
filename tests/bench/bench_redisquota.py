"""What a quota decision costs when Redis makes it: how many a second, and CPU here and in Redis for each.

Run it alone: ``python tests/bench/bench_redisquota.py [--decisions N]``. A Redis of its own on loopback, uvloop, one
process. *One after another* is the journey; *64 at a time* is what a busy Mixer sees. The floor is a PING over the same
kind of connection, without scripts or handler. *Each alone* forbids decisions to share a round trip.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from redis.asyncio import Connection

sys.path.insert(0, str(Path(__file__).parents[2]))

from mixer.adapters.base import QuotaArgs
from mixer.adapters.redisquota import INFO, courier
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.server.clock import SystemClock
from mixer.templates.quota import QuotaInstance
from tests.redis_server import RedisServer

ROUNDS = 3
CROWD = 64
ALGORITHMS = ("FIXED_WINDOW", "ROLLING_WINDOW", "TOKEN_BUCKET", "CONCURRENCY")

Step = Callable[[int], Awaitable[Any]]


def redis_cpu_s(server: RedisServer) -> float:
    """CPU that Redis has used."""
    info: Any = server.command("INFO", "cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def measure(server: RedisServer, step: Step, count: int, crowd: int) -> str:
    """The best of some rounds, as the machine's noise only ever adds."""
    best = (0.0, 0.0, 0.0)
    numbers = iter(range(10**9))

    async def worker() -> None:
        for _ in range(count // crowd):
            await step(next(numbers))

    for _ in range(ROUNDS):
        theirs, ours, started = redis_cpu_s(server), time.process_time(), time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(crowd)))
        rate = count / (time.perf_counter() - started)
        ours, theirs = time.process_time() - ours, redis_cpu_s(server) - theirs
        best = max(best, (rate, ours / count * 1e6, theirs / count * 1e6))
    rate, ours, theirs = best
    return f"{rate:9.0f}/s {ours:6.1f} us here {theirs:6.1f} us in Redis"


async def decisions(server: RedisServer, algorithm: str, count: int, crowd: int, *, dedup: bool = True) -> str:
    """Decisions on a hundred counters, all granted."""
    quota = {"name": "q", "maxAmount": 10**9, "validDuration": "60s", "bucketDuration": "1s"}
    params = {
        "redisServerUrl": server.address,
        "quotas": [{**quota, "rateLimitAlgorithm": algorithm}],
        "requestTimeout": "5s",
    }
    env = RecordingEnv(SystemClock())
    handler = await build_handler(INFO, params, env=env)
    instances = [QuotaInstance("q", {"source": f"client-{n}", "destination": "ratings"}) for n in range(100)]

    async def step(number: int) -> None:
        answer = handler.handle_quota(instances[number % 100], QuotaArgs(1, dedup_id=f"{number}" if dedup else ""))
        result = await answer  # type: ignore[misc]
        assert result.amount == 1, result

    await step(-1)
    text = await measure(server, step, count, crowd)
    await handler.aclose()
    await env.aclose()
    await asyncio.to_thread(server.command, "FLUSHALL")
    return text


async def floor(server: RedisServer, count: int) -> str:
    """PING, one after another."""
    connection = Connection(port=server.port, protocol=2, socket_timeout=None, driver_info=None)
    await connection.connect()

    async def step(_: int) -> None:
        await connection.send_packed_command(connection.pack_commands([("PING",)]), check_health=False)
        await connection.read_response()

    text = await measure(server, step, count, 1)
    await connection.disconnect()
    return text


async def run(count: int) -> None:
    """The table."""
    with RedisServer.start() as server:
        print(f"{'PING, one after another':45}{await floor(server, count // 4)}")
        for algorithm in ALGORITHMS:
            print(f"{algorithm + ', one after another':45}{await decisions(server, algorithm, count // 4, 1)}")
            print(f"{algorithm + f', {CROWD} at a time':45}{await decisions(server, algorithm, count, CROWD)}")
        text = await decisions(server, "FIXED_WINDOW", count, CROWD, dedup=False)
        print(f"{f'FIXED_WINDOW, {CROWD} at a time, no ids':45}{text}")
        courier.MAX_BATCH = 1  # type: ignore[misc]
        text = await decisions(server, "FIXED_WINDOW", count, CROWD)
        print(f"{f'FIXED_WINDOW, {CROWD} at a time, each alone':45}{text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=19_200)
    uvloop.run(run(parser.parse_args().decisions))
