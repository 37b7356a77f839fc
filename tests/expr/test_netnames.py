"""Addresses and times, and the laws that hold for all typed texts."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixer.attributes.values import Timestamp
from mixer.errors import EvalError
from mixer.expr import netnames
from mixer.expr.netnames import (
    dns_name,
    dns_names_equal,
    email,
    emails_equal,
    ip,
    ips_equal,
    timestamp,
    uri,
    uris_equal,
)

V4_MAPPED = bytes(10) + b"\xff\xff"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", V4_MAPPED + bytes([10, 1, 2, 3])),
        ("010.0.0.1", V4_MAPPED + bytes([10, 0, 0, 1])),
        ("0000.0.0.255", V4_MAPPED + bytes([0, 0, 0, 255])),
        ("::ffff:1.2.3.4", V4_MAPPED + bytes([1, 2, 3, 4])),
        ("::ffff:010.2.3.4", V4_MAPPED + bytes([10, 2, 3, 4])),
        ("::", bytes(16)),
        ("::1", bytes(15) + b"\x01"),
        ("1::", b"\x00\x01" + bytes(14)),
        ("00001::", b"\x00\x01" + bytes(14)),
        ("2001:DB8::a", bytes.fromhex("20010db8") + bytes(11) + b"\x0a"),
        ("1:2:3:4:5:6:7::", bytes.fromhex("0001000200030004000500060007") + bytes(2)),
        ("1:2:3:4:5:6:1.2.3.4", bytes.fromhex("000100020003000400050006") + bytes([1, 2, 3, 4])),
    ],
)
def test_ip_is_always_16_bytes(text, expected):
    assert ip(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "10.1.2",
        "1.2.3.4.5",
        "256.0.0.1",
        "1..2.3",
        "+1.2.3.4",
        "٣.0.0.1",
        " 1.2.3.4",
        "1.2.3.4:80",
        "1.2.3.4/8",
        "[::1]",
        "::1%eth0",
        ":",
        ":::",
        "1:2",
        "1::2::3",
        "12345::",
        "1:2:3:4:5:6:7:8:9",
        "::1.2.3",
        "1.2.3.4::",
        "\ud800",
        "1" * 5000 + ".0.0.1",
    ],
)
def test_ip_rejects(text):
    with pytest.raises(EvalError) as caught:
        ip(text)

    assert str(caught.value) == f"could not convert {text} to IP_ADDRESS"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (bytes([10, 1, 2, 3]), V4_MAPPED + bytes([10, 1, 2, 3]), True),
        (V4_MAPPED + bytes([10, 1, 2, 3]), bytes([10, 1, 2, 3]), True),
        (bytes(4), bytes(16), False),
        (b"", b"", True),
        (b"abc", b"abc", True),
        (b"abc", b"abcd", False),
    ],
)
def test_ips_equal(a, b, expected):
    assert ips_equal(a, b) is expected


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2020-03-01T12:00:00Z", 1583064000 * SECOND),
        ("2020-03-01T14:00:00+02:00", 1583064000 * SECOND),
        ("2020-03-01T11:59:59.5-00:00", 1583063999 * SECOND + 500_000_000),
        ("2020-03-02T13:00:00+25:00", 1583064000 * SECOND),
        ("1970-01-01T1:00:00Z", 3600 * SECOND),
        ("1970-01-01T00:00:00.123456789Z", 123456789),
        ("1970-01-01T00:00:00.000000001999Z", 1),
        ("2000-02-29T00:00:00Z", 951782400 * SECOND),
        ("0001-01-01T00:00:00Z", -62135596800 * SECOND),
        ("0000-02-29T00:00:00Z", -62162121600 * SECOND),
    ],
)
def test_timestamp_reads(text, nanoseconds):
    assert timestamp(text) == nanoseconds
    assert type(timestamp(text)) is Timestamp


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "eu-west",
        "2020-03-01",
        "2020-03-01T12:00:00",
        "2020-03-01 12:00:00Z",
        "2020-03-01t12:00:00Z",
        "2020-03-01T12:00:00z",
        " 2020-03-01T12:00:00Z",
        "2020-03-01T12:00:00Z\n",
        "20200-03-01T12:00:00Z",
        "2020-3-01T12:00:00Z",
        "2020-02-30T12:00:00Z",
        "2019-02-29T12:00:00Z",
        "1900-02-29T12:00:00Z",
        "2020-00-01T12:00:00Z",
        "2020-13-01T12:00:00Z",
        "2020-03-00T12:00:00Z",
        "2020-03-01T24:00:00Z",
        "2020-03-01T12:60:00Z",
        "2020-03-01T12:00:60Z",
        "2020-03-01T12:00:00.Z",
        "2020-03-01T12:00:00,5Z",
        "2020-03-01T12:00:00.1234567890Z",
        "2020-03-01T12:00:00+0200",
        "2020-03-01T12:00:00+02",
        "２020-03-01T12:00:00Z",
        "2020-03-01T12:00:00." + "1" * 5000 + "Z",
    ],
)
def test_timestamp_rejects(text):
    with pytest.raises(EvalError) as caught:
        timestamp(text)

    assert str(caught.value) == f"could not convert '{text}' to TIMESTAMP. expected format: '2006-01-02T15:04:05Z07:00'"


CONSTRUCTIONS = [dns_name, email, uri, ip, timestamp]
EQUALITIES = [dns_names_equal, emails_equal, uris_equal]

WORDS = [
    "xn--",
    "XN--",
    "bcher-kva",
    "http://",
    "a@b",
    "::1",
    "%41",
    "%zz",
    "=?utf-8?q??=",
    "2020-03-01T12:00:00Z",
    "1.2.3.4",
]
LETTERS = 'aAz09-._~:/?#[]@!%<>()"\\,; \t\n\x00\x7féßא1\u0301\u200c\u094d。Ⅷ\ud800\udcff\U0010ffff'
PIECES = st.sampled_from([*WORDS, *LETTERS])
TEXTS = st.one_of(
    st.lists(PIECES, max_size=10).map("".join), st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
)


def outcome(call, *args):
    """The result of a call, or the text of its EvalError; anything else escapes and fails the test."""
    try:
        return call(*args)
    except EvalError as exc:
        return str(exc)


@given(text=TEXTS)
@example(text="\ud800#\udcff")
@example(text="xn--\udcff")
def test_construction_gives_a_value_or_an_eval_error(text):
    for construct in CONSTRUCTIONS:
        outcome(construct, text)


@given(text=TEXTS)
def test_equality_is_reflexive_where_it_answers(text):
    for equal in EQUALITIES:
        assert outcome(equal, text, text) is True or isinstance(outcome(equal, text, text), str)


@given(a=TEXTS, b=TEXTS)
def test_equality_is_symmetric_where_it_answers(a, b):
    for equal in EQUALITIES:
        there, back = outcome(equal, a, b), outcome(equal, b, a)

        assert there == back or (isinstance(there, str) and isinstance(back, str))


@given(text=TEXTS)
@example(text="xn--bcher-kva.a..")
@example(text="bu\u0308cher")
def test_construction_is_idempotent(text):
    for construct in (dns_name, email, uri):
        once = outcome(construct, text)
        if not once.startswith("error "):
            assert construct(once) == once


@given(text=TEXTS)
def test_constructed_name_equals_its_source_where_both_compare(text):
    name = outcome(dns_name, text)

    assert outcome(dns_names_equal, text, name) is not False or name.startswith("error ")


LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "a" * LONG,
        "a." * LONG,
        "." * LONG,
        "xn--" * LONG,
        "xn--" + "9" * LONG,
        ("xn--" + "9" * 500 + ".") * 200,
        "\u0315\u0300" * LONG,
        "\u0315\u0300" * 2_000,
        "\u200c" * 4_000,
        "\ufdfa" * 4_000,
        "\ud800" * LONG,
        "\x00" * LONG,
        "a@b " + "(" * LONG,
        "a " * LONG,
        '"\\' * LONG,
        "g:" + "a@b," * (LONG // 4),
        "http://" + "%e9" * (LONG // 3),
        "http://" + "a:" * LONG,
        "http://[" + "%25" * (LONG // 3) + "]/",
        "%41" * (LONG // 3),
        "::" * LONG,
        "0" * LONG + ".0.0.1",
        "2020-01-01T00:00:00." + "0" * LONG + "Z",
    ],
    ids=lambda text: ascii(text[:8]),
)
def test_long_texts_cost_little(text):
    """Generous: quadratic work on these would take minutes."""
    for call in CONSTRUCTIONS:
        start = time.perf_counter()
        outcome(call, text)
        assert time.perf_counter() - start < 3
    for call in EQUALITIES:
        start = time.perf_counter()
        outcome(call, text, text)
        assert time.perf_counter() - start < 3


def test_remembered_names_are_bounded():
    from mixer.expr import dnsname, uriref

    for number in range(3_000):
        dns_names_equal(f"é{number}", "a")
        uris_equal(f"a:{number}", "b:")

    for cache in (dnsname._mapped_name, uriref._parse_main):
        assert cache.cache_info().currsize <= cache.cache_info().maxsize


def test_every_name_is_exported():
    assert sorted(netnames.__all__) == [
        "dns_name",
        "dns_names_equal",
        "email",
        "emails_equal",
        "ip",
        "ips_equal",
        "timestamp",
        "uri",
        "uris_equal",
    ]
