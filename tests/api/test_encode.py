"""Encoding, and that decoding undoes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.decode import WireBag, decode_check, decode_report
from mixer.api.encode import WordAllocator, encode_check, encode_report
from mixer.api.messages import DELTA_ENCODING, INDEPENDENT_ENCODING, CheckRequest, QuotaParams, ReportRequest
from mixer.api.words import GLOBAL_WORDS
from mixer.attributes import AttributeValue, Duration, Timestamp

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

texts = st.sampled_from(GLOBAL_WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
int64s = st.integers(INT64_MIN, INT64_MAX)
values = st.one_of(
    texts,
    st.booleans(),
    int64s,
    st.floats(allow_nan=False),
    st.binary(max_size=16),
    int64s.map(Duration),
    st.integers(INT64_MIN * 10**9, INT64_MAX * 10**9).map(Timestamp),
    st.dictionaries(texts, texts, max_size=4),
)
records = st.dictionaries(texts, values, max_size=6)
word_counts = st.sampled_from([0, 1, 16, 111, 222])


def typed(record: dict[str, Any]) -> dict[str, tuple[type, str]]:
    """Comparable exactly: the kind, and digits that tell 0.0 from -0.0."""
    return {name: (type(value), repr(value)) for name, value in record.items()}


def read(bag: object) -> dict[str, Any]:
    assert isinstance(bag, WireBag)
    return {name: bag.get(name) for name in bag.names()}


def through_wire(request: ReportRequest) -> ReportRequest:
    return ReportRequest.FromString(request.SerializeToString())


@given(record=records, global_word_count=word_counts)
def test_check_decodes_to_what_was_encoded(record: dict[str, AttributeValue], global_word_count: int) -> None:
    request = encode_check(record, global_word_count=global_word_count)

    bag = decode_check(CheckRequest.FromString(request.SerializeToString()))

    assert typed(read(bag)) == typed({name: maps_sorted(value, bag.get(name)) for name, value in record.items()})


def maps_sorted(value: Any, like: Any) -> Any:
    """A map in the key order of another, because the wire has no order."""
    return {key: value[key] for key in like} if isinstance(value, dict) and value.keys() == like.keys() else value


@given(batch=st.lists(records, max_size=4), global_word_count=word_counts)
def test_independent_report_decodes_to_what_was_encoded(
    batch: list[dict[str, AttributeValue]], global_word_count: int
) -> None:
    request = encode_report(batch, global_word_count=global_word_count)

    assert [read(bag) for bag in decode_report(through_wire(request))] == batch


@given(batch=st.lists(records, max_size=4), global_word_count=word_counts)
def test_delta_report_decodes_to_what_was_encoded(
    batch: list[dict[str, AttributeValue]], global_word_count: int
) -> None:
    grown: list[dict[str, AttributeValue]] = []
    for record in batch:
        grown.append({**(grown[-1] if grown else {}), **record})

    request = encode_report(grown, delta=True, global_word_count=global_word_count)

    decoded = [read(bag) for bag in decode_report(through_wire(request))]
    assert [typed(record) for record in decoded] == [
        typed({name: maps_sorted(record[name], value) for name, value in got.items()})
        for record, got in zip(grown, decoded, strict=True)
    ]
    assert [record.keys() for record in decoded] == [record.keys() for record in grown]


def test_each_type_goes_to_its_field() -> None:
    request = encode_check(
        {
            "s": "text",
            "b": True,
            "i": 1,
            "f": 1.0,
            "y": b"\x01",
            "t": Timestamp(1_500_000_000),
            "d": Duration(-1_500_000_000),
            "m": {"k": "v"},
        },
        global_word_count=0,
    )

    wire = request.attributes
    assert list(wire.words) == ["s", "text", "b", "i", "f", "y", "t", "d", "m", "k", "v"]
    assert dict(wire.strings) == {-1: -2}
    assert dict(wire.bools) == {-3: True}
    assert dict(wire.int64s) == {-4: 1}
    assert dict(wire.doubles) == {-5: 1.0}
    assert dict(wire.bytes) == {-6: b"\x01"}
    assert (wire.timestamps[-7].seconds, wire.timestamps[-7].nanos) == (1, 500_000_000)
    assert (wire.durations[-8].seconds, wire.durations[-8].nanos) == (-1, -500_000_000)
    assert dict(wire.string_maps[-9].entries) == {-10: -11}


def test_report_shares_one_dictionary() -> None:
    request = encode_report([{"my.attr": "x"}, {"my.attr": "y"}])

    assert list(request.default_words) == ["my.attr", "x", "y"]
    assert not any(message.words for message in request.attributes)
    assert request.repeated_attributes_semantics == INDEPENDENT_ENCODING


def test_delta_sends_changes_only() -> None:
    request = encode_report([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": True, "b": 3}], delta=True)

    assert request.repeated_attributes_semantics == DELTA_ENCODING
    assert [(dict(m.int64s), dict(m.bools)) for m in request.attributes] == [
        ({-1: 1, -2: 2}, {}),
        ({-2: 3}, {}),
        ({}, {-1: True}),
    ]


def test_delta_cannot_take_an_attribute_away() -> None:
    with pytest.raises(ValueError, match="record 1 has no b"):
        encode_report([{"a": 1, "b": 2}, {"a": 1}], delta=True)


def test_check_carries_quotas_and_its_id() -> None:
    request = encode_check({}, quotas={"rc": QuotaParams(amount=3, best_effort=True)}, deduplication_id="x")

    assert (request.quotas["rc"].amount, request.quotas["rc"].best_effort) == (3, True)
    assert (request.deduplication_id, request.global_word_count) == ("x", 222)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (1 << 63, ValueError, "attribute a: the integer does not fit 64 bits"),
        (-(1 << 63) - 1, ValueError, "attribute a: the integer"),
        (Duration(1 << 63), ValueError, "attribute a: the duration"),
        (Timestamp((1 << 63) * 10**9), ValueError, "attribute a: the timestamp"),
        ("\ud800", ValueError, "surrogates"),
        (None, TypeError, "attribute a: NoneType has no wire form"),
        ([1], TypeError, "attribute a: list"),
    ],
)
def test_value_that_the_wire_cannot_carry_is_refused(value: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        encode_check({"a": value})


def test_allocator_uses_global_words_below_its_limit_only() -> None:
    allocator = WordAllocator(limit=16)

    assert [allocator.index(word) for word in ("request.headers", "request.id", "x", "request.id", "source.ip")] == [
        15,
        -1,
        -2,
        -1,
        0,
    ]
    assert allocator.words == ["request.id", "x"]
