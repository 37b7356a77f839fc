"""Envoy's access log service: serialized ``StreamAccessLogsMessage``s in, records for Report out.

Envoy never waits for an answer and gets none: what cannot be used is dropped and counted by reason, and the stream
goes on. A report that has to wait holds back the reading of its stream, so that Envoy's buffer bounds what is on its
way. Records of one service keep the order of their entries.
Source: spec envoy 4.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from prometheus_client import CollectorRegistry, Counter, Gauge

from mixer.api.rpc import NO_HEAD, CallHead, Methods
from mixer.attributes import AttributeBag, Timestamp
from proxy.envoy import paths
from proxy.envoy.gen.accesslog_pb2 import (
    DownstreamEnd,
    HTTPAccessLogEntry,
    StreamAccessLogsMessage,
    StreamAccessLogsResponse,
    TCPAccessLogEntry,
)
from proxy.envoy.identity import plain
from proxy.envoy.log_connections import DEFAULT_LIMITS, OTHER_TYPE, ConnectionLimits, Connections
from proxy.envoy.log_entry import LogStream, log_stream
from proxy.envoy.log_http import HttpEntry, request_bag, response_bag
from proxy.envoy.log_tcp import TcpEntry, connection_bag, event_bag
from proxy.envoy.recent import RecentChecks
from proxy.envoy.repair import parse
from proxy.policy import PolicyClient

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.envoy.access_log")

MALFORMED: Final = "malformed"
NOT_MAPPED: Final = "not_mapped"
NOT_TAKEN: Final = "not_taken"

_HTTP_LOGS: Final = StreamAccessLogsMessage.HTTP_LOGS_FIELD_NUMBER
_TCP_LOGS: Final = StreamAccessLogsMessage.TCP_LOGS_FIELD_NUMBER
_NOT_NAMED: Final = LogStream()


class AccessLogMetrics:
    """What the access log service counts."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.entries = Counter(
            "mixer_access_log_entries", "Entries of access logs that came.", ("kind",), registry=self.registry
        )
        self.records = Counter(
            "mixer_access_log_records", "Records that entries became, and were reported.", ("kind",),
            registry=self.registry,
        )  # fmt: skip
        self.dropped = Counter(
            "mixer_access_log_dropped",
            "Entries that became no record: no end of a request, nothing that a report is made of, not understood.",
            ("reason",),
            registry=self.registry,
        )
        self.malformed = Counter(
            "mixer_access_log_malformed_messages",
            "Messages that could not be read as a whole; those of their entries that could were taken.",
            registry=self.registry,
        )
        self.faulty_tags = Counter(
            "mixer_access_log_faulty_tags", "Custom tags that cannot be read as attributes.", registry=self.registry
        )
        self.resumed = Counter(
            "mixer_access_log_resumed_connections",
            "Connections that were found midway: their bytes up to then may have been counted before, and are not.",
            registry=self.registry,
        )
        self.streams = Gauge("mixer_access_log_streams", "Streams that are open.", registry=self.registry)
        self.connections = Gauge(
            "mixer_access_log_connections", "Connections whose end has not been logged.", registry=self.registry
        )


class AccessLog:
    """The service."""

    def __init__(
        self,
        client: PolicyClient,
        metrics: AccessLogMetrics,
        *,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = time.time_ns,
        recent: RecentChecks | None = None,
    ) -> None:
        """Prepare.

        Args:
            client: Takes the records.
            metrics: Counts.
            limits: Bounds of what is known of connections.
            clock: Seconds, only going forward.
            now: Nanoseconds since 1970.
            recent: Checks of connections, as far as this process made them.
        """
        self._client = client
        self._metrics = metrics
        self._clock = clock
        self._http_entries = metrics.entries.labels("http")
        self._tcp_entries = metrics.entries.labels("tcp")
        self._http_records = metrics.records.labels("http")
        self._tcp_records = metrics.records.labels("tcp")
        self._now = now
        self._connections = Connections(self._drop, metrics.resumed.inc, limits, wall=self._wall, recent=recent)
        metrics.connections.set_function(lambda: len(self._connections))

    @property
    def methods(self) -> Methods:
        """The service, for a gRPC port."""
        return Methods(streams={paths.STREAM_ACCESS_LOGS: self.stream_access_logs})

    async def stream_access_logs(
        self, requests: AsyncIterator[bytes], head: CallHead = NO_HEAD
    ) -> AsyncGenerator[bytes, None]:
        """Take one stream of messages until it ends; the only answer is an empty one, at the end."""
        stream = _NOT_NAMED
        self._metrics.streams.inc()
        try:
            async with aclosing(self._with_dues(requests)) as messages:
                async for data in messages:
                    if data is not None:
                        stream = await self.take(stream, data)
                    if self._connections.next_due is not None:
                        await self._report_due()
        finally:
            self._metrics.streams.dec()
        yield StreamAccessLogsResponse().SerializeToString()

    async def take(self, stream: LogStream, data: bytes) -> LogStream:
        """Take one message of a stream; returns the stream as the message names it."""
        try:
            message = StreamAccessLogsMessage.FromString(data)
        except DecodeError:
            self._metrics.malformed.inc()
            log.debug("malformed_message", log_name=stream.log_name, bytes=len(data))
            message = self._salvaged(data)
        if message.HasField("identifier"):
            identifier = message.identifier
            node = identifier.node
            stream = log_stream(node.id, identifier.log_name, plain(node.metadata), self._wall(), self._faulty_tag)
        if message.HasField("http_logs"):
            await self._take_requests(stream, message.http_logs.log_entry)
        elif message.HasField("tcp_logs"):
            await self._take_connections(stream, message.tcp_logs.log_entry)
        return stream

    async def _take_requests(self, stream: LogStream, entries: Any) -> None:
        by_service: dict[str, list[AttributeBag]] = {}
        compose = self._client.compose
        others = 0
        for message in entries:
            if message.common_properties.access_log_type != DownstreamEnd:
                others += 1
                continue
            try:
                entry = HttpEntry(stream, message)
                record = entry.record
                forwarded = "" if record is None else record.forwarded
                composed = compose(request_bag(entry), service=entry.service, forwarded=forwarded)
                bag = response_bag(entry, composed)
            except Exception as exc:  # noqa: BLE001  one entry must not cost its batch
                self._not_mapped(exc)
                continue
            records = by_service.get(entry.service)
            if records is None:
                by_service[entry.service] = [bag]
            else:
                records.append(bag)
        self._http_entries.inc(len(entries))
        if others:
            self._metrics.dropped.labels(OTHER_TYPE).inc(others)
        for service, records in by_service.items():
            if await self._report(records, service, tcp=False):
                self._http_records.inc(len(records))

    async def _take_connections(self, stream: LogStream, entries: Any) -> None:
        now = self._clock()
        connections = self._connections
        events: list[TcpEntry] = []
        for message in entries:
            try:
                events += connections.take(stream, message, now)
            except Exception as exc:  # noqa: BLE001  one entry must not cost its batch
                self._not_mapped(exc)
        connections.forget_idle(now)
        self._tcp_entries.inc(len(entries))
        await self._report_events(events)

    async def _report_due(self) -> None:
        events = self._connections.due(self._clock())
        if events:
            await self._report_events(events)

    async def _report_events(self, events: list[TcpEntry]) -> None:
        by_service: dict[str, list[AttributeBag]] = {}
        for event in events:
            try:
                bag = event_bag(event, self._client.compose(connection_bag(event), service=event.service, tcp=True))
            except Exception as exc:  # noqa: BLE001  one entry must not cost its batch
                self._not_mapped(exc)
                continue
            by_service.setdefault(event.service, []).append(bag)
        for service, records in by_service.items():
            if await self._report(records, service, tcp=True):
                self._tcp_records.inc(len(records))

    async def _report(self, records: list[AttributeBag], service: str, *, tcp: bool) -> bool:
        try:
            waiting = self._client.report(records, service=service, tcp=tcp)
            if waiting is not None:
                await waiting
        except Exception as exc:  # the client promises not to raise; the stream must not pay if it does
            self._metrics.dropped.labels(NOT_TAKEN).inc(len(records))
            log.error("records_not_taken", records=len(records), service=service, exc_info=exc)
            return False
        return True

    async def _with_dues(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes | None, None]:
        """The messages, and None when an opening has waited long enough while none came."""
        arriving: asyncio.Task[bytes | None] | None = None
        try:
            while True:
                due = self._connections.next_due
                if arriving is None:
                    if due is None:
                        data = await _next(requests)
                        if data is None:
                            return
                        yield data
                        continue
                    arriving = asyncio.create_task(_next(requests), name="next access log message")
                timeout = None if due is None else max(0.0, due - self._clock())
                done, _ = await asyncio.wait((arriving,), timeout=timeout)
                if not done:
                    yield None
                    continue
                data, arriving = arriving.result(), None
                if data is None:
                    return
                yield data
        finally:
            if arriving is not None:
                arriving.cancel()
                await asyncio.gather(arriving, return_exceptions=True)

    def _salvaged(self, data: bytes) -> StreamAccessLogsMessage:
        """What can be read of a message that is malformed somewhere, entry by entry."""
        message = StreamAccessLogsMessage()
        for number, part in _parts(data):
            try:
                if number == StreamAccessLogsMessage.IDENTIFIER_FIELD_NUMBER:
                    message.identifier.MergeFromString(part)
                    continue
            except DecodeError:
                continue
            if number not in (_HTTP_LOGS, _TCP_LOGS):
                continue
            kind = HTTPAccessLogEntry if number == _HTTP_LOGS else TCPAccessLogEntry
            for _, text in _parts(part):
                try:
                    entry: Any = parse(kind, text)
                except DecodeError:
                    self._drop(MALFORMED)
                    continue
                logs: Any = message.http_logs if number == _HTTP_LOGS else message.tcp_logs
                logs.log_entry.append(entry)
        return message

    def _wall(self) -> Timestamp:
        return Timestamp(self._now())

    def _drop(self, reason: str) -> None:
        self._metrics.dropped.labels(reason).inc()

    def _not_mapped(self, exc: Exception) -> None:
        self._drop(NOT_MAPPED)
        log.error("entry_not_mapped", exc_info=exc)

    def _faulty_tag(self, fault: str) -> None:
        self._metrics.faulty_tags.inc()
        log.debug("faulty_tag", fault=fault)


async def _next(requests: AsyncIterator[bytes]) -> bytes | None:
    return await anext(requests, None)


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields at the top of a message, with their numbers; none when it is no message at all."""
    try:
        fields: Any = UnknownFieldSet(Empty.FromString(data))  # iterable, though its stubs do not say so
    except DecodeError:
        return
    for field in fields:
        if field.wire_type == 2:
            yield field.field_number, field.data
