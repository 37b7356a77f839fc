"""Mixer's service: request bytes in, response bytes or a `ServiceError` out. Any transport may carry it.

Source: spec runtime 5, spec language 7.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter

import structlog

from mixer.api import messages
from mixer.api.codes import Code
from mixer.api.decode import ReportBatch, decode_check_bytes, decode_report_bytes
from mixer.api.rpc import NO_HEAD, CallHead, ServiceError
from mixer.api.wire_answer import encode_answer
from mixer.errors import MixerError, WireError
from mixer.runtime.controller import Controller
from mixer.runtime.dispatcher import Dispatcher
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.results import ReportError, multi_error
from mixer.server.recent import RecentIds
from mixer.server.status import service_error

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.service")

INVALID_ATTRIBUTES = "request could not be processed due to invalid attributes: "


class MixerService:
    """Check and Report over serialized messages."""

    def __init__(self, controller: Controller, metrics: RuntimeMetrics) -> None:
        self._controller = controller
        self._metrics = metrics
        self._reports = RecentIds()
        self._taking: dict[str, asyncio.Future[None]] = {}
        """Reports that are being taken, by their deduplication id."""
        self._seconds = {m: metrics.rpc_seconds.labels(f"{messages.SERVICE_NAME}/{m}") for m in ("Check", "Report")}

    async def check(self, data: bytes, head: CallHead = NO_HEAD) -> bytes:
        """Answer a serialized ``CheckRequest`` with a serialized ``CheckResponse``.

        Raises:
            ServiceError: The request is malformed, or the decision could not be made.
        """
        return await self._served("Check", self._check, data)

    async def report(self, data: bytes, head: CallHead = NO_HEAD) -> bytes:
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
        outcome = await dispatcher.check(bag, request.quotas, request.deduplication_id, quotas_only=request.quotas_only)
        return encode_answer(outcome.answer(), request.global_word_count).SerializeToString()

    async def _report(self, data: bytes) -> bytes:
        dispatcher = self._controller.dispatcher
        batch = decode_report_bytes(data, dispatcher.binding.snapshot.wanted)
        batch_id = batch.deduplication_id
        if not batch_id:
            return await self._take(dispatcher, batch)
        if not self._reports.add(batch_id):
            earlier = self._taking.get(batch_id)
            if earlier is None:
                self._metrics.repeated_reports.inc()
                return b""
            await asyncio.wait((earlier,))  # its caller may have gone, and then it may come to nothing
            return await self._report(data)  # by what holds now
        taking = self._taking[batch_id] = asyncio.get_running_loop().create_future()
        try:
            return await self._take(dispatcher, batch)
        except (WireError, ReportError):
            raise
        except BaseException:
            self._reports.discard(batch_id)  # nobody knows what became of it: it may come again
            raise
        finally:
            del self._taking[batch_id]
            taking.set_result(None)

    async def _take(self, dispatcher: Dispatcher, batch: ReportBatch) -> bytes:
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
