"""Log entries of connections as attribute bags: one table for the connection, one for each event of its life.

Source: spec envoy 4.3, spec proxy 4.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mixer.attributes import ABSENT, Absent, AttributeBag, AttributeValue, Timestamp
from proxy.envoy.correlation import CheckRecord
from proxy.envoy.flags import flags_text
from proxy.envoy.gen.accesslog_pb2 import AccessLogCommon
from proxy.envoy.log_bag import DerivedBag, Merge, ReportBag
from proxy.envoy.log_entry import (
    CONNECTION_ROWS,
    DENIAL_ROWS,
    END_ROWS,
    VERDICT_ROWS,
    LogEntry,
    LogStream,
    Row,
    duration_of,
    ip_of,
    port_of,
    readers,
)


class Event(enum.StrEnum):
    """What is reported of a connection; the values are those of ``connection.event``."""

    OPEN = "open"
    CONTINUE = "continue"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes since the previous `Event.CONTINUE`, and since the connection began; received is what the client sent."""

    received: int = 0
    sent: int = 0
    received_total: int = 0
    sent_total: int = 0


class TcpEntry(LogEntry):
    """An event of a connection.

    Attributes:
        time: When it happened.
    """

    __slots__ = ("_flags", "event", "time", "traffic")

    def __init__(
        self,
        stream: LogStream,
        common: AccessLogCommon,
        event: Event,
        traffic: Traffic,
        time: Timestamp,
        known_from: AccessLogCommon | None = None,
        check: CheckRecord | None = None,
    ) -> None:
        """Take an event.

        Identity and verdict are those of a later entry of the connection, ``known_from``, or of the record of its
        ``check``, where there is one.
        """
        super().__init__(stream, common if known_from is None else known_from)
        if check is not None and self.record is None:
            self.record = check
            self.service = check.service or self.service
        self._flags = common
        self.event = event
        self.traffic = traffic
        self.time = time

    @property
    def flags(self) -> str:
        """The response flags of the event itself."""
        return flags_text(self._flags)


CONNECTION: Final[Mapping[str, Row]] = MappingProxyType(
    {
        **CONNECTION_ROWS,
        "source.ip": Row(
            "downstream_direct_remote_address", lambda entry: ip_of(entry.common.downstream_direct_remote_address)
        ),
        "context.protocol": Row("tcp", lambda entry: "tcp"),
        "connection.id": Row("stream_id", lambda entry: entry.common.stream_id or ABSENT),
    }
)

_ANY_EVENT: Final[Mapping[str, Row]] = MappingProxyType(
    {
        **VERDICT_ROWS,
        **END_ROWS,
        "context.proxy_error_code": Row(END_ROWS["context.proxy_error_code"].field, lambda entry: entry.flags),
        "context.time": Row("start_time (+ duration), time of arrival for continue", lambda entry: entry.time),
        "connection.event": Row("access_log_type", lambda entry: entry.event.value),
        "connection.received.bytes": Row(
            "connection_properties.received_bytes since the last continue", lambda entry: entry.traffic.received
        ),
        "connection.sent.bytes": Row(
            "connection_properties.sent_bytes since the last continue", lambda entry: entry.traffic.sent
        ),
        "connection.received.bytes_total": Row(
            "connection_properties.received_bytes", lambda entry: entry.traffic.received_total
        ),
        "connection.sent.bytes_total": Row("connection_properties.sent_bytes", lambda entry: entry.traffic.sent_total),
    }
)

_AT_CLOSE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        **_ANY_EVENT,
        **DENIAL_ROWS,
        "connection.duration": Row("duration", lambda entry: duration_of(entry.common.duration)),
    }
)

EVENT_ROWS: Final[Mapping[Event, Mapping[str, Row]]] = MappingProxyType(
    {Event.OPEN: _ANY_EVENT, Event.CONTINUE: _ANY_EVENT, Event.CLOSE: _AT_CLOSE}
)
"""What is known at each event."""


def _destination_ip(entry: LogEntry, before: AttributeValue | Absent) -> AttributeValue | Absent:
    if before is not ABSENT:
        return before
    found = ip_of(entry.common.upstream_remote_address)
    return ip_of(entry.common.downstream_local_address) if found is ABSENT else found


def _destination_port(entry: LogEntry, before: AttributeValue | Absent) -> AttributeValue | Absent:
    if before is not ABSENT:
        return before
    found = port_of(entry.common.upstream_remote_address)
    return port_of(entry.common.downstream_local_address) if found is ABSENT else found


MERGES: Final[Mapping[str, Merge]] = MappingProxyType(
    {"destination.ip": _destination_ip, "destination.port": _destination_port}
)
"""What an event only fills in: the chosen host, or the local end before there is one."""

_CONNECTION: Final = readers(CONNECTION)
_EVENTS: Final = {event: readers(rows) for event, rows in EVENT_ROWS.items()}


def connection_bag(entry: TcpEntry) -> DerivedBag:
    """The connection."""
    return DerivedBag(entry, _CONNECTION)


def event_bag(entry: TcpEntry, composed: AttributeBag) -> ReportBag:
    """The record of an event, over the composed attributes of the connection."""
    return ReportBag(entry, composed, _EVENTS[entry.event], MERGES)
