"""The life of connections, from their log entries: which events are reported, and how many bytes each one has.

Envoy logs totals, so what is new since the last ``continue`` is worked out here, by connection and whichever stream
its entries come in. It logs a connection's opening before the check has an answer; the opening waits until a later
entry shows that the connection was allowed, or for a moment, and is dropped when the connection turns out denied.
After that moment the check that this process made, if it did, says who connected: the entry itself cannot yet.
Nothing here waits or reads a clock. Source: spec envoy 4.3, spec proxy 4.

Of a connection that is not in the table, because this process began later or the table was full, it cannot be known
what was reported. Its first ``continue`` in a stream that is younger than itself therefore counts no bytes, so that
nothing is counted twice; its ``close`` has all of them, because by default Envoy logs nothing but the end.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mixer.attributes import Timestamp
from proxy.envoy.flags import is_denied
from proxy.envoy.gen.accesslog_pb2 import (
    AccessLogCommon,
    TCPAccessLogEntry,
    TcpConnectionEnd,
    TcpPeriodic,
    TcpUpstreamConnected,
)
from proxy.envoy.log_entry import LogStream, count, duration_of, timestamp_of
from proxy.envoy.log_tcp import Event, TcpEntry, Traffic
from proxy.envoy.recent import RecentChecks

DENIED_OPEN: Final = "denied_open"
OTHER_TYPE: Final = "other_type"
NOT_TRACKED: Final = "not_tracked"
REPEATED_OPEN: Final = "repeated_open"
FORGOTTEN_OPEN: Final = "forgotten_open"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of the table.

    Attributes:
        connections: At most so many at a time; of others only the end is reported.
        hold_s: An opening waits so long for the check's answer.
        idle_s: A connection without entries for so long is forgotten. Longer than Envoy's flush interval.
    """

    connections: int = 100_000
    hold_s: float = 1.0
    idle_s: float = 600.0


DEFAULT_LIMITS: Final = ConnectionLimits()


class _Opening:
    """An opening that waits."""

    __slots__ = ("common", "stream")

    def __init__(self, stream: LogStream, common: AccessLogCommon) -> None:
        self.stream, self.common = stream, common


class _Connection:
    """What has to be known of a connection that lives: bytes at the last continue, and the opening that waits."""

    __slots__ = ("held", "received", "sent", "touched")

    def __init__(self, now: float) -> None:
        self.received = self.sent = 0
        self.held: _Opening | None = None
        self.touched = now


_Key = tuple[str, str]
"""Node and stream id; Envoy draws the latter at random."""


class Connections:
    """The connections that live, of all streams.

    Args:
        on_drop: Is told why an entry gives no record.
        on_resume: Is told of each connection that was found midway, whose bytes so far are not counted.
        limits: Bounds.
        wall: The time, for events that Envoy gives none.
        recent: Checks of connections, as far as this process made them.
    """

    def __init__(
        self,
        on_drop: Callable[[str], None],
        on_resume: Callable[[], None],
        limits: ConnectionLimits = DEFAULT_LIMITS,
        *,
        wall: Callable[[], Timestamp],
        recent: RecentChecks | None = None,
    ) -> None:
        self._recent = RecentChecks() if recent is None else recent
        self._on_drop = on_drop
        self._on_resume = on_resume
        self._limits = limits
        self._wall = wall
        self._living: OrderedDict[_Key, _Connection] = OrderedDict()
        self._waiting: deque[tuple[float, _Key]] = deque()

    def __len__(self) -> int:
        return len(self._living)

    @property
    def next_due(self) -> float | None:
        """When `due` has something to give, unless it is known earlier; None when nothing waits."""
        while self._waiting:
            deadline, key = self._waiting[0]
            connection = self._living.get(key)
            if connection is not None and connection.held is not None:
                return deadline
            self._waiting.popleft()
        return None

    def take(self, stream: LogStream, entry: TCPAccessLogEntry, now: float) -> list[TcpEntry]:
        """The events that an entry stands for, in their order.

        Args:
            stream: Where it came.
            entry: The entry.
            now: Seconds of a clock that only goes forward.
        """
        common = entry.common_properties
        kind = common.access_log_type
        key = (stream.node, common.stream_id)
        if kind == TcpConnectionEnd:
            return self._end(stream, entry, key)
        if kind not in (TcpPeriodic, TcpUpstreamConnected):
            self._on_drop(OTHER_TYPE)
            return []
        connection = self._living.get(key)
        if kind == TcpUpstreamConnected:
            return self._open(stream, entry, key, connection, now)
        if connection is None:
            connection = self._new(key, now)
            if connection is None:
                self._on_drop(NOT_TRACKED)
                return []
            if timestamp_of(common.start_time) < stream.since:
                found = _traffic(entry, None)
                connection.received, connection.sent = found.received_total, found.sent_total
                self._on_resume()
        connection.touched = now
        self._living.move_to_end(key)
        events = self._opening(connection, common)
        traffic = _traffic(entry, connection)
        connection.received, connection.sent = traffic.received_total, traffic.sent_total
        events.append(TcpEntry(stream, common, Event.CONTINUE, traffic, self._wall()))
        return events

    def due(self, now: float) -> list[TcpEntry]:
        """The openings that have waited long enough."""
        events = []
        while (deadline := self.next_due) is not None and deadline <= now:
            connection = self._living[self._waiting.popleft()[1]]
            events += self._opening(connection, None)
        return events

    def forget_idle(self, now: float) -> None:
        """Drop what has had no entry for long: its Envoy is gone, or its end was lost."""
        limit = now - self._limits.idle_s
        while self._living:
            key, connection = next(iter(self._living.items()))
            if connection.touched > limit:
                return
            del self._living[key]
            if connection.held is not None:
                self._on_drop(FORGOTTEN_OPEN)

    def _new(self, key: _Key, now: float) -> _Connection | None:
        if not key[1] or len(self._living) >= self._limits.connections:
            return None
        connection = self._living[key] = _Connection(now)
        return connection

    def _open(
        self, stream: LogStream, entry: TCPAccessLogEntry, key: _Key, known: _Connection | None, now: float
    ) -> list[TcpEntry]:
        if known is not None:
            self._on_drop(REPEATED_OPEN)
            return []
        connection = self._new(key, now)
        if connection is None:
            self._on_drop(NOT_TRACKED)
            return []
        connection.held = _Opening(stream, entry.common_properties)
        self._waiting.append((now + self._limits.hold_s, key))
        return []

    def _end(self, stream: LogStream, entry: TCPAccessLogEntry, key: _Key) -> list[TcpEntry]:
        common = entry.common_properties
        connection = self._living.pop(key, None)
        events = [] if connection is None else self._opening(connection, common)
        time = Timestamp(timestamp_of(common.start_time) + duration_of(common.duration))
        events.append(TcpEntry(stream, common, Event.CLOSE, _traffic(entry, connection), time))
        return events

    def _opening(self, connection: _Connection, later: AccessLogCommon | None) -> list[TcpEntry]:
        """The opening that waits, if there is one and it is to be told; ``later`` shows what became of it."""
        held, connection.held = connection.held, None
        if held is None:
            return []
        check = self._recent.take(held.common.stream_id)
        if (later is not None and is_denied(later)) or (check is not None and check.code):
            self._on_drop(DENIED_OPEN)
            return []
        time = timestamp_of(held.common.start_time)
        return [TcpEntry(held.stream, held.common, Event.OPEN, Traffic(), time, later, check)]


def _traffic(entry: TCPAccessLogEntry, connection: _Connection | None) -> Traffic:
    received = count(entry.connection_properties.received_bytes)
    sent = count(entry.connection_properties.sent_bytes)
    if connection is None:
        return Traffic(received, sent, received, sent)
    return Traffic(max(0, received - connection.received), max(0, sent - connection.sent), received, sent)
