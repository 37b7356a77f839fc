"""What generated code calls: the slow halves of class checks, and the meaning of functions.

The fast half of a check (``value.__class__ is str``) stands in the generated code; these run only when it fails.

Source: spec language 3 and 5.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NoReturn

from mixer.attributes import ABSENT, Duration, Timestamp, TrackedMap
from mixer.attributes.values import format_double, wrap_int64
from mixer.errors import AttributeAbsentError, EvalError
from mixer.expr import netnames
from mixer.expr.regex import is_text, with_replacements

MAP_CLASSES: Final = frozenset({TrackedMap, dict, MappingProxyType})
"""The usual classes of string maps; others pass `as_map`."""

EMPTY_MAP: Final[Mapping[str, str]] = MappingProxyType({})


def generic_text(value: object) -> str:
    """The text of a value inside error messages, as Go's generic formatter prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Timestamp):
        day, _, clock = str(value)[:-1].partition("T")
        return f"{day} {clock} +0000 UTC"
    if isinstance(value, float):
        return _generic_double(value)
    if isinstance(value, bytes):
        return f"[{' '.join(map(str, value))}]"
    if isinstance(value, TrackedMap):
        value = value.untracked()
    if isinstance(value, Mapping):
        return f"stringmap[{' '.join(f'{k}:{v}' for k, v in sorted(value.items()))}]"
    return str(value)


def _generic_double(value: float) -> str:
    """The shortest digits that say it, with an exponent when that is below -4 or above 5."""
    if value == 0 or 1e-4 <= abs(value) < 1e6 or value - value != 0:
        return format_double(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, rest = digits[0], "".join(map(str, digits[1:]))
    return f"{'-' if sign else ''}{first}{'.' if rest else ''}{rest}e{int(exponent) + len(rest):+03d}"


def absent(name: str) -> NoReturn:
    """An attribute is needed and not there."""
    raise AttributeAbsentError(name)


def _refuse(value: object, wanted: str, name: str) -> NoReturn:
    if value is ABSENT:
        raise AttributeAbsentError(name)
    if isinstance(value, TrackedMap):
        value = value.whole()  # the error says all of it
    raise EvalError(f"error converting value to {wanted}: '{generic_text(value)}'")


def as_string(value: object, name: str = "") -> str:
    """A text, from a value whose class is not exactly ``str``; ``name`` is the attribute, should it be absent."""
    return value if isinstance(value, str) else _refuse(value, "string", name)


def as_double(value: object, name: str = "") -> float:
    """A float, likewise."""
    return value if isinstance(value, float) else _refuse(value, "double", name)


def as_bool(value: object, name: str = "") -> bool:
    """A truth value, likewise; nothing but a bool is one."""
    return _refuse(value, "bool", name)


def as_int(value: object, name: str = "") -> int:
    """An integer, likewise; a duration counts as its nanoseconds."""
    return int(value) if isinstance(value, Duration) else _refuse(value, "integer or duration", name)


def as_duration(value: object, name: str = "") -> Duration:
    """A duration, likewise; an integer counts as nanoseconds."""
    if type(value) is int:
        return Duration(value)
    return _refuse(value, "integer or duration", name)


def as_timestamp(value: object, name: str = "") -> Timestamp:
    """An instant, likewise."""
    return value if isinstance(value, Timestamp) else _refuse(value, "timestamp", name)


def as_ip(value: object, name: str = "") -> bytes:
    """The bytes of an address, likewise."""
    return value if isinstance(value, bytes) else _refuse(value, "IP address", name)


class _NoMap:
    """Stands for a value that should have been a map, up to the lookup in it."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def get(self, key: str, default: object = None, /) -> NoReturn:
        _refuse(self._value, "string map", "")


def as_map(value: object, name: str = "") -> Mapping[str, str] | _NoMap:
    """A string map, likewise; for anything else an object that refuses lookups, since only these are errors."""
    if value is ABSENT:
        raise AttributeAbsentError(name)
    return value if isinstance(value, Mapping) else _NoMap(value)


# Comparison


def bad_instants(left: object, right: object) -> NoReturn:
    """A comparison of instants that found something else."""
    as_timestamp(left)
    as_timestamp(right)
    raise AssertionError("called with two timestamps")


def ips_equal(left: object, right: object) -> bool:
    """Equality of addresses; IPv4 equals its v4-mapped form."""
    return netnames.ips_equal(*_both_ips(left, right))


def ip_keys(left: object, right: object) -> tuple[bytes, bytes]:
    """Two addresses in a form whose byte order is the order of addresses."""
    a, b = _both_ips(left, right)
    return _wide(a), _wide(b)


def _both_ips(left: object, right: object) -> tuple[bytes, bytes]:
    return as_ip(left), as_ip(right)


def _wide(address: bytes) -> bytes:
    return b"\0\0\0\0\0\0\0\0\0\0\xff\xff" + address if len(address) == 4 else address


def maps_equal(left: object, right: object) -> bool:
    """Equality of content; the answer depends on all of both maps, and is recorded as such."""
    a, b = _whole(left), _whole(right)
    return a == b


def _whole(value: object) -> dict[str, str]:
    if isinstance(value, TrackedMap):
        return dict(value.whole())
    return dict(value) if isinstance(value, Mapping) else _refuse(value, "string map", "")


def as_bytes(text: str) -> bytes:
    """The bytes of a text, those that are not UTF-8 included."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a UTF-16 pair, which no wire brings but JSON can
        return text.encode("utf-8", "surrogatepass")


# Arithmetic


def add_ints(*values: int) -> int:
    """A sum that wraps at 64 bits."""
    return wrap_int64(sum(values))


def add_durations(*values: Duration) -> Duration:
    """A sum that wraps at 64 bits."""
    return Duration(wrap_int64(sum(values)))


def add_doubles(*values: float) -> float:
    """A sum from left to right, rounded at each step."""
    total = values[0]
    for value in values[1:]:
        total += value
    return total


def join_raw(*values: str) -> str:
    """Concatenation where bytes of several pieces may become one character."""
    return b"".join(map(as_bytes, values)).decode("utf-8", "surrogateescape")


# Functions


def size(text: str) -> int:
    """The length in bytes of UTF-8."""
    return len(text) if text.isascii() else len(as_bytes(text))


def match(text: str, pattern: str) -> bool:
    """Whether the text equals the pattern, or has the prefix or suffix that the pattern's star leaves open."""
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return text.endswith(pattern[1:])
    return text == pattern


def match_raw(text: str, pattern: str) -> bool:
    """`match`, by bytes."""
    if pattern.endswith("*"):
        return starts_with_raw(text, pattern[:-1])
    if pattern.startswith("*"):
        return ends_with_raw(text, pattern[1:])
    return text == pattern


def starts_with_raw(text: str, prefix: str) -> bool:
    """Prefix, by bytes."""
    return as_bytes(text).startswith(as_bytes(prefix))


def ends_with_raw(text: str, suffix: str) -> bool:
    """Suffix, by bytes."""
    return as_bytes(text).endswith(as_bytes(suffix))


def to_lower(text: str) -> str:
    """Each character's simple lower case, regardless of its neighbours."""
    if text.isascii():
        return text.lower()
    if not is_text(text):
        text = with_replacements(text)
    return "".join([char.lower()[0] for char in text])


def choose(condition: bool, yes: str, no: str) -> str:
    """One of two values, both of them evaluated."""
    return yes if condition else no
