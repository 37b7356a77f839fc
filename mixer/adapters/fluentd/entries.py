"""From a log entry to the bytes that Fluentd reads: a tag, and ``[time, record]`` in MessagePack.

Source: spec adapters 4.2, "Per entry" and "Wire format".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]
from fluent.sender import EventTime  # type: ignore[import-untyped]

from mixer.adapters.base import Clock, InstanceInfo
from mixer.adapters.fluentd.ledger import Reason
from mixer.adapters.fluentd.params import FluentdParams
from mixer.attributes import Absent, Duration, Timestamp, ValueType
from mixer.attributes.values import ZERO_TIME, format_ip
from mixer.errors import AdapterError
from mixer.templates.logentry import LogEntryInstance

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000
_EVENT_TIME_END: Final = 1 << 32
_TIME_EXTENSION: Final = 5


class Entry(NamedTuple):
    """An entry as it waits and travels; ``data`` is ``[time, record]``."""

    tag: str
    data: bytes

    @property
    def size(self) -> int:
        """What counts against the limits, in bytes."""
        return len(self.tag) + len(self.data)


class EntryError(AdapterError):
    """An instance that cannot become an entry."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EntryEncoder:
    """Makes entries of instances; what can be known of an instance's variables is known from the start."""

    def __init__(self, params: FluentdParams, instances: Sequence[InstanceInfo], clock: Clock) -> None:
        self._clock = clock
        self._sub_second, self._as_text = params.sub_second_time, params.timestamps_as_text
        self._integer_duration = params.integer_duration
        self._addresses = {i.name: _addresses(i.types.get("variables")) for i in instances}
        self._pack = msgpack.Packer(unicode_errors="replace").pack

    def encode(self, instance: LogEntryInstance) -> Entry:
        """The entry of an instance, which stays as it is.

        Raises:
            EntryError: The tag is no text, or a value is none that attributes can have.
        """
        addresses = self._addresses.get(instance.name, frozenset())
        record = {
            key: value if type(value) in _PLAIN else self._plain(value, key in addresses)
            for key, value in instance.variables.items()
            if not (value is None or isinstance(value, Absent))
        }
        record["severity"] = instance.severity
        tag: Any = instance.name
        if "tag" in record:
            tag = record.pop("tag")
            if not isinstance(tag, str):
                raise EntryError(Reason.BAD_TAG, f"{instance.name}: the variable tag is not a string")
            record["name"] = instance.name
        try:
            return Entry(tag, self._pack((self._time(instance.timestamp), record)))
        except (TypeError, ValueError, OverflowError) as exc:
            raise EntryError(Reason.UNENCODABLE, f"{instance.name}: {exc}") from exc

    def _time(self, timestamp: Timestamp) -> object:
        """When it happened; an entry without a time happened now.

        EventTime ends in 2106 and starts in 1970; before and after, the seconds are a plain number.
        """
        seconds, nanos = divmod(int(self._clock.now() if timestamp == ZERO_TIME else timestamp), _SECOND)
        if self._sub_second and 0 <= seconds < _EVENT_TIME_END:
            return EventTime(seconds, nanos)
        return seconds

    def _plain(self, value: object, is_address: bool) -> Any:
        if isinstance(value, Duration):
            return _truncated_ms(value) if self._integer_duration else str(value)
        if isinstance(value, Timestamp):
            if self._as_text:
                return str(value)
            return msgpack.ExtType(_TIME_EXTENSION, struct.pack(">qi", *divmod(int(value), _SECOND)))
        if isinstance(value, bytes):
            return format_ip(value) if is_address else value
        if isinstance(value, Mapping):
            return dict(value)
        return value


_PLAIN: Final = frozenset((str, int, float, bool))


def _addresses(types: object) -> frozenset[str]:
    if not isinstance(types, Mapping):
        return frozenset()
    return frozenset(name for name, kind in types.items() if kind is ValueType.IP_ADDRESS)


def _truncated_ms(value: Duration) -> int:
    ms = abs(int(value)) // _MILLISECOND
    return -ms if value < 0 else ms
