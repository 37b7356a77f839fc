"""The sample of limits in Redis, as users of reviews see it: 429 by the limit, and what the failure policies mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest

from loadtest.envoy import free_ports
from loadtest.servers import sum_of
from proxy.envoy.bootstrap import Endpoint, Listener, MixerAddress, Route, Sidecar, Upstream
from tests.e2e.envoy.apps import http_app
from tests.e2e.envoy.mesh import ROOT, Mesh, wait_until
from tests.redis_server import RedisServer

SAMPLE = (ROOT / "config/samples/redis-ratelimit/redis-ratelimit-reviews.yaml").read_text()
SERVICE = "reviews.default.svc.cluster.local"


class Reviews:
    """An Envoy before reviews, a Mixer with the sample, and a Redis."""

    def __init__(self, mesh: Mesh, redis: RedisServer, policy: str) -> None:
        self.redis = redis
        config = SAMPLE.replace("127.0.0.1:6379", redis.address).replace("LOCAL", policy)
        assert f"redisServerUrl: {redis.address}" in config
        assert f"failurePolicy: {policy}" in config
        self.app, port = free_ports(2)
        self.mixs = mesh.mixer(config)
        sidecar = Sidecar(
            "reviews",
            "reviews",
            MixerAddress(Endpoint("127.0.0.1", self.mixs.ports["port"])),
            (
                Listener(
                    "http",
                    Endpoint("127.0.0.1", port),
                    (Route("app", service=SERVICE),),
                    attributes={"destination.service.name": "reviews"},
                ),
            ),
            (Upstream("app", Endpoint("127.0.0.1", self.app)),),
        )
        mesh.envoy(sidecar)
        self.url = f"http://127.0.0.1:{port}"

    def redis_is_asked(self) -> bool:
        return sum_of(self.mixs.page("monitoring-port", "/metrics"), "mixer_redisquota_reachable") == 1

    async def statuses(self, user: str, *paths: str) -> list[int]:
        return [status for status, _ in await self.answers(user, *paths)]

    async def answers(self, user: str, *paths: str) -> list[tuple[int, Mapping[str, str]]]:
        """Status and headers of the answer to a request for each path, one after the other."""
        found: list[tuple[int, Mapping[str, str]]] = []
        async with http_app(self.app), aiohttp.ClientSession(headers={"end-user": user}) as session:
            for path in paths:
                async with session.get(self.url + path) as answer:
                    found.append((answer.status, answer.headers))
        return found


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    with await asyncio.to_thread(RedisServer.start) as server:
        yield server


async def test_third_request_of_tester_is_refused_and_health_checks_are_free(mesh: Mesh, redis: RedisServer) -> None:
    reviews = Reviews(mesh, redis, "LOCAL")

    answers = await reviews.answers("tester", "/health", "/reviews/0", "/health", "/reviews/1", "/reviews/0", "/health")

    assert [status for status, _ in answers] == [200, 200, 200, 200, 429, 200]
    assert "x-ratelimit-limit" not in answers[0][1]
    assert [headers["x-ratelimit-remaining"] for _, headers in (answers[1], answers[3], answers[4])] == ["1", "0", "0"]
    assert 0 < int(answers[4][1]["retry-after"]) <= 60
    assert await reviews.statuses("jason", *["/reviews/0"] * 21) == [*[200] * 20, 429]
    used = redis.command(
        "HGET", "mixer:quota:{reviewscount.instance.istio-system;destination=reviews;user=jason}:f", "used"
    )
    assert used == "20"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("LOCAL", [200, 200, 429, 429]), ("CLOSED", [429] * 4), ("UNAVAILABLE", [200] * 4), ("OPEN", [200] * 4)],
)
async def test_request_without_redis_depends_on_the_failure_policy_and_never_waits(
    mesh: Mesh, redis: RedisServer, policy: str, expected: list[int]
) -> None:
    reviews = Reviews(mesh, redis, policy)
    assert await reviews.statuses("tester", *["/reviews/0"] * 3) == [200, 200, 429]

    redis.stop()
    started = time.monotonic()
    assert await reviews.statuses("tester", *["/reviews/0"] * 4) == expected
    assert time.monotonic() - started < 5

    redis.restart()
    await wait_until(reviews.redis_is_asked, "Redis is not asked again")
    assert await reviews.statuses("tester", *["/reviews/0"] * 3) == [200, 200, 429]
