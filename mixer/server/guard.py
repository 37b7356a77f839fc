"""What every service on the gRPC port has around it: refused before it can serve, counted, never crashing, drained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from time import perf_counter
from typing import Protocol

import structlog
from prometheus_client import Counter, Histogram

from mixer.api.codes import Code
from mixer.api.rpc import CallHead, Methods, ServiceError, Stream, Unary
from mixer.errors import MixerError
from mixer.server.status import service_error

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.guard")


class RpcMetrics(Protocol):
    """Where calls are counted; `mixer.runtime.metrics.RuntimeMetrics` has both."""

    @property
    def rpcs(self) -> Counter:
        """Labels: method and status."""
        ...

    @property
    def rpc_seconds(self) -> Histogram:
        """Label: method."""
        ...


def guarded(methods: Methods, ready: Callable[[], bool], metrics: RpcMetrics, draining: asyncio.Event) -> Methods:
    """The methods with what Mixer's own have: refused before there is a configuration, counted, never crashing.

    Streams get no more messages once ``draining`` is set.
    """
    return Methods(
        {path: _unary(path, serve, ready, metrics) for path, serve in methods.unary.items()},
        {path: _stream(path, serve, ready, metrics, draining) for path, serve in methods.streams.items()},
    )


def _unary(path: str, serve: Unary, ready: Callable[[], bool], metrics: RpcMetrics) -> Unary:
    name = path.removeprefix("/")
    observe = metrics.rpc_seconds.labels(name).observe
    count_ok = metrics.rpcs.labels(name, Code.OK.name).inc

    async def call(data: bytes, head: CallHead) -> bytes:
        started = perf_counter()
        try:
            if not ready():
                raise _not_ready()
            answer = await serve(data, head)
        except Exception as exc:
            error = _error(path, exc)
            metrics.rpcs.labels(name, error.code.name).inc()
            raise error from exc
        finally:
            observe(perf_counter() - started)
        count_ok()
        return answer

    return call


def _stream(
    path: str, serve: Stream, ready: Callable[[], bool], metrics: RpcMetrics, draining: asyncio.Event
) -> Stream:
    name = path.removeprefix("/")

    async def call(requests: AsyncIterator[bytes], head: CallHead) -> AsyncGenerator[bytes, None]:
        code = Code.CANCELLED  # unless it ends by itself
        try:
            if not ready():
                raise _not_ready()
            async with aclosing(serve(_until(draining, requests), head)) as answers:
                async for answer in answers:
                    yield answer
            code = Code.OK
        except Exception as exc:
            error = _error(path, exc)
            code = error.code
            raise error from exc
        finally:
            metrics.rpcs.labels(name, code.name).inc()

    return call


async def _until(draining: asyncio.Event, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The messages of a stream, up to its end or to the drain."""
    end = asyncio.ensure_future(draining.wait())
    try:
        while not end.done():
            coming = asyncio.ensure_future(anext(requests, None))
            try:
                await asyncio.wait((coming, end), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
            if coming.cancelled():
                return
            data = coming.result()
            if data is None:
                return
            yield data
    finally:
        end.cancel()


def _not_ready() -> ServiceError:
    return ServiceError(Code.UNAVAILABLE, "no configuration has been loaded yet")


def _error(path: str, exc: Exception) -> ServiceError:
    if isinstance(exc, ServiceError):
        return exc
    if isinstance(exc, MixerError):
        return service_error(exc)
    log.error("request_crashed", method=path, exc_info=exc)
    return ServiceError(Code.INTERNAL, f"internal error: {type(exc).__name__}: {exc}")
