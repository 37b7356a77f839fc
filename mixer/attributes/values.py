"""Attribute values: their types, the two that Python lacks, and their one text form.

Instants and spans are integers of nanoseconds with a class of their own: Python's ``datetime`` and
``timedelta`` stop at microseconds, and integer comparison is as cheap as it gets on the request path.

Source: spec language 2.1 and 2.3, spec adapters 1.5.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Final, TypeAlias


class ValueType(enum.IntEnum):
    """What a manifest declares an attribute to be. Source: ``istio.policy.v1beta1.ValueType``."""

    VALUE_TYPE_UNSPECIFIED = 0
    STRING = 1
    INT64 = 2
    DOUBLE = 3
    BOOL = 4
    TIMESTAMP = 5
    IP_ADDRESS = 6
    EMAIL_ADDRESS = 7
    URI = 8
    DNS_NAME = 9
    DURATION = 10
    STRING_MAP = 11


class Absent(enum.Enum):
    """The type of `ABSENT`, the token for "the bag has no such attribute"; never None."""

    ABSENT = "absent"

    def __bool__(self) -> bool:
        return False

    __hash__ = object.__hash__  # an enum's own is written in Python, and ABSENT is part of keys on the request path


ABSENT: Final = Absent.ABSENT

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
}
_DURATION_PART = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def wrap_int64(value: int) -> int:
    """``value`` modulo 2^64, as the signed number that 64 bits hold."""
    return ((value + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


class Duration(int):
    """A span of nanoseconds in 64 signed bits; prints as Go prints it (``1m30s``, ``20ms``)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read Go's duration text.

        Raises:
            ValueError: The text is not a duration, or does not fit 64 bits of nanoseconds.
        Source: spec language 1.4.
        """
        body = text[1:] if text[:1] in ("+", "-") else text
        if body == "0":
            return cls(0)
        if not body:
            raise ValueError(f"invalid duration {text!r}")
        total = position = 0
        while position < len(body):
            part = _DURATION_PART.match(body, position)
            if part is None or not (part[1] or part[3]):
                raise ValueError(f"invalid duration {text!r}")
            unit = _UNITS[part[4]]
            whole = part[1].lstrip("0")
            if len(whole) > 19:  # also keeps int() away from texts of thousands of digits
                raise ValueError(f"duration {text!r} does not fit 64 bits")
            total += int(whole or "0") * unit
            if part[3]:
                total += _fraction(part[3], unit)
            position = part.end()
            if total > _INT64_MAX:
                raise ValueError(f"duration {text!r} does not fit 64 bits")
        return cls(-total if text[0] == "-" else total)

    @classmethod
    def from_seconds(cls, seconds: float) -> Duration:
        """The span of that many seconds, truncated to nanoseconds."""
        return cls(int(seconds * _SECOND))

    @property
    def seconds(self) -> float:
        """The span in seconds."""
        return int(self) / _SECOND

    def __str__(self) -> str:
        ns = int(self)
        sign, ns = ("-", -ns) if ns < 0 else ("", ns)
        if ns == 0:
            return "0s"
        if ns < 1_000:
            return f"{sign}{ns}ns"
        if ns < 1_000_000:
            return f"{sign}{_decimal(ns, 1_000)}µs"
        if ns < _SECOND:
            return f"{sign}{_decimal(ns, 1_000_000)}ms"
        minutes, rest = divmod(ns, 60 * _SECOND)
        hours, minutes = divmod(minutes, 60)
        head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{head}{_decimal(rest, _SECOND)}s"

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


def _fraction(digits: str, unit: int) -> int:
    """Nanoseconds of the digits after the point, in the floating-point arithmetic of Go's library."""
    value, scale = 0, 1.0
    for digit in digits:
        if value > _INT64_MAX // 10 or value * 10 + int(digit) > 1 << 63:
            break  # what follows cannot matter
        value = value * 10 + int(digit)
        scale *= 10
    return int(float(value) * (unit / scale))


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{str(rest).zfill(len(str(unit)) - 1).rstrip('0')}" if rest else str(whole)


# Go's layout 2006-01-02T15:04:05Z07:00; the hour alone may have one digit.
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Timestamp(int):
    """An instant, as nanoseconds since 1970-01-01T00:00:00Z; any year, prints as RFC 3339 UTC."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Timestamp:
        """Read RFC 3339 text (upper-case ``T`` and ``Z``, a zone, fractions kept to nanoseconds).

        Raises:
            ValueError: The text is not of that form, names a day or time that does not exist, or has a fraction
                of more than nine digits after its leading zeros.
        Source: spec language 3.7 and Appendix D.
        """
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an RFC 3339 time")
        year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        days = 29 if month == 2 and leap else _MONTH_DAYS[month - 1] if 1 <= month <= 12 else 0
        if not 1 <= day <= days or hour > 23 or minute > 59 or second > 59:
            raise ValueError(f"{text!r} names a time that does not exist")
        fraction = match[7] or "0"
        if len(fraction) > 9 and int(fraction) >= _SECOND:  # the original scales an integer, and only up to here
            raise ValueError(f"{text!r} has a fraction of too many digits")
        nanos = int(fraction[:9].ljust(9, "0"))
        zone = match[8]
        offset_s = 0 if zone == "Z" else (int(zone[1:3]) * 60 + int(zone[4:6])) * (-60 if zone[0] == "-" else 60)
        seconds = _days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_s
        return cls(seconds * _SECOND + nanos)

    def _civil(self) -> tuple[str, int]:
        seconds, nanos = divmod(int(self), _SECOND)
        return _civil_text(seconds), nanos

    def __str__(self) -> str:
        text, nanos = self._civil()
        return f"{text}.{str(nanos).zfill(9).rstrip('0')}Z" if nanos else f"{text}Z"

    def label(self) -> str:
        """The text for labels and logs: six fractional digits, truncated."""
        text, nanos = self._civil()
        return f"{text}.{nanos // 1000:06d}Z"

    def __repr__(self) -> str:
        return f"Timestamp({str(self)!r})"


@functools.lru_cache(maxsize=1024)  # what is logged together happened at about the same time
def _civil_text(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    year, month, day = _civil_from_days(days)
    return f"{year:04d}-{month:02d}-{day:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, any year."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def _civil_from_days(days: int) -> tuple[int, int, int]:
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    index = (5 * day_of_year + 2) // 153
    month = index + 3 if index < 10 else index - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * index + 2) // 5 + 1


ZERO_TIME: Final = Timestamp(_days_from_civil(1, 1, 1) * _DAY)
"""The zero instant 0001-01-01T00:00:00Z: what an unset time field of an instance holds."""

AttributeValue: TypeAlias = str | int | float | bool | bytes | Timestamp | Duration | Mapping[str, str]
"""Any value that a bag holds; the type of the Python object says which."""


def format_ip(address: bytes) -> str:
    """The text of 4 or 16 address bytes; v4-mapped prints as dotted quad, other lengths as ``?`` and hex."""
    if len(address) == 16 and address.startswith(_V4_MAPPED):
        address = address[12:]
    if len(address) == 4:
        return "{}.{}.{}.{}".format(*address)
    if len(address) == 16:
        return str(ipaddress.IPv6Address(address))
    return f"?{address.hex()}" if address else "<nil>"


_V4_MAPPED: Final = bytes(10) + b"\xff\xff"


def format_double(value: float) -> str:
    """Shortest digits that read back as ``value``, never with an exponent; ``NaN``, ``+Inf``, ``-Inf``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" in text:
        digits, exponent = text.split("e")
        sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
        whole, _, fraction = digits.partition(".")
        point = len(whole) + int(exponent)
        all_digits = whole + fraction
        if point <= 0:
            return f"{sign}0.{'0' * -point}{all_digits}"
        return f"{sign}{all_digits.ljust(point, '0')[:point]}" + (
            f".{all_digits[point:]}" if len(all_digits) > point else ""
        )
    return text[:-2] if text.endswith(".0") else text


def stringify(value: object) -> str:
    """The one text of a value for labels, tags and keys; None and ABSENT are empty.

    Source: spec language 2.3; string maps print as sorted ``k=v`` joined by ``&`` (spec adapters 1.5).
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, Timestamp):
        return value.label()
    if isinstance(value, float):
        return format_double(value)
    if isinstance(value, bytes):
        return format_ip(value)
    if isinstance(value, Mapping):
        return "&".join(f"{k}={v}" for k, v in sorted(value.items()))
    return str(value)


_GO_BOOLS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def parse_bool(text: str) -> bool:
    """Read Go's spellings of a truth value; anything else is a ValueError."""
    try:
        return _GO_BOOLS[text]
    except KeyError:
        raise ValueError(f"{text!r} is not a boolean") from None


def parse_ip(text: str) -> bytes:
    """The 4 or 16 bytes of an address without zone, port or mask; raises ValueError."""
    if "%" in text:
        raise ValueError(f"{text!r} is not an IP address")
    if ":" not in text:
        return _parse_ipv4(text)
    head, _, tail = text.rpartition(":")
    if "." in tail:
        embedded = _parse_ipv4(tail).hex()
        text = f"{head}:{embedded[:4]}:{embedded[4:]}"
    return ipaddress.IPv6Address(_LEADING_ZEROS.sub("", text)).packed


_LEADING_ZEROS: Final = re.compile(r"(?<![0-9A-Fa-f])0+(?=[0-9A-Fa-f])")


def _parse_ipv4(text: str) -> bytes:
    # Leading zeros are decimal, as in the original's library, where Python refuses them.
    parts = text.split(".")
    if len(parts) == 4 and all(p.isascii() and p.isdigit() and int(p) <= 255 for p in parts):
        return bytes(int(p) for p in parts)
    raise ValueError(f"{text!r} is not an IP address")


def string_equals(left: object, right: object) -> bool:
    """Whether two values are the same, a text being read as the type of the other.

    Used where configuration names a value as text (quota overrides). None and ABSENT equal ``""`` only.
    Source: spec adapters 1.5.
    """
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if isinstance(left, str):
        left, right = right, left
    if not isinstance(right, str):
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            return dict(left) == dict(right)
        return type(left) is type(right) and left == right
    if left is None or left is ABSENT:
        return right == ""
    try:
        return _equals_text(left, right)
    except ValueError:
        return False


_FLOAT: Final = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE
)


def _equals_text(value: object, text: str) -> bool:
    if isinstance(value, bool):
        return value == parse_bool(text)
    if isinstance(value, Duration):
        return value == Duration.parse(text)
    if isinstance(value, Timestamp):
        return value == Timestamp.parse(text)
    if isinstance(value, int):
        return re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII) is not None and value == int(text)
    if isinstance(value, float):
        return _FLOAT.fullmatch(text) is not None and value == float(text)
    if isinstance(value, bytes):
        return format_ip(value) == text
    if isinstance(value, Mapping):
        pairs = [piece.split("=") for piece in text.split("&")]
        return dict(value) == {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    return str(value) == text
