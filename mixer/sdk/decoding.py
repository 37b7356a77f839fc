"""Instances from the wire: the bytes of an InstanceMsg to the plain data that handlers get."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from mixer.adapters.loading import AdapterLoadError
from mixer.adapters.remote.answers import native, to_value
from mixer.adapters.remote.descriptors import (
    DYNAMIC_VALUE,
    MESSAGES,
    TemplateModel,
    WireVariety,
    is_map,
    message_class,
    pack_set,
    read_template,
)
from mixer.adapters.remote.standard import standard_descriptor
from mixer.attributes import AttributeValue, Duration, Timestamp
from mixer.store.resource import to_snake
from mixer.templates import TEMPLATES, Field, Template, Variety

NAME_FIELD: Final = 72295727


class UnknownTemplateError(AdapterLoadError):
    """An adapter takes a template that is neither compiled in nor made by `template_of`."""


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class DescribedTemplate(Template):
    """A template of an author's own, with its descriptor as resources hold it."""

    descriptor: str = ""


def descriptor_of(template: Template) -> str:
    """What the ``descriptor`` of a `template` resource says.

    Raises:
        UnknownTemplateError: Nobody knows.
    """
    if isinstance(template, DescribedTemplate):
        return template.descriptor
    if TEMPLATES.get(template.name) is not template:
        raise UnknownTemplateError(f"template {template.name!r} has no descriptor; make it with template_of")
    return standard_descriptor(template.name)


def template_of(descriptors: Path | bytes) -> Template:
    """A template of your own, from what ``protoc --include_imports --descriptor_set_out`` writes.

    Its instances are dataclasses with the fields of InstanceMsg, in snake case; values are those of attributes.

    Raises:
        ValueError: It is no template.
    """
    data = descriptors.read_bytes() if isinstance(descriptors, Path) else descriptors
    text = pack_set(FileDescriptorSet.FromString(data))
    model = read_template(text)
    variety = Variety(model.variety) if model.variety is not WireVariety.CHECK_WITH_OUTPUT else Variety.CHECK
    outputs = model.outputs if variety is Variety.ATTRIBUTE_GENERATOR else {}
    return DescribedTemplate(
        model.short_name.lower(), variety, _dataclass("Instance", model.instance), (), outputs, "output", text
    )


def _dataclass(name: str, descriptor: Descriptor) -> type[Any]:
    fields: list[Any] = [("name", str, "")] if NAME_FIELD in descriptor.fields_by_number else []
    for f in descriptor.fields:
        if f.number != NAME_FIELD:
            empty = list if f.is_repeated and not is_map(f) else dict if is_map(f) else None
            default = dataclasses.field(default_factory=empty) if empty else dataclasses.field(default=_zero(f))
            fields.append((to_snake(f.name), Any, default))
    return dataclasses.make_dataclass(name, fields, slots=True)


def _zero(f: FieldDescriptor) -> Any:
    return f.default_value if f.message_type is None else None


class InstanceReader:
    """Reads instances of one template."""

    def __init__(self, template: Template) -> None:
        self.model: Final[TemplateModel] = read_template(descriptor_of(template))
        self._parse = message_class(self.model.instance)
        self._convert = _converter(self.model.instance, template.instance_type, template.fields)

    def __call__(self, data: bytes) -> Any:
        """The instance that some bytes are.

        Raises:
            DecodeError: They are none.
        """
        message = self._parse()
        message.ParseFromString(data)
        return self._convert(message)


def _converter(descriptor: Descriptor, made: type[Any] | Callable[..., Any], fields: tuple[Field, ...]) -> Any:
    """A function from messages of a type to plain data; fields that are not set keep the default of their class."""
    messages = {field.name: field for field in fields if field.message is not None}
    plain: dict[str, tuple[str, Callable[[Any], Any]]] = {}
    for f in descriptor.fields:
        name = "name" if f.number == NAME_FIELD else to_snake(f.name)
        plain[f.name] = (name, _reader(f, messages.get(name)))
    named = NAME_FIELD in descriptor.fields_by_number

    def convert(message: Any) -> Any:
        arguments: dict[str, Any] = {"name": ""} if named else {}
        for f, value in message.ListFields():
            name, read = plain[f.name]
            arguments[name] = read(value)
        return made(**arguments)

    return convert


def _reader(f: FieldDescriptor, field: Field | None) -> Callable[[Any], Any]:
    if is_map(f):
        assert f.message_type is not None
        inner = _single(f.message_type.fields_by_name["value"], None)
        return lambda entries: {key: inner(entry) for key, entry in entries.items()}
    read = _single(f, field)
    return (lambda items: [read(item) for item in items]) if f.is_repeated else read


def _single(f: FieldDescriptor, field: Field | None) -> Callable[[Any], Any]:
    if f.message_type is None:
        return lambda value: value
    if f.message_type.full_name == DYNAMIC_VALUE or f.message_type.full_name in MESSAGES:
        return native
    if field is not None and field.message is not None:
        return _converter(f.message_type, field.message, field.fields)  # type: ignore[no-any-return]
    return _converter(f.message_type, _dataclass(f.message_type.name, f.message_type), ())  # type: ignore[no-any-return]


def output_writer(output: Descriptor) -> Callable[[Mapping[str, AttributeValue]], bytes]:
    """A function from the attributes that a generator gives to the bytes of an OutputMsg.

    It raises KeyError for an output that the message lacks, TypeError or ValueError for a value of another type.
    """
    parse = message_class(output)
    fields = MappingProxyType({to_snake(f.name): f for f in output.fields} | {f.name: f for f in output.fields})

    def write(values: Mapping[str, AttributeValue]) -> bytes:
        return parse(
            **{fields[name].name: _wire(fields[name], value) for name, value in values.items()}
        ).SerializeToString()

    return write


def _wire(f: FieldDescriptor, value: Any) -> Any:
    if is_map(f):
        return dict(value)
    if f.message_type is None:
        return value
    made: Any = message_class(f.message_type)
    full_name = f.message_type.full_name
    if full_name.startswith("google.protobuf."):
        message = made()
        message.FromNanoseconds(int(value))
        return message
    if full_name == DYNAMIC_VALUE:
        return made.FromString(to_value(value).SerializeToString())
    if isinstance(value, Duration | Timestamp):
        message = made()
        message.value.FromNanoseconds(int(value))
        return message
    return made(value=value)


__all__ = ["InstanceReader", "descriptor_of", "output_writer", "template_of"]
