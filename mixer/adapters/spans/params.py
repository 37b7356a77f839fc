"""What an operator writes to configure any adapter that exports spans, and what can be wrong with it.

A size or time of 0 means its default. Source: spec adapters 4.10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import Field, SecretStr
from yarl import URL

from mixer.adapters.base import Params
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import Double, DurationField, Int64, ProtoEnum, enum_field

DEFAULT_BUFFER: Final = 8192
DEFAULT_INTERVAL_S: Final = 1.0
DEFAULT_TIMEOUT_S: Final = 5.0
DEFAULT_RETRY_S: Final = 300.0
_NAME: Final = re.compile(r"[0-9a-z_.-]+", re.ASCII | re.IGNORECASE)
_VALUE: Final = re.compile(r"[\x20-\x7e]*", re.ASCII)
_RESERVED: Final = frozenset(("content-type", "content-length", "content-encoding", "host", "transfer-encoding", "te"))


class Sampling(ProtoEnum):
    """Who decides which traces are exported."""

    PROBABILITY = 0
    INCOMING = 1


class SpanParams(Params):
    """Params that span exporters have in common."""

    sample_probability: Double = 0.0
    """Which share of traces is exported, 0 to 1. The id of a trace decides, so its spans are kept or left out together."""

    sampling: enum_field(Sampling) = Sampling.PROBABILITY  # type: ignore[valid-type]
    """PROBABILITY: ``sampleProbability`` alone decides. INCOMING: the decision that came with the request does.

    That decision is part of a whole header (``traceparent`` or ``b3``) in the instance's ``traceId``; where there is
    none, the probability decides all the same.
    """

    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every batch, such as an ``authorization``; never shown."""

    batch_size: Int64 = 0
    """How many spans are sent at once at most; 0, the default: 100 for zipkin, 256 for otlp."""

    batch_interval: DurationField = Duration(0)
    """How long a span waits for others to be sent with it; 0, the default: one second."""

    buffer_size: Int64 = 0
    """How many spans wait at most, those under way included; 0, the default: 8192. The oldest that waits makes room."""

    timeout: DurationField = Duration(0)
    """How long the receiver may take to answer; 0, the default: 5s."""

    retry_for: DurationField = Duration(0)
    """How long a batch is sent again that the receiver could not take; 0, the default: 5m. Then it is dropped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes and times of the params, with defaults filled in."""

    batch: int
    buffer: int
    interval_s: float
    timeout_s: float
    retry_s: float

    @classmethod
    def of(cls, params: SpanParams, *, batch: int) -> Limits:
        """What the params say, or mean by 0; ``batch`` is the adapter's default."""
        return cls(
            batch=params.batch_size or batch,
            buffer=params.buffer_size or DEFAULT_BUFFER,
            interval_s=params.batch_interval.seconds or DEFAULT_INTERVAL_S,
            timeout_s=params.timeout.seconds or DEFAULT_TIMEOUT_S,
            retry_s=params.retry_for.seconds or DEFAULT_RETRY_S,
        )


def common_faults(params: SpanParams) -> Iterator[FieldError]:
    """Every fault of these params that decode well."""
    if not 0 <= params.sample_probability <= 1:  # also not a number
        yield FieldError(("sampleProbability",), "must be between 0 and 1 inclusive")
    for field, value in (
        ("batchSize", params.batch_size),
        ("batchInterval", params.batch_interval),
        ("bufferSize", params.buffer_size),
        ("timeout", params.timeout),
        ("retryFor", params.retry_for),
    ):
        if value < 0:
            yield FieldError((field,), "must not be negative", "0 for the default")
    for name, secret in params.headers.items():
        if _NAME.fullmatch(name) is None or name.lower() in _RESERVED:
            yield FieldError(("headers", name), "not a header that can be set here")
        elif _VALUE.fullmatch(secret.get_secret_value()) is None:
            yield FieldError(("headers", name), "the value is no text of printable ASCII characters")


def plain_headers(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """The headers as they are sent: names in small letters, secrets disclosed."""
    return {name.lower(): secret.get_secret_value() for name, secret in headers.items()}


def is_web_address(url: str) -> bool:
    """Whether one can post to it: ``http`` or ``https``, and a host."""
    try:
        parts = URL(url)
        return parts.scheme in ("http", "https") and bool(parts.host)
    except ValueError:
        return False


def shown_address(url: str) -> str:
    """An address without what may be secret: user, password, query."""
    parts = URL(url)
    return str(parts.with_user(None).with_query(None).with_fragment(None)) if parts.host else url
