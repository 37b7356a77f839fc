"""Attributes that come as text: what Envoy can only send as strings gets the type that its name stands for.

A key is the name of an attribute. Names that Mixer's vocabulary knows have their type there; all others are strings.
``name:type`` states another type, ``name[key]`` is one entry of a string map; ``reporter.kind`` and its like stand for
``context.reporter.kind``. Context extensions of ``ext_authz``
and descriptor entries of the rate limit service are written so.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from mixer.attributes import AttributeValue, Duration, Timestamp
from mixer.attributes.values import parse_bool

_INT: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_DOUBLE: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_KEYED: Final = re.compile(r"([^\[\]]+)\[(.+)\]", re.DOTALL)


def _int64(text: str) -> int:
    if _INT.fullmatch(text) and -(1 << 63) <= (value := int(text)) < 1 << 63:
        return value
    raise ValueError(f"{text!r} is not a 64-bit number")


def _double(text: str) -> float:
    if len(text) <= 400 and _DOUBLE.fullmatch(text):
        return float(text)
    raise ValueError(f"{text!r} is not a number")


def _map(text: str) -> dict[str, str]:
    values = {}
    for piece in filter(None, text.split(";")):
        key, colon, value = piece.partition(":")
        if not colon:
            raise ValueError(f"{piece!r} has no colon; a map is written as key:value;key:value")
        values[key] = value
    return values


@lru_cache(maxsize=8192)  # the same peers come again
def ip_bytes(text: str) -> bytes:
    """An address as 4 or 16 bytes in network order.

    Raises:
        ValueError: It is none.
    """
    try:
        return socket.inet_pton(*((socket.AF_INET6, text.partition("%")[0]) if ":" in text else (socket.AF_INET, text)))
    except (OSError, ValueError) as exc:  # ValueError: a null character
        raise ValueError(f"{text!r} is not an IP address") from exc


TYPES: Final[Mapping[str, Callable[[str], AttributeValue]]] = MappingProxyType(
    {
        "string": str,
        "int64": _int64,
        "double": _double,
        "bool": parse_bool,
        "timestamp": Timestamp.parse,
        "duration": Duration.parse,
        "ip": ip_bytes,
        "map": _map,
    }
)
"""What may stand behind the colon of a key."""

WELL_KNOWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("origin.ip", "source.ip", "destination.ip"), "ip"),
        **dict.fromkeys(
            (
                "source.port", "destination.port", "request.size", "request.total_size", "response.code",
                "response.size", "response.total_size", "check.error_code", "connection.received.bytes",
                "connection.received.bytes_total", "connection.sent.bytes", "connection.sent.bytes_total",
            ),
            "int64",
        ),
        **dict.fromkeys(
            ("connection.mtls", "context.reporter.local", "check.cache_hit", "quota.cache_hit"), "bool"
        ),
        **dict.fromkeys(("request.time", "response.time", "context.time", "context.timestamp"), "timestamp"),
        **dict.fromkeys(("response.duration", "connection.duration"), "duration"),
        **dict.fromkeys(
            (
                "request.headers", "request.query_params", "request.auth.claims", "response.headers",
                "source.labels", "source.metadata", "destination.labels", "destination.metadata",
            ),
            "map",
        ),
    }
)  # fmt: skip
"""Types of the names in Mixer's vocabulary that are no strings; ``config/mesh`` declares the same."""

SHORT: Final[Mapping[str, str]] = MappingProxyType(
    {f"reporter.{name}": f"context.reporter.{name}" for name in ("kind", "local", "uid")}
)
"""Names that people write for others; there are no attributes of these names."""


def read_texts(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, AttributeValue], tuple[str, ...]]:
    """Attributes by name, and what is wrong with those that are left out; of one name twice the last counts."""
    values: dict[str, AttributeValue] = {}
    faults: list[str] = []
    for key, text in pairs:
        try:
            if key[-1:] == "]" and (keyed := _KEYED.fullmatch(key)):
                name = keyed[1]
                entries = values.get(name)
                values[name] = {**entries, keyed[2]: text} if isinstance(entries, Mapping) else {keyed[2]: text}
                continue
            name, _, kind = key.partition(":")
            name = SHORT.get(name, name)
            kind = kind or WELL_KNOWN.get(name, "string")
            if not name or kind not in TYPES:
                raise ValueError(f"an attribute name is expected, and after a colon one of {', '.join(TYPES)}")
            values[name] = TYPES[kind](text)
        except ValueError as exc:
            faults.append(f"{key}: {exc}")
    return values, tuple(faults)
