"""Attributes in configuration: plain data to typed values.

Two forms are read. ``istio.mixer.v1.Attributes`` in protobuf's JSON names each value's type::

    {"attributes": {"destination.ip": {"bytesValue": "CgAAAQ=="}, "destination.port": {"int64Value": "80"}}}

A plain map takes the types of YAML: strings, booleans, whole numbers, floats, and maps of strings::

    {"destination.service.host": "cart.shop.svc.cluster.local", "destination.port": 80}

Times, spans and bytes have no type in YAML; only the first form can give them. A mapping whose one key is
``attributes`` and holds a mapping is the first form.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias

from google.protobuf.json_format import ParseDict, ParseError
from pydantic import BeforeValidator

from mixer.api.messages import Attributes
from mixer.attributes import AttributeValue, Duration, Timestamp
from mixer.store.protojson import bad_value, describe

AttributeValues: TypeAlias = Mapping[str, AttributeValue]
"""Attributes by name."""

NOTHING: Final[AttributeValues] = {}

_SECOND: Final = 10**9
_INT64: Final = range(-(1 << 63), 1 << 63)
_EXPECTED: Final = "a string, a boolean, a number or a map of strings"
_TYPED_FORM: Final = '{"attributes": {NAME: {"stringValue": ...}}}'


def read_attributes(data: Any) -> AttributeValues:
    """Attributes from either form; raises pydantic's error, which names the attribute."""
    if not isinstance(data, Mapping):
        raise bad_value(f"{describe(data)} is no set of attributes", f"a map of values by name, or {_TYPED_FORM}")
    if data.keys() == {"attributes"} and isinstance(data["attributes"], Mapping):
        try:
            return MappingProxyType(from_message(ParseDict(dict(data), Attributes())))
        except (ParseError, ValueError) as exc:
            raise bad_value(f"not istio.mixer.v1.Attributes: {exc}", _TYPED_FORM) from None
    return MappingProxyType({_name(name): _plain(name, value) for name, value in data.items()})


def from_message(message: Attributes) -> dict[str, AttributeValue]:
    """The values of a message; what has none is left out."""
    values: dict[str, AttributeValue] = {}
    for name, holder in message.attributes.items():
        kind = holder.WhichOneof("value")
        if kind == "timestamp_value":
            stamp = holder.timestamp_value
            values[name] = Timestamp(stamp.seconds * _SECOND + stamp.nanos)
        elif kind == "duration_value":
            span = holder.duration_value
            values[name] = Duration(span.seconds * _SECOND + span.nanos)
        elif kind == "string_map_value":
            values[name] = MappingProxyType(dict(holder.string_map_value.entries))
        elif kind is not None:
            values[name] = getattr(holder, kind)
    return values


def to_message(values: AttributeValues) -> Attributes:
    """The message that holds these values.

    Raises:
        ValueError: A value that the message cannot hold, such as a text that is not Unicode.
    """
    message = Attributes()
    for name, value in values.items():
        holder = message.attributes[name]
        if isinstance(value, str):
            holder.string_value = value
        elif isinstance(value, bool):
            holder.bool_value = value
        elif isinstance(value, Timestamp):
            holder.timestamp_value.seconds, holder.timestamp_value.nanos = divmod(int(value), _SECOND)
        elif isinstance(value, Duration):
            sign = -1 if value < 0 else 1
            seconds, nanos = divmod(abs(int(value)), _SECOND)
            holder.duration_value.seconds, holder.duration_value.nanos = sign * seconds, sign * nanos
        elif isinstance(value, int):
            holder.int64_value = value
        elif isinstance(value, float):
            holder.double_value = value
        elif isinstance(value, bytes):
            holder.bytes_value = value
        else:
            holder.string_map_value.entries.update(value)
    return message


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise bad_value(f"{name!r} is no attribute name", "a string")
    return name


def _plain(name: str, value: Any) -> AttributeValue:
    if isinstance(value, str | bool | float | bytes):
        return value
    if isinstance(value, int):
        if int(value) not in _INT64:
            raise bad_value(f"{name}: the number {value} does not fit 64 bits", _EXPECTED)
        return value
    if isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        return MappingProxyType(dict(value))
    raise bad_value(f"{name}: {describe(value)} is no attribute value", _EXPECTED)


AttributesField: TypeAlias = Annotated[AttributeValues, BeforeValidator(read_attributes)]
"""A field of a model that holds attributes in either form."""
