"""Lists by themselves. Source: spec adapters 4.5."""

import ipaddress
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.listchecker.entries import (
    EntryType,
    ListSyntaxError,
    UnusableValueError,
    make_list,
    read_entries,
)

STRINGS, CASELESS = EntryType.STRINGS, EntryType.CASE_INSENSITIVE_STRINGS
ADDRESSES, REGEX = EntryType.IP_ADDRESSES, EntryType.REGEX


@pytest.mark.parametrize(
    ("kind", "entries", "value", "found"),
    [
        (STRINGS, ["ABC"], "ABC", True),
        (STRINGS, ["ABC"], "abc", False),
        (STRINGS, ["ABC\r"], "ABC", False),
        (STRINGS, [], "", False),
        (CASELESS, ["AbC"], "aBc", True),
        (CASELESS, ["AbC"], "abcd", False),
        (ADDRESSES, ["10.57.0.0/16"], "10.57.0.1", True),
        (ADDRESSES, ["10.57.0.0/16"], "10.56.0.1", False),
        (ADDRESSES, ["9.9.9.9/28"], "9.9.9.0", True),
        (ADDRESSES, ["9.9.9.9/28"], "9.9.9.15", True),
        (ADDRESSES, ["9.9.9.9/28"], "9.9.9.16", False),
        (ADDRESSES, ["1.2.3.4"], "1.2.3.4", True),
        (ADDRESSES, ["1.2.3.4"], "::ffff:1.2.3.4", True),
        (ADDRESSES, ["::ffff:1.2.3.4"], "1.2.3.4", True),
        (ADDRESSES, ["::ffff:1.2.3.0/120"], "1.2.3.9", True),
        (ADDRESSES, ["2001:db8::1"], "2001:db8::1", True),
        (ADDRESSES, ["2001:db8::1"], "2001:db8::2", False),  # the reference takes it for a /32
        (ADDRESSES, ["2001:db8::/32"], "2001:db8:ffff::1", True),
        (ADDRESSES, ["0.0.0.0/0"], "255.255.255.255", True),
        (ADDRESSES, ["::/0"], "::1", True),
        (ADDRESSES, ["::/0"], "1.2.3.4", False),
        (REGEX, ["a*b"], "abc", True),
        (REGEX, ["a*b"], "B", False),
        (REGEX, ["^a$", "(?i)B"], "xbx", True),
        (REGEX, ["(?i)b", "a"], "A", False),
        (REGEX, [r"\Qa.b", "c"], "a.b", True),
        (REGEX, [r"\Qa.b", "c"], "c", True),
        (REGEX, ["(?P<n>a)", "(?P<n>b)"], "b", True),
        (REGEX, ["a|b", "^c|d$"], "xd", True),
        (REGEX, ["ü"], "grün", True),
        (REGEX, [], "a", False),
    ],
    ids=str,
)
def test_list_contains_what_matches(kind, entries, value, found):
    assert make_list(kind, entries).contains(value) is found


@pytest.mark.parametrize("value", ["XYZ", "", "1.2.3", "10.57.0.0/16", "fe80::1%eth0", "?0102"])
def test_address_list_refuses_what_is_no_address(value):
    with pytest.raises(UnusableValueError) as caught:
        make_list(ADDRESSES, ["10.57.0.0/16"]).contains(value)
    assert str(caught.value) == f"{value} is not a valid IP address"


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        *(
            (ADDRESSES, entry)
            for entry in ("X", "", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1", "::1/129", "::1/1_0", "/8")
        ),
        *((REGEX, entry) for entry in ("(", "a**b(", "[", r"(?<=a)b", r"(a)\1", "\\")),
    ],
)
def test_bad_entries_are_named(kind, entry, capfd):
    with pytest.raises(ListSyntaxError) as caught:
        make_list(kind, ["1.1.1.1", entry])
    assert repr(entry) in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "body", "entries"),
    [
        (STRINGS, b"ABC\n\n DEF \nG\r\n", ["ABC", " DEF ", "G\r"]),
        (STRINGS, b"# no comments", ["# no comments"]),
        (STRINGS, b"", []),
        (REGEX, b"a.b\nc", ["a.b", "c"]),
        (ADDRESSES, b"whitelist:\n- 10.10.11.2\n- 9.9.9.9/28\n", ["10.10.11.2", "9.9.9.9/28"]),
        (ADDRESSES, b"other: 1\nWhiteList: ['::1']", ["::1"]),
        (ADDRESSES, b'{"whitelist": ["1.2.3.4"], "comment": null}', ["1.2.3.4"]),
        (ADDRESSES, b"{whitelist: [1.2.3.4]}", ["1.2.3.4"]),
        (ADDRESSES, b"other: [1.2.3.4]", []),
        (ADDRESSES, b"whitelist:", []),
        (ADDRESSES, b'{"whitelist": null}', []),
        (ADDRESSES, b"", []),
    ],
)
def test_entries_are_read_from_the_body(kind, body, entries):
    assert read_entries(kind, body) == entries


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (ADDRESSES, b"- 1.2.3.4", "expected a mapping with a whitelist, got a list"),
        (ADDRESSES, b"1.2.3.4", "expected a mapping with a whitelist, got a string"),
        (ADDRESSES, b"whitelist: {a: b}", "expected a list under whitelist, got a mapping"),
        (ADDRESSES, b"whitelist: [[a]]", "whitelist[0]: expected an address or a CIDR block, got a list"),
        (ADDRESSES, b'{"whitelist": [5]}', "whitelist[0]: expected an address or a CIDR block, got the number 5"),
        (ADDRESSES, b"{", "the list is neither YAML nor JSON: "),
        (STRINGS, b"a\xff", "the list is not UTF-8 at byte 1"),
    ],
)
def test_unreadable_bodies_say_why(kind, body, message):
    with pytest.raises(ListSyntaxError) as caught:
        read_entries(kind, body)
    assert str(caught.value).startswith(message)


def networks():
    def of(make, bits, prefixes):
        return st.builds(lambda n, p: make((n, p), strict=False), st.integers(0, 2**bits - 1), prefixes)

    v4 = of(ipaddress.IPv4Network, 32, st.integers(0, 32))
    return st.one_of(v4, of(ipaddress.IPv6Network, 128, st.integers(1, 128)))


@given(entries=st.lists(networks(), max_size=8), data=st.data())
def test_address_list_agrees_with_the_standard_library(entries, data):
    near = [st.integers(0, n.num_addresses - 1).map(n.__getitem__) for n in entries]
    address = data.draw(st.one_of(st.ip_addresses(), *near))
    mapped = getattr(address, "ipv4_mapped", None)
    assert make_list(ADDRESSES, map(str, entries)).contains(str(address)) is any(
        (mapped or address) in network for network in entries
    )


def test_many_entries_are_as_quick_as_few():
    """A bound far above what it takes, and far below what looking at each entry would."""
    addresses = [f"10.{n >> 8 & 255}.{n & 255}.0/{24 + n % 9}" for n in range(60_000)]
    entries = read_entries(ADDRESSES, json.dumps({"whitelist": addresses}).encode())
    lists = [make_list(ADDRESSES, entries), make_list(STRINGS, entries)]
    started = time.perf_counter()
    for number in range(1_000):
        for each in lists:
            each.contains(f"192.168.{number & 255}.1")
    assert time.perf_counter() - started < 1


def test_many_patterns_work_together():
    patterns = make_list(REGEX, [f"^/api/v{n}/[a-z]+$" for n in range(2_000)])
    assert patterns.contains("/api/v1999/users")
    assert not patterns.contains("/api/v2000/users")
