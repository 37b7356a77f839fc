"""CPU that the middleware and the interceptor add to a request whose decision the cache knows.

    python -m tests.bench.bench_middleware [--seconds 2] [--profile]

The Mixer is a stand-in that answers at once and takes every report, and the client is the real one; what is measured is
an ASGI application that answers with one piece, without and with the middleware, and without a server. The interceptor
is measured the same way, around a handler that gives back what it gets. Each line is the best of several rounds, in
microseconds for one request; reports are made and batched, and encoding them is the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
from types import SimpleNamespace
from typing import Any

import grpc

from mixer.api.answer import CheckAnswer
from mixer.api.encode import encode_report
from mixer.attributes import Condition, Duration
from proxy.client import SidecarClient
from proxy.middleware import MixerInterceptor, MixerMiddleware, one_service
from proxy.mixer import CheckCall
from tests.bench.bench_ext_authz import HEADERS
from tests.bench.bench_sidecar import REFERENCED, STATICS, Stand, best

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "server": ("10.44.0.9", 9080),
    "client": ("10.44.0.7", 45576),
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "path": "/reviews/7",
    "raw_path": b"/reviews/7",
    "query_string": b"verbose=1",
    "headers": [(b"host", b"reviews:9080")]
    + [(name.encode(), value.encode()) for name, value in HEADERS.items() if name[0] != ":"],
}
# Nobody says who calls, and an answer depends on that.
DEPENDS = REFERENCED | dict.fromkeys((("source.namespace", ""), ("source.principal", "")), Condition.ABSENCE)
METADATA = tuple((name, value) for name, value in HEADERS.items() if name[0] != ":")


class LongStand(Stand):
    """A Mixer that keeps one record."""

    record: Any = None

    async def check(self, call: CheckCall) -> CheckAnswer:
        """Everything is fine for a long time."""
        return CheckAnswer(0, "", Duration(3600 * 10**9), -1, DEPENDS)

    async def report(self, records: Any) -> None:
        """Thank you."""
        self.record = records[-1]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with one piece."""
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


async def receive() -> Any:
    """An empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None:
    """Nobody reads it."""


class Context:
    """A call's context, as far as it is needed."""

    def invocation_metadata(self) -> Any:
        """Headers of a mesh."""
        return METADATA

    def peer(self) -> str:
        """A pod."""
        return "ipv4:10.44.0.7:45576"

    def auth_context(self) -> Any:
        """No TLS."""
        return {}

    def code(self) -> Any:
        """Not set."""
        return None

    def details(self) -> str:
        """Not set."""
        return ""

    def trailing_metadata(self) -> Any:
        """Not set."""
        return ()


async def handler(request: Any, context: Any) -> Any:
    """Gives back what it gets."""
    return request


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure each")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    options = parser.parse_args()
    stand = LongStand()
    client = SidecarClient(stand, one_service(STATICS))

    async def measured(title: str, call: Any) -> float:
        await call()
        if options.profile:
            profile = cProfile.Profile()
            with profile:
                await best(call, options.seconds)
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)
        found = await best(call, options.seconds)
        print(f"{title:50} {found:7.2f} us")
        return found

    app = MixerMiddleware(application, client)
    bare = await measured("application alone", lambda: application(dict(SCOPE), receive, send))
    full = await measured("application with the middleware", lambda: app(dict(SCOPE), receive, send))
    print(f"{'  added':50} {full - bare:7.2f} us")
    skipped = MixerMiddleware(application, client, exclude=["/reviews/*"])
    full = await measured("application, path excluded", lambda: skipped(dict(SCOPE), receive, send))
    print(f"{'  added':50} {full - bare:7.2f} us")

    async def found(_: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(handler)

    interceptor = MixerInterceptor(client)
    details = SimpleNamespace(method="/shop.Cart/Add", invocation_metadata=METADATA)

    async def plain() -> None:
        await (await found(details)).unary_unary(b"12345", Context())

    async def intercepted() -> None:
        chosen = await interceptor.intercept_service(found, details)
        await chosen.unary_unary(b"12345", Context())

    bare = await measured("gRPC handler alone", plain)
    full = await measured("gRPC handler with the interceptor", intercepted)
    print(f"{'  added':50} {full - bare:7.2f} us")

    await app(dict(SCOPE), receive, send)
    client.flush()
    await asyncio.sleep(0.01)
    record = stand.record

    async def encoded() -> None:
        encode_report([{name: record.peek(name) for name in record.names()}])

    print(f"{len(list(record.names()))} attributes in a record")
    await measured("making a message of a record", encoded)
    counters = client.counters()
    print(f"decided by the cache: {counters.check_cache_hits / counters.check_calls:.1%}")
    await client.aclose(1.0)


if __name__ == "__main__":
    asyncio.run(main())
