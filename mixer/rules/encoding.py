"""Instances of templates that resources describe: params are typed by a descriptor, and become one encoding function.

What each field is filled from is decided here, once: per request one generated function evaluates all expressions
and makes one message, whose bytes are what a handler gets.

Source: spec runtime 3.5 and 6.3.
"""

from __future__ import annotations

import difflib
import json
import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from mixer.adapters.remote.descriptors import (
    DYNAMIC_VALUE,
    MESSAGES,
    EncodedInstance,
    RemoteTemplate,
    entry_of,
    is_map,
    message_class,
    value_type,
)
from mixer.attributes import AttributeBag, Duration, Timestamp, ValueType, Vocabulary
from mixer.errors import EvalError, ExprError
from mixer.expr import CodeBuilder, Node
from mixer.expr.tree import attribute_names
from mixer.rules.literals import map_key, scalar
from mixer.store.problem import FieldError
from mixer.store.protojson import describe
from mixer.store.resource import Path, to_camel
from mixer.templates.base import Template
from mixer.templates.builder import CompiledInstance, compile_instance
from mixer.templates.leaves import Convert, Leaf, blame, mistyped, read, whole

OUTPUT_PREFIX: Final = "output"
"""The name under which attribute bindings see what a generator put out; ``$out`` stands for it too."""

NAME_FIELD: Final = 72295727
"""The field of an InstanceMsg for the instance's full name, which Mixer fills in."""

_FIELD_OF: Final[Mapping[ValueType, str]] = {
    ValueType.STRING: "string_value",
    ValueType.INT64: "int64_value",
    ValueType.DOUBLE: "double_value",
    ValueType.BOOL: "bool_value",
    ValueType.IP_ADDRESS: "ip_address_value",
    ValueType.TIMESTAMP: "timestamp_value",
    ValueType.DURATION: "duration_value",
    ValueType.EMAIL_ADDRESS: "email_address_value",
    ValueType.DNS_NAME: "dns_name_value",
    ValueType.URI: "uri_value",
}
"""Where a ``Value`` holds values of a type; it has no place for string maps."""


@dataclass(slots=True)
class _Walk:
    """The state of reading one instance's params."""

    vocabulary: Vocabulary
    code: CodeBuilder
    faults: list[FieldError] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    types: dict[str, ValueType | Mapping[str, ValueType]] = field(default_factory=dict)


def compile_encoded(
    name: str,
    short_name: str,
    template: RemoteTemplate,
    params: object,
    bindings: Mapping[str, str],
    vocabulary: Vocabulary,
) -> tuple[CompiledInstance | None, list[FieldError]]:
    """Compile the params of an instance of a remote template.

    Returns:
        The instance and no faults, or None and every fault; paths are relative to the params, those of
        bindings start with ``attributeBindings``.
    """
    model = template.model
    assert model is not None
    walk = _Walk(vocabulary, CodeBuilder(vocabulary))
    if params is None:
        params = {}
    if not isinstance(params, Mapping):
        return None, [FieldError((), f"{describe(params)} cannot be read here", "a mapping of the template's fields")]
    arguments = _arguments(walk, model.instance, params, model.short_name, (), "", "")
    named = model.instance.fields_by_number.get(NAME_FIELD)
    if named is not None and named.type == FieldDescriptor.TYPE_STRING:
        arguments[named.name] = repr(name)
    bound, binding_faults = _bindings(name, template, bindings, vocabulary)
    faults = walk.faults + binding_faults
    if faults:
        return None, faults
    try:
        encode = walk.code.function(
            "encode", ["get"], [f"return {_construct(walk, model.instance, arguments)}.SerializeToString()"]
        )
    except ExprError as exc:
        return None, [FieldError((), str(exc))]
    leaves = tuple(walk.leaves)
    try:
        constant = EncodedInstance(name, encode(None)) if not leaves else None
    except ValueError:  # a text with half of a character
        return None, [FieldError((), "a text in it cannot be encoded", "texts of Unicode characters")]

    def build(bag: AttributeBag) -> EncodedInstance:
        if constant is not None:
            return constant
        try:
            return EncodedInstance(name, encode(bag.lookup))
        except (EvalError, ValueError, TypeError, OverflowError) as exc:
            raise blame(name, leaves, bag, vocabulary, exc) from exc

    canonical = json.dumps([template.name, model.digest, _texts(params), dict(bindings)], sort_keys=True, default=str)
    attributes = frozenset[str]().union(*(attribute_names(leaf.node) for leaf in leaves))
    if bound is not None:
        attributes |= bound.attributes
    nodes = {f"{index} {leaf.title}": leaf.node for index, leaf in enumerate(leaves)}
    bind = None if bound is None else bound.bind
    return CompiledInstance(name, short_name, template, walk.types, attributes, nodes, build, bind, canonical), []


def _texts(data: Any) -> Any:
    """The same data with keys that can be sorted; YAML has keys of several kinds."""
    if isinstance(data, Mapping):
        return {str(key): _texts(value) for key, value in data.items()}
    return [_texts(item) for item in data] if isinstance(data, list | tuple) else data


def _bindings(
    name: str, template: RemoteTemplate, bindings: Mapping[str, str], vocabulary: Vocabulary
) -> tuple[CompiledInstance | None, list[FieldError]]:
    """Attribute bindings, compiled as those of a compiled-in template with the same outputs."""
    outputs = template.outputs
    if not outputs and not bindings:
        return None, []
    stand_in = Template(template.name, template.variety, EncodedInstance, outputs=outputs, output_prefix=OUTPUT_PREFIX)
    visible = Vocabulary({**vocabulary, **{f"{OUTPUT_PREFIX}.{field}": kind for field, kind in outputs.items()}})
    return compile_instance(name, name, stand_in, {}, bindings, visible)


def _construct(walk: _Walk, descriptor: Descriptor, arguments: Mapping[str, str]) -> str:
    """Python text that makes a message."""
    made = walk.code.bind(message_class(descriptor))
    plain = ", ".join(f"{name}={text}" for name, text in arguments.items() if not keyword.iskeyword(name))
    odd = ", ".join(f"{name!r}: {text}" for name, text in arguments.items() if keyword.iskeyword(name))
    return f"{made}({plain}{', ' if plain and odd else ''}{f'**{{{odd}}}' if odd else ''})"


def _arguments(
    walk: _Walk, descriptor: Descriptor, params: Mapping[Any, Any], owner: str, path: Path, title: str, dotted: str
) -> dict[str, str]:
    """Python texts for the fields of a message that params set."""
    known = {f.name: f for f in descriptor.fields if f.number != NAME_FIELD}
    by_json = {f.json_name: f for f in known.values()}
    arguments: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for key, value in params.items():
        found = known.get(key) or by_json.get(key) or by_json.get(to_camel(str(key)))
        if found is None:
            walk.faults.append(FieldError((*path, str(key)), f'unknown field "{key}" in {owner}', _meant(key, known)))
            continue
        where = (*path, str(key))
        if value is None:
            continue
        if found.name in arguments:
            walk.faults.append(FieldError(where, f'field "{found.name}" is set twice', "one spelling"))
            continue
        oneof = found.containing_oneof
        if oneof is not None and len(oneof.fields) > 1:
            if oneof.name in chosen:
                message = f"{key} and {chosen[oneof.name]} exclude each other"
                walk.faults.append(FieldError(where, message, f"one of {', '.join(f.name for f in oneof.fields)}"))
                continue
            chosen[oneof.name] = str(key)
        text = _field(walk, found, value, owner, where, f"{title}{_title(found.name)}", dotted + found.name)
        if text:
            arguments[found.name] = text
    return arguments


def _meant(key: object, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return close[0] if close else f"one of {', '.join(known)}" if known else "no params"


def _title(name: str) -> str:
    """The name of a field as error messages write it."""
    camel = to_camel(name)
    return camel[:1].upper() + camel[1:]


def _field(walk: _Walk, f: FieldDescriptor, value: Any, owner: str, path: Path, title: str, dotted: str) -> str:
    if is_map(f):
        return _map(walk, f, value, owner, path, title, dotted)
    if f.is_repeated:
        if not isinstance(value, list | tuple):
            walk.faults.append(FieldError(path, f"{describe(value)} cannot be read here", "a list"))
            return ""
        texts = [
            _single(walk, f, item, owner, (*path, index), f"{title}[{index}]", "", unset=False)
            for index, item in enumerate(value)
        ]
        return f"[{', '.join(texts)}]"
    return _single(walk, f, value, owner, path, title, dotted, unset=True)


def _map(walk: _Walk, f: FieldDescriptor, value: Any, owner: str, path: Path, title: str, dotted: str) -> str:
    key_field, value_field = entry_of(f)
    texts_only = all(part.type == FieldDescriptor.TYPE_STRING for part in (key_field, value_field))
    if isinstance(value, str) and texts_only:
        return _expression(walk, value, ValueType.STRING_MAP, whole, path, title)
    if not isinstance(value, Mapping):
        expected = "a mapping, or an expression of type STRING_MAP" if texts_only else "a mapping"
        walk.faults.append(FieldError(path, f"{describe(value)} cannot be read here", expected))
        return ""
    kinds: dict[str, ValueType] = {}
    items = []
    for key, item in value.items():
        where = (*path, str(key))
        constant, fault = map_key(key_field, key)
        if fault is not None:
            walk.faults.append(fault.below(*where))
            continue
        # The walk notes the type of a dynamic value under its own name; it belongs to the map.
        text = _single(walk, value_field, item, owner, where, f"{title}[{key}]", f"{dotted}[]", unset=False)
        kind = walk.types.pop(f"{dotted}[]", None)
        if isinstance(kind, ValueType):
            kinds[str(key)] = kind
        items.append(f"{constant!r}: {text}")
    if _is_value(value_field):
        walk.types[dotted] = kinds
    return f"{{{', '.join(items)}}}"


def _is_value(f: FieldDescriptor) -> bool:
    return f.message_type is not None and f.message_type.full_name == DYNAMIC_VALUE


def _single(
    walk: _Walk, f: FieldDescriptor, value: Any, owner: str, path: Path, title: str, dotted: str, *, unset: bool
) -> str:
    """One value of a field, whether or not the field takes several; ``unset`` tells that an empty text means none."""
    if unset and value == "":
        return ""
    if f.message_type is None:
        return _scalar(walk, f, value, path, title)
    if _is_value(f):
        return _value(walk, f.message_type, value, path, title, dotted)
    kind = MESSAGES.get(f.message_type.full_name)
    if kind is not None:
        if not isinstance(value, str):
            expected = f"an expression of type {kind.name}, in quotes"
            walk.faults.append(FieldError(path, f"{describe(value)} cannot be read here", expected))
            return ""
        return _expression(walk, value, kind, _wrapper(f.message_type, kind), path, title)
    if not isinstance(value, Mapping):
        walk.faults.append(FieldError(path, f"{describe(value)} cannot be read here", "a mapping"))
        return ""
    inner = _arguments(walk, f.message_type, value, f"{owner}.{f.name}", path, f"{title}.", f"{dotted}.")
    return _construct(walk, f.message_type, inner)


def quoted(text: str) -> str | None:
    """The constant text that a param in quotes of its own stands for; None for an expression."""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else None


def _scalar(walk: _Walk, f: FieldDescriptor, value: Any, path: Path, title: str) -> str:
    kind = value_type(f)
    if kind is None:
        walk.faults.append(FieldError(path, "a field of bytes cannot be configured", "nothing"))
        return ""
    if isinstance(value, str):
        constant = quoted(value)
        if f.enum_type is not None:
            if constant is None:
                return _enum(walk, f.enum_type, value, path, title)
            value = constant
        elif f.type == FieldDescriptor.TYPE_STRING:
            return repr(constant) if constant is not None else _expression(walk, value, kind, None, path, title)
        elif constant is None:
            return _expression(walk, value, kind, _of(f), path, title)
    number, fault = scalar(f, value)
    if fault is not None:
        walk.faults.append(fault.below(*path))
    return repr(number)


def _enum(walk: _Walk, enum: EnumDescriptor, source: str, path: Path, title: str) -> str:
    numbers = {name: value.number for name, value in enum.values_by_name.items()}

    def number(value: Any) -> int:
        if isinstance(value, str):
            if value not in numbers:
                raise EvalError(f"'{value}' is no value of {enum.name}")
            return numbers[value]
        return int(value)

    return _expression(walk, source, (ValueType.STRING, ValueType.INT64), number, path, title)


def _value(walk: _Walk, descriptor: Descriptor, value: Any, path: Path, title: str, dotted: str) -> str:
    made = walk.code.bind(message_class(descriptor))
    if isinstance(value, bool | int | float):
        # As JSON has it, every number is a double.
        kind = ValueType.BOOL if isinstance(value, bool) else ValueType.DOUBLE
        walk.types[dotted] = kind
        try:
            text = repr(value if isinstance(value, bool) else float(value))
        except OverflowError:
            walk.faults.append(FieldError(path, "the number is out of range", "a number that fits 64 bits"))
            return ""
        number = f"float({text!r})" if text in ("inf", "-inf", "nan") else text
        return f"{made}({_FIELD_OF[kind]}={number})"
    if not isinstance(value, str):
        expected = "a number, true, false, or an expression in quotes"
        walk.faults.append(FieldError(path, f"{describe(value)} cannot be read here", expected))
        return ""
    constant = quoted(value)
    if constant is not None:
        walk.types[dotted] = ValueType.STRING
        return f"{made}(string_value={constant!r})"
    typed = _typed(walk, value, path, title, dynamic=True)
    if typed is None:
        return ""
    node, kind = typed
    name = _FIELD_OF.get(kind)
    if name is None:
        message = f"error type checking for field '{title}': a value of type {kind.name} cannot be sent"
        walk.faults.append(
            FieldError(path, message, 'a value of another type, such as one entry of the map, map["key"]')
        )
        return ""
    walk.types[dotted] = kind
    inner = descriptor.fields_by_name.get(name)
    convert = None if inner is None or inner.message_type is None else _wrapper(inner.message_type, kind)
    return f"{made}({name}={_leaf(walk, Leaf(title, value, node, kind, convert))})"


def _typed(walk: _Walk, source: str, path: Path, title: str, *, dynamic: bool = False) -> tuple[Node, ValueType] | None:
    """An expression with its type, or a fault."""
    found = read(source, walk.vocabulary, path, title, dynamic=dynamic)
    if isinstance(found, FieldError):
        walk.faults.append(found)
        return None
    return found


def _expression(
    walk: _Walk,
    source: str,
    wanted: ValueType | tuple[ValueType, ...],
    convert: Convert | None,
    path: Path,
    title: str,
) -> str:
    """Python text that evaluates an expression of a type and converts its value; nothing after recording a fault."""
    typed = _typed(walk, source, path, title)
    if typed is None:
        return ""
    node, kind = typed
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if kind not in kinds:
        walk.faults.append(mistyped(kind, kinds, path, title))
        return ""
    return _leaf(walk, Leaf(title, source, node, kind, convert))


def _leaf(walk: _Walk, leaf: Leaf) -> str:
    walk.leaves.append(leaf)
    return leaf.text(walk.code)


def _of(f: FieldDescriptor) -> Convert:
    """What a field of numbers takes: a value out of its range is an error that names it."""

    def convert(value: Any) -> Any:
        number, fault = scalar(f, value)
        if fault is not None:
            raise EvalError(fault.message)
        return number

    return convert


def _wrapper(descriptor: Descriptor, kind: ValueType) -> Convert:
    """A message that stands for one value of a type."""
    made = message_class(descriptor)
    if descriptor.full_name.startswith("google.protobuf."):
        return _span_of(made, kind)
    inner = descriptor.fields_by_name["value"]
    if kind is ValueType.IP_ADDRESS:
        return lambda value: made(value=_address(value))
    if inner.message_type is None:
        return lambda value: made(value=value)
    convert = _span_of(message_class(inner.message_type), kind)
    return lambda value: made(value=convert(value))


def _address(value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) not in (4, 16):
        raise EvalError("error converting value to an address: it has neither 4 nor 16 bytes")
    return value


def _span_of(made: Callable[..., Message], kind: ValueType) -> Convert:
    wanted = Timestamp if kind is ValueType.TIMESTAMP else Duration

    def convert(value: Any) -> Message:
        if not isinstance(value, wanted):
            raise EvalError(f"error converting value to {wanted.__name__.lower()}: '{value}'")
        message: Any = made()
        message.FromNanoseconds(int(value))
        return message  # type: ignore[no-any-return]

    return convert
