"""Mixer's HTTP/2 against a client that writes its own frames, to say what no well-behaved client says."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.base import Code
from mixer.api.rpc import CallHead, Methods, ServiceError
from mixer.server.http2 import Http2Transport, frames
from mixer.server.http2.calls import Limits
from mixer.server.http2.connection import MAX_RESETS
from mixer.server.http2.frames import ErrorCode, FrameReader, frame
from mixer.server.http2.heads import HeadDecoder, literal, trailers
from mixer.server.http2.messages import MessageReader, framed

END = frames.END_HEADERS | frames.END_STREAM
POST = {":method": "POST", ":scheme": "http", ":authority": "x", "te": "trailers", "content-type": "application/grpc"}


class Api:
    """Methods to call, and what became of them."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.go_on = asyncio.Event()

    async def echo(self, data: bytes, head: CallHead) -> bytes:
        return data

    async def deny(self, data: bytes, head: CallHead) -> bytes:
        raise ServiceError(Code.PERMISSION_DENIED, "no, 100% no – never\n")

    async def crash(self, data: bytes, head: CallHead) -> bytes:
        raise ZeroDivisionError

    async def leak(self, data: bytes, head: CallHead) -> bytes:
        raise asyncio.CancelledError

    async def wait(self, data: bytes, head: CallHead) -> bytes:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"at last"

    async def echo_all(self, requests: AsyncIterator[bytes], head: CallHead) -> AsyncGenerator[bytes, None]:
        async for request in requests:
            yield request

    @property
    def methods(self) -> Methods:
        unary = {"/echo": self.echo, "/deny": self.deny, "/crash": self.crash, "/wait": self.wait, "/leak": self.leak}
        return Methods(unary, {"/echo_all": self.echo_all})


class Peer:
    """A client's side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames = FrameReader(1 << 24)
        self.got: list[frames.Frame] = []
        self.encoder, self.decoder = Encoder(), Decoder()

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def greet(self, **settings: int) -> None:
        self.send(frames.PREFACE, frames.settings({int(k[1:]): v for k, v in settings.items()}))

    def head(self, stream: int, path: str, flags: int = frames.END_HEADERS, **more: str) -> bytes:
        fields = {**POST, ":path": path, **{name.replace("_", "-"): value for name, value in more.items()}}
        return frame(frames.HEADERS, flags, stream, self.encoder.encode(list(fields.items())))

    def call(self, stream: int, path: str, data: bytes = b"x", **more: str) -> bytes:
        return self.head(stream, path, **more) + frame(frames.DATA, frames.END_STREAM, stream, framed(data))

    async def next(self) -> frames.Frame | None:
        """The next frame, None at the end of the connection."""
        while not self.got:
            try:
                data = await asyncio.wait_for(self.reader.read(1 << 16), 5)
            except ConnectionError:
                return None
            if not data:
                return None
            self.got += self.frames.feed(data)
        return self.got.pop(0)

    async def until(self, kind: int, flags: int = 0) -> frames.Frame:
        """Skip to the next frame of a kind."""
        while (found := await self.next()) is not None:
            if found[0] == kind and found[1] & flags == flags:
                return found
        raise AssertionError("the connection ended")

    async def answer(self, stream: int) -> tuple[int, str, bytes]:
        """Status, message and data of a call."""
        fields: dict[str, str] = {}
        data = b""
        others: list[frames.Frame] = []
        while (found := await self.next()) is not None:
            kind, flags, number, payload = found
            if number != stream or kind not in (frames.DATA, frames.HEADERS):
                others.append(found)
                continue
            if kind == frames.HEADERS:
                fields |= dict(self.decoder.decode(payload))
            else:
                data += payload
            if flags & frames.END_STREAM:
                self.got = others + self.got
                return int(fields.get("grpc-status") or -int(fields[":status"])), fields.get("grpc-message", ""), data
        raise AssertionError("the connection ended")

    async def farewell(self) -> ErrorCode:
        """Why the server ended the connection."""
        goaway = await self.until(frames.GOAWAY)
        while await self.next() is not None:
            pass
        return ErrorCode(int.from_bytes(goaway[3][4:8], "big"))


@pytest.fixture
async def api() -> Api:
    return Api()


@pytest.fixture
async def connect(api: Api) -> AsyncIterator[Callable[..., Awaitable[Peer]]]:
    servers: list[Http2Transport] = []
    peers: list[Peer] = []

    async def start(**limits: int) -> Peer:
        server = Http2Transport(api.methods, Limits(**limits))
        servers.append(server)
        port = await server.bind("127.0.0.1:0")
        await server.start()
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", port)))
        peers[-1].server = server  # type: ignore[attr-defined]
        return peers[-1]

    yield start
    for peer in peers:
        peer.writer.close()
    for server in servers:
        await server.stop(0)


async def test_calls_share_a_connection(connect: Any) -> None:
    peer = await connect()
    peer.greet()
    peer.send(*(peer.call(n, "/echo", b"%d" % n) for n in (1, 3, 5)))

    for n in (1, 3, 5):
        assert await peer.answer(n) == (0, "", framed(b"%d" % n))


async def test_bytes_may_come_one_at_a_time(connect: Any) -> None:
    peer = await connect()
    peer.greet()
    for byte in peer.call(1, "/echo", b"slow"):
        peer.send(bytes((byte,)))
        await peer.writer.drain()
        await asyncio.sleep(0)

    assert (await peer.answer(1))[2] == framed(b"slow")


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/deny", 7, "no, 100%25 no %E2%80%93 never%0A"),
        ("/crash", 13, "internal error"),
        ("/nothing", 12, "unknown method /nothing"),
    ],
)
async def test_errors_have_code_and_message(connect: Any, path: str, code: int, message: str) -> None:
    peer = await connect()
    peer.greet()
    peer.send(peer.call(1, path), peer.call(3, "/echo"))

    assert await peer.answer(1) == (code, message, b"")
    assert (await peer.answer(3))[0] == 0


@pytest.mark.parametrize(("field", "value", "status"), [(":method", "GET", 405), ("content-type", "text/html", 415)])
async def test_what_is_no_grpc_gets_an_http_status(connect: Any, field: str, value: str, status: int) -> None:
    peer = await connect()
    peer.greet()
    fields = {**POST, ":path": "/echo", field: value}
    peer.send(frame(frames.HEADERS, END, 1, peer.encoder.encode(list(fields.items()))))

    assert (await peer.answer(1))[0] == -status


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_compressed_requests(connect: Any, encoding: str) -> None:
    peer = await connect(message_bytes=1000)
    peer.greet()

    def compressed(data: bytes) -> bytes:
        small = gzip.compress(data)
        return frame(frames.DATA, frames.END_STREAM, 0, b"\1" + len(small).to_bytes(4, "big") + small)

    for stream, data in ((1, b"a" * 1000), (3, b"a" * 1001)):
        payload = compressed(data)[frames.HEAD_BYTES :]
        peer.send(
            peer.head(stream, "/echo", grpc_encoding=encoding), frame(frames.DATA, frames.END_STREAM, stream, payload)
        )
    first, second = await peer.answer(1), await peer.answer(3)

    if encoding == "gzip":
        assert first == (0, "", framed(b"a" * 1000))
        assert second[0] == Code.RESOURCE_EXHAUSTED
    else:
        assert first[0] == second[0] == Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", Code.UNIMPLEMENTED, id="no message"),
        pytest.param(framed(b"a") + framed(b"b"), Code.UNIMPLEMENTED, id="two messages"),
        pytest.param(framed(b"abc")[:-1], Code.INTERNAL, id="cut off"),
        pytest.param(b"\0\0", Code.INTERNAL, id="cut off in the prefix"),
        pytest.param(framed(b"a" * 1001), Code.RESOURCE_EXHAUSTED, id="too large"),
        pytest.param(framed(b""), Code.OK, id="empty message"),
    ],
)
async def test_broken_bodies_cost_one_call(connect: Any, body: bytes, code: Code) -> None:
    peer = await connect(message_bytes=1000)
    peer.greet()
    peer.send(peer.head(1, "/echo"), frame(frames.DATA, frames.END_STREAM, 1, body), peer.call(3, "/echo"))

    assert (await peer.answer(1))[0] == code
    assert (await peer.answer(3))[0] == Code.OK


async def test_answers_wait_for_the_windows_of_the_peer(connect: Any) -> None:
    peer = await connect()
    peer.greet(_4=0)
    data = random.Random(1).randbytes(200_000)
    peer.send(peer.call(1, "/echo", data[:1000]), peer.call(3, "/echo", data), frames.window_update(1, 5))
    first = await peer.until(frames.DATA)
    assert first[2:] == (1, framed(data[:1000])[:5])

    peer.send(frames.window_update(0, 1 << 20), frames.settings({frames.SET_INITIAL_WINDOW_SIZE: 1 << 20}))

    assert (await peer.answer(1))[2] == framed(data[:1000])[5:]
    assert (await peer.answer(3))[2] == framed(data)


async def test_padding_priority_and_continuations_are_understood(connect: Any) -> None:
    peer = await connect()
    peer.greet()
    block = peer.encoder.encode([*POST.items(), (":path", "/echo")])
    padded = b"\3" + b"\0\0\0\0\7" + block[:4] + b"\0\0\0"
    data = b"\2" + framed(b"x") + b"\0\0"
    peer.send(
        frame(frames.HEADERS, frames.PADDED | frames.HAS_PRIORITY, 1, padded),
        frame(frames.CONTINUATION, 0, 1, block[4:9]),
        frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:]),
        frame(frames.PRIORITY, 0, 1, bytes(5)),
        frame(99, 0, 1, b"of a kind to come"),
        frame(frames.DATA, frames.END_STREAM | frames.PADDED, 1, data),
    )

    assert (await peer.answer(1))[2] == framed(b"x")


async def test_pings_are_answered(connect: Any) -> None:
    peer = await connect()
    peer.greet()
    peer.send(frame(frames.PING, 0, 0, b"12345678"))

    assert (await peer.until(frames.PING, frames.ACK))[3] == b"12345678"


async def test_a_call_broken_off_is_cancelled(connect: Any, api: Api) -> None:
    peer = await connect()
    peer.greet()
    peer.send(peer.call(1, "/wait"))
    peer.send(frame(frames.PING, 0, 0, bytes(8)))
    await peer.until(frames.PING, frames.ACK)
    peer.send(frames.rst_stream(1, ErrorCode.CANCEL), peer.call(3, "/echo"))

    assert (await peer.answer(3))[0] == 0
    assert api.cancelled == 1


async def test_calls_beyond_the_limit_are_refused(connect: Any, api: Api) -> None:
    peer = await connect(streams=2)
    peer.greet()
    peer.send(*(peer.call(n, "/wait") for n in (1, 3, 5)))

    assert (await peer.until(frames.RST_STREAM))[2] == 5
    api.go_on.set()
    assert (await peer.answer(1))[2] == framed(b"at last")


async def test_bytes_held_for_a_peer_are_bounded(connect: Any) -> None:
    peer = await connect(held_bytes=100_000)
    peer.greet()
    part = framed(bytes(60_000))[:16_000]
    peer.send(*(peer.head(n, "/echo") + frame(frames.DATA, 0, n, part) for n in range(1, 16, 2)))

    assert (await peer.answer(13))[:1] == (Code.RESOURCE_EXHAUSTED,)


async def test_conversations_go_both_ways_beyond_any_window(connect: Any) -> None:
    peer = await connect(message_bytes=100)
    peer.greet()
    peer.send(peer.head(1, "/echo_all"))
    for n in range(2_000):
        peer.send(frame(frames.DATA, 0, 1, framed(b"%099d" % n)))
        assert (await peer.until(frames.DATA))[3] == framed(b"%099d" % n)
        peer.send(frames.window_update(0, 104), frames.window_update(1, 104))
    peer.send(frame(frames.DATA, frames.END_STREAM, 1))

    assert (await peer.answer(1))[0] == 0


def faults() -> dict[str, tuple[bytes, ErrorCode]]:
    hello = frames.PREFACE + frames.settings({})
    begun = frame(frames.HEADERS, 0, 1, b"\x83")
    return {
        "no preface": (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
        "no settings": (frames.PREFACE + frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        "huge frame": (hello + (1 << 20).to_bytes(3, "big") + bytes(6), ErrorCode.FRAME_SIZE_ERROR),
        "even stream": (hello + frame(frames.HEADERS, END, 2, b"\x83"), ErrorCode.PROTOCOL_ERROR),
        "push": (hello + frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        "data of nothing": (hello + frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        "reset of nothing": (hello + frames.rst_stream(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        "no table entry": (hello + frame(frames.HEADERS, END, 1, b"\xff\xff\x7f"), ErrorCode.COMPRESSION_ERROR),
        "too much padding": (hello + frame(frames.HEADERS, END | 8, 1, b"\x09\x83"), ErrorCode.PROTOCOL_ERROR),
        "headers cut short": (hello + begun + frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        "continuations without end": (
            hello + begun + frame(frames.CONTINUATION, 0, 1, bytes(16_000)) * 5,
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        "window of nothing": (hello + frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        "window too large": (hello + frames.window_update(0, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        "broken settings": (hello + frame(frames.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
        "frame size out of bounds": (hello + frames.settings({5: 1}), ErrorCode.PROTOCOL_ERROR),
        "initial window out of bounds": (hello + frames.settings({4: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        "broken ping": (hello + frame(frames.PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    }


@pytest.mark.parametrize(("data", "code"), faults().values(), ids=faults())
async def test_faults_end_the_connection_with_a_reason(connect: Any, data: bytes, code: ErrorCode) -> None:
    peer = await connect()
    peer.send(data)

    assert await peer.farewell() is code


async def test_calls_begun_and_broken_off_without_end_are_too_many(connect: Any) -> None:
    peer = await connect()
    peer.greet()
    peer.send(
        *(peer.call(n, "/wait") + frames.rst_stream(n, ErrorCode.CANCEL) for n in range(1, 2 * MAX_RESETS + 4, 2))
    )

    assert await peer.farewell() is ErrorCode.ENHANCE_YOUR_CALM


async def test_calls_broken_off_do_not_count_for_ever(connect: Any) -> None:
    peer = await connect()
    peer.greet()
    stream = -1
    for _ in range(3):
        for _ in range(MAX_RESETS // 2):
            stream += 2
            peer.send(peer.call(stream, "/wait"), frames.rst_stream(stream, ErrorCode.CANCEL))
        for _ in range(MAX_RESETS // 2):
            stream += 2
            peer.send(peer.call(stream, "/echo"))
        assert (await peer.answer(stream))[0] == Code.OK


async def test_a_method_that_cancels_itself_is_answered(connect: Any) -> None:
    peer = await connect()
    peer.greet()
    peer.send(peer.call(1, "/leak"))

    assert (await peer.answer(1))[0] == Code.CANCELLED


async def test_a_drain_serves_what_is_there_and_takes_nothing_new(connect: Any, api: Api) -> None:
    peer = await connect()
    peer.greet()
    peer.send(peer.call(1, "/wait"), peer.head(3, "/echo_all"))
    peer.send(frame(frames.PING, 0, 0, bytes(8)))
    await peer.until(frames.PING, frames.ACK)

    stopping = asyncio.create_task(peer.server.stop(5))
    await peer.until(frames.GOAWAY)
    peer.send(peer.call(5, "/echo"))  # it had not heard
    assert (await peer.answer(5))[0] == Code.OK
    peer.send(frame(frames.PING, frames.ACK, 0, b"farewell"))
    last = await peer.until(frames.GOAWAY)
    assert int.from_bytes(last[3][:4], "big") == 5
    peer.send(peer.call(7, "/echo"))
    assert (await peer.until(frames.RST_STREAM))[2] == 7
    api.go_on.set()

    assert (await peer.answer(1))[2] == framed(b"at last")
    assert (await peer.answer(3))[0] == Code.UNAVAILABLE
    assert await peer.next() is None or await peer.next() is None  # the reset of the conversation may come before
    await stopping


async def test_a_drain_ends_when_its_time_is_up(connect: Any, api: Api) -> None:
    peer = await connect()
    peer.greet()
    peer.send(peer.call(1, "/wait"))
    peer.send(frame(frames.PING, 0, 0, bytes(8)))
    await peer.until(frames.PING, frames.ACK)

    await peer.server.stop(0.05)

    await asyncio.sleep(0)
    assert api.cancelled == 1


async def test_any_bytes_end_in_answers_or_in_a_farewell(connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(11)
    peer = await connect()
    port = peer.server._server.sockets[0].getsockname()[1]
    for _ in range(150):
        noisy = Peer(*await asyncio.open_connection("127.0.0.1", port))
        noisy.greet()
        calls = [noisy.call(n, chance.choice(["/echo", "/deny", "/echo_all"]), b"abc") for n in range(1, 12, 2)]
        data = bytearray(b"".join(calls))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        noisy.send(bytes(data))
        await asyncio.sleep(0)
        noisy.writer.close()
    peer.greet()
    peer.send(peer.call(1, "/echo"))

    assert (await peer.answer(1))[0] == Code.OK
    assert not [record for record in caplog.records if record.name == "asyncio"]


NAMES = st.sampled_from(["grpc-timeout", "x-request-id", "traceparent", "user-agent"])


@given(st.lists(st.tuples(NAMES, st.integers(0, 3), st.integers(0, 2)), max_size=30))
def test_remembered_heads_say_what_the_table_says_now(calls: list[tuple[str, int, int]]) -> None:
    encoder, decoder = Encoder(), HeadDecoder()
    for name, value, path in calls:
        fields = [*POST.items(), (":path", f"/{path}"), (name, str(value))]
        assert decoder.decode(encoder.encode(fields)).path == f"/{path}"


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    reader, data = MessageReader(40, "identity"), b"".join(map(framed, messages))
    read: list[bytes] = []
    for n in range(10_000):
        if not data:
            break
        size = cuts[n % len(cuts)]
        read += reader.feed(data[:size])
        data = data[size:]

    assert read == messages
    assert reader.idle


@given(st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=300)), max_size=8), st.integers(1, 400))
def test_frames_are_the_same_however_they_are_cut(sent: list[tuple[int, bytes]], size: int) -> None:
    reader = FrameReader(300)
    data = b"".join(frame(kind, 1, 3, payload) for kind, payload in sent)
    read = [f for at in range(0, len(data), size) for f in reader.feed(data[at : at + size])]

    assert [(kind, payload) for kind, _, _, payload in read] == sent


@given(st.integers(0, 20), st.text(max_size=300))
def test_trailers_can_be_read(code: int, message: str) -> None:
    fields = Decoder().decode(trailers(code, message) + literal("a", "b" * 200))

    assert fields[0] == ("grpc-status", str(code))
    assert fields[-1] == ("a", "b" * 200)


@given(st.one_of(st.text(), st.text(max_size=12).map(lambda text: text * 2_000)))
def test_messages_of_errors_fit_into_the_headers_of_a_client(message: str) -> None:
    error = ServiceError(Code.INTERNAL, message)

    assert len(trailers(13, error.message)) < 7_000
    assert error.message == message or " more characters)" in error.message
