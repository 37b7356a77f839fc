"""Mixer's service: request bytes in, response bytes or a `ServiceError` out. Any transport may carry it.

Source: spec runtime 5, spec language 7.4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter

import structlog

from mixer.adapters.base import Code, Status
from mixer.api import messages
from mixer.api.decode import decode_check_bytes, decode_report_bytes
from mixer.api.referenced import encode_referenced
from mixer.attributes import Duration
from mixer.errors import MixerError, WireError
from mixer.rules.specs import HeaderOperationKind
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.results import (
    AppliedHeader,
    CheckOutcome,
    ReportError,
    RouteDirective,
    multi_error,
)
from mixer.server.status import ServiceError, service_error

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.service")

INVALID_ATTRIBUTES = "request could not be processed due to invalid attributes: "
_INT32_MAX = (1 << 31) - 1
_OPERATIONS = {
    HeaderOperationKind.REPLACE: messages.HeaderOperation.REPLACE,
    HeaderOperationKind.REMOVE: messages.HeaderOperation.REMOVE,
    HeaderOperationKind.APPEND: messages.HeaderOperation.APPEND,
}


class MixerService:
    """Check and Report over serialized messages."""

    def __init__(self, controller: Controller, metrics: RuntimeMetrics) -> None:
        self._controller = controller
        self._metrics = metrics
        self._seconds = {m: metrics.rpc_seconds.labels(f"{messages.SERVICE_NAME}/{m}") for m in ("Check", "Report")}

    async def check(self, data: bytes) -> bytes:
        """Answer a serialized ``CheckRequest`` with a serialized ``CheckResponse``.

        Raises:
            ServiceError: The request is malformed, or the decision could not be made.
        """
        return await self._served("Check", self._check, data)

    async def report(self, data: bytes) -> bytes:
        """Take a serialized ``ReportRequest``; the response is empty.

        Raises:
            ServiceError: Some records were malformed or could not be delivered; all the others were.
        """
        return await self._served("Report", self._report, data)

    async def _served(self, method: str, serve: Callable[[bytes], Awaitable[bytes]], data: bytes) -> bytes:
        started = perf_counter()
        code = Code.OK
        try:
            if not self._controller.ready.is_set():
                raise ServiceError(Code.UNAVAILABLE, "no configuration has been loaded yet")
            return await serve(data)
        except ServiceError as exc:
            code = exc.code
            raise
        except MixerError as exc:
            error = service_error(exc)
            code = error.code
            raise error from exc
        except Exception as exc:
            code = Code.INTERNAL
            log.error("request_crashed", method=method, exc_info=exc)
            raise ServiceError(code, f"internal error: {type(exc).__name__}: {exc}") from exc
        finally:
            self._seconds[method].observe(perf_counter() - started)
            self._metrics.rpcs.labels(f"{messages.SERVICE_NAME}/{method}", code.name).inc()

    async def _check(self, data: bytes) -> bytes:
        dispatcher = self._controller.dispatcher
        bag, request = decode_check_bytes(data, dispatcher.binding.snapshot.wanted)
        if bag.unknown_words:
            self._metrics.unknown_words.inc(bag.unknown_words)
        outcome = await dispatcher.check(bag, request.quotas, request.deduplication_id)
        return _response(outcome, request.global_word_count).SerializeToString()

    async def _report(self, data: bytes) -> bytes:
        dispatcher = self._controller.dispatcher
        batch = decode_report_bytes(data, dispatcher.binding.snapshot.wanted)
        self._metrics.records.inc(len(batch))
        if batch.unknown_words:
            self._metrics.unknown_words.inc(batch.unknown_words)
        undelivered: tuple[str, ...] = ()
        try:
            await dispatcher.report(batch.bags)
        except ReportError as exc:
            undelivered = exc.errors
        if batch.faults:
            self._metrics.malformed_records.inc(len(batch.faults))
            raise WireError(_all_errors(batch.faults, undelivered))
        if undelivered:
            raise ReportError("", undelivered)
        return b""


def _all_errors(faults: Iterable[WireError], undelivered: Iterable[str]) -> str:
    return multi_error([*(f"{INVALID_ATTRIBUTES}{fault}" for fault in faults), *undelivered])


def _response(outcome: CheckOutcome, global_word_count: int) -> messages.CheckResponse:
    result = outcome.result
    response = messages.CheckResponse()
    precondition = response.precondition
    _set_status(precondition.status, result.status)
    _set_duration(precondition.valid_duration, result.valid_duration)
    precondition.valid_use_count = max(-1, min(result.valid_use_count, _INT32_MAX))
    precondition.referenced_attributes.CopyFrom(encode_referenced(outcome.referenced, global_word_count))
    if outcome.directive is not None:
        _set_directive(precondition.route_directive, outcome.directive)
    for name, quota in outcome.quotas.items():
        entry = response.quotas[name]
        entry.granted_amount = quota.result.amount
        _set_duration(entry.valid_duration, quota.result.valid_duration)
        _set_status(entry.status, quota.result.status)
        entry.referenced_attributes.CopyFrom(encode_referenced(quota.referenced, global_word_count))
    return response


def _set_status(message: messages.Status, status: Status) -> None:
    message.code = status.code
    message.message = status.message.encode("utf-8", "replace").decode("utf-8")


def _set_duration(message: messages.WireDuration, span: Duration) -> None:
    ns = int(span)
    # Seconds and nanos share the sign of the whole. Source: google/protobuf/duration.proto.
    message.seconds, message.nanos = (ns // 10**9, ns % 10**9) if ns >= 0 else (-(-ns // 10**9), -(-ns % 10**9))


def _set_directive(message: messages.RouteDirective, directive: RouteDirective) -> None:
    for headers, into in (
        (directive.request_headers, message.request_header_operations),
        (directive.response_headers, message.response_header_operations),
    ):
        for header in headers:
            _add_header(into.add(), header)
    message.direct_response_code = directive.direct_response_code
    message.direct_response_body = directive.direct_response_body


def _add_header(message: messages.HeaderOperation, header: AppliedHeader) -> None:
    message.name = header.name
    message.value = header.value.encode("utf-8", "replace").decode("utf-8")
    message.operation = _OPERATIONS[header.kind]
