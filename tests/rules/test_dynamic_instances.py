"""Params of instances and handlers against descriptors: what is taken, what it becomes, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.remote.descriptors import (
    EncodedInstance,
    RemoteTemplate,
    load_pool,
    message_class,
    pack_set,
    read_template,
)
from mixer.adapters.remote.standard import standard_descriptor
from mixer.api.gen.mixer.adapter.model.v1beta1 import extensions_pb2
from mixer.attributes import Duration, MappingBag, Timestamp, TrackingBag, ValueType, Vocabulary
from mixer.errors import EvalError
from mixer.rules.encoding import compile_encoded
from mixer.rules.literals import encode_params
from mixer.templates import Variety
from mixer.templates.builder import CompiledInstance

F = descriptor_pb2.FieldDescriptorProto
NAME = "i.instance.istio-system"
WORDS = Vocabulary(
    {
        "s": ValueType.STRING,
        "i": ValueType.INT64,
        "d": ValueType.DOUBLE,
        "b": ValueType.BOOL,
        "t": ValueType.TIMESTAMP,
        "l": ValueType.DURATION,
        "ip": ValueType.IP_ADDRESS,
        "m": ValueType.STRING_MAP,
        "dns": ValueType.DNS_NAME,
        "uri": ValueType.URI,
        "mail": ValueType.EMAIL_ADDRESS,
    }
)


def odd_template() -> RemoteTemplate:
    """A template with a field of every kind that a descriptor can have."""
    described = descriptor_pb2.FileDescriptorSet.FromString(
        __import__("base64").b64decode(standard_descriptor("metric"))
    )
    file = next(f for f in described.file if f.package == "metric")
    file.package = "odd"
    for method in file.service[0].method:
        method.input_type = ".odd.HandleMetricRequest"
    file.message_type[0].field[0].type_name = ".odd.InstanceMsg"
    message = next(m for m in file.message_type if m.name == "InstanceMsg")
    del message.field[:]
    del message.nested_type[:]
    message.field.add(name="name", number=72295727, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    color = message.enum_type.add(name="Color")
    for number, name in enumerate(("RED", "GREEN")):
        color.value.add(name=name, number=number)
    inner = message.nested_type.add(name="Inner")
    inner.field.add(name="text", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    inner.oneof_decl.add(name="choice")
    inner.field.add(name="one", number=2, type=F.TYPE_INT64, label=F.LABEL_OPTIONAL, oneof_index=0)
    inner.field.add(name="other", number=3, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL, oneof_index=0)
    kinds: list[tuple[str, Any, str, bool]] = [
        ("i32", F.TYPE_INT32, "", False),
        ("u64", F.TYPE_UINT64, "", False),
        ("f", F.TYPE_FLOAT, "", False),
        ("raw", F.TYPE_BYTES, "", False),
        ("color", F.TYPE_ENUM, ".odd.InstanceMsg.Color", False),
        ("inner", F.TYPE_MESSAGE, ".odd.InstanceMsg.Inner", False),
        ("inners", F.TYPE_MESSAGE, ".odd.InstanceMsg.Inner", True),
        ("texts", F.TYPE_STRING, "", True),
        ("numbers", F.TYPE_SINT32, "", True),
        ("from", F.TYPE_STRING, "", False),
        ("long", F.TYPE_MESSAGE, ".google.protobuf.Duration", False),
        ("when", F.TYPE_MESSAGE, ".google.protobuf.Timestamp", False),
        ("uri", F.TYPE_MESSAGE, ".istio.policy.v1beta1.Uri", False),
        ("dnsName", F.TYPE_MESSAGE, ".istio.policy.v1beta1.DNSName", False),
        ("yes", F.TYPE_BOOL, "", False),
        ("value", F.TYPE_MESSAGE, ".istio.policy.v1beta1.Value", False),
    ]
    for number, (name, kind, type_name, repeated) in enumerate(kinds, start=1):
        label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, type_name=type_name or None, label=label)
    for name, key, value in (("labels", F.TYPE_STRING, F.TYPE_STRING), ("by_number", F.TYPE_INT32, F.TYPE_BOOL)):
        entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=key, label=F.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=value, label=F.LABEL_OPTIONAL)
        type_name = f".odd.InstanceMsg.{entry_name}"
        message.field.add(name=name, number=40 + key, type=F.TYPE_MESSAGE, type_name=type_name, label=F.LABEL_REPEATED)
    file.message_type.remove(next(m for m in file.message_type if m.name == "Type"))
    model = read_template(pack_set(described))
    return RemoteTemplate("odd.template.istio-system", Variety.REPORT, EncodedInstance, (), {}, "output", model)


ODD = odd_template()


def compiled(params: Any) -> tuple[CompiledInstance | None, list[Any]]:
    return compile_encoded(NAME, "i", ODD, params, {}, WORDS)


def sent(params: Any, **attributes: Any) -> Any:
    """The message that params become."""
    made, faults = compiled(params)
    assert made is not None, faults
    assert ODD.model is not None
    message = message_class(ODD.model.instance)()
    message.ParseFromString(made.build(MappingBag(attributes)).payload)
    return message


@pytest.mark.parametrize(
    ("params", "attributes", "expected"),
    [
        ({"i32": 5}, {}, ("i32", 5)),
        ({"i32": "5"}, {}, ("i32", 5)),
        ({"i32": "i"}, {"i": -7}, ("i32", -7)),
        ({"i32": 5.0}, {}, ("i32", 5)),
        ({"f": 1}, {}, ("f", 1.0)),
        ({"f": "d"}, {"d": 0.5}, ("f", 0.5)),
        ({"yes": True}, {}, ("yes", True)),
        ({"yes": "b"}, {"b": True}, ("yes", True)),
        ({"color": "'GREEN'"}, {}, ("color", 1)),
        ({"color": 1}, {}, ("color", 1)),
        ({"color": "s"}, {"s": "GREEN"}, ("color", 1)),
        ({"color": "i"}, {"i": 1}, ("color", 1)),
        ({"from": '"i"'}, {}, ("from", "i")),
        ({"from": "'it''s'"}, {}, ("from", "it''s")),
        ({"from": "s"}, {"s": "ü€"}, ("from", "ü€")),
        ({"texts": ['"a"', "s"]}, {"s": "b"}, ("texts", ["a", "b"])),
        ({"numbers": [1, "i", "3"]}, {"i": -2}, ("numbers", [1, -2, 3])),
        ({"labels": {"a": '"x"', "b": "s"}}, {"s": "y"}, ("labels", {"a": "x", "b": "y"})),
        ({"labels": "m"}, {"m": {"k": "v"}}, ("labels", {"k": "v"})),
        ({"by_number": {1: True, "2": "b"}}, {"b": True}, ("by_number", {1: True, 2: True})),
        ({"byNumber": {3: False}}, {}, ("by_number", {3: False})),
    ],
    ids=str,
)
def test_params_become_fields(params: Any, attributes: Any, expected: tuple[str, Any]) -> None:
    name, value = expected
    found = getattr(sent(params, **attributes), name)
    if isinstance(value, list):
        found = list(found)
    assert (dict(found) if isinstance(value, dict) else found) == value


def test_messages_nest_and_repeat() -> None:
    message = sent({"inner": {"text": "s", "one": 4}, "inners": [{"other": '"o"'}, {}]}, s="x")

    assert (message.inner.text, message.inner.one) == ("x", 4)
    assert [inner.other for inner in message.inners] == ["o", ""]
    assert message.name == NAME


def test_instants_and_spans_of_google_and_typed_texts() -> None:
    message = sent(
        {"long": "l", "when": "t", "uri": "uri", "dnsName": "dns", "dns_name": None},
        l=Duration.parse("-1.5s"),
        t=Timestamp(1_500_000_000_000_000_001),
        uri="http://x/",
        dns="a.b",
    )

    assert (message.long.ToNanoseconds(), message.when.ToNanoseconds()) == (-1_500_000_000, 1_500_000_000_000_000_001)
    assert (message.uri.value, message.dnsName.value) == ("http://x/", "a.b")


@pytest.mark.parametrize(
    ("value", "attributes", "field", "expected", "kind"),
    [
        ("s", {"s": "a"}, "string_value", "a", ValueType.STRING),
        ("i", {"i": 1}, "int64_value", 1, ValueType.INT64),
        ("b", {"b": True}, "bool_value", True, ValueType.BOOL),
        ("d", {"d": 0.1}, "double_value", 0.1, ValueType.DOUBLE),
        (5, {}, "double_value", 5.0, ValueType.DOUBLE),
        (math.inf, {}, "double_value", math.inf, ValueType.DOUBLE),
        (True, {}, "bool_value", True, ValueType.BOOL),
        ("'i'", {}, "string_value", "i", ValueType.STRING),
        ("5", {}, "int64_value", 5, ValueType.INT64),
    ],
    ids=str,
)
def test_a_dynamic_value_takes_any_type(
    value: Any, attributes: Any, field: str, expected: Any, kind: ValueType
) -> None:
    made, _ = compiled({"value": value})

    assert made is not None
    assert made.types == {"value": kind}
    message = sent({"value": value}, **attributes).value
    assert message.WhichOneof("value") == field
    assert getattr(message, field) == expected


@pytest.mark.parametrize(
    ("value", "attribute", "given_value", "field"),
    [
        ("ip", "ip", b"\1\2\3\4", "ip_address_value"),
        ("uri", "uri", "http://x", "uri_value"),
        ("dns", "dns", "a.b", "dns_name_value"),
        ("mail", "mail", "a@b", "email_address_value"),
    ],
    ids=lambda value: str(value),
)
def test_a_dynamic_value_keeps_the_kind_of_a_text(value: str, attribute: str, given_value: Any, field: str) -> None:
    message = sent({"value": value}, **{attribute: given_value}).value

    assert getattr(message, field).value == given_value


@pytest.mark.parametrize(
    ("params", "path", "message", "expected"),
    [
        ({"nothing": 1}, ("nothing",), 'unknown field "nothing" in metric', "one of "),
        ({"i32": "s"}, ("i32",), "Evaluated expression type STRING want INT64", "an expression of type INT64"),
        ({"i32": "'a'"}, ("i32",), "a string cannot be read here", "a number"),
        ({"i32": 1 << 31}, ("i32",), "out of range", "-2147483648 to 2147483647"),
        ({"u64": -1}, ("u64",), "out of range", "0 to 18446744073709551615"),
        ({"f": 1e39}, ("f",), "out of range", "a number that fits 32 bits"),
        ({"yes": 1}, ("yes",), "the number 1 cannot be read here", "true or false"),
        ({"raw": "s"}, ("raw",), "a field of bytes cannot be configured", "nothing"),
        ({"color": "'BLUE'"}, ("color",), "no value of Color", "one of RED, GREEN"),
        ({"color": "b"}, ("color",), "Evaluated expression type BOOL want STRING or INT64", "an expression of type"),
        ({"from": 5}, ("from",), "the number 5 cannot be read here", "a string (quote it)"),
        ({"inner": "s"}, ("inner",), "a string cannot be read here", "a mapping"),
        ({"inner": {"txt": "s"}}, ("inner", "txt"), 'unknown field "txt" in metric.inner', "text"),
        ({"inner": {"one": 1, "other": "s"}}, ("inner", "other"), "other and one exclude each other", "one of one, o"),
        ({"inners": {}}, ("inners",), "a mapping cannot be read here", "a list"),
        ({"inners": [{}, {"text": 1}]}, ("inners", 1, "text"), "the number 1 cannot be read", "a string (quote it)"),
        ({"texts": ["s", "i"]}, ("texts", 1), "for field 'Texts[1]': Evaluated expression type INT64", "an expression"),
        ({"texts": [""]}, ("texts", 0), "failed to evaluate expression for field 'Texts[0]'", "an expression"),
        ({"labels": 5}, ("labels",), "the number 5 cannot be read", "a mapping, or an expression of type STRING_MAP"),
        ({"labels": {"a": "i"}}, ("labels", "a"), "'Labels[a]': Evaluated expression type INT64 want STRING", "an ex"),
        ({"by_number": {"x": True}}, ("by_number", "x"), "a string cannot be read here", "a number"),
        ({"long": 5}, ("long",), "the number 5 cannot be read", "an expression of type DURATION, in quotes"),
        ({"long": "t"}, ("long",), "Evaluated expression type TIMESTAMP want DURATION", "an expression of type"),
        ({"value": "m"}, ("value",), "a value of type STRING_MAP cannot be sent", "a value of another type"),
        ({"value": []}, ("value",), "a list cannot be read here", "a number, true, false, or an expression"),
        ({"value": "s +"}, ("value",), "failed to evaluate expression for field 'Value';", "a valid expression"),
        ({"dnsName": "dns", "dns_name": "dns"}, ("dns_name",), 'field "dnsName" is set twice', "one spelling"),
        ([], (), "a list cannot be read here", "a mapping of the template's fields"),
        ({"from": "'\ud800'"}, (), "a text in it cannot be encoded", "texts of Unicode characters"),
    ],
    ids=str,
)
def test_faults_name_the_field_and_what_was_expected(params: Any, path: Any, message: str, expected: str) -> None:
    made, faults = compiled(params)

    assert made is None
    assert [fault.path for fault in faults] == [path]
    assert message in faults[0].message
    assert faults[0].expected.startswith(expected)


def test_every_fault_is_found() -> None:
    _, faults = compiled({"i32": "s", "inner": {"x": 1}, "texts": 3})

    assert [fault.path for fault in faults] == [("i32",), ("inner", "x"), ("texts",)]


@pytest.mark.parametrize(
    ("params", "attributes", "complaint"),
    [
        ({"from": "s"}, {}, "evaluation failed at [i.instance.istio-system]'From': 'lookup failed: 's''"),
        ({"i32": "i"}, {"i": 1 << 40}, "'I32': 'out of range'"),
        ({"color": "s"}, {"s": "BLUE"}, "'Color': ''BLUE' is no value of Color'"),
        ({"inner": {"text": "s"}}, {"s": 5}, "'Inner.Text'"),
        ({"when": "t"}, {"t": "noon"}, "'When': 'error converting value to timestamp: 'noon''"),
        ({"when": "t"}, {"t": Timestamp(-(1 << 66))}, "'When'"),
        ({"value": "ip"}, {"ip": b"123"}, "'Value': 'error converting value to an address"),
        ({"labels": "m"}, {"m": "x"}, "'Labels': 'error converting value to string map: 'x''"),
    ],
    ids=str,
)
def test_what_a_request_lacks_or_has_wrong_is_an_error_of_the_field(
    params: Any, attributes: Any, complaint: str
) -> None:
    made, _ = compiled(params)
    assert made is not None

    with pytest.raises(EvalError) as failure:
        made.build(MappingBag(attributes))

    assert complaint in str(failure.value)


def test_half_a_character_of_a_request_is_an_error_of_the_instance() -> None:
    made, _ = compiled({"from": "s"})
    assert made is not None
    with pytest.raises(EvalError, match="evaluation failed at"):
        made.build(MappingBag({"s": "\ud800"}))


def test_params_with_half_a_character_are_a_fault() -> None:
    assert ODD.model is not None
    data, faults = encode_params(ODD.model.instance, {"from": "\ud800"})

    assert data == b""
    assert [fault.message for fault in faults] == ["a text in it cannot be encoded"]


def test_an_instance_of_constants_is_encoded_once() -> None:
    made, _ = compiled({"from": "'x'", "i32": 3})

    assert made is not None
    assert made.build(MappingBag({})) is made.build(MappingBag({}))
    assert made.attributes == frozenset()


def test_what_is_read_is_known_and_recorded() -> None:
    made, _ = compiled({"from": 's | "x"', "labels": "m"})
    assert made is not None
    assert made.attributes == {"s", "m"}
    bag = TrackingBag(MappingBag({"m": {"a": "b"}}))

    made.build(bag)

    assert set(bag.referenced) == {("s", ""), ("m", "")}


@given(
    text=st.text(),
    number=st.integers(-(1 << 31), (1 << 31) - 1),
    labels=st.dictionaries(st.text(), st.text(), max_size=4),
    span=st.integers(-(1 << 62), 1 << 62),
)
def test_values_survive_the_wire(text: str, number: int, labels: dict[str, str], span: int) -> None:
    message = sent({"from": "s", "i32": "i", "labels": "m", "long": "l"}, s=text, i=number, m=labels, l=Duration(span))

    assert (getattr(message, "from"), message.i32, dict(message.labels)) == (text, number, labels)
    assert message.long.ToNanoseconds() == span


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["i32", "from", "inner", "inners", "texts", "labels", "value", "long", "text", "one", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_data_is_an_instance_or_a_fault(params: Any) -> None:
    made, faults = compiled(params)
    assert (made is None) == bool(faults)
    data, literal_faults = encode_params(ODD.model.instance, params)  # type: ignore[union-attr]
    assert isinstance(data, bytes)
    assert all(fault.message for fault in (*faults, *literal_faults))


# Descriptors


@pytest.mark.parametrize(
    ("mutate", "complaint"),
    [
        (lambda f: f.ClearField("service"), "declares no service whose name starts with Handle"),
        (lambda f: f.service[0].ClearField("method"), "declares no service whose name starts with Handle"),
        (lambda f: f.message_type[0].ClearField("field"), "has no fields"),
        (
            lambda f: (
                f.message_type[0].field.add(name="zero", number=9, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
                and setattr(f.message_type[0].field[0], "number", 20)
            ),
            "is no InstanceMsg",
        ),
        (lambda f: f.dependency.append("nowhere.proto"), "imports nowhere.proto, which the descriptor set lacks"),
        (lambda f: f.dependency.append(f.name), "imports itself"),
        (lambda f: setattr(f.message_type[1].field[1], "type_name", ".no.Such"), "Such"),
        (
            lambda f: f.options.Extensions.__setitem__(extensions_pb2.template_variety, 3),
            "of an attribute generator answers with no OutputMsg",
        ),
        (
            lambda f: (
                setattr(f.service[0].method[0], "output_type", ".metric.InstanceMsg")
                or f.options.Extensions.__setitem__(extensions_pb2.template_variety, 4)
            ),
            "has other fields than the result and the output",
        ),
    ],
    ids=["service", "method", "request", "first", "import", "itself", "type", "generator", "with-output"],
)
def test_descriptors_that_make_no_sense(mutate: Any, complaint: str) -> None:
    import base64

    described = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(standard_descriptor("metric")))
    mutate(next(f for f in described.file if f.package == "metric"))

    with pytest.raises(ValueError, match=complaint):
        read_template(pack_set(described))


def test_a_descriptor_may_be_gzipped_and_broken_into_lines() -> None:
    import base64
    import gzip
    import textwrap

    plain = standard_descriptor("quota")
    packed = base64.b64encode(gzip.compress(base64.b64decode(plain))).decode()

    assert read_template("\n".join(textwrap.wrap(packed, 60))).digest == read_template(plain).digest


def test_a_bomb_is_not_unpacked() -> None:
    import base64
    import gzip

    with pytest.raises(ValueError, match="larger than 16 MiB"):
        read_template(base64.b64encode(gzip.compress(bytes(64 << 20))).decode())


def test_two_descriptors_may_use_one_name_for_two_things() -> None:
    other = descriptor_pb2.FileDescriptorProto(name="a.proto", package="a", syntax="proto3")
    other.message_type.add(name="Params")
    same = descriptor_pb2.FileDescriptorProto()
    same.CopyFrom(other)
    same.message_type[0].field.add(name="x", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)

    first, second = (load_pool([file]).FindMessageTypeByName("a.Params") for file in (other, same))

    assert ([f.name for f in first.fields], [f.name for f in second.fields]) == ([], ["x"])


def test_options_of_other_tools_do_no_harm() -> None:
    """Istio's descriptors carry gogoproto's options, and the file that declares them."""
    import base64

    described = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(standard_descriptor("metric")))
    foreign = descriptor_pb2.FileDescriptorProto(
        name="gogoproto/gogo.proto",
        package="gogoproto",
        syntax="proto2",
        dependency=["google/protobuf/descriptor.proto"],
    )
    foreign.extension.add(
        name="equal_all",
        number=63013,
        type=F.TYPE_BOOL,
        label=F.LABEL_OPTIONAL,
        extendee=".google.protobuf.FileOptions",
    )
    described.file.insert(0, foreign)
    file = next(f for f in described.file if f.package == "metric")
    file.dependency.append(foreign.name)
    file.options.MergeFromString(b"\xa8\xe2\x1e\x00")  # field 63013, false
    file.source_code_info.location.add(path=[1], span=[1, 2, 3], leading_comments="long")

    assert read_template(pack_set(described)).path == "/metric.HandleMetricService/HandleMetric"
