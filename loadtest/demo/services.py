"""BookInfo's services: real HTTP on ports of their own, all in one process to spare memory.

Each knows nobody but the Envoy beside it: what it asks of others goes to that Envoy's outbound port, which finds
the callee by the host name. Each passes on the headers that make one trace of all the requests of a visit.

``python -m loadtest.demo.services PLAN``, a file of JSON: for each workload its ``port``, the ``outbound`` port of
its Envoy, and for ratings the port ``mongodb``. Prints a ready line with the port of ``GET /served``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from loadtest.demo.workloads import DETAILS, MONGODB, PRODUCTPAGE, RATINGS, REVIEWS
from mixer.cli.ports import ready_line

PASSED_ON: Final = (
    "x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "b3",
    "traceparent", "tracestate", "end-user", "user-agent",
)  # fmt: skip
"""What BookInfo's services copy from the request that they serve to those that they make."""

QUERIES: Final = 20
"""Queries before ratings takes a new connection to MongoDB."""

_TIMEOUT_S: Final = 5.0
_STARS: Final = {"reviews-v2": "black", "reviews-v3": "red"}
_REVIEWS: Final = (
    ("Reviewer1", "Two pairs of twins, and not one of them asks the obvious question. I laughed all evening."),
    ("Reviewer2", "Short for its author, and quick. Read it aloud."),
)
_DETAILS: Final = {
    "author": "William Shakespeare",
    "year": 1595,
    "type": "paperback",
    "pages": 200,
    "publisher": "PublisherA",
    "language": "English",
}
_RATINGS: Final = {"Reviewer1": 5, "Reviewer2": 4}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Failed(Exception):
    """A call of another service that was not answered with 200."""


class Caller:
    """How a service calls others: through the outbound port of its Envoy."""

    def __init__(self, session: aiohttp.ClientSession, outbound: int) -> None:
        self._session, self._url = session, f"http://127.0.0.1:{outbound}"

    async def get(self, request: web.Request, authority: str, path: str) -> Any:
        """What another service answers, as part of serving a request."""
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        try:
            async with self._session.get(self._url + path, headers={**headers, "host": authority}) as answer:
                if answer.status != 200:
                    raise Failed(f"{authority} answered {answer.status}: {await answer.text()}")
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise Failed(f"{authority} did not answer: {type(exc).__name__}") from exc


class MongoClient:
    """One connection to MongoDB, through ratings' Envoy, one query at a time; another one every so often."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = asyncio.Lock()
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._queries = 0

    async def find(self, product: str) -> Any:
        """The ratings of a product.

        Raises:
            Failed: There is no answer.
        """
        async with self._lock:
            try:
                if self._connection is None:
                    self._connection = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._connection
                writer.write(json.dumps({"find": "ratings", "filter": {"product": product}}).encode() + b"\n")
                line = await asyncio.wait_for(reader.readline(), _TIMEOUT_S)
                found = json.loads(line)
            except (OSError, ValueError, TimeoutError) as exc:
                await self._close()
                raise Failed(f"mongodb did not answer: {type(exc).__name__}") from exc
            self._queries += 1
            if self._queries % QUERIES == 0:
                await self._close()
            return found

    async def close(self) -> None:
        """Hang up; the next query connects again."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        if self._connection is not None:
            _, writer = self._connection
            self._connection = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Shop:
    """All the services; ``served`` counts the requests that reached each."""

    def __init__(self, plan: Mapping[str, Mapping[str, int]]) -> None:
        self._plan = plan
        self.served: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Serve; yields the port on which ``/served`` is."""
        async with AsyncExitStack() as stack:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            callers = {name: Caller(session, ports["outbound"]) for name, ports in self._plan.items()}
            mongodb = await asyncio.start_server(self._mongodb, "127.0.0.1", self._plan[MONGODB]["port"])
            stack.push_async_callback(mongodb.wait_closed)
            stack.callback(mongodb.close)
            client = MongoClient(self._plan[RATINGS]["mongodb"])
            stack.push_async_callback(client.close)
            apps: dict[str, dict[str, Handler]] = {
                PRODUCTPAGE: _productpage(callers[PRODUCTPAGE]),
                DETAILS: {"/details/{id}": _details},
                RATINGS: _ratings(client),
                **{name: {"/reviews/{id}": _reviews(name, callers[name])} for name in REVIEWS},
            }
            for name, paths in apps.items():
                await self._serve(stack, {"/health": _health, **paths}, self._plan[name]["port"], name)

            async def served(request: web.Request) -> web.Response:
                return web.json_response({"requests": self.served, "mongodb": self.bytes})

            async def hang_up(request: web.Request) -> web.Response:
                await client.close()
                return web.Response()

            yield await self._serve(stack, {"/served": served, "/hang-up": hang_up}, 0)

    async def _serve(self, stack: AsyncExitStack, paths: Mapping[str, Handler], port: int, name: str = "") -> int:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            if name:
                self.served[name] += 1
            return await handler(request)

        app = web.Application(middlewares=[count])
        app.add_routes([web.get(path, handler) for path, handler in paths.items()])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return int(runner.addresses[0][1])

    async def _mongodb(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lines of JSON in place of MongoDB's own protocol: Envoy looks at neither."""
        self.bytes["connections"] += 1
        try:
            while line := await reader.readline():
                answer = json.dumps(_RATINGS).encode() + b"\n"
                writer.write(answer)
                await writer.drain()
                self.bytes["received"] += len(line)
                self.bytes["sent"] += len(answer)
        except OSError:
            pass
        finally:
            writer.close()
            self.bytes["closed"] += 1


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "healthy"})


async def _details(request: web.Request) -> web.Response:
    return web.json_response({"id": request.match_info["id"], **_DETAILS})


def _ratings(client: MongoClient) -> dict[str, Handler]:
    async def ratings(request: web.Request) -> web.Response:
        product = request.match_info["id"]
        try:
            return web.json_response({"id": product, "ratings": await client.find(product)})
        except Failed as exc:
            return web.json_response({"error": str(exc)}, status=500)

    return {"/ratings/{id}": ratings}


def _reviews(name: str, caller: Caller) -> Handler:
    async def reviews(request: web.Request) -> web.Response:
        product = request.match_info["id"]
        found: list[dict[str, Any]] = [{"reviewer": who, "text": text} for who, text in _REVIEWS]
        if color := _STARS.get(name):
            try:
                stars = (await caller.get(request, "ratings:9080", f"/ratings/{product}"))["ratings"]
                for review in found:
                    review["rating"] = {"stars": stars[review["reviewer"]], "color": color}
            except Failed as exc:
                for review in found:
                    review["rating"] = {"error": f"no ratings at present: {exc}"}
        return web.json_response({"id": product, "served by": name, "reviews": found})

    return reviews


def _productpage(caller: Caller) -> dict[str, Handler]:
    async def part(request: web.Request, authority: str, path: str) -> Any:
        try:
            return await caller.get(request, authority, path)
        except Failed as exc:
            return {"error": str(exc)}

    async def page(request: web.Request) -> web.Response:
        details, reviews = await asyncio.gather(
            part(request, "details:9080", "/details/0"), part(request, "reviews:9080", "/reviews/0")
        )
        return web.json_response({"title": "The Comedy of Errors", "details": details, "reviews": reviews})

    async def reviews(request: web.Request) -> web.Response:
        return web.json_response(await part(request, "reviews:9080", f"/reviews/{request.match_info['id']}"))

    return {"/productpage": page, "/api/v1/products/{id}/reviews": reviews}


async def serve(plan: Mapping[str, Mapping[str, int]]) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Shop(plan).open() as port:
        print(ready_line({"port": port}), flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
