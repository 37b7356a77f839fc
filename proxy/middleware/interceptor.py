"""The interceptor for servers of ``grpc.aio``: a Check before the handler gets a call, a Report at its end.

All four shapes of calls go one way: the server is given a handler whose messages are bytes, so that a call is checked
before anything of it is parsed, and counted as it is on the wire. Servers of ``grpc.server`` are not served: their
handlers run on threads, and a client belongs to one event loop, so that even a decision that is known already would
cost two changes of thread. Source: spec proxy 1, 3 and 11.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final

import grpc
import structlog
from grpc import aio

from mixer.api.codes import Code
from proxy.middleware.call import CallSeen, metadata_map
from proxy.middleware.call_context import (
    NO_CHANGES,
    CallContext,
    Incoming,
    Metadata,
    MetadataChanges,
    metadata_changes,
    sendable,
)
from proxy.middleware.exchange import Exchange, Host, bytes_of
from proxy.middleware.exclusion import exclusion
from proxy.middleware.metrics import MiddlewareMetrics, ProtocolCounter
from proxy.policy import PolicyClient, Verdict
from proxy.replies import LocalReply, local_reply, quota_pairs

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.middleware.interceptor")

_STATUS: Final = {status.value[0]: status for status in grpc.StatusCode}
_OF_HTTP: Final = {
    400: grpc.StatusCode.INTERNAL,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    **dict.fromkeys((429, 502, 503, 504), grpc.StatusCode.UNAVAILABLE),
}
"""What gRPC makes of an HTTP status without a status of its own. Source: gRPC's http-grpc-status-mapping."""


class MixerInterceptor(aio.ServerInterceptor):  # type: ignore[misc]
    """Policy and telemetry around the handlers of a ``grpc.aio`` server; unknown methods are checked, too.

    Args:
        client: Gives verdicts and takes reports; it must belong to the server's event loop, and is not closed here.
        service: Key of the service's configuration; the client's default one applies when there is none of that name.
        exclude: Methods that are left alone, whole paths or beginnings such as ``/grpc.health.v1.Health/*``.
        check_timeout_s: How long a decision may take; None leaves it to the client's configuration.
        metrics: Where verdicts are counted.
        now: Nanoseconds since 1970.
        monotonic_ns: Nanoseconds of a clock that is never set.

    Raises:
        ValueError: A pattern of ``exclude`` that no path can match.
    """

    def __init__(
        self,
        client: PolicyClient,
        *,
        service: str = "",
        exclude: Iterable[str] = (),
        check_timeout_s: float | None = None,
        metrics: MiddlewareMetrics | None = None,
        now: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._client = client
        self._excluded = exclusion(exclude)
        self.metrics: Final = metrics or MiddlewareMetrics()
        self._host = Host(service, check_timeout_s, ProtocolCounter(self.metrics, "grpc"), now, monotonic_ns)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The handler for a call, with the policy around it."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if self._excluded(method):
            return handler
        if handler is None:
            handler = grpc.stream_stream_rpc_method_handler(_no_such_method)
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if not _is_async(behaviour):
            log.error("handler_is_not_async", method=method, expected="a coroutine function or an async generator")
            handler = grpc.stream_stream_rpc_method_handler(_not_async)
            behaviour = handler.stream_stream
        return self._around(method, handler, behaviour)

    def _around(self, method: str, handler: grpc.RpcMethodHandler, behaviour: Any) -> grpc.RpcMethodHandler:
        streams = handler.request_streaming

        async def one(request: Any, context: Any) -> bytes:
            async def serve(given: CallContext) -> bytes:
                message = await behaviour(Incoming(request, given) if streams else given.arrived(request), given)
                data = given.leaving(message)
                await given.begin()
                return data

            found: bytes = await self._serve(method, handler, context, serve)
            return found

        async def many(request: Any, context: Any) -> None:
            async def serve(given: CallContext) -> None:
                responses = behaviour(Incoming(request, given) if streams else given.arrived(request), given)
                if not inspect.isasyncgen(responses):  # it writes by itself
                    await responses
                    return
                async with aclosing(responses):
                    async for message in responses:
                        await given.write(message)

            await self._serve(method, handler, context, serve)

        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_stream_rpc_method_handler
            return make(many)
        make = grpc.stream_unary_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        return make(one)

    async def _serve(
        self, method: str, handler: grpc.RpcMethodHandler, context: Any, serve: Callable[[CallContext], Awaitable[Any]]
    ) -> Any:
        host = self._host
        seen = CallSeen(method, context, host.now())
        exchange = Exchange(host, self._client, seen, seen.header_bytes)
        try:
            verdict = await exchange.decide()
            reply = local_reply(verdict)
            if reply is not None:
                exchange.denied_here()
                host.counter.refused(reply.refused)
                await context.abort(*_refusal(reply, verdict))
            metadata, changes = self._onward(seen, verdict)
            result = await serve(CallContext(context, exchange, metadata, changes, handler))
            if handler.request_streaming:  # one who gives up just ends its messages; a turn later the call is cancelled
                await asyncio.sleep(0)
        except Exception as exc:
            _end(exchange, context, exc)
            exchange.left_alone()
            raise
        except BaseException:  # who cancels a call is its client, or its deadline
            if exchange.verdict is None or exchange.verdict.ok:
                exchange.client_gone()
            exchange.close()
            exchange.left_alone()
            raise
        _end(exchange, context)
        await exchange.wait_delivered()
        return result

    def _onward(self, seen: CallSeen, verdict: Verdict) -> tuple[Metadata, MetadataChanges]:
        """What the handler is shown of the metadata, and what becomes of that of the response."""
        metadata: Metadata = seen.metadata
        counter = self._host.counter
        forward = self._client.forward(service=self._host.service)
        if forward:
            metadata = (*metadata, ("x-istio-attributes", forward))
        directive = verdict.directive
        changes = NO_CHANGES
        if directive is not None:
            if directive.request_headers:
                before = metadata_changes(directive.request_headers)
                counter.refused(before.refused)
                metadata = before.applied(metadata)
            if directive.response_headers:
                changes = metadata_changes(directive.response_headers)
                counter.refused(changes.refused)
        if verdict.quotas:
            pairs = sendable(quota_pairs(verdict, changes.fates))
            changes = MetadataChanges(changes.gone | {name for name, _ in pairs}, changes.added + pairs, changes.fates)
        return metadata, changes


def _end(exchange: Exchange, context: Any, exc: Exception | None = None) -> None:
    """Make the record of a call that ended with a status."""
    code = context.code()
    status = grpc.StatusCode.OK if code is None else code
    message = context.details() or ""
    if exc is not None and not isinstance(exc, aio.AbortError):
        if status is grpc.StatusCode.OK:
            status = grpc.StatusCode.UNKNOWN
        message = f"Unexpected {type(exc)}: {exc}"
    if not exchange.status:
        exchange.begins(200, {}, 0)
    trailing = tuple(context.trailing_metadata() or ())
    trailers = metadata_map(trailing) | {"grpc-status": str(status.value[0])}
    if message:
        trailers["grpc-message"] = message
    exchange.trailers(trailers, bytes_of(trailing))
    exchange.complete()


def _refusal(reply: LocalReply, verdict: Verdict) -> tuple[grpc.StatusCode, str, Metadata]:
    direct = verdict.directive is not None and verdict.directive.direct_response_code
    status = _STATUS.get(reply.rpc_code, grpc.StatusCode.UNKNOWN)
    if status is grpc.StatusCode.OK:  # answered in place of the service, with no message that a gRPC client could read
        status = _OF_HTTP.get(reply.status, grpc.StatusCode.UNKNOWN)
    message = (reply.body or verdict.message) if direct else verdict.message
    return status, message or Code(status.value[0]).name, sendable(reply.headers)


def _is_async(behaviour: Any) -> bool:
    return inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)


async def _no_such_method(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


async def _not_async(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the handler is no coroutine function; see the server's log")
