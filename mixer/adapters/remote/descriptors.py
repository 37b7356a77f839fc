"""What `template` and `adapter` resources describe: message types in a pool of their own, and how to call for them.

Two resources may describe different messages under one name, and neither is ours to trust, so nothing of this
enters the process' own pool. Reading is remembered by content: reloads repeat it.

Source: spec runtime 3.5 and 6.1.
"""

from __future__ import annotations

import base64
import binascii
import enum
import functools
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from mixer.adapters.remote.answers import native
from mixer.api.gen.mixer.adapter.model.v1beta1 import extensions_pb2
from mixer.attributes import ValueType
from mixer.templates.base import Template

LARGEST_DESCRIPTORS: Final = 16 << 20
"""Bytes of a descriptor set, unpacked; the original's largest is a fiftieth of that."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_POLICY: Final = "istio.policy.v1beta1."


class WireVariety(enum.IntEnum):
    """How Mixer calls for instances of a template; the numbers of ``TemplateVariety``."""

    CHECK = 0
    REPORT = 1
    QUOTA = 2
    ATTRIBUTE_GENERATOR = 3
    CHECK_WITH_OUTPUT = 4


@dataclass(frozen=True, slots=True)
class EncodedInstance:
    """An instance of a remote template: its name, and the bytes of an InstanceMsg."""

    name: str
    payload: bytes


@dataclass(frozen=True, slots=True, eq=False)
class TemplateModel:
    """What a descriptor set says of a template.

    Attributes:
        short_name: The option ``template_name``.
        path: What a call is addressed to: ``/package.Service/Method``.
        instance: The message ``InstanceMsg``.
        output: The message ``OutputMsg``, which generators answer with; None where there is none.
        type: The message ``Type``, which takes inferred types; None where there is none.
        answer: What the method answers with.
        request: The class of requests: as the method has it, but that messages in it are bytes.
        instances: The name of the request's field for the instances.
        repeats: Whether that field takes several.
        outputs: The attributes that `output` can give, with their types.
        digest: Equal for equal descriptors.
    """

    short_name: str
    package: str
    variety: WireVariety
    path: str
    instance: Descriptor
    output: Descriptor | None
    type: Descriptor | None
    answer: Descriptor
    request: Callable[..., Message]
    request_fields: frozenset[str]
    instances: str
    repeats: bool
    outputs: Mapping[str, ValueType]
    digest: str


@dataclass(frozen=True, slots=True, repr=False)
class RemoteTemplate(Template):
    """A template that a resource describes; its ``name`` is the resource's full name."""

    model: TemplateModel | None = None


def message_class(descriptor: Descriptor) -> Callable[..., Message]:
    """The class of messages of a type."""
    return message_factory.GetMessageClass(descriptor)


def decode_descriptors(text: str) -> descriptor_pb2.FileDescriptorSet:
    """The FileDescriptorSet of base64 text, gzipped or not; line breaks are tolerated.

    Raises:
        ValueError: It is not base64, or not a descriptor set, or an empty one.
    """
    try:
        data = base64.b64decode(re.sub(r"\s", "", text), validate=True)
        found = descriptor_pb2.FileDescriptorSet.FromString(_unpacked(data))
    except (binascii.Error, DecodeError, zlib.error) as exc:
        raise ValueError(str(exc)) from exc
    if not found.file:
        raise ValueError("the descriptor set holds no file")
    return found


def _unpacked(data: bytes) -> bytes:
    if data[:2] != _GZIP_MAGIC:
        return data
    unpack = zlib.decompressobj(wbits=31)
    plain = unpack.decompress(data, LARGEST_DESCRIPTORS + 1)
    if len(plain) > LARGEST_DESCRIPTORS:
        raise ValueError(f"the descriptor set is larger than {LARGEST_DESCRIPTORS >> 20} MiB")
    return plain


@functools.lru_cache(maxsize=256)
def read_template(text: str) -> TemplateModel:
    """What a template's descriptor says.

    Raises:
        ValueError: It is no template.
    """
    described = decode_descriptors(text)
    file = _template_file(described.file)
    short_name = _template_name(file)
    if all(message.name != "InstanceMsg" for message in file.message_type):
        raise ValueError(f"{file.name} declares no message InstanceMsg")
    pool = load_pool(described.file)
    found = pool.FindFileByName(file.name)
    services = [service for name, service in found.services_by_name.items() if name.startswith("Handle")]
    if not services or not services[0].methods:
        raise ValueError(f"{file.name} declares no service whose name starts with Handle, with a method")
    service, method = services[0], services[0].methods[0]
    request, fields, instances = _request_class(method.input_type)
    variety = WireVariety(file.options.Extensions[extensions_pb2.template_variety])
    messages = found.message_types_by_name
    output = messages.get("OutputMsg")
    if variety is WireVariety.ATTRIBUTE_GENERATOR and method.output_type is not output:
        raise ValueError(f"{method.full_name} of an attribute generator answers with no OutputMsg")
    if variety is WireVariety.CHECK_WITH_OUTPUT and set(method.output_type.fields_by_number) - {1, 2}:
        raise ValueError(f"{method.output_type.full_name} has other fields than the result and the output")
    return TemplateModel(
        short_name=short_name,
        package=file.package,
        variety=variety,
        path=f"/{service.full_name}/{method.name}",
        instance=messages["InstanceMsg"],
        output=output,
        type=messages.get("Type"),
        answer=method.output_type,
        request=request,
        request_fields=fields,
        instances=instances.name,
        repeats=instances.is_repeated,
        outputs={} if output is None else _outputs(output),
        digest=hashlib.sha256(described.SerializeToString(deterministic=True)).hexdigest(),
    )


@functools.lru_cache(maxsize=256)
def read_params(text: str) -> Descriptor:
    """The message ``Params`` of an adapter's configuration descriptor; of several files the last one's.

    Raises:
        ValueError: There is none.
    """
    files = decode_descriptors(text).file
    holders = [file for file in files if any(message.name == "Params" for message in file.message_type)]
    if not holders:
        raise ValueError("no message is named Params")
    return load_pool(files).FindFileByName(holders[-1].name).message_types_by_name["Params"]


def _template_file(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> descriptor_pb2.FileDescriptorProto:
    described = [file for file in files if file.options.HasExtension(extensions_pb2.template_variety)]
    if len(described) != 1:
        raise ValueError(f"{len(described) or 'no'} files have the option template_variety, not one")
    return described[0]


def _template_name(file: descriptor_pb2.FileDescriptorProto) -> str:
    name: str = file.options.Extensions[extensions_pb2.template_name]
    if not re.fullmatch("[a-zA-Z]+", name):
        raise ValueError(f"{file.name} has no template_name of letters only" + (f": '{name}'" if name else ""))
    return name


def load_pool(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> DescriptorPool:
    """All files in a pool of their own; imports of Google's own files need not be among them.

    Raises:
        ValueError: A file is missing or contradicts itself.
    """
    known = {file.name: file for file in files}
    pool = DescriptorPool()
    added: set[str] = set()
    for name in known:
        _add(pool, name, known, added, ())
    return pool


def _add(
    pool: DescriptorPool,
    name: str,
    known: Mapping[str, descriptor_pb2.FileDescriptorProto],
    added: set[str],
    above: tuple[str, ...],
) -> None:
    """Add a file after its imports; ``above`` are the files that import it."""
    if name in added:
        return
    if name in above:
        raise ValueError(f"{name} imports itself")
    file = known.get(name) or _GOOGLE.get(name)
    if file is None:
        raise ValueError(f"{above[-1]} imports {name}, which the descriptor set lacks")
    for dependency in file.dependency:
        _add(pool, dependency, known, added, (*above, name))
    added.add(name)
    try:
        pool.AddSerializedFile(file.SerializeToString())
        pool.FindFileByName(name)
    except (TypeError, KeyError, ValueError) as exc:
        raise ValueError(f"{name}: {' '.join(str(exc).split())}") from exc


def _proto(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)


_GOOGLE: Final = {
    module.DESCRIPTOR.name: _proto(module.DESCRIPTOR)
    for module in (any_pb2, descriptor_pb2, duration_pb2, status_pb2, timestamp_pb2)
}


def _request_class(declared: Descriptor) -> tuple[Callable[..., Message], frozenset[str], FieldDescriptor]:
    """A class for requests in which every message is the bytes that it is encoded to.

    On the wire that is the same, so nothing is encoded twice, and nothing copied between messages. Fields are found
    by name; the first by number holds the instances.
    """
    if not declared.fields:
        raise ValueError(f"{declared.full_name} has no fields")
    first = min(declared.fields, key=lambda field: field.number)
    if first.message_type is None or first.message_type.name != "InstanceMsg":
        raise ValueError(f"the first field of {declared.full_name} is no InstanceMsg")
    frame = descriptor_pb2.FileDescriptorProto(name="frame.proto", syntax="proto3")
    message = frame.message_type.add(name="Frame")
    kinds = descriptor_pb2.FieldDescriptorProto
    label = kinds.LABEL_REPEATED if first.is_repeated else kinds.LABEL_OPTIONAL
    message.field.add(name=first.name, number=first.number, type=kinds.TYPE_BYTES, label=label)
    names = set()
    for name, kind in (
        ("adapter_config", kinds.TYPE_BYTES),
        ("dedup_id", kinds.TYPE_STRING),
        ("quota_request", kinds.TYPE_BYTES),
    ):
        field = declared.fields_by_name.get(name)
        if field is not None:
            message.field.add(name=name, number=field.number, type=kind, label=kinds.LABEL_OPTIONAL)
            names.add(name)
    return message_class(load_pool([frame]).FindMessageTypeByName("Frame")), frozenset(names), first


def _with_imports(files: Sequence[FileDescriptor]) -> list[descriptor_pb2.FileDescriptorProto]:
    """Files and all that they import, imports first, each once."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def visit(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            visit(dependency)
        found.setdefault(file.name, _proto(file))

    for file in files:
        visit(file)
    return list(found.values())


def pack_descriptors(files: Sequence[FileDescriptor]) -> str:
    """Files with all that they import, as the text that resources hold."""
    return pack_set(descriptor_pb2.FileDescriptorSet(file=_with_imports(files)))


def pack_set(described: descriptor_pb2.FileDescriptorSet) -> str:
    """A descriptor set as the text that resources hold."""
    return base64.b64encode(described.SerializeToString(deterministic=True)).decode("ascii")


_SCALARS: Final[Mapping[int, ValueType]] = {
    FieldDescriptor.CPPTYPE_BOOL: ValueType.BOOL,
    FieldDescriptor.CPPTYPE_STRING: ValueType.STRING,
    FieldDescriptor.CPPTYPE_DOUBLE: ValueType.DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT: ValueType.DOUBLE,
    **dict.fromkeys(
        (
            FieldDescriptor.CPPTYPE_INT32,
            FieldDescriptor.CPPTYPE_INT64,
            FieldDescriptor.CPPTYPE_UINT32,
            FieldDescriptor.CPPTYPE_UINT64,
            FieldDescriptor.CPPTYPE_ENUM,
        ),
        ValueType.INT64,
    ),
}
MESSAGES: Final[Mapping[str, ValueType]] = {
    f"{_POLICY}IPAddress": ValueType.IP_ADDRESS,
    f"{_POLICY}Duration": ValueType.DURATION,
    f"{_POLICY}TimeStamp": ValueType.TIMESTAMP,
    f"{_POLICY}DNSName": ValueType.DNS_NAME,
    f"{_POLICY}Uri": ValueType.URI,
    f"{_POLICY}EmailAddress": ValueType.EMAIL_ADDRESS,
    "google.protobuf.Duration": ValueType.DURATION,
    "google.protobuf.Timestamp": ValueType.TIMESTAMP,
}
"""Message types that stand for one value of a type of the expression language."""

DYNAMIC_VALUE: Final = f"{_POLICY}Value"
"""The message type that takes a value of any type."""


def entry_of(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """Key and value of a map field."""
    assert field.message_type is not None
    entry = field.message_type.fields_by_name
    return entry["key"], entry["value"]


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def value_type(field: FieldDescriptor) -> ValueType | None:
    """The type of the values of a field, whether it has one or several; None for a message that is none of ours."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return None
    if field.message_type is not None:
        return MESSAGES.get(field.message_type.full_name)
    return _SCALARS.get(field.cpp_type)


def _outputs(output: Descriptor) -> Mapping[str, ValueType]:
    """Top-level fields of an OutputMsg that expressions can use; the others are not there for them."""
    found: dict[str, ValueType] = {}
    for field in output.fields:
        if is_map(field):
            if all(part.type == FieldDescriptor.TYPE_STRING for part in entry_of(field)):
                found[field.name] = ValueType.STRING_MAP
        elif not field.is_repeated and (kind := value_type(field)) is not None:
            found[field.name] = kind
    return found


def output_reader(output: Descriptor) -> Callable[[bytes], dict[str, Any]]:
    """A function from the bytes of an OutputMsg to the attributes that are set in it.

    It raises DecodeError for bytes that are none.
    """
    parse = message_class(output)
    usable = _outputs(output)

    def read(data: bytes) -> dict[str, Any]:
        message = parse()
        message.ParseFromString(data)
        return {
            field.name: dict(value) if is_map(field) else native(value)
            for field, value in message.ListFields()
            if field.name in usable
        }

    return read
