"""The x-b3-* headers of a hop. Source: spec envoy 7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.envoy.log_trace import b3_of, hop_headers

T, S, P = "0af7651916cd43dd8448eb211c80319c", "88f4e39ad8fd36a6", "b7ad6b7169203331"
LEFT, CAME = f"00-{T}-{S}-01", f"00-{T}-{P}-01"
OWN = {"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-sampled": "1"}
ZIPKIN = {"x-b3-traceid": "a" * 16, "x-b3-spanid": "b" * 16, "x-b3-parentspanid": "c" * 16, "x-b3-sampled": "1"}
STALE = {"x-b3-traceid": "d" * 16, "x-b3-spanid": "e" * 16}

CASES = {
    "no tracer": ({"x-user": "bob"}, {"x-user": "bob"}, {}),
    "zipkin, new": (ZIPKIN, {}, ZIPKIN),
    "zipkin, continued": (ZIPKIN, {"x-b3-traceid": "a" * 16, "x-b3-spanid": "c" * 16}, ZIPKIN),
    "zipkin, nobody saw how it came": (ZIPKIN, None, ZIPKIN),
    "otel, new": ({"traceparent": LEFT}, {}, OWN),
    "otel, continued": ({"traceparent": LEFT}, {"traceparent": CAME}, {**OWN, "x-b3-parentspanid": P}),
    "otel, nobody saw how it came": ({"traceparent": LEFT}, None, OWN),
    "otel, not sampled": ({"traceparent": f"00-{T}-{S}-00"}, {}, {**OWN, "x-b3-sampled": "0"}),
    "otel, b3 of the client passed on": ({"traceparent": LEFT, **STALE}, STALE, OWN),
    "zipkin, traceparent of the client passed on": ({"traceparent": CAME, **ZIPKIN}, {"traceparent": CAME}, ZIPKIN),
    "zipkin with w3c": ({"traceparent": LEFT, **ZIPKIN}, {}, ZIPKIN),
    "no tracer, headers of the client passed on": (
        {"traceparent": CAME, **STALE},
        {"traceparent": CAME, **STALE},
        STALE,
    ),
    "no decision": ({"x-b3-sampled": "0"}, {"x-b3-sampled": "0"}, {"x-b3-sampled": "0"}),
}


@pytest.mark.parametrize(("left", "came", "expected"), CASES.values(), ids=CASES)
def test_headers_of_this_hop_are_told_from_those_passed_on(
    left: dict[str, str], came: dict[str, str] | None, expected: dict[str, str]
) -> None:
    assert hop_headers(left, came) == expected


@pytest.mark.parametrize("text", ["", "00-1-2-01", f"00-{T}-{S}", f"00-{T.upper()}-{S}-01", "\n"])
def test_what_is_no_traceparent_gives_nothing(text: str) -> None:
    assert b3_of(text) == {}


def test_a_parent_of_another_trace_is_none() -> None:
    assert "x-b3-parentspanid" not in b3_of(LEFT, f"00-{'1' * 32}-{P}-01")


HEADERS = st.dictionaries(
    st.sampled_from(["traceparent", *ZIPKIN, "x"]), st.sampled_from([LEFT, CAME, "a", ""]) | st.text()
)


@given(HEADERS, st.none() | HEADERS)
def test_any_headers_have_an_answer(left: dict[str, str], came: dict[str, str] | None) -> None:
    assert set(hop_headers(left, came)) <= set(ZIPKIN)
