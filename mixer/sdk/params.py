"""A model of params as a protobuf message: what an `adapter` resource declares, and what comes over the wire.

Fields get their numbers in the order of declaration, so a new field belongs at the end of its model.
"""

from __future__ import annotations

import base64
import enum
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Union, get_args, get_origin

from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import DESCRIPTOR as DURATION_FILE
from google.protobuf.message import Message
from pydantic import BaseModel, SecretStr

from mixer.adapters.base import Params
from mixer.adapters.loading import AdapterLoadError
from mixer.adapters.remote.descriptors import entry_of, is_map, load_pool, message_class
from mixer.attributes import Duration

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final[Mapping[type, int]] = {
    str: _FIELD.TYPE_STRING,
    SecretStr: _FIELD.TYPE_STRING,
    bool: _FIELD.TYPE_BOOL,
    int: _FIELD.TYPE_INT64,
    float: _FIELD.TYPE_DOUBLE,
}


class ParamsModelError(AdapterLoadError):
    """A model of params has a field that no message can have; an error of the adapter's author."""


class ParamsCodec:
    """A model as a message type: ``descriptor`` for the resource, `encode` and `decode` for the wire."""

    def __init__(self, name: str, model: type[Params]) -> None:
        self.package = name.replace("-", "_")
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{self.package}/params.proto",
            package=self.package,
            syntax="proto3",
            dependency=[DURATION_FILE.name],
        )
        _declare(file.message_type.add(name="Params"), model, f".{self.package}.Params", file)
        duration = descriptor_pb2.FileDescriptorProto.FromString(DURATION_FILE.serialized_pb)
        described = descriptor_pb2.FileDescriptorSet(file=[duration, file])
        self.descriptor = base64.b64encode(described.SerializeToString(deterministic=True)).decode("ascii")
        """What the ``config`` of an `adapter` resource says."""
        self._type = load_pool(described.file).FindMessageTypeByName(f"{self.package}.Params")
        self._class: Callable[[], Message] = message_class(self._type)

    def decode(self, data: bytes) -> dict[str, Any]:
        """Plain data for the model; what the message does not set keeps the model's default.

        Raises:
            DecodeError: The bytes are no such message.
        """
        message = self._class()
        message.ParseFromString(data)
        return _plain(message)

    def encode(self, params: Mapping[str, Any]) -> bytes:
        """The bytes of plain data, for tests.

        Raises:
            ParseError: The data does not fit.
        """
        return json_format.ParseDict(dict(params), self._class()).SerializeToString(deterministic=True)


def _declare(
    message: descriptor_pb2.DescriptorProto,
    model: type[BaseModel],
    path: str,
    file: descriptor_pb2.FileDescriptorProto,
) -> None:
    """Add the fields of a model to a message; every one of them knows whether it is set."""
    for number, (name, field) in enumerate(model.model_fields.items(), start=1):
        made = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
        outer = _without_none(field.annotation)
        origin = get_origin(outer)
        if origin in (list, tuple, Sequence):
            made.label = _FIELD.LABEL_REPEATED
            _type(made, _without_none(get_args(outer)[0]), model, message, path, file)
        elif origin in (dict, Mapping):
            _declare_map(made, get_args(outer), model, message, path, file)
        else:
            _type(made, outer, model, message, path, file)
            if made.type != _FIELD.TYPE_MESSAGE:
                made.proto3_optional = True
    for made in message.field:
        if made.proto3_optional:  # the way protoc says so
            made.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{made.name}")


def _declare_map(
    made: descriptor_pb2.FieldDescriptorProto,
    arguments: tuple[Any, ...],
    model: type[BaseModel],
    message: descriptor_pb2.DescriptorProto,
    path: str,
    file: descriptor_pb2.FileDescriptorProto,
) -> None:
    name = f"{''.join(part.capitalize() for part in made.name.split('_'))}Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    for number, (part, annotation) in enumerate(zip(("key", "value"), arguments, strict=True), start=1):
        field = entry.field.add(name=part, number=number, label=_FIELD.LABEL_OPTIONAL)
        _type(field, _without_none(annotation), model, message, path, file)
    made.label, made.type, made.type_name = _FIELD.LABEL_REPEATED, _FIELD.TYPE_MESSAGE, f"{path}.{name}"


def _type(
    made: descriptor_pb2.FieldDescriptorProto,
    annotation: Any,
    model: type[BaseModel],
    message: descriptor_pb2.DescriptorProto,
    path: str,
    file: descriptor_pb2.FileDescriptorProto,
) -> None:
    annotation = _plain_type(annotation)
    scalar = _SCALARS.get(annotation)
    if scalar is not None:
        made.type = scalar  # type: ignore[assignment]
    elif annotation is Duration:
        made.type, made.type_name = _FIELD.TYPE_MESSAGE, ".google.protobuf.Duration"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if all(nested.name != annotation.__name__ for nested in message.nested_type):
            nested = message.nested_type.add(name=annotation.__name__)
            _declare(nested, annotation, f"{path}.{annotation.__name__}", file)
        made.type, made.type_name = _FIELD.TYPE_MESSAGE, f"{path}.{annotation.__name__}"
    elif isinstance(annotation, type) and issubclass(annotation, enum.IntEnum):
        if all(known.name != annotation.__name__ for known in message.enum_type):
            declared = message.enum_type.add(name=annotation.__name__)
            for member in sorted(annotation, key=lambda member: (member != 0, member)):
                declared.value.add(name=member.name, number=member.value)
        made.type, made.type_name = _FIELD.TYPE_ENUM, f"{path}.{annotation.__name__}"
    else:
        raise ParamsModelError(
            f"{model.__name__}.{made.name}: {annotation!r} has no form as protobuf; use str, bool, int, float, "
            "DurationField, an enum_field, a model, or a list or dict of these"
        )


def _without_none(annotation: Any) -> Any:
    annotation = _plain_type(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        others = [part for part in get_args(annotation) if part is not type(None)]
        if len(others) == 1:
            return _plain_type(others[0])
    return annotation


def _plain_type(annotation: Any) -> Any:
    """The type behind Annotated, which pydantic leaves inside of lists and unions."""
    return annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation


def _plain(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if is_map(field):
            _, kind = entry_of(field)
            found[field.name] = {key: _value(kind, item) for key, item in value.items()}
        elif field.is_repeated:
            found[field.name] = [_value(field, item) for item in value]
        else:
            found[field.name] = _value(field, value)
    return found


def _value(field: FieldDescriptor, value: Any) -> Any:
    kind: Descriptor | None = field.message_type
    if kind is None:
        return value
    return str(Duration(value.ToNanoseconds())) if kind.full_name == "google.protobuf.Duration" else _plain(value)
