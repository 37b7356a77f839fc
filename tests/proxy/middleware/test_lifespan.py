"""A client that is opened and closed with the application, whatever the application makes of its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.middleware import MixerMiddleware
from tests.proxy.middleware.kit import Echo, FakePolicy, Wire, body, http_scope

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
BOTH = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class Opened:
    """A function that opens clients, and what became of them."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.events: list[str] = []
        self.policy = FakePolicy()
        self.failure = failure

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[FakePolicy]:
        if self.failure is not None:
            raise self.failure
        self.events.append("open")
        yield self.policy
        self.events.append("close")


def server(opened: Opened) -> tuple[Wire, Callable[[Any], Any]]:
    """A server that asks for a start and a stop, and writes down what it is answered."""
    wire = Wire([STARTUP, SHUTDOWN])

    async def send(message: Any) -> None:
        opened.events.append(message["type"])
        await wire.send(message)

    return wire, send


async def well_behaved(scope: Any, receive: Any, send: Any) -> None:
    assert await receive() == STARTUP
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == SHUTDOWN
    await send({"type": "lifespan.shutdown.complete"})


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def returns_when_started(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def returns_without_answer(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def returns_when_asked_to_stop(scope: Any, receive: Any, send: Any) -> None:
    await returns_when_started(scope, receive, send)
    await receive()


@pytest.mark.parametrize(
    "app",
    [well_behaved, refuses, returns, returns_when_started, returns_without_answer, returns_when_asked_to_stop],
    ids=lambda app: app.__name__,
)
async def test_client_is_open_while_the_application_runs(app: Any) -> None:
    opened = Opened()
    wire, send = server(opened)

    await MixerMiddleware(app, opened)({"type": "lifespan"}, wire.receive, send)

    assert opened.events == ["open", BOTH[0], "close", BOTH[1]]


async def test_failed_start_closes_the_client() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    opened = Opened()
    wire, send = server(opened)
    await MixerMiddleware(app, opened)({"type": "lifespan"}, wire.receive, send)

    assert opened.events == ["open", "close", "lifespan.startup.failed"]


async def test_crash_closes_the_client_and_is_the_servers_to_judge() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ZeroDivisionError

    opened = Opened()
    wire, send = server(opened)
    with pytest.raises(ZeroDivisionError):
        await MixerMiddleware(app, opened)({"type": "lifespan"}, wire.receive, send)

    assert opened.events == ["open", "close"]


async def test_client_that_cannot_be_opened_fails_the_start() -> None:
    opened = Opened(ValueError("bad address"))
    wire, send = server(opened)
    with pytest.raises(ValueError, match="bad address"):
        await MixerMiddleware(well_behaved, opened)({"type": "lifespan"}, wire.receive, send)

    assert wire.sent == [{"type": "lifespan.startup.failed", "message": "no client for Mixer: bad address"}]


async def test_first_request_opens_the_client_where_the_server_knows_no_lifespan() -> None:
    opened = Opened()
    middleware = MixerMiddleware(Echo(), opened)
    for _ in range(2):
        wire = Wire(body(b""))
        await middleware(http_scope(), wire.receive, wire.send)

    assert opened.events == ["open"]
    assert len(opened.policy.reports) == 2


async def test_lifespan_and_unknown_scopes_pass_through_with_a_client_that_is_open() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    wire = Wire()
    for kind in ("lifespan", "something.else"):
        scope = {"type": kind}
        await MixerMiddleware(app, FakePolicy())(scope, wire.receive, wire.send)
        assert seen.pop() == (scope, wire.receive, wire.send)
