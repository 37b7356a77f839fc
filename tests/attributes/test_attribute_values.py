"""Durations, instants, numbers and addresses: reading, printing, comparing."""

from __future__ import annotations

import datetime as dt
import ipaddress
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.attributes import ABSENT, Duration, Timestamp, stringify
from mixer.attributes.values import (
    ZERO_TIME,
    format_double,
    format_ip,
    parse_bool,
    parse_ip,
    string_equals,
    wrap_int64,
)

INT64 = st.integers(-(1 << 63) + 1, (1 << 63) - 1)
SECOND = 1_000_000_000


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "nanoseconds"),
        [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("1.5h", 5400 * SECOND),
            ("-1.5h", -5400 * SECOND),
            ("+5m", 300 * SECOND),
            (".5s", SECOND // 2),
            ("1.s", SECOND),
            ("1h30m", 5400 * SECOND),
            ("1ns2us3ms", 3_002_001),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("0.1ns", 0),
            ("-0.9ns", 0),
            ("1m1m", 120 * SECOND),
            ("9223372036854775807ns", (1 << 63) - 1),
            ("2562047h47m16.854775807s", (1 << 63) - 1),
        ],
    )
    def test_texts_that_are_durations(self, text: str, nanoseconds: int) -> None:
        assert int(Duration.parse(text)) == nanoseconds

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "+",
            "-",
            ".",
            "00",
            "0.0",
            "1",
            "1d",
            "1S",
            "1 s",
            " 1s",
            "1s ",
            "1m1",
            "1e3s",
            ".s",
            "1..5s",
            "--1s",
            "١s",
            "3000000h",
            "9223372036854775808ns",
            "9" * 5000 + "s",
        ],
        ids=lambda text: repr(text[:25]),
    )
    def test_texts_that_are_not(self, text: str) -> None:
        with pytest.raises(ValueError, match="duration"):
            Duration.parse(text)

    @pytest.mark.parametrize(
        ("nanoseconds", "text"),
        [
            (0, "0s"),
            (7, "7ns"),
            (1_000, "1µs"),
            (1_500, "1.5µs"),
            (1_500_000, "1.5ms"),
            (250_000_000, "250ms"),
            (SECOND, "1s"),
            (1_500_000_000, "1.5s"),
            (90 * SECOND, "1m30s"),
            (60 * SECOND, "1m0s"),
            (3600 * SECOND, "1h0m0s"),
            (3600 * SECOND + 1, "1h0m0.000000001s"),
            (-90 * SECOND, "-1m30s"),
            (-1, "-1ns"),
        ],
    )
    def test_printing(self, nanoseconds: int, text: str) -> None:
        assert str(Duration(nanoseconds)) == stringify(Duration(nanoseconds)) == text

    @given(st.integers(-(1 << 53), 1 << 53))
    def test_what_is_printed_reads_back(self, nanoseconds: int) -> None:
        assert Duration.parse(str(Duration(nanoseconds))) == nanoseconds

    @given(INT64)
    def test_what_is_printed_reads_back_to_the_nanosecond_at_any_size(self, nanoseconds: int) -> None:
        assert abs(Duration.parse(str(Duration(nanoseconds))) - nanoseconds) <= 1

    @given(st.text(alphabet="0123456789.+-numshµ ", max_size=12))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            value = Duration.parse(text)
        except ValueError:
            return
        assert -(1 << 63) < value < 1 << 63

    def test_seconds(self) -> None:
        assert Duration.from_seconds(1.5) == 1_500_000_000
        assert Duration(1_500_000_000).seconds == 1.5
        assert repr(Duration(SECOND)) == "Duration('1s')"


class TestTimestamp:
    @pytest.mark.parametrize(
        ("text", "printed"),
        [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2017-01-01T00:00:00.5Z", "2017-01-01T00:00:00.5Z"),
            ("2017-01-01T3:04:05Z", "2017-01-01T03:04:05Z"),
            ("2017-01-01T00:00:00+01:30", "2016-12-31T22:30:00Z"),
            ("2017-01-01T00:00:00-01:30", "2017-01-01T01:30:00Z"),
            ("2017-01-02T00:00:00+25:00", "2016-12-31T23:00:00Z"),
            ("2000-02-29T12:00:00.123456789Z", "2000-02-29T12:00:00.123456789Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ],
    )
    def test_reading_and_printing(self, text: str, printed: str) -> None:
        assert str(Timestamp.parse(text)) == printed

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "2017-01-01",
            "2017-01-01T00:00:00",
            "2017-01-01t00:00:00Z",
            "2017-01-01T00:00:00z",
            "2017-01-01 00:00:00Z",
            " 2017-01-01T00:00:00Z",
            "2017-01-01T00:00:00Z\n",
            "2017-02-30T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2017-00-01T00:00:00Z",
            "2017-13-01T00:00:00Z",
            "2017-01-01T24:00:00Z",
            "2017-01-01T00:60:00Z",
            "2017-01-01T00:00:60Z",
            "2017-01-01T00:00:00.Z",
            "17-01-01T00:00:00Z",
            "2017-01-01T00:00:00+0100",
            "٢٠١٧-01-01T00:00:00Z",
        ],
    )
    def test_texts_that_are_no_time(self, text: str) -> None:
        with pytest.raises(ValueError, match="time"):
            Timestamp.parse(text)

    @given(st.datetimes())
    def test_agrees_with_the_standard_library(self, when: dt.datetime) -> None:
        stamp = Timestamp.parse(when.isoformat() + "Z")

        delta = when - dt.datetime(1970, 1, 1)
        assert stamp == ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1_000
        assert stamp.label() == stringify(stamp) == when.strftime("%m-%dT%H:%M:%S.%fZ").join((f"{when.year:04d}-", ""))

    @given(st.integers(int(ZERO_TIME), 253_402_300_800 * SECOND - 1))
    def test_what_is_printed_reads_back(self, nanoseconds: int) -> None:
        stamp = Timestamp(nanoseconds)

        assert Timestamp.parse(str(stamp)) == stamp
        assert stamp.label()[:-1] == f"{str(stamp)[:-1]}{'' if '.' in str(stamp) else '.'}".ljust(26, "0")[:26]

    @given(st.integers(-(1 << 70), 1 << 70))
    def test_any_instant_prints(self, nanoseconds: int) -> None:
        assert str(Timestamp(nanoseconds)).endswith("Z")

    def test_zero(self) -> None:
        assert ZERO_TIME.label() == "0001-01-01T00:00:00.000000Z"
        assert repr(ZERO_TIME) == "Timestamp('0001-01-01T00:00:00Z')"


class TestDouble:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1e21, "1000000000000000000000"),
            (0.1, "0.1"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (123456789.123456, "123456789.123456"),
            (1e-7, "0.0000001"),
            (-1.25e-10, "-0.000000000125"),
            (1.5e300, "15" + "0" * 299),
            (-0.0, "-0"),
            (math.nan, "NaN"),
            (math.inf, "+Inf"),
            (-math.inf, "-Inf"),
        ],
    )
    def test_printing(self, value: float, text: str) -> None:
        assert format_double(value) == stringify(value) == text

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_never_has_an_exponent_and_reads_back(self, value: float) -> None:
        text = format_double(value)

        assert "e" not in text.lower()
        assert float(text) == value
        assert not text.endswith(".")


class TestAddress:
    @pytest.mark.parametrize(
        ("address", "text"),
        [
            (bytes([1, 2, 3, 4]), "1.2.3.4"),
            (bytes(10) + b"\xff\xff\x01\x02\x03\x04", "1.2.3.4"),
            (bytes(15) + b"\x01", "::1"),
            (bytes.fromhex("20010db8000000000001000000000001"), "2001:db8::1:0:0:1"),
            (b"", "<nil>"),
            (b"\x01\x02", "?0102"),
        ],
    )
    def test_printing(self, address: bytes, text: str) -> None:
        assert format_ip(address) == stringify(address) == text

    @given(st.ip_addresses())
    def test_reads_what_the_standard_library_prints(
        self, address: ipaddress.IPv4Address | ipaddress.IPv6Address
    ) -> None:
        assert parse_ip(str(address)) == address.packed

    @pytest.mark.parametrize(
        "text", ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "fe80::1%eth0", "[::1]", "1.2.3.4/8", "::1::", "1.2.3.4 "]
    )
    def test_texts_that_are_no_address(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            parse_ip(text)


def test_booleans_have_the_spellings_of_go() -> None:
    assert [parse_bool(t) for t in ("1", "t", "T", "TRUE", "true", "True")] == [True] * 6
    assert [parse_bool(t) for t in ("0", "f", "F", "FALSE", "false", "False")] == [False] * 6
    for text in ("", "yes", "tRUE", "2"):
        with pytest.raises(ValueError, match="not a boolean"):
            parse_bool(text)


@given(st.integers())
def test_wrapping_is_modulo_two_to_the_64(value: int) -> None:
    wrapped = wrap_int64(value)

    assert -(1 << 63) <= wrapped < 1 << 63
    assert (wrapped - value) % (1 << 64) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (ABSENT, ""),
        ("x", "x"),
        (-7, "-7"),
        (True, "true"),
        (False, "false"),
        ({"b": "2", "a": "1"}, "a=1&b=2"),
        ({}, ""),
    ],
)
def test_text_of_values(value: object, text: str) -> None:
    assert stringify(value) == text


class TestStringEquals:
    @pytest.mark.parametrize(
        ("left", "right"),
        [
            (None, ""),
            (ABSENT, ""),
            ("a", "a"),
            (1234, "1234"),
            (1234, "+1234"),
            (1234, 1234),
            (1.5, "1.5"),
            (1.5, "15e-1"),
            (math.inf, "+Inf"),
            (True, "T"),
            (Duration(SECOND), "1s"),
            (Duration(SECOND), "1000ms"),
            (Timestamp.parse("2017-01-01T00:00:00Z"), "2017-01-01T00:00:00Z"),
            (bytes([1, 2, 3, 4]), "1.2.3.4"),
            (bytes(10) + b"\xff\xff\x01\x02\x03\x04", "1.2.3.4"),
            ({"a": "b", "c": "d"}, "c=d&a=b"),
            ({"a": "b"}, "a=b&junk&x=y=z"),
            ({"a": "b"}, {"a": "b"}),
        ],
    )
    def test_equal(self, left: object, right: object) -> None:
        assert string_equals(left, right)
        assert string_equals(right, left)

    @pytest.mark.parametrize(
        ("left", "right"),
        [
            (None, "x"),
            ("a", "b"),
            (1234, "1234.0"),
            (1234, "1_234"),
            (1234, "9" * 5_000),
            (1, True),
            (1, 1.0),
            (1.5, "1_5e-1"),
            (1.5, " 1.5"),
            (True, "yes"),
            (0, ""),
            (Duration(SECOND), "1"),
            (Duration(SECOND), SECOND),
            (Timestamp.parse("2017-01-01T00:00:00Z"), "badTimeFormat"),
            ({"a": "b", "c": "d"}, "a=b"),
            ({"a": "b"}, "a=b&c=d"),
            (b"\x01\x02\x03\x04", "1.2.3.5"),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_not_equal(self, left: object, right: object) -> None:
        assert not string_equals(left, right)
        assert not string_equals(right, left)

    @given(
        st.one_of(
            INT64, st.floats(allow_nan=False), st.booleans(), st.text(), st.ip_addresses().map(lambda a: a.packed)
        )
    )
    def test_a_value_equals_its_own_text(self, value: object) -> None:
        assert string_equals(value, stringify(value))
