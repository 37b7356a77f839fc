"""From an instance of tracespan to a span of no particular backend, or to the reason why there is none.

Source: spec adapters 4.10, "Span construction" and "Local endpoint".
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from mixer.adapters.spans.ids import read_header, read_span_id, read_trace_id
from mixer.adapters.spans.ledger import Drop, Skip
from mixer.adapters.spans.params import Sampling, SpanParams
from mixer.attributes import Absent
from mixer.attributes.values import ZERO_TIME, stringify
from mixer.templates.tracespan import TraceSpanInstance

TagValue: TypeAlias = str | int | float | bool

UNNAMED_SERVICE: Final = "default"
_REWRITE: Final = 0x3F6A2EC3C810C2AB
_HALF: Final = (1 << 64) - 1
_END_OF_TIME_NS: Final = 1 << 63
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_PLAIN: Final = frozenset((int, float, bool))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a request; ``name`` and ``ip`` (4 or 16 bytes) are empty when unknown."""

    name: str
    ip: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """One side's view of one request.

    Attributes:
        trace_id: 128 bits, not 0.
        span_id: 64 bits, not 0.
        parent_id: 64 bits; 0 for a root.
        http_status: 0 when unknown.
        local: Who reports.
        remote: The other end.
        sizes: Bytes of the request's and the response's body, then of the request and the response in total;
            0 when unknown.
    """

    trace_id: int
    span_id: int
    parent_id: int
    name: str
    is_client: bool
    start_ns: int
    end_ns: int
    tags: Mapping[str, TagValue]
    http_status: int
    local: Endpoint
    remote: Endpoint
    sizes: tuple[int, int, int, int]
    protocol: str


class SpanMaker:
    """Makes spans of instances, and leaves out what the sampling leaves out."""

    def __init__(self, params: SpanParams) -> None:
        self._bound = int(params.sample_probability * (1 << 63))
        self._follow = params.sampling is Sampling.INCOMING
        self._disabled = not self._bound and not self._follow
        self._new_id = random.SystemRandom().getrandbits

    def make(self, instance: TraceSpanInstance) -> Span | Skip | Drop:
        """The span of an instance, or why it is none: left out on purpose (Skip) or faulty (Drop)."""
        if self._disabled:
            return Skip.UNSAMPLED
        text = instance.trace_id
        if not text:
            return Skip.UNTRACED
        header = read_header(text)
        trace_id = header.trace_id if header else read_trace_id(text)
        if not trace_id:
            return Skip.UNTRACED if text in _NO_CONTEXT or text.startswith("-") else Drop.BAD_ID
        if not self._sampled(trace_id, header.sampled if header else None):
            return Skip.UNSAMPLED
        parent_id = read_span_id(instance.parent_span_id, trace_id)
        shared_id = 0  # what both ends of the request know
        new = False
        if instance.span_id:
            shared_id = read_span_id(instance.span_id, trace_id)
        elif header:
            shared_id = header.span_id
            parent_id = parent_id or header.parent_id
            new = header.names_caller and parent_id == shared_id
        if not shared_id:
            return Drop.BAD_ID
        start_ns, end_ns = int(instance.start_time), int(instance.end_time)
        if instance.start_time == ZERO_TIME or not 0 <= start_ns <= end_ns < _END_OF_TIME_NS:
            return Drop.BAD_TIME
        span_id, parent_id = self._place(instance, shared_id, parent_id, new)
        source = Endpoint(_text(instance.source_name), _address(instance.source_ip))
        destination = Endpoint(_text(instance.destination_name), _address(instance.destination_ip))
        client = instance.client_span
        return Span(
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent_id,
            name=_text(instance.span_name),
            is_client=client,
            start_ns=start_ns,
            end_ns=end_ns,
            tags=_tags(instance.span_tags),
            http_status=max(instance.http_status_code, 0),
            local=source if client else destination,
            remote=destination if client else source,
            sizes=(
                max(instance.request_size, 0),
                max(instance.response_size, 0),
                max(instance.request_total_size, 0),
                max(instance.response_total_size, 0),
            ),
            protocol=_text(instance.api_protocol),
        )

    def _place(self, instance: TraceSpanInstance, shared_id: int, parent_id: int, new: bool) -> tuple[int, int]:
        """The span's own id and its parent's.

        Both ends report the id that they share. With rewriting, the client's span gets another one, which
        the server knows to be its parent.
        """
        span_id = shared_id
        rewritten = (shared_id ^ _REWRITE) or shared_id
        rewrite = instance.rewrite_client_span_id
        if rewrite and instance.client_span:
            span_id = rewritten
        elif new:
            span_id = self._new_id(64) or 1
        if rewrite and not instance.client_span:
            parent_id = rewritten
        return span_id, 0 if parent_id == span_id else parent_id

    def _sampled(self, trace_id: int, decision: bool | None) -> bool:
        if self._follow and decision is not None:
            return decision
        return is_sampled(trace_id, self._bound)


def is_sampled(trace_id: int, bound: int) -> bool:
    """Whether a trace is kept, by its id alone, so that all who see the trace agree.

    Ids of 64 bits are hashed; in the original, their empty upper half keeps them all.

    Args:
        trace_id: 128 bits.
        bound: The probability times 2^63.
    """
    key = trace_id >> 64
    if not key:
        digest = hashlib.blake2b((trace_id & _HALF).to_bytes(8, "big"), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
    return key >> 1 < bound


_NO_CONTEXT: Final = frozenset(("0", "1", "d"))
"""Values of the header b3 that carry a decision and no ids; one that is put together of nothing begins with a dash."""


def _tags(tags: Mapping[str, object]) -> dict[str, TagValue]:
    return {
        _text(key): value if type(value) in _PLAIN else _text(value if type(value) is str else stringify(value))  # type: ignore[misc]
        for key, value in tags.items()
        if not (value is None or isinstance(value, Absent))
    }


def _text(text: str) -> str:
    """The text itself, or what is left of one that has no encoding."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def _address(ip: bytes) -> bytes:
    """4 or 16 bytes; nothing for an unspecified address or what is none."""
    if len(ip) == 16 and ip.startswith(_V4_MAPPED):
        ip = ip[12:]
    return ip if len(ip) in (4, 16) and any(ip) else b""
