"""Headers of a call reach its method, on every transport, for unary calls and streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from grpc import aio

from mixer.api.rpc import CallHead, Methods
from mixer.server.transport import TransportKind, new_transport

METADATA = (("x-mixer-stream", "first"), ("x-mixer-stream", "last"))


async def told(data: bytes, head: CallHead) -> bytes:
    return head.header(data.decode()).encode()


async def told_all(requests: AsyncIterator[bytes], head: CallHead) -> AsyncGenerator[bytes, None]:
    async for data in requests:
        yield await told(data, head)


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_headers_of_a_call_reach_its_method(kind: TransportKind) -> None:
    transport = new_transport(kind, Methods({"/t.T/told": told}, {"/t.T/told_all": told_all}))
    port = await transport.bind("127.0.0.1:0")
    await transport.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            unary = channel.unary_unary("/t.T/told")
            stream = channel.stream_stream("/t.T/told_all")

            assert await unary(b"x-mixer-stream", metadata=METADATA) == b"last"
            assert await unary(b"x-mixer-stream") == b""
            assert await unary(b"x-missing", metadata=METADATA) == b""
            answers = [a async for a in stream(iter([b"x-mixer-stream", b"user-agent"]), metadata=METADATA)]
            assert answers[0] == b"last"
            assert answers[1].startswith(b"grpc-python")
    finally:
        await transport.stop(0)
