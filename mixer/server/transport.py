"""The transports to choose from, and the one that works everywhere: grpcio. Source: spec runtime 5 and 7.1."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
from grpc import aio

from mixer.api.rpc import Methods, ServiceError, Stream, Unary
from mixer.server.http2 import Http2Transport
from mixer.server.http2.calls import Limits
from mixer.server.methods import Transport
from mixer.tls import ServerCertificates

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class TransportKind(enum.StrEnum):
    """What ``--transport`` takes; ``docs/transports.md`` compares them."""

    GRPC = "grpc"
    HTTP2 = "http2"


def new_transport(
    kind: TransportKind,
    methods: Methods,
    *,
    max_message_bytes: int = 1 << 20,
    max_concurrent_streams: int = 1024,
    reuse_port: bool = False,
    certificates: ServerCertificates | None = None,
) -> Transport:
    """A transport for the running loop.

    Args:
        kind: Which.
        methods: What it offers.
        max_message_bytes: Bounds what is received; a larger request is answered RESOURCE_EXHAUSTED.
        max_concurrent_streams: Bounds the calls in progress on one connection.
        reuse_port: Share the port with other processes instead of refusing one that is taken.
        certificates: Serve TLS; None for cleartext, which a socket file has in any case.
    """
    if kind is TransportKind.HTTP2:
        held = max(64 << 20, 4 * max_message_bytes)
        limits = Limits(max_message_bytes, max_concurrent_streams, held)
        return Http2Transport(methods, limits, reuse_port=reuse_port, certificates=certificates)
    return GrpcTransport(
        methods,
        max_message_bytes=max_message_bytes,
        max_concurrent_streams=max_concurrent_streams,
        reuse_port=reuse_port,
        certificates=certificates,
    )


class GrpcTransport:
    """A grpc.aio server; see `mixer.server.methods.Transport`."""

    def __init__(
        self,
        methods: Methods,
        *,
        max_message_bytes: int,
        max_concurrent_streams: int,
        reuse_port: bool = False,
        certificates: ServerCertificates | None = None,
    ) -> None:
        self._certificates = certificates
        self._server = aio.server(
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_concurrent_streams", max_concurrent_streams),
                ("grpc.so_reuseport", int(reuse_port)),  # else a second server on the port is an error, no silent rival
            )
        )
        self._server.add_generic_rpc_handlers((_Methods(methods),))

    async def bind(self, address: str) -> int:
        """Listen on ``host:port`` or ``unix:///path``; returns the port, 0 for a socket file."""
        try:
            if self._certificates is None or address.startswith("unix:"):
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._certificates.credentials())
        except RuntimeError as exc:  # grpcio's own text tells of its source files
            raise OSError(f"cannot listen on {address}; is it taken, or no address of this machine?") from exc
        return port if not address.startswith("unix:") else 0

    async def start(self) -> None:
        """Accept connections."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in progress finish for so long, then cut them off."""
        await self._server.stop(grace_s)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg, misc, unused-ignore]  # with stubs or without
    """Finds the method of a call, for grpcio; bytes stay bytes."""

    def __init__(self, methods: Methods) -> None:
        unary = {path: grpc.unary_unary_rpc_method_handler(_unary(serve)) for path, serve in methods.unary.items()}
        streams = {path: grpc.stream_stream_rpc_method_handler(_stream(s)) for path, s in methods.streams.items()}
        self._handlers = {**unary, **streams}

    def service(self, call: Any) -> Any:
        """The handler of a call, None for an unknown one."""
        return self._handlers.get(call.method)


class _Head:
    """The metadata of a call, read only when someone asks."""

    __slots__ = ("_context", "_fields")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._fields: dict[str, str | bytes] | None = None

    def header(self, name: str, /) -> str:
        fields = self._fields
        if fields is None:  # grpcio makes the tuple anew each time
            fields = self._fields = dict(self._context.invocation_metadata() or ())
        found = fields.get(name, "")
        return found if isinstance(found, str) else found.decode("latin-1")


def _unary(serve: Unary) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def call(data: bytes, context: Any) -> bytes:
        try:
            return await serve(data, _Head(context))
        except ServiceError as exc:
            await context.abort(_CODES.get(exc.code, grpc.StatusCode.UNKNOWN), exc.message)
            raise AssertionError("abort returns never") from exc

    return call


def _stream(serve: Stream) -> Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]:
    async def call(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async with aclosing(serve(requests, _Head(context))) as answers:
                async for answer in answers:
                    yield answer
        except ServiceError as exc:
            await context.abort(_CODES.get(exc.code, grpc.StatusCode.UNKNOWN), exc.message)

    return call
