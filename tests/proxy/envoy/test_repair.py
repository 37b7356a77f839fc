"""Messages with bytes where text should be."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from proxy.envoy.gen.accesslog_pb2 import HTTPAccessLogEntry
from proxy.envoy.gen.auth_pb2 import CheckRequest
from proxy.envoy.gen.ratelimit_pb2 import RateLimitRequest
from proxy.envoy.repair import _repaired, parse
from tests.proxy.envoy.log_kit import http_entry

MARK = "MARKED"


def test_text_of_a_custom_tag_is_repaired() -> None:
    entry = http_entry(user=MARK)
    data = entry.SerializeToString().replace(MARK.encode(), b"ab\xff\xfecd")
    with pytest.raises(DecodeError):
        HTTPAccessLogEntry.FromString(data)

    found = parse(HTTPAccessLogEntry, data)

    assert found.common_properties.custom_tags["user"] == "ab��cd"
    found.common_properties.custom_tags["user"] = MARK
    assert found == entry


def test_message_without_fault_stays_as_it_is() -> None:
    entry = http_entry(user="zoë")
    data = entry.SerializeToString()
    assert parse(HTTPAccessLogEntry, data) == entry
    assert HTTPAccessLogEntry.FromString(_repaired(data, HTTPAccessLogEntry.DESCRIPTOR, 0)) == entry


def test_descriptor_is_repaired() -> None:
    request = RateLimitRequest(domain="d", hits_addend=3)
    request.descriptors.add().entries.add(key="user", value=MARK)
    found = parse(RateLimitRequest, request.SerializeToString().replace(MARK.encode(), b"\xc3\x28 bob"))
    assert (found.descriptors[0].entries[0].value, found.hits_addend) == ("�( bob", 3)


@given(st.binary(max_size=200))
def test_what_is_no_message_is_refused_and_nothing_else(data: bytes) -> None:
    for kind in (CheckRequest, RateLimitRequest, HTTPAccessLogEntry):
        try:
            parse(kind, data)
        except DecodeError:
            continue


def test_endless_nesting_is_refused() -> None:
    data = b"\xff"
    for _ in range(40):  # Struct in Value in Struct
        data = b"\x2a" + _length(data) + data
        data = b"\x12" + _length(data) + data
        data = b"\x0a" + _length(data) + data
    from google.protobuf.struct_pb2 import Struct

    with pytest.raises(DecodeError):
        parse(Struct, data)


def _length(data: bytes) -> bytes:
    size = len(data)
    return bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
