"""Ids of traces and spans as text: plain hexadecimal, B3's single header, W3C's ``traceparent``.

An expression cannot take a header apart, so a field of an instance may hold all of it.
Source: spec adapters 4.10, spec envoy 7; W3C Trace Context level 2; B3 propagation, "Single Header".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header.

    Attributes:
        parent_id: 0 when the header does not say.
        sampled: What whoever started the trace decided; None when it left that open.
        names_caller: The span is the caller's (W3C) and not the one that both ends share (B3).
    """

    trace_id: int
    span_id: int
    parent_id: int
    sampled: bool | None
    names_caller: bool


_W3C: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_B3: Final = re.compile(
    r"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-(0|1|d|true|false)(?:-([0-9a-f]{16}))?)?", re.ASCII | re.IGNORECASE
)
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII | re.IGNORECASE)
_SAMPLED: Final = {"1": True, "d": True, "true": True, "0": False, "false": False}
_TRACE_DIGITS: Final = 32
_SPAN_DIGITS: Final = 16


def read_header(text: str) -> Header | None:
    """A whole header, or None when the text is none, or one whose ids are zero."""
    header = None
    if match := _W3C.fullmatch(text):
        version, trace, span, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest):
            return None
        header = Header(int(trace, 16), int(span, 16), 0, bool(int(flags, 16) & 1), names_caller=True)
    elif match := _B3.fullmatch(text):
        trace, span, decision, parent = match.groups()
        sampled = _SAMPLED[decision.lower()] if decision else None
        header = Header(int(trace, 16), int(span, 16), int(parent or "0", 16), sampled, names_caller=False)
    return header if header and header.trace_id and header.span_id else None


def read_trace_id(text: str) -> int:
    """The 128 bits of a trace id: 1 to 16 bytes in hexadecimal; 0 when it is none."""
    return _read_hex(text, _TRACE_DIGITS)


def read_span_id(text: str, trace_id: int) -> int:
    """The 64 bits of a span's id: 1 to 8 bytes in hexadecimal, or the span that a whole header names.

    0 when it is none, or a header of another trace: proxies pass on what they do not understand.
    """
    if len(text) > _SPAN_DIGITS:
        header = read_header(text)
        return header.span_id if header and header.trace_id == trace_id else 0
    return _read_hex(text, _SPAN_DIGITS)


def _read_hex(text: str, digits: int) -> int:
    if not 0 < len(text) <= digits or _HEX.fullmatch(text) is None:
        return 0
    return int(text, 16)
