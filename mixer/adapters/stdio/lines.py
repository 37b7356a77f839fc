"""From an instance to its line, as JSON or as columns of text.

The order of keys is part of the format, so objects are put together by hand. Source: spec adapters 4.3, "Output".
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from mixer.attributes import Duration, Timestamp, ValueType
from mixer.attributes.values import format_double, format_ip

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Entry(NamedTuple):
    """What one line says.

    Attributes:
        level: The text of the level.
        fields: Name -> value already in JSON, in the order of the line.
    """

    level: str
    time: Timestamp
    instance: str
    fields: list[tuple[str, str]]


FieldTypes: TypeAlias = Mapping[str, ValueType]
"""The fields that an instance is known to have, sorted by name, and what their expressions evaluate to."""


def json_line(entry: Entry) -> str:
    """One compact JSON object: level, time, instance if it has a name, the fields."""
    head = [("level", f'"{entry.level}"'), ("time", f'"{entry.time.label()}"')]
    if entry.instance:
        head.append(("instance", quote(entry.instance)))
    return "{" + ",".join([f"{quote(name)}:{value}" for name, value in (*head, *entry.fields)]) + "}\n"


def console_line(entry: Entry) -> str:
    """Time, level and instance between tabs, then the fields, if there are any, as an airy JSON object."""
    columns = [entry.time.label(), entry.level]
    if entry.instance:
        columns.append(_SURROGATE.sub("\ufffd", entry.instance))
    if entry.fields:
        columns.append("{" + ", ".join([f"{quote(name)}: {value}" for name, value in entry.fields]) + "}")
    return "\t".join(columns) + "\n"


def present_fields(values: Mapping[str, Any], types: FieldTypes) -> list[tuple[str, str]]:
    """The known fields that an instance has, in the order of the types."""
    return [(name, to_json(values[name], types[name])) for name in types if name in values]


def all_fields(values: Mapping[str, Any], types: FieldTypes) -> list[tuple[str, str]]:
    """The known fields of an instance in the order of the types, null for those that it lacks."""
    return [(name, to_json(values.get(name), types[name])) for name in types]


def untyped(names: Iterable[str]) -> FieldTypes:
    """Types for the fields of an instance that nothing is known of: all that it has, with no declared type."""
    return dict.fromkeys(sorted(names), ValueType.VALUE_TYPE_UNSPECIFIED)


def to_json(value: object, declared: ValueType) -> str:
    """A value as compact JSON.

    Durations and times are texts, maps are objects, NaN and infinities are texts, bytes are Base64 unless they
    are declared to be an address.
    """
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Duration):
        return f'"{value}"'
    if isinstance(value, Timestamp):
        return f'"{value.label()}"'
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = format_double(value)
        return text if text[-1].isdigit() else f'"{text}"'
    if isinstance(value, bytes):
        return f'"{format_ip(value) if declared is ValueType.IP_ADDRESS else base64.b64encode(value).decode()}"'
    if isinstance(value, Mapping):
        return "{" + ",".join([f"{quote(str(k))}:{quote(str(v))}" for k, v in sorted(value.items())]) + "}"
    return quote(str(value))


def quote(text: str) -> str:
    """A JSON string; characters beyond ASCII as they are, halves of surrogate pairs as U+FFFD."""
    quoted = _ENCODER.encode(text)
    return quoted if quoted.isascii() else _SURROGATE.sub("\ufffd", quoted)
