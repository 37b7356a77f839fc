"""What an operator writes to configure the fluentd adapter, and what can be wrong with it. Source: spec adapters 4.2.

A size or time of 0 means its default, as in the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mixer.adapters.base import InstanceInfo, Params
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, Int64

_MIB: Final = 1 << 20
DEFAULT_BUFFER_ENTRIES: Final = 65_536
DEFAULT_BATCH_BYTES: Final = 8 * _MIB
DEFAULT_SPOOL_BYTES: Final = 256 * _MIB
DEFAULT_INTERVAL_S: Final = 60.0
_BUFFERED_BATCHES: Final = 4


class FluentdParams(Params):
    """Params of the fluentd adapter."""

    address: str = "localhost:24224"
    """Where Fluentd listens, ``host:port``; default ``localhost:24224``. An empty host is this machine."""

    integer_duration: bool = False
    """Durations become whole milliseconds (truncated) and not texts such as ``10ms``; default false."""

    instance_buffer_size: Int64 = 0
    """How many entries wait in memory at most, those under way included; 0, the default: 65536.

    The original's 1024 is the length of a queue in front of two further buffers; here one buffer does it all.
    Unused with a spool.
    """

    max_buffer_bytes: Int64 = 0
    """How many bytes wait in memory at most, those under way included; 0, the default: four batches.

    Not in the original, which holds two batches. Unused with a spool.
    """

    max_batch_size_bytes: Int64 = 0
    """How many bytes are sent at once at most; 0, the default: 8 MiB. A larger entry is dropped.

    When that much waits, or half of the buffer is full, it is sent without waiting for the push interval; in
    pieces of about 1 MiB, as whatever else the process does waits while one is made.
    """

    push_interval_duration: DurationField = Duration(0)
    """How long an entry waits for others to be sent with it; 0, the default: one minute."""

    push_timeout_duration: DurationField = Duration(0)
    """How long a batch may take to be written and acknowledged before it is sent again; 0, the default: one minute."""

    require_ack_response: bool = True
    """Keep what Fluentd has not acknowledged, and send it again; default true.

    Fluentd, Fluent Bit and the OpenTelemetry Collector acknowledge when asked. With false, an entry is done with
    when the system has taken it for sending: what a breaking connection swallows is lost. Needed for
    receivers that never acknowledge, which would otherwise get everything again and again.
    """

    sub_second_time: bool = True
    """The time of an entry has nanoseconds (Fluentd 0.14 and later); default true. False: whole seconds, truncated."""

    timestamps_as_text: bool = False
    """Variables that are times become RFC 3339 texts; default false: MessagePack extension 5, as the original sends.

    Fluentd itself does not know extension 5; set this when variables hold times.
    """

    spool_directory: str = ""
    """Where entries wait on disk, so that they survive the death of Mixer; empty, the default: they wait in memory.

    The directory is made when it does not exist. Handlers may share it. Writing waits for the system's cache,
    never for the disk: meant for local disks. See `mixer.adapters.fluentd.journal` for what survives what.
    """

    max_spool_bytes: Int64 = 0
    """How many bytes a handler's spool takes on disk at most; 0, the default: 256 MiB. Further entries are dropped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes and times of the params, with defaults filled in."""

    buffer_entries: int
    buffer_bytes: int
    batch_bytes: int
    spool_bytes: int
    interval_s: float
    timeout_s: float

    @property
    def piece_bytes(self) -> int:
        """How many bytes are sent and acknowledged together at most; a larger entry goes alone."""
        return min(self.batch_bytes, _MIB)

    @classmethod
    def of(cls, params: FluentdParams) -> Limits:
        """What the params say, or mean by 0."""
        batch_bytes = params.max_batch_size_bytes or DEFAULT_BATCH_BYTES
        return cls(
            buffer_entries=params.instance_buffer_size or DEFAULT_BUFFER_ENTRIES,
            buffer_bytes=params.max_buffer_bytes or _BUFFERED_BATCHES * batch_bytes,
            batch_bytes=batch_bytes,
            spool_bytes=params.max_spool_bytes or DEFAULT_SPOOL_BYTES,
            interval_s=params.push_interval_duration.seconds or DEFAULT_INTERVAL_S,
            timeout_s=params.push_timeout_duration.seconds or DEFAULT_INTERVAL_S,
        )


def split_address(address: str) -> tuple[str, int]:
    """The host (``localhost`` when it is empty) and the port of ``host:port``; IPv6 addresses stand in brackets.

    Raises:
        ValueError: The text is not of that form.
    """
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError("missing port in address")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("too many colons in address")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError("the port is not a number up to 65535")
    return host or "localhost", int(port)


def validate(params: FluentdParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well. Source: spec adapters 4.2, scenarios 2 and 3."""
    try:
        split_address(params.address)
    except ValueError as exc:
        yield FieldError(("address",), str(exc), "host:port")
    for field, value in (
        ("instanceBufferSize", params.instance_buffer_size),
        ("maxBufferBytes", params.max_buffer_bytes),
        ("maxBatchSizeBytes", params.max_batch_size_bytes),
        ("pushIntervalDuration", params.push_interval_duration),
        ("pushTimeoutDuration", params.push_timeout_duration),
        ("maxSpoolBytes", params.max_spool_bytes),
    ):
        if value < 0:
            yield FieldError((field,), "must not be negative", "0 for the default")
    if "\0" in params.spool_directory:
        yield FieldError(("spoolDirectory",), "a path has no NUL")
