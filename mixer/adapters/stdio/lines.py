"""From an instance to its line, as JSON or as columns of text.

The order of keys is part of the format, so objects are put together by hand. Source: spec adapters 4.3, "Output".
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple, TypeAlias

from mixer.attributes import Duration, Timestamp, ValueType
from mixer.attributes.values import format_double, format_ip

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
    instance = f',"instance":{_known(entry.instance)}' if entry.instance else ""
    fields = "".join([f",{_known(name)}:{value}" for name, value in entry.fields])
    return f'{{"level":"{entry.level}","time":"{entry.time.label()}"{instance}{fields}}}\n'


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
    plain = _PLAIN.get(value.__class__)
    if plain is not None:
        return plain(value)
    if isinstance(value, bytes):
        return f'"{format_ip(value) if declared is ValueType.IP_ADDRESS else base64.b64encode(value).decode()}"'
    if isinstance(value, Mapping):
        return "{" + ",".join([f"{quote(str(k))}:{quote(str(v))}" for k, v in sorted(value.items())]) + "}"
    return quote(str(value))


def quote(text: str) -> str:
    """A JSON string; characters beyond ASCII as they are, halves of surrogate pairs as U+FFFD."""
    quoted = encode_basestring(text)
    return quoted if quoted.isascii() else _SURROGATE.sub("\ufffd", quoted)


@functools.lru_cache(maxsize=4096)
def _known(name: str) -> str:
    """A name of the configuration as a JSON string; the same few come with every line."""
    return quote(name)


def _double(value: float) -> str:
    text = format_double(value)
    return text if text[-1].isdigit() else f'"{text}"'


_PLAIN: Final[Mapping[type, Callable[[Any], str]]] = {
    str: quote,
    type(None): lambda value: "null",
    bool: lambda value: "true" if value else "false",
    int: str,
    float: _double,
    Duration: lambda value: f'"{value}"',
    Timestamp: lambda value: f'"{value.label()}"',
}
"""The values that need nothing but their class to be written."""
