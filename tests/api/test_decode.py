"""Decoding: the worked examples of the spec, faults, clients that know more words, deltas.

Every test runs twice: as requests meet the decoders, and with the Python decoder alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from mixer.api import decode
from mixer.api.decode import (
    CheckEnvelope,
    ReportBatch,
    WireBag,
    decode_check,
    decode_check_bytes,
    decode_report,
    decode_report_bytes,
    parse_check,
)
from mixer.api.messages import (
    DELTA_ENCODING,
    INDEPENDENT_ENCODING,
    CheckRequest,
    CompressedAttributes,
    ReportRequest,
    StringMap,
    WireDuration,
    WireTimestamp,
)
from mixer.api.wanted import Wanted
from mixer.attributes import ABSENT, Duration, Timestamp
from mixer.errors import WireError


@pytest.fixture(params=["native", "python"], autouse=True)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which decoder requests meet first."""
    name: str = request.param
    if name == "python":
        monkeypatch.setattr(decode, "_native", None)
    elif decode.DECODER == "python":
        pytest.skip("the native decoder was not built")
    return name


def attributes(words: Sequence[str] = (), **fields: Any) -> CompressedAttributes:
    maps = {name: StringMap(entries=entries) for name, entries in fields.pop("string_maps", {}).items()}
    return CompressedAttributes(words=words, string_maps=maps, **fields)


def check(words: Sequence[str] = (), *, global_word_count: int = 222, **fields: Any) -> WireBag:
    request = CheckRequest(attributes=attributes(words, **fields), global_word_count=global_word_count)
    return decode_check_bytes(request.SerializeToString())[0]


def report(
    *records: CompressedAttributes,
    semantics: int = DELTA_ENCODING,
    default_words: Sequence[str] = (),
    global_word_count: int = 222,
) -> ReportBatch:
    request = ReportRequest(
        attributes=records,
        repeated_attributes_semantics=semantics,  # type: ignore[arg-type]
        default_words=default_words,
        global_word_count=global_word_count,
    )
    return decode_report_bytes(request.SerializeToString())


def values_of(bag: WireBag) -> dict[str, object]:
    return {name: bag.peek(name) for name in bag.names()}


def outcomes(batch: ReportBatch) -> list[dict[str, object] | str]:
    return [values_of(record) if isinstance(record, WireBag) else str(record) for record in batch]


# The wire examples of spec language 8.2. Where we decide otherwise, the reason stands beside the case; the
# first three reasons are in the docstring of mixer.api.decode.
CHECK_CASES: Mapping[str, tuple[Callable[[], WireBag], Mapping[str, object]]] = {
    "W1": (lambda: check(["my.attr", "hello"], strings={-1: -2}), {"my.attr": "hello"}),
    "W2": (lambda: check(strings={0: 59}), {"source.ip": "cookie"}),
    # Absent in the original, whose lookup tries the index -1 only; we accept both spellings of a name.
    "W3": (lambda: check(["source.name"], strings={2: 3}), {"source.name": "source.uid"}),
    # Absent in the original, which tries slot 2 only; the slot that has an entry counts.
    "W4": (lambda: check(["dup", "dup", "x", "y"], strings={-1: -3}), {"dup": "x"}),
    "W5": (lambda: check(["dup", "dup", "x", "y"], strings={-2: -4, -1: -3}), {"dup": "y"}),
    "W7": (lambda: check(["a"], bools={-1: True}, int64s={-1: 3}), {"a": 3}),
    # INTERNAL in the original; a client may know words that we do not.
    "W8": (lambda: check(global_word_count=223), {}),
}


@pytest.mark.parametrize("case", CHECK_CASES)
def test_check_decodes_the_worked_example(case: str) -> None:
    decode, expected = CHECK_CASES[case]

    assert values_of(decode()) == expected


def test_check_refuses_the_worked_example_w6() -> None:
    """In the original the attributes with faulty indices are absent; here they fail the record."""
    with pytest.raises(WireError, match=r"^strings: value index -9 is not defined; .* 2 words, the global list 222$"):
        check(["a", "b"], strings={-1: -9, -2: 2}, string_maps={15: {59: -4000}})


def test_independent_report_decodes_the_worked_example_w9() -> None:
    """The second record has a word of its own, hence not the default ones: in the original its attribute is absent."""
    batch = report(
        attributes(strings={-1: -2}),
        attributes(["w1"], strings={-1: -2}),
        attributes(["w1", "w2"], strings={-1: -2}),
        semantics=INDEPENDENT_ENCODING,
        default_words=["d1", "d2"],
    )

    assert outcomes(batch) == [
        {"d1": "d2"},
        "record 1: strings: value index -2 is not defined; the message has 1 words, the global list 222",
        {"w1": "w2"},
    ]


W10 = (
    attributes(strings={-1: -2}, int64s={1: 80}),
    attributes(["w1"], strings={2: -1}),
    attributes(int64s={1: 90}),
)


def test_delta_report_decodes_the_worked_example_w10() -> None:
    batch = report(*W10, default_words=["d1", "d2"])

    assert outcomes(batch) == [
        {"d1": "d2", "source.port": 80},
        {"d1": "d2", "source.port": 80, "source.name": "w1"},
        {"d1": "d2", "source.port": 90, "source.name": "w1"},
    ]


def test_delta_report_decodes_the_worked_example_w11() -> None:
    """The original lets half of the failed record show in the one after it; ours leaves no trace."""
    batch = report(
        *W10,
        attributes(["w1"], strings={-1: -2}, int64s={8: 1}),
        attributes(bools={1: True}),
        default_words=["d1", "d2"],
    )

    assert outcomes(batch)[3:] == [
        "record 3: strings: value index -2 is not defined; the message has 1 words, the global list 222",
        {"d1": "d2", "source.port": True, "source.name": "w1"},
    ]


def test_delta_report_refuses_a_name_in_two_fields() -> None:
    """W12; in the original the string stays in the state."""
    batch = report(attributes(), attributes(strings={1: 2}, int64s={1: 80}), attributes(int64s={2: 1}))

    assert outcomes(batch) == [
        {},
        "record 1: duplicate attribute source.port (type int64)",
        {"source.name": 1},
    ]


def test_delta_report_names_the_faulty_index_before_a_duplicate() -> None:
    """W13: the original replaces both names by "" and then finds those to be duplicates."""
    batch = report(attributes(), attributes(int64s={7000: 80, -70: 9}))

    assert outcomes(batch)[1] == (
        "record 1: int64s: name index -70 is not defined; the message has 0 words, the global list 222"
    )


def test_delta_report_refuses_a_faulty_first_record() -> None:
    """W14: in the original no error, and the attribute absent; the first record has no privilege here."""
    batch = report(attributes(strings={1: -20}), attributes(int64s={1: 7}))

    assert outcomes(batch) == [
        "record 0: strings: value index -20 is not defined; the message has 0 words, the global list 222",
        {"source.port": 7},
    ]


def test_first_record_of_a_delta_may_have_a_name_in_two_fields() -> None:
    assert outcomes(report(attributes(strings={1: 2}, int64s={1: 80}))) == [{"source.port": "source.name"}]


DELTA_TYPES = {
    "int64s": ("int64", 1),
    "doubles": ("float64", 1.0),
    "bools": ("bool", True),
    "timestamps": ("time.Time", WireTimestamp(seconds=1)),
    "durations": ("time.Duration", WireDuration(seconds=1)),
    "bytes": ("[]uint8", b"x"),
    "string_maps": ("attribute.StringMap", {}),
}


@pytest.mark.parametrize("field", DELTA_TYPES)
def test_duplicate_is_named_with_the_type_of_its_second_field(field: str) -> None:
    type_name, value = DELTA_TYPES[field]
    message = attributes(["own"], strings={-1: 3}, **{field: {-1: value}})

    assert outcomes(report(attributes(), message))[1] == f"record 1: duplicate attribute own (type {type_name})"


def test_duplicate_is_found_under_two_spellings() -> None:
    message = attributes(["source.port"], strings={-1: 3}, int64s={1: 1})

    assert outcomes(report(attributes(), message))[1] == "record 1: duplicate attribute source.port (type int64)"


def test_two_spellings_in_one_field_are_no_duplicate() -> None:
    message = attributes(["source.port"], int64s={-1: 5, 1: 1})

    assert outcomes(report(attributes(), message))[1] == {"source.port": 5}


@pytest.mark.parametrize(
    ("semantics", "second"),
    [(INDEPENDENT_ENCODING, {"path": "p2"}), (DELTA_ENCODING, {"path": "p2", "user": "a", "size": 1})],
    ids=["independent", "delta"],
)
def test_records_carry_over_in_a_delta_only(semantics: int, second: Mapping[str, object]) -> None:
    """Case 16 of spec runtime 10."""
    batch = report(
        attributes(strings={-1: -4, -2: -5}, int64s={-3: 1}),
        attributes(strings={-1: -6}),
        semantics=semantics,
        default_words=["path", "user", "size", "p1", "a", "p2"],
    )

    assert outcomes(batch) == [{"path": "p1", "user": "a", "size": 1}, second]


def test_failed_record_of_a_delta_does_not_show_in_later_ones() -> None:
    """Case 18 of spec runtime 10."""
    size = 23
    batch = report(
        attributes(int64s={size: 1}),
        attributes(int64s={size: 7}, strings={2: -1}),
        attributes(strings={2: 3}),
    )

    assert outcomes(batch)[2] == {"request.size": 1, "source.name": "source.uid"}
    assert len(batch.bags) == 2
    assert [str(fault).split(":")[0] for fault in batch.faults] == ["record 1"]


def test_delta_replaces_maps_whole_and_kinds_freely() -> None:
    batch = report(
        attributes(string_maps={15: {59: 60, 61: 62}}, int64s={1: 1}),
        attributes(string_maps={15: {61: 63}}, strings={1: 2}),
    )

    assert outcomes(batch) == [
        {"request.headers": {"cookie": "date", "etag": "expect"}, "source.port": 1},
        {"request.headers": {"etag": "expires"}, "source.port": "source.name"},
    ]


def test_earlier_bags_of_a_delta_keep_their_values() -> None:
    first, second = report(attributes(int64s={1: 1}), attributes(int64s={1: 2})).bags

    assert (first.get("source.port"), second.get("source.port")) == (1, 2)


def test_report_of_unknown_semantics_gives_nothing() -> None:
    assert outcomes(report(attributes(int64s={1: 1}), semantics=7)) == []


def test_report_without_records_is_empty() -> None:
    assert len(report(default_words=["a"])) == 0


# Faults: each place where an index can stand.

OUTSIDE = [-3, -4, 222, 5000, -(1 << 31), (1 << 31) - 1]

PLACES: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "strings: name": lambda i: {"strings": {i: 1}},
    "strings: value": lambda i: {"strings": {-1: i}},
    "string_maps: name": lambda i: {"string_maps": {i: {}}},
    "string_maps: key": lambda i: {"string_maps": {-1: {i: 1}}},
    "string_maps: value": lambda i: {"string_maps": {-1: {1: i}}},
    "int64s: name": lambda i: {"int64s": {i: 1}},
    "doubles: name": lambda i: {"doubles": {i: 1.0}},
    "bools: name": lambda i: {"bools": {i: True}},
    "timestamps: name": lambda i: {"timestamps": {i: WireTimestamp(seconds=1)}},
    "durations: name": lambda i: {"durations": {i: WireDuration(seconds=1)}},
    "bytes: name": lambda i: {"bytes": {i: b""}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("index", OUTSIDE)
def test_index_that_nobody_can_know_is_a_fault(place: str, index: int) -> None:
    with pytest.raises(WireError, match=f"^{place} index {index} is not defined; the message has 2 words"):
        check(["a", "b"], **PLACES[place](index))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("index", [-1, -2, 0, 221])
def test_index_of_a_word_is_no_fault(place: str, index: int) -> None:
    assert check(["a", "b"], **PLACES[place](index)).unknown_words == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("index", [-3, 250])
def test_index_beyond_the_words_of_a_larger_client_is_a_fault(place: str, index: int) -> None:
    with pytest.raises(WireError, match=f"^{place} index {index} .* the global list 250$"):
        check(["a", "b"], global_word_count=250, **PLACES[place](index))


@pytest.mark.parametrize("semantics", [DELTA_ENCODING, INDEPENDENT_ENCODING])
@pytest.mark.parametrize("place", PLACES)
def test_fault_costs_its_record_only(place: str, semantics: int) -> None:
    good = attributes(int64s={1: 1})
    batch = report(good, attributes(["a"], **PLACES[place](999)), good, semantics=semantics)

    first, fault, last = outcomes(batch)
    assert first == last == {"source.port": 1}
    assert str(fault).startswith(f"record 1: {place} index 999 ")


# Clients that know more words than we do.


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("index", [222, 249])
def test_word_that_only_the_client_knows_is_counted(place: str, index: int) -> None:
    bag = check(["a", "b"], global_word_count=250, **PLACES[place](index))

    assert bag.unknown_words == 1
    assert values_of(bag) == ({"a": {}} if place in ("string_maps: key", "string_maps: value") else {})


def test_unknown_words_cost_only_what_uses_them() -> None:
    bag = check(
        ["a", "b"],
        global_word_count=300,
        strings={-1: 222, -2: 3, 240: 3},
        int64s={241: 1, 1: 80},
        string_maps={15: {59: 60, 61: 242, 243: 62}, 244: {59: 60, 245: 246}},
    )

    assert values_of(bag) == {"b": "source.uid", "source.port": 80, "request.headers": {"cookie": "date"}}
    assert bag.unknown_words == 8


def test_client_with_the_largest_word_count_works() -> None:
    bag = check(global_word_count=(1 << 32) - 1, strings={(1 << 31) - 1: 1, 2: 3})

    assert values_of(bag) == {"source.name": "source.uid"}


def test_attribute_set_to_an_unknown_word_is_not_looked_for_elsewhere() -> None:
    """The first spelling that has an entry decides, also when its value is lost."""
    assert values_of(check(["source.name"], global_word_count=300, strings={-1: 250, 2: 3})) == {}


def test_delta_forgets_an_attribute_that_changes_to_an_unknown_word() -> None:
    """What an earlier record said of it is not true any more."""
    batch = report(
        attributes(strings={2: 3}, int64s={1: 1}),
        attributes(strings={2: 222}),
        attributes(int64s={1: 2}),
        global_word_count=223,
    )

    assert outcomes(batch)[1:] == [{"source.port": 1}, {"source.port": 2}]
    assert batch.unknown_words == 1


def test_batch_sums_the_unknown_words_of_its_records() -> None:
    lossy = attributes(strings={2: 222, 3: 222})

    assert report(lossy, lossy, semantics=INDEPENDENT_ENCODING, global_word_count=223).unknown_words == 4


# Names and values.


def test_spellings_are_tried_from_the_last_slot_to_the_global_word() -> None:
    words = ["source.name", "source.name"]

    assert values_of(check(words, int64s={-2: 1, -1: 2, 2: 3})) == {"source.name": 1}
    assert values_of(check(words, int64s={-1: 2, 2: 3})) == {"source.name": 2}
    assert values_of(check(words, int64s={2: 3})) == {"source.name": 3}


def test_spelling_goes_before_kind() -> None:
    assert values_of(check(["source.name"], int64s={-1: 1}, strings={2: 3})) == {"source.name": 1}


def test_kinds_have_their_order_under_one_spelling() -> None:
    fields: dict[str, Any] = {
        "strings": {-1: 1},
        "string_maps": {-1: {}},
        "int64s": {-1: 1},
        "doubles": {-1: 1.5},
        "bools": {-1: True},
        "timestamps": {-1: WireTimestamp(seconds=1)},
        "durations": {-1: WireDuration(seconds=1)},
        "bytes": {-1: b"x"},
    }
    seen = []
    for field in list(fields):
        seen.append(check(["a"], **fields).get("a"))
        del fields[field]

    assert seen == ["source.port", {}, 1, 1.5, True, Timestamp(10**9), Duration(10**9), b"x"]
    assert [type(value) for value in seen] == [str, dict, int, float, bool, Timestamp, Duration, bytes]


def test_map_key_that_occurs_twice_has_the_value_of_its_last_slot() -> None:
    bag = check(["cookie", "cookie", "x", "y"], string_maps={15: {59: 60, -1: -3, -2: -4}})

    assert bag.get("request.headers") == {"cookie": "y"}


@pytest.mark.parametrize(
    ("wire", "nanoseconds"),
    [
        (WireTimestamp(seconds=1, nanos=5), 1_000_000_005),
        (WireTimestamp(seconds=-1, nanos=-5), -1_000_000_005),
        (WireTimestamp(seconds=(1 << 63) - 1, nanos=(1 << 31) - 1), ((1 << 63) - 1) * 10**9 + (1 << 31) - 1),
        (WireTimestamp(seconds=-(1 << 63), nanos=-(1 << 31)), -(1 << 63) * 10**9 - (1 << 31)),
    ],
)
def test_timestamp_takes_whatever_the_wire_holds(wire: WireTimestamp, nanoseconds: int) -> None:
    value = check(timestamps={24: wire}).get("request.time")

    assert value == nanoseconds
    assert isinstance(value, Timestamp)
    assert str(value)


@pytest.mark.parametrize(
    ("wire", "nanoseconds"),
    [
        (WireDuration(seconds=1, nanos=5), 1_000_000_005),
        (WireDuration(seconds=1, nanos=-5), 999_999_995),
        (WireDuration(seconds=(1 << 63) - 1, nanos=(1 << 31) - 1), (1 << 63) - 1),
        (WireDuration(seconds=-(1 << 63), nanos=-(1 << 31)), -(1 << 63)),
    ],
)
def test_duration_is_held_within_64_bits(wire: WireDuration, nanoseconds: int) -> None:
    value = check(durations={29: wire}).get("response.duration")

    assert value == nanoseconds
    assert isinstance(value, Duration)
    assert str(value)


def test_bag_answers_absent_for_what_it_lacks() -> None:
    bag = check(int64s={1: 80})

    assert bag.get("source.name") is bag.peek("source.name") is ABSENT
    assert list(bag.names()) == ["source.port"]


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05abc", b"\x12\x02\xff\xff"], ids=["tag", "cut", "utf-8"])
def test_bytes_that_are_no_request_are_a_fault(data: bytes) -> None:
    with pytest.raises(WireError, match="not a ReportRequest"):
        decode_report_bytes(data)


def test_bytes_that_are_no_check_are_a_fault() -> None:
    with pytest.raises(WireError, match="not a CheckRequest"):
        parse_check(b"\xff")
    with pytest.raises(WireError, match="not a CheckRequest"):
        decode_check_bytes(b"\xff")


def test_empty_bytes_are_an_empty_report() -> None:
    assert len(decode_report_bytes(b"")) == 0


# The rest of a Check.


def test_check_comes_with_its_envelope() -> None:
    request = CheckRequest(global_word_count=222, deduplication_id="ümlaut")
    request.quotas["rate"].amount = -7
    request.quotas["burst"].CopyFrom(CheckRequest.QuotaParams(amount=3, best_effort=True))

    bag, envelope = decode_check_bytes(request.SerializeToString())

    assert values_of(bag) == {}
    assert envelope == CheckEnvelope(222, "ümlaut", {"rate": (-7, False), "burst": (3, True)})
    assert (envelope.quotas["burst"].amount, envelope.quotas["burst"].best_effort) == (3, True)


def test_check_says_when_only_quotas_are_asked_for() -> None:
    request = CheckRequest(global_word_count=222, quotas_only=True)

    assert decode_check_bytes(request.SerializeToString())[1] == CheckEnvelope(222, "", {}, True)


def test_report_comes_with_its_deduplication_id() -> None:
    request = ReportRequest(deduplication_id="ümlaut-7", default_words=["a"], attributes=[attributes(strings={2: -1})])

    batch = decode_report_bytes(request.SerializeToString())

    assert batch.deduplication_id == "ümlaut-7"
    assert [values_of(bag) for bag in batch.bags] == [{"source.name": "a"}]


def test_empty_bytes_are_an_empty_check() -> None:
    bag, envelope = decode_check_bytes(b"")

    assert (values_of(bag), envelope) == ({}, CheckEnvelope(0, "", {}))


# Only what is wanted.

HEADERS_AND_PORT = attributes(
    ["own"], strings={2: 3, -1: 3}, int64s={1: 80}, string_maps={15: {59: 60, 61: 62, 63: 64}, 26: {59: 60}}
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {}),
        ({"source.port": None, "never": None}, {"source.port": 80}),
        ({"own": None}, {"own": "source.uid"}),
        ({"request.headers": frozenset({"etag", "never"})}, {"request.headers": {"etag": "expect"}}),
        ({"request.headers": frozenset()}, {"request.headers": {}}),
        ({"response.headers": None}, {"response.headers": {"cookie": "date"}}),
        ({"source.port": frozenset({"etag"})}, {"source.port": 80}),
    ],
    ids=["nothing", "names", "own word", "keys", "no keys", "whole map", "keys of no map"],
)
def test_bag_has_what_is_wanted_and_no_more(
    wanted: Mapping[str, frozenset[str] | None], expected: Mapping[str, object]
) -> None:
    request = CheckRequest(attributes=HEADERS_AND_PORT)
    batch = ReportRequest(attributes=[HEADERS_AND_PORT] * 2, repeated_attributes_semantics=INDEPENDENT_ENCODING)

    assert values_of(decode_check(request, Wanted(wanted))) == expected
    assert values_of(decode_check_bytes(request.SerializeToString(), Wanted(wanted))[0]) == expected
    assert outcomes(decode_report(batch, Wanted(wanted))) == [expected, expected]
    assert outcomes(decode_report_bytes(batch.SerializeToString(), Wanted(wanted))) == [expected, expected]


@pytest.mark.parametrize("place", PLACES)
def test_fault_is_found_where_nobody_reads(place: str) -> None:
    request = CheckRequest(attributes=attributes(["a", "b"], **PLACES[place](999)))

    with pytest.raises(WireError, match=f"^{place} index 999 is not defined"):
        decode_check_bytes(request.SerializeToString(), Wanted({}))


@pytest.mark.parametrize("place", PLACES)
def test_unknown_word_is_counted_where_nobody_reads(place: str) -> None:
    request = CheckRequest(attributes=attributes(["a", "b"], **PLACES[place](230)), global_word_count=250)

    bag, _ = decode_check_bytes(request.SerializeToString(), Wanted({}))

    assert (values_of(bag), bag.unknown_words) == ({}, 1)


def test_wanted_parts_of_a_delta_carry_over() -> None:
    batch = ReportRequest(
        attributes=[
            HEADERS_AND_PORT,
            attributes(string_maps={15: {61: 63, 59: 1}}),
            attributes(strings={1: 2}, int64s={2: 1}),
            attributes(strings={4: 4}, int64s={4: 1}),
        ]
    )
    wanted = Wanted({"source.port": None, "request.headers": frozenset({"etag"})})

    assert outcomes(decode_report_bytes(batch.SerializeToString(), wanted)) == [
        {"source.port": 80, "request.headers": {"etag": "expect"}},
        {"source.port": 80, "request.headers": {"etag": "expires"}},
        {"source.port": "source.name", "request.headers": {"etag": "expires"}},
        "record 3: duplicate attribute source.namespace (type int64)",
    ]
