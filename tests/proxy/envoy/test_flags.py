"""Response flags as short names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.envoy.flags import NONE, SHORT, flags_text, is_denied
from proxy.envoy.gen.accesslog_pb2 import AccessLogCommon, ResponseFlags


def common(*names: str, tag: str = "") -> AccessLogCommon:
    found = AccessLogCommon()
    for name in names:
        if name == "unauthorized_details":
            found.response_flags.unauthorized_details.reason = ResponseFlags.Unauthorized.EXTERNAL_SERVICE
        else:
            setattr(found.response_flags, name, True)
    if tag:
        found.custom_tags["flags"] = tag
    return found


def test_every_field_has_a_short_name() -> None:
    assert list(SHORT) == [field.name for field in ResponseFlags.DESCRIPTOR.fields]
    assert len(set(SHORT.values())) == len(SHORT) == 28


@pytest.mark.parametrize("name", SHORT)
def test_a_flag_is_told_by_its_short_name(name: str) -> None:
    assert flags_text(common(name)) == SHORT[name]


@given(st.sets(st.sampled_from(sorted(SHORT))))
def test_flags_are_told_in_the_order_of_the_table(names: set[str]) -> None:
    expected = ",".join(short for name, short in SHORT.items() if name in names) or NONE

    assert flags_text(common(*names)) == expected
    assert is_denied(common(*names)) == ("unauthorized_details" in names)


def test_the_tag_knows_better() -> None:
    assert flags_text(common("upstream_connection_failure", tag="UF,NEW")) == "UF,NEW"
    assert flags_text(common(tag="-")) == NONE
    assert is_denied(common(tag="DC,UAEX"))
    assert not is_denied(common("unauthorized_details", tag="-"))


def test_flags_that_the_table_lacks_are_none_without_the_tag() -> None:
    unknown = ResponseFlags.FromString(bytes((0xE0, 0x03, 0x01)))  # field 60, true
    found = AccessLogCommon()
    found.response_flags.CopyFrom(unknown)

    assert flags_text(found) == NONE
