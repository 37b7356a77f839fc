"""Out-of-process objects: `template` and `adapter` resources, and the handlers that need them.

A `template` becomes a template like those that are compiled in, an `adapter` becomes an adapter whose code is
`mixer.adapters.remote`; from there on nothing needs to know the difference.
Source: spec runtime 3.5.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor

from mixer.adapters.base import AdapterInfo
from mixer.adapters.remote import (
    Connection,
    EncodedInstance,
    RemoteParams,
    RemoteTemplate,
    build,
    read_params,
    read_template,
)
from mixer.adapters.remote.connection import connection_faults
from mixer.adapters.remote.descriptors import WireVariety
from mixer.attributes import Vocabulary
from mixer.rules.encoding import OUTPUT_PREFIX, compile_encoded
from mixer.rules.literals import encode_params
from mixer.rules.names import candidates, resolve
from mixer.rules.specs import AdapterSpec, HandlerSpec, InstanceSpec, TemplateSpec
from mixer.store import FieldError, Problem, Resource, Severity
from mixer.store.protojson import decode
from mixer.templates import Variety
from mixer.templates.builder import CompiledInstance

_VARIETIES = {
    WireVariety.CHECK: Variety.CHECK,
    WireVariety.CHECK_WITH_OUTPUT: Variety.CHECK,
    WireVariety.REPORT: Variety.REPORT,
    WireVariety.QUOTA: Variety.QUOTA,
    WireVariety.ATTRIBUTE_GENERATOR: Variety.ATTRIBUTE_GENERATOR,
}


class RemoteAdapter:
    """An `adapter` resource, read: ``info`` for the runtime, ``params`` for the handlers' configuration."""

    __slots__ = ("digest", "info", "params", "session_based")

    def __init__(self, info: AdapterInfo, params: Descriptor | None, session_based: bool, digest: str) -> None:
        self.info, self.params, self.session_based, self.digest = info, params, session_based, digest


Remote = Mapping[str, RemoteTemplate]


def compile_template(resource: Resource) -> tuple[RemoteTemplate | None, list[Problem]]:
    """The template that a resource describes."""
    spec, problems = _decode(resource, TemplateSpec)
    if spec is None:
        return None, problems
    try:
        model = read_template(spec.descriptor)
    except ValueError as exc:
        expected = "base64 of a serialized FileDescriptorSet with its imports"
        message = f"unable to parse descriptor: {exc}"
        return None, [Problem.of(resource, ("spec", "descriptor"), message, expected=expected)]
    variety = _VARIETIES[model.variety]
    outputs = model.outputs if variety is Variety.ATTRIBUTE_GENERATOR else {}
    name = str(resource.key)
    return RemoteTemplate(name, variety, EncodedInstance, (), outputs, OUTPUT_PREFIX, model), []


def template_warnings(resource: Resource, template: RemoteTemplate) -> list[Problem]:
    """What of a sound template is not used."""
    if template.model is None or template.model.variety is not WireVariety.CHECK_WITH_OUTPUT:
        return []
    message = "the outputs of a check are not served: its answer counts, what it puts out does not"
    return [Problem.of(resource, ("spec", "descriptor"), message, severity=Severity.WARNING)]


def compile_adapter(
    resource: Resource, templates: Mapping[str, RemoteTemplate], broken: Container[str]
) -> tuple[RemoteAdapter | None, list[Problem]]:
    """The adapter that a resource describes."""
    spec, problems = _decode(resource, AdapterSpec)
    if spec is None:
        return None, problems
    params: Descriptor | None = None
    if spec.config:
        try:
            params = read_params(spec.config)
        except ValueError as exc:
            message = f"unable to parse adapter configuration: {exc}"
            expected = "base64 of a FileDescriptorSet that declares a message Params"
            problems.append(Problem.of(resource, ("spec", "config"), message, expected=expected))
    taken = []
    for index, reference in enumerate(spec.templates):
        path = ("spec", "templates", index)
        name = resolve(reference, "template", resource.key.namespace, templates)
        if name is not None:
            taken.append(templates[name])
        elif any(n in broken for n in candidates(reference, "template", resource.key.namespace)):
            problems.append(_left_out(resource, path, f"template '{reference}'"))
        else:
            message = f"unable to find template '{reference}'"
            problems.append(Problem.of(resource, path, message, expected="the name of a template"))
    if problems:
        return None, problems
    digest = hashlib.sha256(json.dumps([spec.config, spec.session_based]).encode()).hexdigest()
    info = AdapterInfo(
        name=str(resource.key), templates=tuple(taken), params=RemoteParams, build=build, description=spec.description
    )
    return RemoteAdapter(info, params, spec.session_based, digest), []


def compile_handler(
    resource: Resource, spec: HandlerSpec, adapters: Mapping[str, RemoteAdapter], broken: Container[str]
) -> tuple[tuple[AdapterInfo, RemoteParams] | None, list[Problem]]:
    """The adapter and the params of a handler without ``compiledAdapter``."""
    adapter, problem = _referred(resource, spec.adapter, "adapter", adapters, broken, "handler names no adapter")
    if adapter is None:
        return None, [problem] if problem else []
    connection, faults = decode(Connection, spec.connection)
    if connection is not None:
        faults = list(connection_faults(connection))
    problems = _problems(resource, faults, ("spec", "connection"))
    config = None
    if adapter.params is not None:
        data, faults = encode_params(adapter.params, spec.params)
        problems += _problems(resource, faults, ("spec", "params"))
        url = f"type.googleapis.com/{adapter.params.full_name}"
        config = AnyMessage(type_url=url, value=data).SerializeToString()
    elif spec.params:
        message = f"adapter '{spec.adapter}' takes no params"
        problems.append(Problem.of(resource, ("spec", "params"), message, expected="no params"))
    if connection is None or problems:
        return None, problems
    params = RemoteParams(
        connection=connection, config=config, session_based=adapter.session_based, digest=adapter.digest
    )
    return (adapter.info, params), []


def compile_dynamic(
    resource: Resource,
    spec: InstanceSpec,
    templates: Mapping[str, RemoteTemplate],
    broken: Container[str],
    vocabulary: Vocabulary,
) -> tuple[CompiledInstance | None, list[Problem]]:
    """An instance without ``compiledTemplate``."""
    missing = "missing compiled template"
    template, problem = _referred(resource, spec.template, "template", templates, broken, missing)
    if template is None:
        return None, [problem] if problem else []
    key = resource.key
    bindings = spec.attribute_bindings
    instance, faults = compile_encoded(str(key), key.name, template, spec.params, bindings, vocabulary)
    problems = []
    for fault in faults:
        inside = fault.path[:1] != ("attributeBindings",)
        path = ("spec", "params", *fault.path) if inside else ("spec", *fault.path)
        problems.append(Problem.of(resource, path, fault.message, expected=fault.expected))
    return instance, problems


def _referred(
    resource: Resource, reference: str, kind: str, known: Mapping[str, Any], broken: Container[str], missing: str
) -> tuple[Any, Problem | None]:
    """What a handler or an instance refers to, or why not."""
    compiled, article = f"compiled{kind.capitalize()}", "an" if kind == "adapter" else "a"
    if not reference:
        return None, Problem.of(resource, ("spec",), missing, expected=f"{compiled} or {kind}")
    for name in candidates(reference, kind, resource.key.namespace):
        if name in known:
            return known[name], None
        if name in broken:
            return None, _left_out(resource, ("spec", kind), f"{kind} '{reference}'")
    expected = f"the name of {article} {kind} resource"
    return None, Problem.of(resource, ("spec", kind), f"{kind} '{reference}' not found", expected=expected)


def _left_out(resource: Resource, path: tuple[str | int, ...], what: str) -> Problem:
    message = f"{what} is wrong, so this is left out"
    return Problem.of(resource, path, message, severity=Severity.WARNING)


def _decode(resource: Resource, model: Any) -> tuple[Any, list[Problem]]:
    spec, faults = decode(model, resource.spec)
    return spec, _problems(resource, faults, ("spec",))


def _problems(resource: Resource, faults: list[FieldError], path: tuple[str, ...]) -> list[Problem]:
    return [Problem.of(resource, (*path, *f.path), f.message, expected=f.expected) for f in faults]
