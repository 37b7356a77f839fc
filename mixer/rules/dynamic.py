"""Out-of-process objects: `template` and `adapter` resources, checked as far as this version goes.

Their descriptors are decoded and their references resolved, so that a fault is found where it is made. A
handler or an instance that needs one cannot run yet and says so.
Source: spec runtime 3.5.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from mixer.rules.names import resolve
from mixer.rules.specs import AdapterSpec, TemplateSpec
from mixer.store import Problem, Resource

_VARIETY, _NAME = 72295727, 72295888
"""The options by which a file says that it describes a template. Source: ``mixer/adapter/model/extensions.proto``."""

NOT_SERVED = "out-of-process adapters are not served by this version"


def unserved(resource: Resource, kind: str, reference: str, known: frozenset[str], *, missing: str) -> Problem:
    """Why a handler without ``compiledAdapter``, or an instance without ``compiledTemplate``, cannot run.

    Args:
        resource: The handler or instance.
        kind: What it refers to, ``adapter`` or ``template``; also the field that does.
        reference: As written, empty when it refers to nothing.
        known: Full names of all resources of that kind.
        missing: The message for an empty reference.
    """
    compiled, article = f"compiled{kind.capitalize()}", "an" if kind == "adapter" else "a"
    if not reference:
        return Problem.of(resource, ("spec",), missing, expected=f"{compiled} or {kind}")
    if resolve(reference, kind, resource.key.namespace, known) is None:
        expected = f"the name of {article} {kind} resource"
        return Problem.of(resource, ("spec", kind), f"{kind} '{reference}' not found", expected=expected)
    return Problem.of(resource, ("spec", kind), NOT_SERVED, expected=f"a {compiled}")


def decode_descriptors(text: str) -> descriptor_pb2.FileDescriptorSet:
    """The FileDescriptorSet of base64 text; line breaks are tolerated.

    Raises:
        ValueError: It is not base64, or not a descriptor set, or an empty one.
    """
    try:
        data = base64.b64decode(re.sub(r"\s", "", text), validate=True)
        found = descriptor_pb2.FileDescriptorSet.FromString(data)
    except (binascii.Error, DecodeError) as exc:
        raise ValueError(str(exc)) from exc
    if not found.file:
        raise ValueError("the descriptor set holds no file")
    return found


def check_template(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
    """Make sure that exactly one file describes a template, and does so in full.

    Raises:
        ValueError: It does not.
    """
    described = [(file, options) for file in files if _VARIETY in (options := _unknown_options(file.options))]
    if len(described) != 1:
        raise ValueError(f"{len(described) or 'no'} files have the option template_variety, not one")
    file, options = described[0]
    name = options.get(_NAME)
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else ""
    if not re.fullmatch("[a-zA-Z]+", text):
        raise ValueError(f"{file.name} has no template_name of letters only" + (f": '{text}'" if text else ""))
    if all(message.name != "InstanceMsg" for message in file.message_type):
        raise ValueError(f"{file.name} declares no message InstanceMsg")


def _unknown_options(options: descriptor_pb2.FileOptions) -> dict[int, object]:
    """Options that no stub of ours knows: field number -> value on the wire."""
    unknown = UnknownFieldSet(options)
    return {unknown[i].field_number: unknown[i].data for i in range(len(unknown))}


def template_problems(resource: Resource, spec: TemplateSpec) -> list[Problem]:
    """What is wrong with a `template` resource."""
    try:
        check_template(decode_descriptors(spec.descriptor).file)
    except ValueError as exc:
        expected = "base64 of a serialized FileDescriptorSet with its imports"
        return [Problem.of(resource, ("spec", "descriptor"), f"unable to parse descriptor: {exc}", expected=expected)]
    return []


def adapter_problems(resource: Resource, spec: AdapterSpec, templates: frozenset[str]) -> list[Problem]:
    """What is wrong with an `adapter` resource; ``templates`` are the full names of all `template` resources."""
    problems = []
    if spec.config:
        try:
            files = decode_descriptors(spec.config).file
            if not any(message.name == "Params" for file in files for message in file.message_type):
                raise ValueError("no message is named Params")
        except ValueError as exc:
            message = f"unable to parse adapter configuration: {exc}"
            expected = "base64 of a FileDescriptorSet that declares a message Params"
            problems.append(Problem.of(resource, ("spec", "config"), message, expected=expected))
    for index, reference in enumerate(spec.templates):
        if resolve(reference, "template", resource.key.namespace, templates) is None:
            message = f"unable to find template '{reference}'"
            problems.append(
                Problem.of(resource, ("spec", "templates", index), message, expected="the name of a template")
            )
    return problems
