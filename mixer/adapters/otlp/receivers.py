"""The two ways to an OTLP receiver, and the handler that takes one of them.

The SDK's exporters block a thread, retry on their own and do not tell what a receiver refused, hence these (ADR
0013). Source: OTLP 1.x, "OTLP/gRPC Response" and "OTLP/HTTP Response".
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from mixer.adapters.base import Env, InstanceInfo
from mixer.adapters.otlp.encoding import SpanEncoder
from mixer.adapters.otlp.params import BATCH, Compression, OtlpParams, Protocol, Target, target
from mixer.adapters.spans.courier import NotTakenError, Receiver, RefusedError, Taken
from mixer.adapters.spans.handler import SpanHandler, start
from mixer.adapters.spans.http import Poster
from mixer.adapters.spans.params import Limits, plain_headers
from mixer.adapters.spans.span import Span
from mixer.errors import AdapterError

_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_TYPE: Final = "application/x-protobuf"
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),  # so that a new channel means a new connection
)
_LATER: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_STATUS_DETAILS: Final = "grpc-status-details-bin"


class GrpcReceiver:
    """One channel, connected in the background and again whenever it is lost.

    A call without an answer costs the channel, too: its connection may lead nowhere without anybody being told, and
    then no later call would have an answer either.
    """

    def __init__(
        self,
        where: Target,
        encoder: SpanEncoder,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        authorities: bytes | None,
        compressed: bool,
    ) -> None:
        self._address, self._timeout_s = where.address, timeout_s
        self._metadata = tuple(headers.items())
        compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
        self._credentials = grpc.ssl_channel_credentials(authorities) if where.is_secure else None
        self._compression = compression
        self._connect()
        self.encode = encoder.encode

    def _connect(self) -> None:
        address, options = self._address, _OPTIONS
        if self._credentials is not None:
            self._channel = grpc.aio.secure_channel(address, self._credentials, options, self._compression)
        else:
            self._channel = grpc.aio.insecure_channel(address, options, self._compression)
        self._export: Any = self._channel.unary_unary(
            _EXPORT, response_deserializer=ExportTraceServiceResponse.FromString
        )

    async def send(self, body: bytes, /) -> Taken:
        """Call Export."""
        try:
            answer = await self._export(body, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                await self._channel.close(None)
                self._connect()
            message = f"{self._address}: {exc.code().name}: {exc.details()}"
            pause_s = _asked_pause_s(exc)
            # Too many spans for now, or always? With a pause to keep, for now.
            if exc.code() in _LATER or (exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and pause_s is not None):
                raise NotTakenError(message, pause_s or 0.0) from exc
            raise RefusedError(message) from exc
        except grpc.aio.BaseError as exc:
            raise NotTakenError(f"{self._address}: {exc}") from exc
        return _taken(answer)

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.close(None)


class HttpReceiver:
    """Posts protobuf."""

    def __init__(self, poster: Poster, encoder: SpanEncoder, *, compressed: bool) -> None:
        self._poster, self._encoder, self._compressed = poster, encoder, compressed

    def encode(self, spans: Sequence[Span], /) -> bytes:
        """The body of the request."""
        body = self._encoder.encode(spans)
        return gzip.compress(body, compresslevel=5) if self._compressed else body

    async def send(self, body: bytes, /) -> Taken:
        """POST it; an answer that is no protobuf has nothing to say about single spans."""
        kind, answer = await self._poster.post(body)
        if kind != _TYPE:
            return Taken()
        try:
            return _taken(ExportTraceServiceResponse.FromString(answer))
        except DecodeError:
            return Taken(message="the receiver's answer is no ExportTraceServiceResponse")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._poster.aclose()


def _taken(answer: ExportTraceServiceResponse) -> Taken:
    partial = answer.partial_success
    return Taken(partial.rejected_spans, partial.error_message)


def _asked_pause_s(exc: grpc.aio.AioRpcError) -> float | None:
    """How long the receiver asks to be left alone, in seconds; None when it does not ask."""
    for key, value in exc.trailing_metadata() or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            try:
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return max(float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9), 0.0)
            except DecodeError:
                return None
    return None


async def build(params: OtlpParams, instances: Sequence[InstanceInfo], env: Env) -> SpanHandler:
    """A running handler.

    Raises:
        AdapterError: The file of authorities cannot be used.
    """
    limits = Limits.of(params, batch=BATCH)
    where = target(params)
    encoder = SpanEncoder(params.resource_attributes)
    headers = plain_headers(params.headers)
    compressed = params.compression is Compression.GZIP
    authorities = await _authorities(params.ca_certificates) if params.ca_certificates else None
    receiver: Receiver
    if params.protocol is Protocol.GRPC:
        receiver = GrpcReceiver(
            where, encoder, headers, timeout_s=limits.timeout_s, authorities=authorities, compressed=compressed
        )
    else:
        headers["content-type"] = _TYPE
        if compressed:
            headers["content-encoding"] = "gzip"
        trust = ssl.create_default_context(cadata=authorities.decode()) if authorities else None
        poster = Poster(where.address, headers, timeout_s=limits.timeout_s, trust=trust)
        receiver = HttpReceiver(poster, encoder, compressed=compressed)
    return start("otlp", params, receiver, limits, env)


async def _authorities(path: str) -> bytes:
    """The PEM text of a file, in which there is at least one certificate."""
    try:
        text = await asyncio.to_thread(Path(path).read_bytes)
        ssl.create_default_context(cadata=text.decode("ascii"))
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise AdapterError(f"caCertificates {path}: {exc}") from exc
    return text
