"""Instance resources become functions from bags to instances. Source: spec runtime 1.10 and 3.4, spec language 4.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mixer.attributes import (
    Condition,
    Duration,
    MappingBag,
    Timestamp,
    TrackingBag,
    ValueType,
    Vocabulary,
)
from mixer.attributes.values import ZERO_TIME
from mixer.errors import EvalError
from mixer.store import FieldError
from mixer.templates import TEMPLATES, Variety
from mixer.templates.base import Field
from mixer.templates.builder import CompiledInstance, compile_instance

V = ValueType
VOCABULARY = Vocabulary(
    {
        **{f"a.{kind.name.lower()}": kind for kind in V if kind is not V.VALUE_TYPE_UNSPECIFIED},
        **{f"{t.output_prefix}.{name}": kind for t in TEMPLATES.values() for name, kind in t.outputs.items()},
    }
)
VALUES: Mapping[ValueType, Any] = {
    V.STRING: "text",
    V.INT64: 7,
    V.DOUBLE: 1.5,
    V.BOOL: True,
    V.TIMESTAMP: Timestamp(5),
    V.IP_ADDRESS: bytes([10, 0, 0, 1]),
    V.EMAIL_ADDRESS: "a@b.c",
    V.URI: "http://a",
    V.DNS_NAME: "a.b",
    V.DURATION: Duration(9),
    V.STRING_MAP: {"k": "v"},
}
ALL = {f"a.{kind.name.lower()}": value for kind, value in VALUES.items()}
ZERO = {V.STRING: "", V.INT64: 0, V.BOOL: False, V.TIMESTAMP: ZERO_TIME, V.IP_ADDRESS: b""}


def compile_(template: str, params: object, bindings: Mapping[str, Any] | None = None) -> tuple[Any, list[FieldError]]:
    return compile_instance("i.instance.ns", "i", TEMPLATES[template], params, bindings or {}, VOCABULARY)


def sound(template: str, params: object = None, bindings: Mapping[str, Any] | None = None) -> CompiledInstance:
    compiled, faults = compile_(template, params, bindings)
    assert faults == []
    assert compiled is not None
    return compiled


def messages(template: str, params: object, bindings: Mapping[str, Any] | None = None) -> list[str]:
    compiled, faults = compile_(template, params, bindings)
    assert compiled is None
    return [fault.message for fault in faults]


def leaves(fields: tuple[Field, ...], path: tuple[Field, ...] = ()) -> list[tuple[Field, ...]]:
    """Every field of a template that holds an expression, with the messages around it."""
    found = []
    for field in fields:
        found += leaves(field.fields, (*path, field)) if field.fields else [(*path, field)]
    return found


FIELDS = [
    pytest.param(template, path, id=f"{template}.{'.'.join(field.name for field in path)}")
    for template in TEMPLATES
    for path in leaves(TEMPLATES[template].fields)
]


def params_of(path: tuple[Field, ...], leaf: object, *, camel: bool = False) -> Any:
    value: Any = {"key": leaf} if path[-1].is_map else leaf
    for field in reversed(path):
        name = field.title[:1].lower() + field.title[1:] if camel else field.name
        value = {name: value}
    return value


def title_of(path: tuple[Field, ...]) -> str:
    return ".".join(field.title for field in path) + ("[key]" if path[-1].is_map else "")


def value_of(instance: Any, path: tuple[Field, ...]) -> Any:
    for field in path:
        instance = getattr(instance, field.name)
    return instance["key"] if path[-1].is_map else instance


@pytest.mark.parametrize("camel", [False, True], ids=["snake", "camel"])
@pytest.mark.parametrize(("template", "path"), FIELDS)
@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.name)
def test_field_takes_expressions_of_its_type_only(
    template: str, path: tuple[Field, ...], kind: ValueType, camel: bool
) -> None:
    """Exactly: a STRING field takes no URI. A dynamic field takes anything, and its type is recorded."""
    field, source = path[-1], f"a.{kind.name.lower()}"
    params = params_of(path, source, camel=camel)

    if field.type is not None and field.type is not kind:
        text = f"error type checking for field '{title_of(path)}': Evaluated expression type {kind.name} want {field.type.name}"
        assert messages(template, params) == [text]
        return
    compiled = sound(template, params)

    assert value_of(compiled.build(MappingBag(ALL)), path) == VALUES[kind]
    assert compiled.attributes == {source}
    if field.type is None:
        recorded = compiled.types[".".join(f.name for f in path)]
        assert (recorded["key"] if isinstance(recorded, Mapping) else recorded) is kind


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("params", [None, {}], ids=["no params", "empty params"])
def test_omitted_fields_have_the_zero_value_of_their_type(template: str, params: Any) -> None:
    compiled = sound(template, params)
    instance = compiled.build(MappingBag({}))

    assert instance.name == "i.instance.ns"
    for field in TEMPLATES[template].fields:
        value = getattr(instance, field.name)
        if field.fields:
            assert value is None
        elif field.is_map:
            assert value == {}
        else:
            assert value == (None if field.type is None else ZERO[field.type])
    flat = {f.name: f for f in TEMPLATES[template].fields if f.type is None and not f.fields}
    assert compiled.types == {name: {} if f.is_map else V.VALUE_TYPE_UNSPECIFIED for name, f in flat.items()}


@pytest.mark.parametrize(("template", "path"), FIELDS)
def test_empty_text_leaves_a_field_unset_and_is_no_map_value(template: str, path: tuple[Field, ...]) -> None:
    if path[-1].is_map:
        (message,) = messages(template, params_of(path, ""))
        assert message.startswith(f"failed to evaluate expression for field '{title_of(path)}'; ")
    else:
        unset = sound(template, params_of(path, "")).build(MappingBag({}))
        assert value_of(unset, path) == (None if path[-1].type is None else ZERO[path[-1].type])


@pytest.mark.parametrize(("template", "path"), FIELDS)
def test_failure_names_the_instance_the_field_and_the_cause(template: str, path: tuple[Field, ...]) -> None:
    kind = path[-1].type or V.STRING
    compiled = sound(template, params_of(path, f"a.{kind.name.lower()}"))

    with pytest.raises(EvalError) as caught:
        compiled.build(MappingBag({}))

    text = f"evaluation failed at [i.instance.ns]'{title_of(path)}': 'lookup failed: 'a.{kind.name.lower()}''"
    assert str(caught.value) == text


@pytest.mark.parametrize(("template", "path"), FIELDS)
def test_value_of_another_class_is_an_evaluation_error(template: str, path: tuple[Field, ...]) -> None:
    kind = path[-1].type or V.STRING
    compiled = sound(template, params_of(path, f"a.{kind.name.lower()}"))

    with pytest.raises(EvalError, match=r"evaluation failed at \[i\.instance\.ns\]'.*': 'error converting value to "):
        compiled.build(MappingBag({f"a.{kind.name.lower()}": 1.25}))


@pytest.mark.parametrize("bad", [1, 1.5, True, ["a"], {"a": "b"}], ids=repr)
def test_leaf_that_is_no_text_is_told_with_a_hint(bad: Any) -> None:
    _, faults = compile_("logentry", {"severity": bad})

    assert [fault.path for fault in faults] == [("severity",)]
    assert "an expression in quotes" in faults[0].expected


def test_every_fault_is_reported() -> None:
    _, faults = compile_(
        "metric", {"valu": "1", "value": "no.such", "dimensions": {"a": 5, "b": "x |", "c": "a.string"}}
    )

    assert [fault.path for fault in faults] == [("valu",), ("value",), ("dimensions", "a"), ("dimensions", "b")]
    assert faults[0].expected == "value"


def test_camel_case_wins_over_snake_case() -> None:
    params = {"monitored_resource_type": '"snake"', "monitoredResourceType": '"camel"'}

    assert sound("metric", params).build(MappingBag({})).monitored_resource_type == "camel"


def test_null_is_unset() -> None:
    assert sound("authorization", {"subject": None, "action": {"path": None}}).build(MappingBag({})).subject is None


def test_nested_messages_are_there_when_they_are_named() -> None:
    instance = sound("authorization", {"subject": {}, "action": {"path": "a.string"}}).build(MappingBag(ALL))

    assert (instance.subject.user, instance.subject.properties) == ("", {})
    assert (instance.action.path, instance.action.method) == ("text", "")


def test_keys_of_maps_are_literals_whatever_they_are() -> None:
    keys = ["n", "yes", "with space", 'quote"', "line\nbreak", "\\", "a.string", "{}", "ü", "\ud800"]
    instance = sound("metric", {"dimensions": dict.fromkeys(keys, "a.string")}).build(MappingBag(ALL))

    assert list(instance.dimensions) == keys


def test_references_of_building_are_those_of_its_expressions() -> None:
    dimensions = {"a": 'a.string_map["x"] | a.string_map["k"] | "none"', "b": "a.uri == a.uri", "whole": "a.string_map"}
    compiled = sound("metric", {"value": "a.int64", "dimensions": dimensions})
    bag = TrackingBag(MappingBag(ALL))

    compiled.build(bag)

    assert compiled.attributes == {"a.string_map", "a.uri", "a.int64"}
    exact = Condition.EXACT
    assert bag.referenced == {
        ("a.int64", ""): exact,
        ("a.string_map", "x"): Condition.ABSENCE,
        ("a.string_map", "k"): exact,
        ("a.string_map", ""): exact,
        ("a.uri", ""): exact,
    }


def test_whole_maps_are_handed_over_as_plain_maps() -> None:
    compiled = sound("listentry", {"value": "a.string_map"})

    assert type(compiled.build(TrackingBag(MappingBag(ALL))).value) is dict


def test_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    one = sound("metric", {"value": "1", "dimensions": {"a": "1", "b": "2"}})
    other = sound("metric", {"dimensions": {"b": "2", "a": "1"}, "value": "1"})

    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != sound("metric", {"value": "1", "dimensions": {"a": "1", "b": "3"}}).fingerprint
    assert one.fingerprint != sound("quota", {"dimensions": {"a": "1", "b": "2"}}).fingerprint


def test_expression_beyond_what_can_be_compiled_is_a_fault() -> None:
    deep = "toLower(" * 200 + "a.string" + ")" * 200

    assert len(messages("metric", {"value": deep})) == 1


# Attribute bindings

OUT = "adapter_template_kubernetes.output"


def bind(bindings: Mapping[str, str], outputs: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> Any:
    compiled = sound("kubernetes", {}, bindings)
    assert compiled.bind is not None
    return compiled.bind(outputs, MappingBag(attributes or {}))


def test_bindings_read_outputs_and_the_request() -> None:
    bindings = {"a.string": "$out.source_pod_name", "a.int64": "a.int64"}

    assert bind(bindings, {"source_pod_name": "pod"}, {"a.int64": 3}) == {"a.string": "pod", "a.int64": 3}


def test_output_that_is_not_set_falls_through() -> None:
    bindings = {"a.string": '$out.source_pod_name | $out.source_owner | a.string | "none"'}

    assert bind(bindings, {}) == {"a.string": "none"}
    assert bind(bindings, {"source_owner": "o"}, {"a.string": "mine"}) == {"a.string": "o"}
    assert bind(bindings, {}, {"a.string": "mine"}) == {"a.string": "mine"}


def test_outputs_may_be_written_out_in_full() -> None:
    assert bind({"a.string": f"{OUT}.source_owner"}, {"source_owner": "o"}) == {"a.string": "o"}


def test_attribute_of_the_request_never_stands_for_an_output() -> None:
    with pytest.raises(EvalError, match="lookup failed"):
        bind({"a.string": "$out.source_owner"}, {}, {f"{OUT}.source_owner": "forged"})


@pytest.mark.parametrize(
    ("address", "bound"),
    [
        (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 1])),
        (bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1]), bytes([10, 0, 0, 1])),
        (bytes(15) + b"\x01", bytes(15) + b"\x01"),
        (b"", b""),
    ],
    ids=["4 bytes", "mapped", "16 bytes", "none"],
)
def test_bound_addresses_are_short_when_they_can_be(address: bytes, bound: bytes) -> None:
    assert bind({"a.ip_address": "$out.source_pod_ip"}, {"source_pod_ip": address}) == {"a.ip_address": bound}
    fallback = {"a.ip_address": '$out.source_pod_ip | ip("0.0.0.0")'}
    assert bind(fallback, {}) == {"a.ip_address": bytes(4)}


@pytest.mark.parametrize(
    ("output", "value"), [("source_pod_ip", "10.0.0.1"), ("source_labels", "a=b"), ("source_owner", 5)]
)
def test_output_of_another_class_is_an_evaluation_error(output: str, value: Any) -> None:
    target = {"source_pod_ip": "a.ip_address", "source_labels": "a.string_map", "source_owner": "a.string"}[output]

    with pytest.raises(EvalError, match="error converting value"):
        bind({target: f"$out.{output}"}, {output: value})


def test_attributes_of_bindings_count_as_read() -> None:
    compiled = sound("kubernetes", {"sourceUid": "a.string"}, {"a.uri": "a.uri", "a.string": "$out.source_owner"})

    assert compiled.attributes == {"a.string", "a.uri"}


@pytest.mark.parametrize("spelling", ["attributeBindings", "attribute_bindings"])
def test_bindings_may_stand_among_the_params(spelling: str) -> None:
    compiled = sound("kubernetes", {spelling: {"a.string": "$out.source_owner"}})

    assert compiled.bind is not None
    assert compiled.bind({"source_owner": "o"}, MappingBag({})) == {"a.string": "o"}


@pytest.mark.parametrize(
    "template", [name for name, t in TEMPLATES.items() if t.variety is not Variety.ATTRIBUTE_GENERATOR]
)
def test_template_without_outputs_takes_no_bindings(template: str) -> None:
    for params, bindings in ({}, {"a.string": '"x"'}), ({"attribute_bindings": {}}, {}):
        (message,) = messages(template, params, bindings)
        assert message.startswith('unknown field "attribute')
    assert sound(template).bind is None
