"""Instance resources -> compiled instances: params are typed, and all their expressions become one function.

``build(bag)`` of a compiled instance runs a single generated function that evaluates every field. Only when
that fails are the fields tried one by one, to say which of them it was.

Source: spec runtime 1.10 and 3.4, spec language 4.5.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mixer.attributes import AttributeBag, AttributeValue, Timestamp, TrackedMap, ValueType, Vocabulary
from mixer.attributes.values import ABSENT, Absent
from mixer.errors import EvalError, ExprError
from mixer.expr import CodeBuilder, Node, parse, typecheck
from mixer.expr.tree import attribute_names
from mixer.store.problem import FieldError
from mixer.store.protojson import describe, to_camel, to_snake
from mixer.store.resource import Path
from mixer.templates.base import Field, InferredTypes, Template
from mixer.templates.hints import expected_at
from mixer.templates.leaves import Convert, Leaf, blame, mistyped, read, whole

_EXPECTED_EXPRESSION = 'an expression in quotes, such as "1" or \'source.name | "unknown"\''
_EXPECTED_BINDINGS = "a mapping of attribute name to expression"


@dataclass(frozen=True, slots=True, eq=False)
class CompiledInstance:
    """An instance resource, ready to build instances.

    Attributes:
        name: Full name ``name.kind.namespace``; what handlers see as ``instance.name``.
        short_name: The name alone; what a quota is asked for by.
        types: What the expressions of the dynamic fields evaluate to.
        attributes: Every attribute of a request that building, or binding, may read, and those that bindings name.
        nodes: The expressions by field (nested fields after a dot), those of a map field by key.
        build: Bag to instance. Raises `EvalError` with the field's name in the text.
        bind: For an attribute generator: the handler's outputs and the bag it was built from, to the
            attributes bound. Raises `EvalError`. None for every other variety.
        fingerprint: Equal for equal template, params and bindings.
    """

    name: str
    short_name: str
    template: Template
    types: InferredTypes
    attributes: frozenset[str]
    nodes: Mapping[str, Node | Mapping[str, Node]]
    build: Callable[[AttributeBag], Any]
    bind: Callable[[Mapping[str, AttributeValue], AttributeBag], dict[str, AttributeValue]] | None
    fingerprint: str


@dataclass(slots=True)
class _Walk:
    """The state of reading one instance's params."""

    vocabulary: Vocabulary
    code: CodeBuilder
    faults: list[FieldError] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    types: dict[str, ValueType | Mapping[str, ValueType]] = field(default_factory=dict)
    nodes: dict[str, Node | Mapping[str, Node]] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    """Attributes of the request that attribute bindings read."""


def compile_instance(
    name: str,
    short_name: str,
    template: Template,
    params: object,
    bindings: Mapping[str, str],
    vocabulary: Vocabulary,
) -> tuple[CompiledInstance | None, list[FieldError]]:
    """Compile the params of an instance resource.

    Returns:
        The instance and no faults, or None and every fault; paths are relative to the params, those of
        bindings start with ``attributeBindings``.
    """
    walk = _Walk(vocabulary, CodeBuilder(vocabulary))
    if params is None:
        params = {}
    if not isinstance(params, Mapping):
        return None, [FieldError((), f"{describe(params)} cannot be read here", "a mapping of the template's fields")]
    params = dict(params)
    if template.outputs:
        bindings = {**_inline_bindings(walk, params), **bindings}
    arguments = _message(walk, template.fields, params, template.name, (), "", "")
    bind = _compile_bindings(walk, template, bindings)
    if walk.faults:
        return None, walk.faults
    body = f"return {walk.code.bind(template.instance_type)}(name={name!r}{arguments})"
    try:
        fast = walk.code.function("build", ["get"], [body])
    except ExprError as exc:
        return None, [FieldError((), str(exc))]
    leaves = tuple(walk.leaves)

    def build(bag: AttributeBag) -> Any:
        try:
            return fast(bag.lookup)
        except EvalError as exc:
            raise blame(name, leaves, bag, vocabulary, exc) from exc

    canonical = json.dumps([template.name, params, dict(bindings)], sort_keys=True, default=str)
    attributes = frozenset[str](walk.bound | set(bindings)).union(*(attribute_names(leaf.node) for leaf in leaves))
    return CompiledInstance(name, short_name, template, walk.types, attributes, walk.nodes, build, bind, canonical), []


def _inline_bindings(walk: _Walk, params: dict[str, Any]) -> Mapping[str, Any]:
    """The bindings that stand among the params, as legacy kinds have them; taken out of ``params``."""
    snake = params.pop("attribute_bindings", None)
    camel = params.pop("attributeBindings", None)
    bindings = snake if camel is None else camel
    if bindings is None:
        return {}
    if not isinstance(bindings, Mapping):
        path: Path = ("attributeBindings",)
        walk.faults.append(FieldError(path, f"{describe(bindings)} cannot be read here", _EXPECTED_BINDINGS))
        return {}
    return bindings


def _message(
    walk: _Walk, fields: tuple[Field, ...], params: Mapping[str, Any], owner: str, path: Path, title: str, dotted: str
) -> str:
    """The keyword arguments, each with a comma before it, that build a message from these params."""
    by_name = {to_camel(f.name): f for f in fields}
    arguments = ""
    for dynamic in (f for f in fields if f.type is None and not f.fields):
        walk.types[dotted + dynamic.name] = {} if dynamic.is_map else ValueType.VALUE_TYPE_UNSPECIFIED
    for key, value in params.items():
        spelling = to_camel(str(key))
        f = by_name.get(spelling)
        if f is None:
            walk.faults.append(FieldError((*path, key), f'unknown field "{key}" in {owner}', _known(spelling, by_name)))
            continue
        if value is None or (key != spelling and spelling in params):
            continue
        text = _field(walk, f, value, owner, (*path, key), f"{title}{f.title}", dotted)
        if text:
            arguments += f", {to_snake(f.name)}={text}"
    return arguments


def _known(name: str, fields: Mapping[str, Field]) -> str:
    """What could have been meant by the name of a field that does not exist."""
    close = difflib.get_close_matches(name, fields, n=1)
    return close[0] if close else f"one of {', '.join(fields)}" if fields else "no params"


def _field(walk: _Walk, f: Field, value: Any, owner: str, path: Path, title: str, dotted: str) -> str:
    if f.fields:
        if not isinstance(value, Mapping):
            walk.faults.append(FieldError(path, f"{describe(value)} cannot be read here", "a mapping"))
            return ""
        inner = _message(walk, f.fields, value, f"{owner}.{f.name}", path, f"{title}.", f"{dotted}{f.name}.")
        return f"{walk.code.bind(f.message)}({inner[2:]})"
    if not f.is_map:
        if value == "":
            return ""
        text = _expression(walk, value, f.type, path, title, dotted + f.name)
        if text:
            walk.nodes[dotted + f.name] = walk.leaves[-1].node
        return text
    if not isinstance(value, Mapping):
        walk.faults.append(
            FieldError(path, f"{describe(value)} cannot be read here", "a mapping of name to expression")
        )
        return ""
    kinds: dict[str, ValueType] = {}
    nodes: dict[str, Node] = {}
    walk.types[dotted + f.name] = kinds
    walk.nodes[dotted + f.name] = nodes
    items = []
    for key, source in value.items():
        key = str(key)
        text = _expression(walk, source, f.type, (*path, key), f"{title}[{key}]", "")
        if text:
            kinds[key] = walk.leaves[-1].kind
            nodes[key] = walk.leaves[-1].node
            items.append(f"{key!r}: {text}")
    return f"{{{', '.join(items)}}}"


def _expression(walk: _Walk, source: object, declared: ValueType | None, path: Path, title: str, dotted: str) -> str:
    """Python text that evaluates one expression, or nothing after recording a fault."""
    if not isinstance(source, str):
        walk.faults.append(FieldError(path, f"{describe(source)} cannot be read here", _EXPECTED_EXPRESSION))
        return ""
    found = read(source, walk.vocabulary, path, title, dynamic=declared is None)
    if isinstance(found, FieldError):
        walk.faults.append(found)
        return ""
    node, kind = found
    if declared is not None and kind is not declared:
        walk.faults.append(mistyped(kind, (declared,), path, title))
        return ""
    leaf = Leaf(title, source, node, kind, _convert(kind, declared))
    walk.leaves.append(leaf)
    if declared is None and dotted:
        walk.types[dotted] = kind
    return leaf.text(walk.code)


def _of_kind(kind: type) -> Convert:
    """A value of a typed field whose class reading does not check. Source: spec language 5.4."""

    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise EvalError(f"error converting value to {kind.__name__.lower()}: '{value}'")
        return value

    return convert


def _any_kind(value: Any) -> Any:
    """A value of a class that reading does not check, for a field that takes all; maps leave as a whole."""
    return value.whole() if isinstance(value, TrackedMap) else value


_CHECKED: Final[Mapping[ValueType, Convert]] = {
    ValueType.TIMESTAMP: _of_kind(Timestamp),
    ValueType.IP_ADDRESS: _of_kind(bytes),
}


def _convert(kind: ValueType, declared: ValueType | None) -> Convert | None:
    """What has to be done to a value that leaves the language, None for nothing."""
    if kind is ValueType.STRING_MAP:
        return whole
    if kind in _CHECKED:
        return _any_kind if declared is None else _CHECKED[kind]
    return None


class _OutputBag:
    """What a generator put out, under the prefix that ``$out`` stands for, above the request's own attributes."""

    __slots__ = ("_below", "_outputs", "_prefix")

    def __init__(self, prefix: str, outputs: Mapping[str, AttributeValue], below: AttributeBag) -> None:
        self._prefix, self._outputs, self._below = prefix, outputs, below

    def get(self, name: str, /) -> AttributeValue | Absent:
        return self.lookup(name, ABSENT)

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        if name.startswith(self._prefix):
            return self._outputs.get(name[len(self._prefix) :], default)
        return self._below.lookup(name, default)

    def peek(self, name: str, /) -> AttributeValue | Absent:
        if name.startswith(self._prefix):
            return self._outputs.get(name[len(self._prefix) :], ABSENT)
        return self._below.peek(name)

    def names(self) -> Iterator[str]:
        yield from self._below.names()
        yield from (self._prefix + name for name in self._outputs)


def _compile_bindings(
    walk: _Walk, template: Template, bindings: Mapping[str, Any]
) -> Callable[[Mapping[str, AttributeValue], AttributeBag], dict[str, AttributeValue]] | None:
    """Attribute bindings as one function. Source: spec runtime 3.4 and 4.3."""
    if not template.outputs:
        if bindings:
            message = f'unknown field "attributeBindings" in {template.name}'
            walk.faults.append(
                FieldError(("attributeBindings",), message, "no bindings: this template generates nothing")
            )
        return None
    prefix = f"{template.output_prefix}."
    code = CodeBuilder(walk.vocabulary)
    items = []
    for name, source in bindings.items():
        path: Path = ("attributeBindings", name)
        if not isinstance(source, str):
            walk.faults.append(FieldError(path, f"{describe(source)} cannot be read here", _EXPECTED_EXPRESSION))
            continue
        try:
            spelled_out = source.replace("$out.", prefix)
            node = parse(spelled_out)
            kind = typecheck(node, walk.vocabulary, source=spelled_out)
            target = typecheck(parse(name), walk.vocabulary, source=name)
        except ExprError as exc:
            message = f"error evaluating AttributeBinding expression '{source}' for attribute '{name}': {exc}"
            walk.faults.append(FieldError(path, message, expected_at(exc, walk.vocabulary)))
            continue
        if kind is not target:
            message = (
                f"error evaluating AttributeBinding: type '{target.name}' for attribute '{name}' "
                f"does not match type '{kind.name}' for expression '{source}'"
            )
            walk.faults.append(FieldError(path, message, f"an expression of type {target.name}"))
            continue
        walk.bound |= {a for a in attribute_names(node) if not a.startswith(prefix)}
        text = Leaf(name, spelled_out, node, kind, _convert(kind, kind)).text(code)
        if kind is ValueType.IP_ADDRESS:
            text = f"{code.bind(_short_ip)}({text})"
        items.append(f"{name!r}: {text}")
    try:
        evaluate = code.function("bind", ["get"], [f"return {{{', '.join(items)}}}"])
    except ExprError as exc:
        walk.faults.append(FieldError(("attributeBindings",), str(exc)))
        return None

    def bind(outputs: Mapping[str, AttributeValue], bag: AttributeBag) -> dict[str, AttributeValue]:
        bound: dict[str, AttributeValue] = evaluate(_OutputBag(prefix, outputs, bag).lookup)
        return bound

    return bind


def _short_ip(address: bytes) -> bytes:
    """Generated addresses are 4 bytes when they are IPv4. Source: spec runtime 4.3."""
    mapped = len(address) == 16 and address.startswith(bytes(10) + b"\xff\xff")
    return address[12:] if mapped else address
