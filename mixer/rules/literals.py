"""Params without expressions: plain data onto a message that a resource describes, strictly.

Source: spec runtime 6.3.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from mixer.adapters.remote.descriptors import entry_of, is_map, message_class
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import describe
from mixer.store.resource import Path, to_camel

_RANGES: Final[Mapping[int, tuple[int, int]]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_LARGEST_FLOAT: Final = 3.4028235677973366e38
"""What still rounds to a number of 32 bits."""


def encode_params(descriptor: Descriptor, data: object) -> tuple[bytes, list[FieldError]]:
    """The bytes of the message that params stand for; every fault is reported, not only the first."""
    faults: list[FieldError] = []
    message = _message(descriptor, {} if data is None else data, descriptor.name, (), faults)
    if message is None or faults:
        return b"", faults
    return message.SerializeToString(deterministic=True), []


def _message(descriptor: Descriptor, data: object, owner: str, path: Path, faults: list[FieldError]) -> Message | None:
    special = _TEXTS.get(descriptor.full_name)
    if special is not None:
        return special(message_class(descriptor)(), data, path, faults)
    if not isinstance(data, Mapping):
        faults.append(FieldError(path, f"{describe(data)} cannot be read here", "a mapping"))
        return None
    known = {f.name: f for f in descriptor.fields}
    by_json = {f.json_name: f for f in descriptor.fields}
    found: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    for key, value in data.items():
        f = known.get(key) or by_json.get(key) or by_json.get(to_camel(str(key)))
        where = (*path, str(key))
        if f is None:
            close = difflib.get_close_matches(str(key), known, n=1)
            expected = close[0] if close else f"one of {', '.join(known)}" if known else "no fields here"
            faults.append(FieldError(where, f'unknown field "{key}" in {owner}', expected))
            continue
        if value is None:
            continue
        oneof = f.containing_oneof
        if f.name in found or (oneof is not None and oneof.name in chosen):
            other = f.name if oneof is None else chosen[oneof.name]
            faults.append(FieldError(where, f"{key} and {other} exclude each other", "one of them"))
            continue
        if oneof is not None:
            chosen[oneof.name] = str(key)
        found[f.name] = _field(f, value, owner, where, faults)
    if faults:
        return None
    try:
        return message_class(descriptor)(**found)
    except ValueError:  # a text with half of a character
        faults.append(FieldError(path, "a text in it cannot be encoded", "texts of Unicode characters"))
        return None


def _field(f: FieldDescriptor, value: Any, owner: str, path: Path, faults: list[FieldError]) -> Any:
    if is_map(f):
        if not isinstance(value, Mapping):
            faults.append(FieldError(path, f"{describe(value)} cannot be read here", "a mapping"))
            return None
        key_field, value_field = entry_of(f)
        entries = {}
        for key, item in value.items():
            where = (*path, str(key))
            constant, fault = map_key(key_field, key)
            if fault is not None:
                faults.append(fault.below(*where))
                continue
            entries[constant] = _single(value_field, item, f"{owner}.{f.name}", where, faults)
        return entries
    if f.is_repeated:
        if not isinstance(value, list | tuple):
            faults.append(FieldError(path, f"{describe(value)} cannot be read here", "a list"))
            return None
        return [_single(f, item, f"{owner}.{f.name}", (*path, i), faults) for i, item in enumerate(value)]
    return _single(f, value, f"{owner}.{f.name}", path, faults)


def _single(f: FieldDescriptor, value: Any, owner: str, path: Path, faults: list[FieldError]) -> Any:
    if f.message_type is not None:
        return _message(f.message_type, value, owner, path, faults)
    made, fault = scalar(f, value)
    if fault is not None:
        faults.append(fault.below(*path))
    return made


def map_key(f: FieldDescriptor, key: object) -> tuple[Any, FieldError | None]:
    """The key of a map's entry, which YAML may have read as a text or as a number."""
    if f.type == FieldDescriptor.TYPE_STRING:
        return (str(key).lower() if isinstance(key, bool) else str(key)), None
    if isinstance(key, str):
        if f.type == FieldDescriptor.TYPE_BOOL and key in ("true", "false"):
            return key == "true", None
        with contextlib.suppress(ValueError):
            key = int(key)
    return scalar(f, key)


def scalar(f: FieldDescriptor, value: Any) -> tuple[Any, FieldError | None]:
    """A constant for a field that holds no message, or what is wrong with it."""
    if f.enum_type is not None:
        return _enum(f.enum_type, value)
    if f.type == FieldDescriptor.TYPE_STRING:
        if isinstance(value, str):
            return value, None
        return "", _wrong(value, "a string (quote it)" if isinstance(value, bool | int | float) else "a string")
    if f.type == FieldDescriptor.TYPE_BYTES:
        return b"", FieldError((), "a field of bytes cannot be configured", "nothing")
    if f.type == FieldDescriptor.TYPE_BOOL:
        return (value, None) if isinstance(value, bool) else (False, _wrong(value, "true or false"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0, _wrong(value, "a number")
    limits = _RANGES.get(f.cpp_type)
    if limits is not None:
        if isinstance(value, float):
            if not value.is_integer():
                return 0, _wrong(value, "a whole number")
            value = int(value)
        low, high = limits
        return (value, None) if low <= value <= high else (0, FieldError((), "out of range", f"{low} to {high}"))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if f.cpp_type == FieldDescriptor.CPPTYPE_FLOAT and math.isfinite(number) and abs(number) > _LARGEST_FLOAT:
        return 0.0, FieldError((), "out of range", "a number that fits 32 bits")
    return number, None


def _enum(enum: EnumDescriptor, value: Any) -> tuple[int, FieldError | None]:
    numbers = {name: entry.number for name, entry in enum.values_by_name.items()}
    if isinstance(value, str) and value in numbers:
        return numbers[value], None
    if isinstance(value, int) and not isinstance(value, bool) and value in numbers.values():
        return value, None
    return 0, FieldError((), f"{describe(value)} is no value of {enum.name}", f"one of {', '.join(numbers)}")


def _wrong(value: object, expected: str) -> FieldError:
    return FieldError((), f"{describe(value)} cannot be read here", expected)


def _duration(message: Any, data: object, path: Path, faults: list[FieldError]) -> Message | None:
    try:
        if not isinstance(data, str):
            raise ValueError(f"{describe(data)} is not a duration")
        message.FromNanoseconds(int(Duration.parse(data)))
    except ValueError as exc:
        faults.append(FieldError(path, str(exc), 'a quoted duration such as "1m30s", "300ms" or "0"'))
        return None
    return message  # type: ignore[no-any-return]


def _instant(message: Any, data: object, path: Path, faults: list[FieldError]) -> Message | None:
    try:
        if isinstance(data, datetime.datetime):  # as YAML reads a text without quotes
            data = (data if data.tzinfo else data.replace(tzinfo=datetime.UTC)).isoformat()
        if not isinstance(data, str):
            raise ValueError(f"{describe(data)} is not an instant")
        message.FromJsonString(data)
    except ValueError as exc:
        faults.append(FieldError(path, str(exc), 'an instant such as "2026-01-31T12:00:00Z"'))
        return None
    return message  # type: ignore[no-any-return]


_TEXTS: Final[Mapping[str, Callable[[Any, object, Path, list[FieldError]], Message | None]]] = {
    "google.protobuf.Duration": _duration,
    "google.protobuf.Timestamp": _instant,
}
"""Messages that are written as texts."""
