"""The record that a check leaves for its report: what is written is read back, within bounds, whatever comes."""

from __future__ import annotations

import json
import math
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.codes import Code
from mixer.attributes import AttributeValue, Duration, Timestamp
from proxy.envoy.correlation import (
    HTTP_FILTER,
    HTTP_FORM_KEY,
    KEY,
    TCP_FILTER,
    CheckRecord,
    attributes_text,
    http_form_text,
    read_attributes,
    read_record,
    record_bytes,
    write_record,
    write_removals,
)

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
VALUES: st.SearchStrategy[AttributeValue] = st.one_of(
    TEXT,
    st.booleans(),
    INT64,
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=20),
    INT64.map(Timestamp),
    INT64.map(Duration),
    st.dictionaries(TEXT, TEXT, min_size=1, max_size=4),
)
ATTRIBUTES = st.dictionaries(TEXT, VALUES, max_size=8)
RECORDS = st.builds(
    CheckRecord,
    id=TEXT,
    service=TEXT,
    forwarded=TEXT,
    attributes=ATTRIBUTES,
    check_cache_hit=st.booleans(),
    quota_cache_hit=st.booleans(),
    code=st.integers(1, 16),
    message=TEXT,
    direct=st.integers(0, 599),
    checked=st.booleans(),
    failed=st.booleans(),
)


class Words(str):
    """A text of another class."""

    __slots__ = ()


def written(record: CheckRecord) -> Struct:
    into = Struct()
    write_record(record, into)
    return Struct.FromString(into.SerializeToString())


@given(RECORDS, st.sampled_from([HTTP_FILTER, TCP_FILTER]))
def test_a_record_is_read_as_it_was_written(record: CheckRecord, namespace: str) -> None:
    found = read_record({namespace: written(record)})

    assert found == record
    assert found is not None
    assert {n: type(v) for n, v in found.attributes.items()} == {n: type(v) for n, v in record.attributes.items()}


@given(RECORDS)
def test_a_record_travels_in_a_header_too(record: CheckRecord) -> None:
    text = http_form_text(record)
    struct = Struct()
    struct.fields[HTTP_FORM_KEY].string_value = text

    assert text.isascii()
    assert text.isprintable()
    assert read_record({HTTP_FILTER: struct}) == record


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -0.0], ids=str)
def test_floating_point_numbers_are_read_as_they_were_written(value: float) -> None:
    found = read_attributes(attributes_text({"a": value, "b": "null"})[0])

    assert str(found["a"]) == str(value)
    assert found["b"] == "null"


def test_kinds_of_texts_and_maps_do_not_matter() -> None:
    values = {"a": Code.OK, "b": MappingProxyType({"c": "d"}), "e": Words("f")}

    assert read_attributes(attributes_text(values)[0]) == {"a": 0, "b": {"c": "d"}, "e": "f"}


def test_half_a_character_costs_itself_only() -> None:
    values = {"a": "x\ud800y", "b": "c"}

    assert read_attributes(attributes_text(values)[0]) == {"a": "x?y", "b": "c"}
    assert http_form_text(CheckRecord(message="\ud800", code=1)).isascii()


@pytest.mark.parametrize("size", [0, 1, 100, 119, 120, 121, 127, 128, 129, 16_370, 16_383, 16_384, 100_000])
def test_a_text_of_any_length_is_written_as_protobuf_would(size: int) -> None:
    struct = Struct.FromString(record_bytes(CheckRecord(message="m" * size, code=7))[0])

    assert dict(struct[KEY].items()) == {"message": "m" * size, "code": 7}


@given(st.dictionaries(TEXT, st.one_of(st.text(max_size=300), st.dictionaries(TEXT, TEXT))), st.integers(2, 400))
def test_attributes_keep_to_their_limit(values: dict[str, Any], limit: int) -> None:
    values = {name: value for name, value in values.items() if str(value).isprintable()}
    text, whole = attributes_text(values, limit)

    kept = read_attributes(text)
    assert len(text.encode()) <= limit
    assert whole == (kept == values)
    for name, value in kept.items():
        expected = values[name]
        assert value == expected or (isinstance(value, dict) and value.items() <= expected.items())


@pytest.mark.parametrize(
    ("values", "limit", "kept"),
    [
        pytest.param({"0000000": {"": "", "0": ""}}, 19, {}, id="an empty key"),
        pytest.param({"\x1f": {"0": ""}}, 18, {}, id="a name that grows when it is escaped"),
        pytest.param({"a": {"": "x", "b": "yyyyy"}}, 18, {"a": {"": "x"}}, id="the empty key is the small one"),
    ],
)
def test_room_is_counted_as_written(values: dict[str, Any], limit: int, kept: dict[str, Any]) -> None:
    text, whole = attributes_text(values, limit)

    assert (read_attributes(text), whole) == (kept, False)
    assert len(text.encode()) <= limit


def test_the_largest_values_are_left_out_and_the_record_says_so() -> None:
    values = {"a": "short", "request.headers": {"cookie": "c" * 5000, "x-user": "bob"}, "b": "s" * 4500}
    found = read_record({HTTP_FILTER: written(CheckRecord(attributes=values))})

    assert found == CheckRecord(attributes={"a": "short", "request.headers": {"x-user": "bob"}}, cut=True)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '{"a": null}', '{"a": ["b", "?"]}', '{"a": ["t", "x"]}', '{"a": {"b": 1}}', "[" * 100_000],
)
def test_attributes_that_make_no_sense_are_left_out(text: str) -> None:
    assert read_attributes(text) == {}


def test_no_record_is_found_where_there_is_none() -> None:
    other = Struct()
    other.update({"ext_authz_duration": 3})
    text = Struct()
    text.update({HTTP_FORM_KEY: "no json"})

    assert read_record({}) is None
    assert read_record({"envoy.filters.http.rbac": written(CheckRecord())}) is None
    assert read_record({HTTP_FILTER: other}) is None
    assert read_record({HTTP_FILTER: text}) is None


def test_fields_of_wrong_types_count_as_not_given() -> None:
    struct = Struct()
    struct.update({KEY: {"id": 5, "code": "x", "attrs": True, "cache_hit": 1, "message": None, "direct": 1e300}})

    assert read_record({HTTP_FILTER: struct}) == CheckRecord()


def test_an_ordinary_record_is_short() -> None:
    assert json.loads(http_form_text(CheckRecord(id="7"))) == {"id": "7"}


def test_removals_stand_beside_the_record() -> None:
    struct = Struct()
    write_removals(("server", "x-powered-by"), struct)

    assert list(struct["remove_response_headers"]) == ["server", "x-powered-by"]
