"""Inferred types of an instance as the message ``Type`` of its template, and back. Source: spec runtime 6.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mixer.adapters.remote.descriptors import TemplateModel, is_map, message_class
from mixer.attributes import ValueType
from mixer.templates import InferredTypes


def type_message(model: TemplateModel, types: InferredTypes) -> AnyMessage:
    """The types, packed; of what the template's ``Type`` has no field for, nothing."""
    data = b""
    if model.type is not None:
        message = message_class(model.type)()
        _fill(message, types, "")
        data = message.SerializeToString(deterministic=True)
    return AnyMessage(type_url=f"type.googleapis.com/{model.package}.Type", value=data)


def _fill(message: Any, types: InferredTypes, prefix: str) -> None:
    for field in message.DESCRIPTOR.fields:
        kind = types.get(prefix + field.name)
        if is_map(field):
            if isinstance(kind, Mapping):
                getattr(message, field.name).update({key: int(value) for key, value in kind.items()})
        elif field.message_type is not None:
            inner = f"{prefix}{field.name}."
            if any(name.startswith(inner) for name in types):
                _fill(getattr(message, field.name), types, inner)
        elif isinstance(kind, ValueType):
            setattr(message, field.name, int(kind))


def read_types(model: TemplateModel, packed: AnyMessage) -> InferredTypes:
    """The types that such a message holds.

    Raises:
        DecodeError: It holds none.
    """
    if model.type is None:
        return {}
    message = message_class(model.type)()
    message.ParseFromString(packed.value)
    found: dict[str, ValueType | Mapping[str, ValueType]] = {}
    _read(message, model.type, "", found)
    return found


def _read(
    message: Message, descriptor: Descriptor, prefix: str, found: dict[str, ValueType | Mapping[str, ValueType]]
) -> None:
    for field in descriptor.fields:
        value: Any = getattr(message, field.name)
        if is_map(field):
            found[prefix + field.name] = {key: ValueType(kind) for key, kind in value.items()}
        elif field.message_type is not None:
            _read(value, field.message_type, f"{prefix}{field.name}.", found)
        else:
            found[prefix + field.name] = ValueType(value)
