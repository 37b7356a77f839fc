"""BookInfo's services without Envoys: a plain proxy finds the callee by its host name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from loadtest.demo.services import QUERIES, Shop
from loadtest.demo.workloads import DETAILS, GATEWAY, HTTP_WORKLOADS, MONGODB, PRODUCTPAGE, RATINGS, REVIEWS
from loadtest.envoy import free_ports

TRACE = {
    "x-request-id": "r1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "end-user": "jason",
}


@dataclass
class Street:
    """The services, and what went past on the way between them."""

    ports: dict[str, int]
    session: aiohttp.ClientSession
    shop: Shop
    passed: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    version: str = REVIEWS[1]
    refuse: set[str] = field(default_factory=set)

    async def get(self, name: str, path: str, **headers: str) -> Any:
        async with self.session.get(f"http://127.0.0.1:{self.ports[name]}{path}", headers=headers) as answer:
            return await answer.json()

    async def proxy(self, request: web.Request) -> web.Response:
        host = request.headers["host"]
        self.passed.append((host, request.path, {name.lower(): value for name, value in request.headers.items()}))
        if host in self.refuse:
            return web.Response(status=403, text="PERMISSION_DENIED:no")
        callee = {"details:9080": DETAILS, "ratings:9080": RATINGS, "reviews:9080": self.version}[host]
        return web.json_response(
            await self.get(callee, request.path, **{n: request.headers[n] for n in TRACE if n in request.headers})
        )


@pytest.fixture
async def street() -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        names = (*HTTP_WORKLOADS, MONGODB)
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        found = Street(ports, session, Shop({}))
        app = web.Application()
        app.router.add_get("/{path:.*}", found.proxy)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        outbound = runner.addresses[0][1]
        found.shop = Shop(
            {name: {"port": port, "outbound": outbound, "mongodb": ports[MONGODB]} for name, port in ports.items()}
            | {GATEWAY: {"port": 0, "outbound": outbound, "mongodb": 0}}
        )
        found.ports["control"] = await stack.enter_async_context(found.shop.open())
        yield found


async def test_page_is_made_of_details_and_reviews_with_stars(street: Street) -> None:
    page = await street.get(PRODUCTPAGE, "/productpage", **TRACE)

    assert page["details"]["author"] == "William Shakespeare"
    assert page["reviews"]["served by"] == "reviews-v2"
    assert [review["rating"] for review in page["reviews"]["reviews"]] == [
        {"stars": 5, "color": "black"},
        {"stars": 4, "color": "black"},
    ]
    assert street.shop.served == {PRODUCTPAGE: 1, DETAILS: 1, REVIEWS[1]: 1, RATINGS: 1}


async def test_headers_of_the_trace_and_the_user_are_passed_on_all_the_way(street: Street) -> None:
    await street.get(PRODUCTPAGE, "/productpage", **TRACE, **{"x-secret": "mine"})

    assert sorted((host, path) for host, path, _ in street.passed) == [
        ("details:9080", "/details/0"),
        ("ratings:9080", "/ratings/0"),
        ("reviews:9080", "/reviews/0"),
    ]
    for _, _, headers in street.passed:
        assert headers.items() >= TRACE.items()
        assert "x-secret" not in headers


async def test_version_1_does_not_ask_for_ratings(street: Street) -> None:
    street.version = REVIEWS[0]

    page = await street.get(PRODUCTPAGE, "/productpage")

    assert page["reviews"]["served by"] == "reviews-v1"
    assert street.shop.served[RATINGS] == 0


@pytest.mark.parametrize(
    ("refused", "where"),
    [("details:9080", "details"), ("reviews:9080", "reviews")],
    ids=["details", "reviews"],
)
async def test_page_says_what_is_missing_when_a_service_refuses(street: Street, refused: str, where: str) -> None:
    street.refuse = {refused}

    page = await street.get(PRODUCTPAGE, "/productpage")

    assert page[where] == {"error": f"{refused} answered 403: PERMISSION_DENIED:no"}


async def test_reviews_come_without_stars_when_ratings_refuses(street: Street) -> None:
    street.refuse = {"ratings:9080"}

    reviews = await street.get(REVIEWS[2], "/reviews/0")

    assert reviews["reviews"][0]["rating"] == {
        "error": "no ratings at present: ratings:9080 answered 403: PERMISSION_DENIED:no"
    }


async def test_connection_to_mongodb_is_used_for_a_while(street: Street) -> None:
    for _ in range(QUERIES + 1):
        assert (await street.get(RATINGS, "/ratings/0"))["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}
    async with street.session.get(f"http://127.0.0.1:{street.ports['control']}/hang-up"):
        pass

    told = (await street.get("control", "/served"))["mongodb"]

    assert told["connections"] == 2
    assert told["received"] == (QUERIES + 1) * len('{"find": "ratings", "filter": {"product": "0"}}\n')
    assert told["sent"] == (QUERIES + 1) * len('{"Reviewer1": 5, "Reviewer2": 4}\n')
