"""Calls through the interceptor, in all four shapes, over a real server and channel of grpc.aio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from grpc import aio

from mixer.api.answer import QuotaAnswer, QuotaLevel
from mixer.api.codes import Code
from mixer.attributes import Duration
from proxy.client.forwarded import write_forwarded
from proxy.middleware import MiddlewareMetrics, MixerInterceptor
from proxy.middleware.call import metadata_map, peer_address
from proxy.policy import NOT_CHECKED, Verdict
from tests.certificates import Authority
from tests.proxy.middleware.kit import FakePolicy, append, directed, remove, replace

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
HEADERS_BYTES = 5
Context = aio.ServicerContext[Any, Any]


class Text(NamedTuple):
    """A message."""

    text: str


def decode(data: bytes) -> Text:
    if data == b"garbage":
        raise ValueError("cannot be read")
    return Text(data.decode())


def encode(message: Text) -> bytes:
    return message.text.encode()


class Service:
    """Handlers that echo, and what they were shown."""

    def __init__(self) -> None:
        self.metadata: list[Any] = []
        self.started = asyncio.Event()

    async def unary_unary(self, request: Text, context: Context) -> Text:
        self.metadata.append(context.invocation_metadata())
        return Text(request.text * 2)

    async def unary_stream(self, request: Text, context: Context) -> AsyncIterator[Text]:
        self.metadata.append(context.invocation_metadata())
        for _ in range(2):
            yield request

    async def stream_unary(self, requests: AsyncIterator[Text], context: Context) -> Text:
        self.metadata.append(context.invocation_metadata())
        return Text("".join([request.text async for request in requests]))

    async def stream_stream(self, requests: AsyncIterator[Text], context: Context) -> AsyncIterator[Text]:
        self.metadata.append(context.invocation_metadata())
        async for request in requests:
            yield request

    async def reads_and_writes(self, _: Any, context: Context) -> None:
        await context.send_initial_metadata((("own", "1"), ("x", "old")))
        while (request := await context.read()) is not aio.EOF:
            await context.write(request)
        context.set_trailing_metadata((("checksum", "7"),))

    async def fails(self, request: Text, context: Context) -> Text:
        match request.text:
            case "abort":
                await context.abort(grpc.StatusCode.DATA_LOSS, "lost", (("t", "1"),))
            case "status":
                context.set_code(grpc.StatusCode.NOT_FOUND)
                context.set_details("nobody")
            case "abort_with_status":
                await context.abort_with_status(_Status())
            case "slow":
                self.started.set()
                await asyncio.sleep(30)
            case "raise":
                raise ZeroDivisionError("oops")
            case "no text":
                return None  # type: ignore[return-value]
        return Text("")

    async def fails_midway(self, request: Text, context: Context) -> AsyncIterator[Text]:
        yield request
        raise ZeroDivisionError("oops")

    def in_a_thread(self, request: Text, context: Context) -> Text:
        raise AssertionError

    def handler(self) -> grpc.GenericRpcHandler:
        how = {"request_deserializer": decode, "response_serializer": encode}
        methods = {
            "unary_unary": grpc.unary_unary_rpc_method_handler(self.unary_unary, **how),
            "unary_stream": grpc.unary_stream_rpc_method_handler(self.unary_stream, **how),
            "stream_unary": grpc.stream_unary_rpc_method_handler(self.stream_unary, **how),
            "stream_stream": grpc.stream_stream_rpc_method_handler(self.stream_stream, **how),
            "reads_and_writes": grpc.stream_stream_rpc_method_handler(self.reads_and_writes, **how),
            "fails": grpc.unary_unary_rpc_method_handler(self.fails, **how),
            "fails_midway": grpc.unary_stream_rpc_method_handler(self.fails_midway, **how),
            "in_a_thread": grpc.unary_unary_rpc_method_handler(self.in_a_thread, **how),
        }
        return grpc.method_handlers_generic_handler("shop.Cart", methods)


class _Status(grpc.Status):
    code, details, trailing_metadata = grpc.StatusCode.OUT_OF_RANGE, "far", (("t", "2"),)


class Stage:
    """A server with the interceptor, and a channel to it."""

    def __init__(self, policy: FakePolicy, **more: Any) -> None:
        self.policy = policy
        self.service = Service()
        self.metrics = MiddlewareMetrics()
        self._server = aio.server(interceptors=[MixerInterceptor(policy, metrics=self.metrics, **more)])
        self._server.add_generic_rpc_handlers((self.service.handler(),))

    async def __aenter__(self) -> Stage:
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.channel = aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self._server.stop(None)

    def call(self, method: str, shape: str, requests: list[bytes], **more: Any) -> Any:
        make = getattr(self.channel, shape)(f"/shop.Cart/{method}")
        if shape.startswith("stream"):
            return make(iter(requests), **more)
        return make(requests[0], **more)

    async def answers(self, method: str, shape: str, *requests: bytes, **more: Any) -> tuple[Any, list[bytes]]:
        """A call, and its messages; it may fail."""
        call = self.call(method, shape, list(requests), timeout=more.pop("timeout", 10), **more)
        try:
            found = [message async for message in call] if shape.endswith("stream") else [await call]
        except aio.AioRpcError:
            found = []
        return call, found

    async def record(self) -> dict[str, Any]:
        """The one record, once it is there."""
        async with asyncio.timeout(5):
            while not self.policy.reports:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        return self.policy.record


def framed(*messages: bytes) -> int:
    return sum(len(message) + HEADERS_BYTES for message in messages)


@pytest.mark.parametrize(
    ("shape", "requests", "responses"),
    [
        ("unary_unary", [b"ab"], [b"abab"]),
        ("unary_stream", [b"ab"], [b"ab", b"ab"]),
        ("stream_unary", [b"a", b"bc"], [b"abc"]),
        ("stream_stream", [b"a", b"bc"], [b"a", b"bc"]),
    ],
    ids=SHAPES,
)
async def test_call_of_each_shape_passes_and_is_reported(
    shape: str, requests: list[bytes], responses: list[bytes]
) -> None:
    policy = FakePolicy(statics={"destination.service.host": "cart.shop"}, later=True)
    async with Stage(policy, service="cart", check_timeout_s=0.5) as stage:
        forwarded = write_forwarded({"source.uid": "POD11"})
        metadata = (("x-user", "ada"), ("x-user", "bob"), ("x-bin", b"\x01\xff"), ("x-istio-attributes", forwarded))

        _, found = await stage.answers(shape, shape, *requests, metadata=metadata)
        record = await stage.record()

        assert found == responses
        (shown,) = stage.service.metadata
        assert "x-istio-attributes" not in dict(shown)
    (check,) = policy.checks
    headers = check.pop("request.headers")
    agent = check.pop("request.useragent")
    assert headers == {
        ":method": "POST", ":path": f"/shop.Cart/{shape}", ":scheme": "http", "content-type": "application/grpc",
        "user-agent": agent, "x-user": "ada,bob", "x-bin": "Af8",
    }  # fmt: skip
    assert abs(check.pop("request.time") - time.time_ns()) < 60 * 10**9  # type: ignore[operator]
    assert check == {
        "destination.service.host": "cart.shop",
        "source.uid": "POD11",
        "connection.mtls": False,
        "context.protocol": "grpc",
        "origin.ip": b"\x7f\0\0\1",
        "request.host": "",
        "request.method": "POST",
        "request.path": f"/shop.Cart/{shape}",
        "request.scheme": "http",
        "request.url_path": f"/shop.Cart/{shape}",
    }
    assert (policy.services, policy.timeouts) == (["cart", "cart"], [0.5])
    assert record["request.size"] == framed(*requests)
    assert record["response.size"] == framed(*responses)
    assert record["request.total_size"] > record["request.size"]
    assert (record["response.code"], record["response.grpc_status"], record["response.grpc_message"]) == (200, "0", "")
    assert record["context.proxy_error_code"] == "-"
    assert record["response.duration"] > 0
    assert record["check.cache_hit"] is False


@pytest.mark.parametrize("shape", SHAPES)
async def test_denied_call_of_each_shape_has_mixers_code_and_message(shape: str) -> None:
    """Scenarios 5 and 35."""
    quotas = {"r": QuotaAnswer(0, level=QuotaLevel(10, 0, Duration(1_500_000_000), Duration(0)))}
    async with Stage(FakePolicy(Verdict(Code.RESOURCE_EXHAUSTED, "enoügh", quotas=quotas))) as stage:
        call, found = await stage.answers(shape, shape, b"garbage")
        record = await stage.record()

        assert found == []
        assert (await call.code(), await call.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "enoügh")
        trailers = dict(await call.trailing_metadata())
        assert trailers["retry-after"] == "2"
        assert trailers["x-ratelimit-remaining"] == "0"
        assert stage.service.metadata == []
    assert record["response.code"] == 429
    assert (record["response.grpc_status"], record["response.grpc_message"]) == ("8", "enoügh")
    assert record["check.error_message"] == "RESOURCE_EXHAUSTED:enoügh"
    assert record["context.proxy_error_code"] == "UAEX"


@pytest.mark.parametrize(
    ("verdict", "code", "details"),
    [
        pytest.param(Verdict(Code.UNAVAILABLE, failed=True), "UNAVAILABLE", "UNAVAILABLE", id="no message"),
        pytest.param(Verdict(99, "odd"), "UNKNOWN", "odd", id="code that does not exist"),
        pytest.param(
            Verdict(Code.PERMISSION_DENIED, "m", directed(direct=503, body="b")),
            "PERMISSION_DENIED",
            "b",
            id="direct denial",
        ),
        pytest.param(Verdict(directive=directed(direct=401, body="b")), "UNAUTHENTICATED", "b", id="direct 401"),
        pytest.param(Verdict(directive=directed(direct=404)), "UNIMPLEMENTED", "UNIMPLEMENTED", id="direct 404"),
        pytest.param(Verdict(directive=directed(direct=200, body="b")), "UNKNOWN", "b", id="direct 200"),
    ],
)
async def test_answer_in_place_of_the_service_is_a_status(verdict: Verdict, code: str, details: str) -> None:
    async with Stage(FakePolicy(verdict)) as stage:
        call, _ = await stage.answers("unary_unary", "unary_unary", b"a")

        assert (await call.code()).name == code
        assert await call.details() == details


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        pytest.param(b"abort", "15", "lost", id="abort"),
        pytest.param(b"status", "5", "nobody", id="code that is set"),
        pytest.param(b"abort_with_status", "11", "far", id="status"),
        pytest.param(b"raise", "2", "Unexpected <class 'ZeroDivisionError'>: oops", id="exception"),
        pytest.param(b"garbage", "2", "Unexpected <class 'ValueError'>: cannot be read", id="request that is none"),
        pytest.param(
            b"no text", "2", "Unexpected <class 'AttributeError'>: 'NoneType' object has no attribute 'text'",
            id="response that is none",
        ),
    ],
)  # fmt: skip
async def test_failure_reaches_the_client_and_the_record_alike(request_: bytes, status: str, message: str) -> None:
    async with Stage(FakePolicy()) as stage:
        call, _ = await stage.answers("fails", "unary_unary", request_)
        record = await stage.record()

        assert (str((await call.code()).value[0]), await call.details()) == (status, message)
    assert (record["response.grpc_status"], record["response.grpc_message"]) == (status, message)
    assert (record["response.code"], record["context.proxy_error_code"]) == (200, "-")


async def test_failure_midway_is_reported_with_what_was_sent() -> None:
    async with Stage(FakePolicy()) as stage:
        call, _ = await stage.answers("fails_midway", "unary_stream", b"abc")
        record = await stage.record()

        assert await call.code() == grpc.StatusCode.UNKNOWN
    assert (record["response.size"], record["response.grpc_status"]) == (8, "2")


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_call_that_its_client_gives_up_is_reported_once(how: str) -> None:
    async with Stage(FakePolicy()) as stage:
        call = stage.call("fails", "unary_unary", [b"slow"], timeout=0.1 if how == "deadline" else 10)
        await stage.service.started.wait()
        if how == "cancelled":
            call.cancel()
        with pytest.raises((aio.AioRpcError, asyncio.CancelledError)):
            await call
        record = await stage.record()

    assert (record["response.code"], record["context.proxy_error_code"], record["response.duration"]) == (500, "DC", 0)
    assert "response.grpc_status" not in record


async def test_streams_that_break_off_are_reported_once() -> None:
    async with Stage(FakePolicy()) as stage:
        call = stage.channel.stream_stream("/shop.Cart/stream_stream")(timeout=10)
        await call.write(b"one")
        assert await call.read() == b"one"
        call.cancel()
        record = await stage.record()

    assert (record["response.code"], record["context.proxy_error_code"]) == (200, "DC")
    assert (record["request.size"], record["response.size"]) == (8, 8)


async def test_handler_that_reads_and_writes_by_itself_is_counted() -> None:
    operations = directed(response=[replace("x", "new"), append("own", "2")])
    async with Stage(FakePolicy(Verdict(directive=operations))) as stage:
        call, found = await stage.answers("reads_and_writes", "stream_stream", b"a", b"bc")
        record = await stage.record()

        assert found == [b"a", b"bc"]
        assert tuple(await call.initial_metadata()) == (("own", "1"), ("own", "2"), ("x", "new"))
    assert record["response.headers"] == {
        ":status": "200", "own": "1,2", "x": "new", "checksum": "7", "grpc-status": "0",
    }  # fmt: skip
    assert (record["request.size"], record["response.size"]) == (13, 13)


@pytest.mark.parametrize("shape", SHAPES)
async def test_directive_changes_metadata_both_ways(shape: str) -> None:
    """Scenarios 32 and 33."""
    operations = directed(
        request=[
            replace("X-User", "eve"),
            append("x-user", "bob"),
            remove("gone"),
            replace(":path", "/y"),
            replace("a-bin", "b"),
        ],
        response=[append("x-seen", "1"), replace("x-bad", "é"), replace("grpc-status", "0")],
    )
    policy = FakePolicy(Verdict(directive=operations), forwards="abc=")
    async with Stage(policy) as stage:
        metadata = (("x-user", "ada"), ("gone", "1"), ("kept", "1"), ("x-istio-attributes", "Cg=="))
        call, found = await stage.answers(shape, shape, b"a", metadata=metadata)

        assert found
        (shown,) = stage.service.metadata
        assert [pair for pair in shown if pair[0] != "user-agent"] == [
            ("kept", "1"), ("x-istio-attributes", "abc="), ("x-user", "eve"), ("x-user", "bob"),
        ]  # fmt: skip
        assert tuple(await call.initial_metadata()) == (("x-seen", "1"),)
        counted = {
            reason: stage.metrics.registry.get_sample_value(
                "mixer_middleware_left_out_total", {"protocol": "grpc", "reason": reason}
            )
            for reason in ("pseudo_header", "bad_name", "bad_value")
        }
    assert counted == {"pseudo_header": 1, "bad_name": 2, "bad_value": 1}


async def test_response_tells_where_quotas_stand() -> None:
    quotas = {"r": QuotaAnswer(1, level=QuotaLevel(10, 3, Duration(0), Duration(0)))}
    async with Stage(FakePolicy(Verdict(quotas=quotas))) as stage:
        call, _ = await stage.answers("unary_unary", "unary_unary", b"a")

        assert dict(await call.initial_metadata())["x-ratelimit-remaining"] == "3"


async def test_method_that_does_not_exist_is_checked_and_reported() -> None:
    async with Stage(FakePolicy()) as stage:
        for shape in ("unary_unary", "stream_stream"):
            call, _ = await stage.answers("nothing", shape, b"a")
            assert (await call.code(), await call.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    assert len(stage.policy.checks) == len(stage.policy.reports) == 2


async def test_handler_that_is_not_async_is_refused_and_never_let_through() -> None:
    async with Stage(FakePolicy()) as stage:
        call, _ = await stage.answers("in_a_thread", "unary_unary", b"a")

        assert await call.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_unchecked_call_has_no_attributes_of_a_check() -> None:
    """Scenario 22."""
    async with Stage(FakePolicy(NOT_CHECKED)) as stage:
        await stage.answers("unary_unary", "unary_unary", b"a")

        assert "check.cache_hit" not in await stage.record()


async def test_excluded_methods_are_left_alone() -> None:
    policy = FakePolicy(Verdict(Code.PERMISSION_DENIED))
    async with Stage(policy, exclude=["/shop.Cart/unary_*"]) as stage:
        _, found = await stage.answers("unary_unary", "unary_unary", b"a")
        assert found == [b"aa"]
        _, found = await stage.answers("stream_unary", "stream_unary", b"a")
        assert found == []

    assert len(policy.reports) == 1


async def test_mutual_tls_tells_who_calls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server_pair = authority.issue("server", ["localhost", "127.0.0.1"])
    client_pair = authority.issue("client", ["cart.shop", "spiffe://cluster.local/ns/shop/sa/cart"])
    ca = authority.ca.read_bytes()
    server_side = grpc.ssl_server_credentials(
        [(server_pair.key.read_bytes(), server_pair.certificate.read_bytes())], ca, require_client_auth=True
    )
    client_side = grpc.ssl_channel_credentials(ca, client_pair.key.read_bytes(), client_pair.certificate.read_bytes())
    policy, service = FakePolicy(), Service()
    server = aio.server(interceptors=[MixerInterceptor(policy)])
    server.add_generic_rpc_handlers((service.handler(),))
    port = server.add_secure_port("127.0.0.1:0", server_side)
    await server.start()
    async with aio.secure_channel(f"127.0.0.1:{port}", client_side) as channel:
        assert await channel.unary_unary("/shop.Cart/unary_unary")(b"a", timeout=10) == b"aa"
    await server.stop(None)

    (check,) = policy.checks
    assert check["connection.mtls"] is True
    assert check["source.principal"] == check["source.user"] == "cluster.local/ns/shop/sa/cart"
    assert check["source.namespace"] == "shop"
    assert check["request.scheme"] == "https"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:4711", "10.0.0.1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5B2001:db8::1%5D:4711", "2001:db8::1"),
        ("unix:/run/x", ""),
        ("", ""),
    ],
)
def test_peer_address(peer: str, address: str) -> None:
    assert peer_address(peer) == address


def test_binary_metadata_is_as_on_the_wire() -> None:
    assert metadata_map([("a-bin", b"\x01"), ("a-bin", b"\x02\x03\x04"), ("b", b"t")]) == {"a-bin": "AQ,AgME", "b": "t"}
