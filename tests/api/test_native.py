"""The compiled decoder gives what the Python decoder gives, or declines."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixer.api import decode
from mixer.api.encode import encode_check, encode_report
from mixer.api.messages import CheckRequest, ReportRequest
from mixer.api.wanted import Wanted
from tests.api import fuzz_decode
from tests.api import wire_strategies as wire
from tests.api.agreement import check_outcome, python_check_outcome, python_report_outcome, report_outcome

native = decode._native
pytestmark = pytest.mark.skipif(native is None, reason="the native decoder was not built")

SAMPLE = fuzz_decode.SAMPLE


@given(request=wire.reports(), wanted=wire.wanted)
def test_reports_are_decoded_alike(request: ReportRequest, wanted: Wanted | None) -> None:
    data = request.SerializeToString()

    assert report_outcome(data, wanted) == python_report_outcome(data, wanted)


@given(request=wire.checks(), wanted=wire.wanted)
def test_checks_are_decoded_alike(request: CheckRequest, wanted: Wanted | None) -> None:
    data = request.SerializeToString()

    assert check_outcome(data, wanted) == python_check_outcome(data, wanted)


@given(data=wire.report_bytes(), wanted=wire.wanted)
@example(data=b"\x0a\x04\x1a\x02\x08\x02\x20\x01", wanted=None)
def test_report_bytes_of_any_shape_are_decoded_alike(data: bytes, wanted: Wanted | None) -> None:
    assert report_outcome(data, wanted) == python_report_outcome(data, wanted)


@given(data=wire.check_bytes(), wanted=wire.wanted)
def test_check_bytes_of_any_shape_are_decoded_alike(data: bytes, wanted: Wanted | None) -> None:
    assert check_outcome(data, wanted) == python_check_outcome(data, wanted)


@given(data=st.binary(max_size=64))
def test_random_bytes_are_decoded_alike(data: bytes) -> None:
    assert report_outcome(data) == python_report_outcome(data)
    assert check_outcome(data) == python_check_outcome(data)


@given(request=wire.reports(), wanted=wire.wanted, data=st.data())
def test_damaged_reports_are_decoded_alike(request: ReportRequest, wanted: Wanted | None, data: st.DataObject) -> None:
    damaged = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    assert report_outcome(bytes(damaged), wanted) == python_report_outcome(bytes(damaged), wanted)


@pytest.mark.parametrize("number", range(len(fuzz_decode.seeds())))
def test_requests_cut_anywhere_are_decoded_alike(number: int) -> None:
    seed = fuzz_decode.seeds()[number]
    data = seed.SerializeToString()
    outcomes = (
        (report_outcome, python_report_outcome)
        if isinstance(seed, ReportRequest)
        else (check_outcome, python_check_outcome)
    )
    for size in range(len(data)):
        assert outcomes[0](data[:size]) == outcomes[1](data[:size])


def record(*fields: bytes) -> bytes:
    return wire.sized(1, b"".join(fields)) + wire.number_field(4, 1)


NAME = wire.number_field(1, wire.zigzag(2))
LONG_NAME = wire.number_field(1, 1 << 32 | 4)
SECONDS, NANOS = wire.number_field(1, 6), wire.number_field(2, 1 << 31)

ODD_REPORTS = {
    "64 bits and more": record(wire.sized(3, NAME + b"\x10" + b"\xff" * 9 + b"\x03")),
    "index of 33 bits": record(wire.sized(3, LONG_NAME)),
    "negative index of 33 bits": record(wire.sized(3, wire.number_field(1, 1 << 32 | 5)), wire.sized(1, b"a")),
    "nanos of 32 bits": record(wire.sized(6, NAME + wire.sized(2, SECONDS + NANOS))),
    "value in two parts": record(wire.sized(6, NAME + wire.sized(2, SECONDS) + wire.sized(2, wire.number_field(2, 5)))),
    "field beside the entries of a map": record(wire.sized(9, NAME + wire.sized(2, wire.sized(2, NAME)))),
    "number beside the entries of a map": record(wire.sized(9, NAME + wire.sized(2, NAME))),
    "short double": record(wire.sized(4, NAME + b"\x11" + bytes(7)), wire.sized(3, NAME)),
    "short double at the end": wire.sized(1, wire.sized(4, NAME + b"\x11" + bytes(7))),
    "no value": record(*(wire.sized(number, NAME) for number in range(2, 10))),
    "value before name": record(wire.sized(3, wire.number_field(2, 5) + NAME)),
    "word that ends too soon": b"\x12\x03ab",
    "record that ends too soon": b"\x20\x01\x0a\x04\x1a\x02\x08",
    "damage at the start of a long word": wire.sized(2, b"\xff" + b"a" * 30),
    "damage in the middle of a long word": wire.sized(2, b"a" * 15 + b"\xff" + b"a" * 15),
    "damage at the end of a long word": wire.sized(2, b"a" * 30 + b"\xff"),
    "surrogate": wire.sized(2, b"\xed\xa0\x80"),
    "semantics of 33 bits": record(wire.sized(3, NAME)) + wire.number_field(4, 1 << 32 | 1),
    "semantics twice": record(wire.sized(3, NAME)) + wire.number_field(4, 0),
    "size of 64 bits": b"\x0a" + wire.varint(-1),
}
ODD_CHECKS = {
    "count of 33 bits": wire.number_field(2, 1 << 32 | 250),
    "attributes in two parts": wire.sized(1, wire.sized(3, NAME)) + wire.sized(1, wire.sized(5, SECONDS)),
    "id twice": wire.sized(3, b"one") + wire.sized(3, b"two"),
    "id that is replaced, and no text": wire.sized(3, b"\xff") + wire.sized(3, b"two"),
    "quota in two parts": wire.sized(4, wire.sized(2, SECONDS) + wire.sized(2, wire.number_field(2, 1))),
    "quota twice": wire.sized(4, wire.sized(1, b"q") + wire.sized(2, SECONDS)) + wire.sized(4, wire.sized(1, b"q")),
    "quota of no name": wire.sized(4, b""),
}


@pytest.mark.parametrize("case", ODD_REPORTS)
def test_odd_report_is_decoded_alike(case: str) -> None:
    data = ODD_REPORTS[case]
    for wanted in (None, Wanted({})):
        assert report_outcome(data, wanted) == python_report_outcome(data, wanted)


@pytest.mark.parametrize("case", ODD_CHECKS)
def test_odd_check_is_decoded_alike(case: str) -> None:
    data = ODD_CHECKS[case]

    assert check_outcome(data) == python_check_outcome(data)


# What it takes on itself: else it could pass all of the above by declining.


@pytest.mark.parametrize("wanted", [None, Wanted({"source.name": None})], ids=["everything", "a part"])
@pytest.mark.parametrize(
    "request_",
    [
        encode_report([SAMPLE] * 3),
        encode_report([SAMPLE] * 3, global_word_count=0),
        encode_report([SAMPLE, {**SAMPLE, "request.size": 18}], delta=True),
        ReportRequest(),
        ReportRequest(attributes=[encode_check(SAMPLE, global_word_count=0).attributes], default_words=["x"]),
    ],
    ids=["independent", "all spelled out", "delta", "empty", "own words"],
)
def test_ordinary_report_is_not_declined(request_: ReportRequest, wanted: Wanted | None) -> None:
    assert native.read_report(request_.SerializeToString(), wanted) is not None


@pytest.mark.parametrize("wanted", [None, Wanted({"source.name": None})], ids=["everything", "a part"])
def test_ordinary_check_is_not_declined(wanted: Wanted | None) -> None:
    request = encode_check(SAMPLE, deduplication_id="ü", quotas={"q": CheckRequest.QuotaParams(amount=1)})

    assert native.read_check(request.SerializeToString(), wanted) is not None
    assert native.read_check(b"", wanted) is not None


@pytest.mark.parametrize(
    "field",
    [
        wire.number_field(4, 2),
        wire.sized(1, wire.sized(2, wire.number_field(1, wire.zigzag(222)))),
        wire.sized(1, wire.sized(2, wire.number_field(1, 2)) + wire.sized(1, b"late word")),
        wire.sized(1, wire.sized(3, wire.number_field(1, 2)) * 2),
        wire.sized(2, b"\xff"),
        wire.sized(9, b"unknown field"),
        b"\x0a",
        b"\x0a\x01",
        b"\x18" + b"\x80" * 10 + b"\x01",
    ],
    ids=[
        "semantics",
        "unknown word",
        "late word",
        "repeated",
        "utf-8",
        "unknown field",
        "no size",
        "cut",
        "long varint",
    ],
)
def test_extraordinary_report_is_declined(field: bytes) -> None:
    assert native.read_report(field, None) is None


def test_words_are_shared_by_the_records_of_a_report() -> None:
    records = [{"source.name": "one name", "my.own": "one value"}] * 2
    first, second = decode.decode_report_bytes(encode_report(records).SerializeToString()).bags

    assert [id(name) for name in first.names()] == [id(name) for name in second.names()]
    assert first.get("source.name") is second.get("source.name")


def test_nothing_leaks() -> None:
    wanted = Wanted({"source.name": None, "request.headers": frozenset({"cookie"})})
    whole = [seed.SerializeToString() for seed in fuzz_decode.seeds()]
    inputs = [data[:size] for data in whole for size in (len(data) // 2, len(data) - 1, len(data))]

    def decode_all() -> int:
        for _ in range(20):
            for data in inputs:
                for part in (None, wanted, Wanted(wanted.attributes)):
                    native.read_report(data, part)
                    native.read_check(data, part)
        gc.collect()
        return sys.getallocatedblocks()

    decode_all()
    before = decode_all()

    assert decode_all() - before < 100


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="Cython is missing")
def test_sanitizers_find_nothing_in_a_moment() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.fuzz_sanitized", "--seconds", "4", "--seed", "1"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stderr)

    assert done.returncode == 0, done.stdout + done.stderr
