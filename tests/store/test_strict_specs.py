"""How plain data is decoded onto a model, row by row. Source: spec runtime 1.2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import (
    Double,
    DurationField,
    Int32,
    Int64,
    ProtoEnum,
    ProtoModel,
    Uint32,
    decode,
    enum_field,
)


class Colour(ProtoEnum):
    RED = 0
    DARK_BLUE = 3


class Status(ProtoModel):
    code: Int32 = 9
    message: str = ""


class Point(ProtoModel):
    x: Int32
    y: Int32 = 0


class Spec(ProtoModel):
    text: str = ""
    max_amount: Int64 = 0
    small: Int32 = 0
    natural: Uint32 = 0
    ratio: Double = 0.0
    flag: bool = False
    colour: enum_field(Colour) = Colour.RED  # type: ignore[valid-type]
    valid_duration: DurationField = Duration(0)
    labels: Mapping[str, str] = Field(default_factory=lambda: {"default": "x"})
    names: list[str] = Field(default_factory=lambda: ["default"])
    pairs: tuple[Point, ...] = ()
    status: Status = Status(code=7)
    point: Point | None = None


def good(data: object) -> Spec:
    spec, faults = decode(Spec, data)
    assert faults == []
    assert spec is not None
    return spec


def fault(data: object) -> FieldError:
    spec, faults = decode(Spec, data)
    assert spec is None
    (one,) = faults
    return one


def test_nothing_is_all_defaults() -> None:
    assert good({}) == good(None) == Spec()


@pytest.mark.parametrize("data", [{"maxAmount": 1}, {"max_amount": 1}, {"maxAmount": 1, "max_amount": 2}])
def test_both_spellings_are_read_and_camel_case_wins(data: dict[str, int]) -> None:
    assert good(data).max_amount == 1
    assert good(dict(reversed(data.items()))).max_amount == 1


@pytest.mark.parametrize(
    ("field", "value", "result"),
    [
        ("text", "1", "1"),
        ("text", None, ""),
        ("maxAmount", "9223372036854775807", (1 << 63) - 1),
        ("maxAmount", -(1 << 63), -(1 << 63)),
        ("small", 5.0, 5),
        ("small", "-5", -5),
        ("natural", (1 << 32) - 1, (1 << 32) - 1),
        ("ratio", 1, 1.0),
        ("ratio", "1.5e3", 1500.0),
        ("ratio", "Infinity", math.inf),
        ("ratio", "-Infinity", -math.inf),
        ("ratio", math.inf, math.inf),
        ("flag", True, True),
        ("colour", "DARK_BLUE", Colour.DARK_BLUE),
        ("colour", 3, Colour.DARK_BLUE),
        ("validDuration", "1m30s", Duration(90_000_000_000)),
        ("validDuration", "300ms", Duration(300_000_000)),
        ("validDuration", "1.5h", Duration(5_400_000_000_000)),
        ("validDuration", "0", Duration(0)),
        ("labels", {"a": "b"}, {"a": "b"}),
        ("labels", {}, {}),
        ("names", ["a"], ["a"]),
        ("names", [], []),
        ("names", None, ["default"]),
        ("pairs", [{"x": 1}], (Point(x=1),)),
        ("point", None, None),
        ("point", {"x": "1"}, Point(x=1)),
    ],
)
def test_values_that_are_read(field: str, value: object, result: object) -> None:
    spec = good({field: value})

    found = next(getattr(spec, n) for n, f in Spec.model_fields.items() if f.alias == field)
    assert (type(found), found) == (type(result), result)


def test_not_a_number() -> None:
    assert math.isnan(good({"ratio": "NaN"}).ratio)


def test_nested_message_merges_over_its_default() -> None:
    assert good({"status": {"message": "nope"}}).status == Status(code=9, message="nope")
    assert good({"status": None}).status == Status(code=7)


@pytest.mark.parametrize(
    ("data", "path", "message", "expected"),
    [
        ({"text": 1}, ("text",), "the number 1 cannot be read here", "a string (quote it)"),
        ({"text": True}, ("text",), "the boolean true cannot be read here", "a string (quote it)"),
        ({"text": {}}, ("text",), "a mapping cannot be read here", "a string"),
        ({"labels": {"a": 1}}, ("labels", "a"), "the number 1 cannot be read here", "a string (quote it)"),
        ({"labels": {"a": None}}, ("labels", "a"), "null cannot be read here", "a string"),
        (
            {"labels": {"function-x": 1}},
            ("labels", "function-x"),
            "the number 1 cannot be read here",
            "a string (quote it)",
        ),
        ({"labels": []}, ("labels",), "a list cannot be read here", "a mapping"),
        ({"names": ["a", 2.5]}, ("names", 1), "the number 2.5 cannot be read here", "a string (quote it)"),
        ({"names": "a"}, ("names",), "a string cannot be read here", "a list"),
        ({"flag": "true"}, ("flag",), "a string cannot be read here", "true or false, without quotes"),
        ({"flag": 1}, ("flag",), "the number 1 cannot be read here", "true or false"),
        ({"small": 1 << 31}, ("small",), "2147483648 is out of range", "-2147483648 to 2147483647"),
        ({"small": "9" * 9_000}, ("small",), f"{'9' * 37}... is out of range", "-2147483648 to 2147483647"),
        ({"natural": -1}, ("natural",), "-1 is out of range", "0 to 4294967295"),
        ({"small": 1.5}, ("small",), "the number 1.5 is not a whole number", "a whole number"),
        ({"small": True}, ("small",), "the boolean true is not a whole number", "a whole number"),
        ({"small": "1_0"}, ("small",), "'1_0' is not a whole number", "a whole number"),
        ({"small": " 1"}, ("small",), "' 1' is not a whole number", "a whole number"),
        ({"small": "١"}, ("small",), "'١' is not a whole number", "a whole number"),
        ({"ratio": "0x1"}, ("ratio",), "'0x1' is not a number", "a number"),
        ({"ratio": "inf"}, ("ratio",), "'inf' is not a number", "a number"),
        ({"ratio": "1e999"}, ("ratio",), "1e999 is out of range", "a number that fits 64 bits"),
        ({"ratio": False}, ("ratio",), "the boolean false is not a number", "a number"),
        ({"colour": "red"}, ("colour",), 'unknown value "red" for enum Colour', "one of RED, DARK_BLUE"),
        ({"colour": 1}, ("colour",), "unknown value the number 1 for enum Colour", "one of RED, DARK_BLUE"),
        ({"colour": True}, ("colour",), "unknown value the boolean true for enum Colour", "one of RED, DARK_BLUE"),
        (
            {"validDuration": 5},
            ("validDuration",),
            "the number 5 is not a duration",
            'a quoted duration such as "1m30s", "300ms" or "0"',
        ),
        (
            {"validDuration": "5"},
            ("validDuration",),
            "invalid duration '5'",
            'a duration such as "1m30s", "300ms" or "0"',
        ),
        ({"maxamount": 1}, ("maxamount",), 'unknown field "maxamount" in Spec', "maxAmount"),
        ({"status": {"cod": 1}}, ("status", "cod"), 'unknown field "cod" in Status', "code"),
        ({"point": {"z": 1, "x": 1}}, ("point", "z"), 'unknown field "z" in Point', "one of x, y"),
        ({"pairs": [{"x": 1}, {"x": "a"}]}, ("pairs", 1, "x"), "'a' is not a whole number", "a whole number"),
        ({"pairs": [3]}, ("pairs", 0), "the number 3 cannot be read here", "a mapping"),
        ({"point": {}}, ("point", "x"), "required field is missing", ""),
        ({"status": 3}, ("status",), "the number 3 cannot be read here", "a mapping"),
        ("text", (), "a string cannot be read here", "a mapping"),
        ([], (), "a list cannot be read here", "a mapping"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_values_that_are_not(data: object, path: tuple[str | int, ...], message: str, expected: str) -> None:
    assert fault(data) == FieldError(path, message, expected)


def test_all_faults_are_told_at_once() -> None:
    _, faults = decode(Spec, {"text": 1, "nope": 2, "pairs": [{"x": "a", "y": "b"}]})

    assert {f.path for f in faults} == {("text",), ("nope",), ("pairs", 0, "x"), ("pairs", 0, "y")}


def test_fault_seen_from_above() -> None:
    assert FieldError(("a", 1), "m", "e").below("spec", "params") == FieldError(("spec", "params", "a", 1), "m", "e")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_NAMES = [name for n, f in Spec.model_fields.items() for name in (n, f.alias or n)]


@given(st.dictionaries(st.sampled_from(_NAMES) | st.text(), _JSON, max_size=5) | _JSON)
def test_any_data_is_read_or_refused(data: Any) -> None:
    spec, faults = decode(Spec, data)

    assert (spec is None) == bool(faults)
