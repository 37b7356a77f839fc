"""What an operator writes to configure statsd or dogstatsd, and what can be wrong with it.

Source: spec adapters 4.12 and 5, "dogstatsd".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pydantic import Field

from mixer.adapters.base import InstanceInfo, Params
from mixer.adapters.statsd.nametemplate import NameTemplateError, parse_template
from mixer.attributes import Duration, ValueType
from mixer.store.problem import FieldError
from mixer.store.protojson import Double, DurationField, Int32, Int64, ProtoEnum, enum_field

DEFAULT_FLUSH: Final = Duration.parse("300ms")
DEFAULT_FLUSH_BYTES: Final = 512
DEFAULT_BUFFER_BYTES: Final = 1 << 20
MAX_DATAGRAM_BYTES: Final = 1432
"""What an Ethernet frame carries of a UDP datagram, with room for options. Source: StatsD, "Multi-Metric Packets"."""
DOG_FLUSH: Final = Duration.parse("100ms")


class MetricType(ProtoEnum):
    """What the server does with the values of a metric."""

    UNKNOWN = 0
    COUNTER = 1
    GAUGE = 2
    DISTRIBUTION = 3


MetricTypeField: TypeAlias = enum_field(MetricType)  # type: ignore[valid-type]


class StatsdMetric(Params):
    """How one instance becomes a metric."""

    type: MetricTypeField = MetricType.UNKNOWN
    """COUNTER adds an INT64, GAUGE sets one; DISTRIBUTION times a DURATION, and counts an INT64. Required."""

    name_template: str = ""
    """The name, with dimensions in it: ``{{.apiMethod}}-{{.responseCode}}``. Empty: the full name of the instance.

    A Go template of which dimensions, texts, ``or``, ``printf`` and pipelines are understood. In what comes out,
    characters that mean something in StatsD's protocol, and blanks, become "_".
    """


class StatsdParams(Params):
    """Params of the statsd adapter."""

    address: str = "localhost:8125"
    """Where the server listens: ``host:port`` for UDP (default ``localhost:8125``), or ``unix:///path``."""

    prefix: str = ""
    """Goes before every name, joined by "."; default none."""

    flush_duration: DurationField = DEFAULT_FLUSH
    """How long a line waits for others to share its datagram; default 300ms, also for 0."""

    flush_bytes: Int32 = DEFAULT_FLUSH_BYTES
    """The size of a datagram, at most 1432 and by default (also for 0) 512 bytes. A longer line travels alone."""

    sampling_rate: Double = 1.0
    """The share of instances that is sent, by chance; 1 and above: all (the default), 0: none.

    Servers scale counters and timers up by it.
    """

    metrics: dict[str, StatsdMetric] = Field(default_factory=dict)
    """Full name of an instance -> what becomes of it. Instances that are not here are errors."""

    buffer_bytes: Int64 = 0
    """How many bytes of lines wait at most while the server cannot be reached; 0, the default: 1 MiB. Not in the original."""


class DogstatsdMetric(Params):
    """How one instance becomes a metric."""

    name: str = ""
    """The name of the metric, behind the prefix. Required."""

    type: MetricTypeField = MetricType.UNKNOWN
    """COUNTER adds an INT64, GAUGE sets one; DISTRIBUTION times a DURATION, or puts an INT64 into a histogram. Required."""

    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of this metric. The dimensions of the instance are tags, too, and win where both name the same."""


class DogstatsdParams(Params):
    """Params of the dogstatsd adapter."""

    address: str = "localhost:8125"
    """Where the agent listens: ``host:port`` for UDP (default ``localhost:8125``), or ``unix:///path``."""

    prefix: str = "istio."
    """Goes before every name; default ``istio.``. A "." at its end is added when it is missing."""

    buffer_length: Int32 = 0
    """How many lines share a datagram at most; 0, the default: each travels alone.

    They wait for each other 100 ms at most.
    """

    global_tags: dict[str, str] = Field(default_factory=dict)
    """Tags of every metric."""

    sample_rate: Double = 1.0
    """The share of instances that is sent, by chance, 0 to 1; default 1. The original's default of 0 sends nothing."""

    metrics: dict[str, DogstatsdMetric] = Field(default_factory=dict)
    """Full name of an instance -> what becomes of it; exactly the instances that rules route here."""

    buffer_bytes: Int64 = 0
    """How many bytes of lines wait at most while the agent cannot be reached; 0, the default: 1 MiB. Not in the original."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where datagrams go: a ``path``, or else host and port."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse_address(text: str) -> Address:
    """Read ``host:port`` (IPv6 in brackets) or ``unix:///path``.

    Raises:
        ValueError: It is neither; the message says why.
    """
    if text.startswith("unix://"):
        path = text.removeprefix("unix://")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("a Unix socket needs an absolute path")
        if len(path.encode(errors="replace")) > 107:
            raise ValueError("the path of a Unix socket has 107 bytes at most")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("missing port in address")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("too many colons in address")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65_535):
        raise ValueError("the port is not a number from 1 to 65535")
    return Address(host or "localhost", int(port))


def validate_statsd(params: StatsdParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well. Source: spec adapters 4.12, scenarios 1 to 3."""
    yield from _address_faults(params.address)
    for field, value in (
        ("flushDuration", params.flush_duration),
        ("flushBytes", params.flush_bytes),
        ("bufferBytes", params.buffer_bytes),
    ):
        if value < 0:
            yield FieldError((field,), "must not be negative", "0 for the default")
    if params.flush_bytes > MAX_DATAGRAM_BYTES:
        yield FieldError(("flushBytes",), f"{params.flush_bytes} is too much", f"at most {MAX_DATAGRAM_BYTES}")
    if not params.sampling_rate >= 0:  # also not a number
        yield FieldError(("samplingRate",), "must not be negative")
    for name, metric in params.metrics.items():
        try:
            parse_template(metric.name_template)
        except NameTemplateError as exc:
            yield FieldError(("metrics", name, "nameTemplate"), str(exc), "such as {{.name}}-text")


_INTEGER: Final = frozenset((ValueType.INT64,))
_VALUE_TYPES: Final = {
    MetricType.COUNTER: _INTEGER,
    MetricType.GAUGE: _INTEGER,
    MetricType.DISTRIBUTION: frozenset((ValueType.INT64, ValueType.DURATION)),
}


def validate_dogstatsd(params: DogstatsdParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of the params, with the instances that are routed to the handler. Source: spec adapters 5."""
    yield from _address_faults(params.address)
    for field, value in (("bufferLength", params.buffer_length), ("bufferBytes", params.buffer_bytes)):
        if value < 0:
            yield FieldError((field,), "must not be negative", "0 for the default")
    if math.isnan(params.sample_rate) or not 0 <= params.sample_rate <= 1:
        yield FieldError(("sampleRate",), "must be between 0 and 1 inclusive")
    routed = {instance.name: instance for instance in instances}
    for name in routed:
        if name not in params.metrics:
            yield FieldError(("metrics",), f"instance {name} is routed here and has no entry", "one for each instance")
    for name, metric in params.metrics.items():
        at = ("metrics", name)
        if not metric.name:
            yield FieldError((*at, "name"), "required field is missing")
        if metric.type is MetricType.UNKNOWN:
            yield FieldError((*at, "type"), "required field is missing", "COUNTER, GAUGE or DISTRIBUTION")
        if not instances:
            continue  # nothing is routed here, so nothing is known
        if name not in routed:
            yield FieldError(at, "no rule routes such an instance here", f"one of {', '.join(sorted(routed))}")
            continue
        value_type = routed[name].types.get("value")
        allowed = _VALUE_TYPES.get(metric.type)
        if allowed is not None and isinstance(value_type, ValueType) and value_type not in allowed:
            expected = " or ".join(sorted(kind.name for kind in allowed))
            yield FieldError(
                (*at, "type"), f"{metric.type.name} cannot take a value of type {value_type.name}", expected
            )


def _address_faults(address: str) -> Iterator[FieldError]:
    try:
        parse_address(address)
    except ValueError as exc:
        yield FieldError(("address",), str(exc), "host:port or unix:///path")
