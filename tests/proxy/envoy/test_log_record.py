"""The quick reading of a check's record agrees with the one that defines it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from proxy.envoy.correlation import HTTP_FILTER, HTTP_FORM_KEY, KEY, TCP_FILTER, CheckRecord, read_record, write_record
from proxy.envoy.log_record import record_of

NAMES = [
    *("service", "forwarded", "attrs", "cache_hit", "quota_cache_hit", "code", "message", "direct", "checked"),
    *("failed", "cut", "id", "other"),
]
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
ANY = st.one_of(
    TEXT, st.booleans(), st.floats(), st.integers(-20, 600), st.none(), st.lists(TEXT, max_size=2), st.just({"a": "b"}),
    st.just('{"request.path": "/a", "n": 5, "b": ["b", "AAAA"]}'),
)  # fmt: skip


def agree(metadata: dict[str, Struct]) -> None:
    expected = read_record(metadata)

    assert record_of(metadata) == (None if expected is None else expected._replace(id=""))


@given(st.dictionaries(st.sampled_from(NAMES), ANY), st.sampled_from([HTTP_FILTER, TCP_FILTER]))
def test_both_readings_agree_whatever_stands_there(values: dict[str, Any], namespace: str) -> None:
    struct = Struct()
    numbers = ("code", "direct")  # the one liberty that is taken: true is no number
    told = {name: value for name, value in values.items() if name not in numbers or not isinstance(value, bool)}
    struct.fields[KEY].struct_value.update(told)

    agree({namespace: struct})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ext_authz_duration": 3},
        {KEY: "text"},
        {HTTP_FORM_KEY: '{"code": 7, "message": "m"}'},
        {HTTP_FORM_KEY: "?"},
    ],
    ids=str,
)
@pytest.mark.parametrize("namespace", [HTTP_FILTER, TCP_FILTER, "envoy.filters.http.rbac"])
def test_both_readings_agree_on_other_forms(values: dict[str, Any], namespace: str) -> None:
    struct = Struct()
    struct.update(values)

    agree({namespace: struct})


def test_equal_records_are_read_once() -> None:
    def written(identifier: str) -> dict[str, Struct]:
        struct = Struct()
        write_record(CheckRecord(id=identifier, attributes={"request.host": "a"}), struct)
        return {HTTP_FILTER: struct}

    assert record_of(written("1")) is record_of(written("2"))
