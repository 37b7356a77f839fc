"""WebSockets through the middleware: checked before they are accepted, one record for each."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.api.codes import Code
from proxy.middleware import MixerMiddleware
from proxy.policy import Verdict
from tests.proxy.middleware.kit import WALL, Clock, FakePolicy, Wire, directed, replace, socket_scope

CONNECT = {"type": "websocket.connect"}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends back each message until the client leaves."""
    assert (await receive()) == CONNECT
    await send({"type": "websocket.accept", "headers": [(b"x", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def served(policy: FakePolicy, app: Any, *incoming: dict[str, Any], **scope: Any) -> Wire:
    wire = Wire([CONNECT, *incoming])
    middleware = MixerMiddleware(app, policy, now=Clock(WALL), monotonic_ns=Clock(0, 1_000_000))
    await middleware(socket_scope(**scope), wire.receive, wire.send)
    return wire


async def test_messages_are_the_bodies_of_the_record() -> None:
    policy = FakePolicy()
    messages = [{"type": "websocket.receive", "text": "hé"}, {"type": "websocket.receive", "bytes": b"\0" * 10}]

    wire = await served(policy, echo, *messages, {"type": "websocket.disconnect", "code": 1000}, scheme="wss")

    assert [message["type"] for message in wire.sent] == ["websocket.accept", "websocket.send", "websocket.send"]
    (check,) = policy.checks
    assert (check["request.method"], check["request.scheme"], check["request.path"]) == ("GET", "https", "/chat")
    record = policy.record
    assert (record["request.size"], record["response.size"]) == (13, 13)
    assert (record["response.code"], record["context.proxy_error_code"]) == (101, "-")
    assert record["response.duration"] == 1_000_000
    assert record["response.headers"] == {":status": "101", "x": "1"}
    assert record["destination.port"] == 8080


@pytest.mark.parametrize("denial", [True, False], ids=["with a response", "by closing"])
async def test_denied_before_it_is_accepted(denial: bool) -> None:
    policy = FakePolicy(Verdict(Code.RESOURCE_EXHAUSTED, "enough"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    wire = await served(policy, app, denial=denial)

    if denial:
        assert [message["type"] for message in wire.sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert (wire.status, wire.body) == (429, "RESOURCE_EXHAUSTED:enough")
        assert wire.headers == [("content-type", "text/plain"), ("content-length", "25")]
    else:
        assert wire.sent == [{"type": "websocket.close", "code": 1008}]
    record = policy.record
    assert (record["response.code"], record["context.proxy_error_code"]) == (429, "UAEX")
    assert "destination.ip" not in record


async def test_client_that_leaves_before_it_is_denied_has_its_record() -> None:
    policy = FakePolicy(Verdict(Code.PERMISSION_DENIED))
    wire = Wire([{"type": "websocket.disconnect", "code": 1006}])

    await MixerMiddleware(echo, policy)(socket_scope(), wire.receive, wire.send)

    assert wire.sent == []
    assert policy.record["response.code"] == 403


async def test_directive_changes_request_and_handshake() -> None:
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    operations = directed(
        request=[replace(":path", "/other"), replace(":method", "PUT"), replace("y", "2")],
        response=[replace("x", "new")],
    )
    wire = await served(FakePolicy(Verdict(directive=operations)), app)

    assert scopes[0]["path"] == "/other"
    assert (b"y", b"2") in scopes[0]["headers"]
    assert "method" not in scopes[0]
    assert wire.headers == [("x", "new")]


async def _closes(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.close"})


async def _refuses(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"no", "more_body": False})


async def _accepts_and_closes(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


async def _accepts_and_returns(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})


async def _says_nothing(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def _leaves(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await receive()


@pytest.mark.parametrize(
    ("app", "code", "error"),
    [
        pytest.param(_closes, 403, "-", id="closed before it is accepted"),
        pytest.param(_refuses, 404, "-", id="refused with a response"),
        pytest.param(_accepts_and_closes, 101, "-", id="closed"),
        pytest.param(_accepts_and_returns, 101, "-", id="left open"),
        pytest.param(_says_nothing, 500, "-", id="never accepted"),
        pytest.param(_leaves, 500, "DC", id="client gone before it is accepted"),
        pytest.param(echo, 101, "DC", id="connection broken"),
    ],
)
async def test_end_is_reported_once(app: Any, code: int, error: str) -> None:
    policy = FakePolicy()

    await served(policy, app, {"type": "websocket.disconnect", "code": 1006})

    assert (policy.record["response.code"], policy.record["context.proxy_error_code"]) == (code, error)


async def test_accepted_over_http2_is_200() -> None:
    policy = FakePolicy()
    await served(policy, _accepts_and_closes, http_version="2")

    assert policy.record["response.code"] == 200


async def test_crash_is_reported_and_raised() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise ZeroDivisionError

    policy = FakePolicy()
    with pytest.raises(ZeroDivisionError):
        await served(policy, app)

    assert (policy.record["response.code"], policy.record["context.proxy_error_code"]) == (101, "UC")
