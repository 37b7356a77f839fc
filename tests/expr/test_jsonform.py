"""Values and evaluations as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.attributes import Duration, Timestamp, ValueType, Vocabulary
from mixer.expr.jsonform import evaluate_case, value_from_json, value_to_json

V = ValueType


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        (V.STRING, "é", "é"),
        (V.URI, "http://a", "http://a"),
        (V.INT64, -(1 << 63), -(1 << 63)),
        (V.INT64, (1 << 63) - 1, (1 << 63) - 1),
        (V.DOUBLE, 2.5, 2.5),
        (V.DOUBLE, "+Inf", float("inf")),
        (V.DOUBLE, "-Inf", float("-inf")),
        (V.BOOL, True, True),
        (V.TIMESTAMP, "2020-03-01T12:00:00.5Z", Timestamp.parse("2020-03-01T12:00:00.500Z")),
        (V.TIMESTAMP, "2020-03-01T12:00:00Z", Timestamp.parse("2020-03-01T14:00:00+02:00")),
        (V.DURATION, "1m30s", Duration(90 * 10**9)),
        (V.DURATION, "20ms", Duration(20 * 10**6)),
        (V.DURATION, "0s", Duration(0)),
        (V.IP_ADDRESS, "10.1.2.3", bytes((10, 1, 2, 3))),
        (V.IP_ADDRESS, "2001:db8::1", bytes.fromhex("20010db8000000000000000000000001")),
        (V.STRING_MAP, {"a": "b"}, {"a": "b"}),
    ],
)
def test_value_goes_to_json_and_back(kind: ValueType, form: Any, value: Any) -> None:
    assert value_from_json(kind, form) == value
    assert value_to_json(kind, value) == form
    assert type(value_to_json(kind, value)) is type(form)


def test_nan_is_written_as_text() -> None:
    assert value_to_json(V.DOUBLE, float("nan")) == "NaN"
    assert str(value_from_json(V.DOUBLE, "NaN")) == "nan"


def test_whole_number_is_a_double_where_one_is_declared() -> None:
    value = value_from_json(V.DOUBLE, 2)
    assert (type(value), value) == (float, 2.0)


def test_mapped_address_is_written_as_ipv4() -> None:
    assert value_to_json(V.IP_ADDRESS, bytes(10) + b"\xff\xff\x0a\x01\x02\x03") == "10.1.2.3"


def test_value_of_another_class_is_written_as_what_it_is() -> None:
    assert value_to_json(V.TIMESTAMP, "not a time") == "not a time"


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (V.STRING, 1),
        (V.INT64, True),
        (V.INT64, 1.0),
        (V.INT64, 1 << 63),
        (V.INT64, "1"),
        (V.DOUBLE, "x"),
        (V.DOUBLE, True),
        (V.DOUBLE, 10**400),
        (V.BOOL, 1),
        (V.TIMESTAMP, "yesterday"),
        (V.TIMESTAMP, 5),
        (V.DURATION, "5"),
        (V.IP_ADDRESS, "10.1.2"),
        (V.STRING_MAP, {"a": 1}),
        (V.STRING_MAP, []),
        (V.VALUE_TYPE_UNSPECIFIED, "x"),
    ],
)
def test_json_of_another_type_is_refused(kind: ValueType, form: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        value_from_json(kind, form)


ATTRS = {
    "a.name": {"type": "STRING", "value": "x"},
    "a.tags": {"type": "STRING_MAP", "value": {"k": "v"}},
}
VOCAB = Vocabulary({"a.name": V.STRING, "a.tags": V.STRING_MAP, "a.none": V.STRING})


def test_case_gives_value_and_references() -> None:
    answer = evaluate_case({"id": "x1", "expr": 'a.none | a.tags["z"] | a.tags["k"] | a.name', "attrs": ATTRS}, VOCAB)
    assert answer == {
        "id": "x1",
        "type": "STRING",
        "value": "v",
        "referenced": ["ABSENCE a.none", "ABSENCE a.tags[z]", "EXACT a.tags[k]"],
    }


def test_case_gives_a_map_as_an_object() -> None:
    answer = evaluate_case({"id": 1, "expr": "a.tags", "attrs": ATTRS}, VOCAB)
    assert answer == {"id": 1, "type": "STRING_MAP", "value": {"k": "v"}, "referenced": []}


def test_case_gives_evaluation_error_with_references() -> None:
    answer = evaluate_case({"id": "e", "expr": "a.name + a.none", "attrs": ATTRS}, VOCAB)
    assert answer == {
        "id": "e",
        "type": "STRING",
        "error": "lookup failed: 'a.none'",
        "referenced": ["ABSENCE a.none", "EXACT a.name"],
    }


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a.name +", "unable to parse expression 'a.name +': 1:9: expected a value"),
        ("a.other", "unknown attribute a.other"),
        ("a.name == 1", "EQ($a.name, 1) arg 2 (1) typeError got INT64, expected STRING"),
    ],
)
def test_case_gives_compile_error(source: str, text: str) -> None:
    answer = evaluate_case({"id": "c", "expr": source, "attrs": ATTRS}, VOCAB)
    assert list(answer) == ["id", "compile_error"]
    assert answer["compile_error"].startswith(text)
    assert "\n" not in answer["compile_error"]


def test_vocabulary_of_the_line_adds_to_the_default() -> None:
    request = {"id": "v", "expr": "a.other | a.name", "attrs": ATTRS, "vocab": {"a.other": "STRING"}}
    assert evaluate_case(request, VOCAB)["value"] == "x"


def test_attributes_are_the_vocabulary_when_there_is_no_other() -> None:
    assert evaluate_case({"id": "v", "expr": "a.name", "attrs": ATTRS})["value"] == "x"
    assert evaluate_case({"id": "v", "expr": "a.name", "attrs": ATTRS, "vocab": {}})["compile_error"]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"id": 1},
        {"expr": 5},
        {"expr": "true", "attrs": []},
        {"expr": "true", "attrs": {"a": 1}},
        {"expr": "true", "attrs": {"a": {"type": "TEXT", "value": ""}}},
        {"expr": "true", "attrs": {"a": {"type": "INT64", "value": ""}}},
        {"expr": "true", "vocab": 7},
        {"expr": "true", "vocab": {"a": 7}},
    ],
)
def test_malformed_request_gives_an_error(request_: dict[str, Any]) -> None:
    answer = evaluate_case(request_)
    assert set(answer) == {"id", "error"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    request=st.fixed_dictionaries(
        {},
        optional={
            "id": _json,
            "expr": _json | st.sampled_from(["a", 'a["x"]', "a == a", "a < a"]),
            "vocab": _json | st.just({"a": "STRING"}),
            "attrs": _json
            | st.fixed_dictionaries(
                {"a": st.fixed_dictionaries({"type": st.sampled_from([*ValueType.__members__]), "value": _json})}
            ),
        },
    )
)
def test_any_request_has_an_answer_that_json_can_hold(request: dict[str, Any]) -> None:
    answer = evaluate_case(request)
    json.dumps(answer, ensure_ascii=False).encode()


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert evaluate_case({"id": "b", "expr": '"\\xffa"'})["value"] == "\ufffda"
