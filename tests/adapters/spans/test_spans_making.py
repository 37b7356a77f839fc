"""Which span an instance is. Rows named after spec adapters 4.10 are its rules and scenarios."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.spans.ledger import Drop, Skip
from mixer.adapters.spans.params import Sampling, SpanParams
from mixer.adapters.spans.span import Endpoint, Span, SpanMaker, is_sampled
from mixer.attributes import Duration, Timestamp
from mixer.attributes.values import ABSENT, ZERO_TIME
from tests.adapters.spans.kit import END, PARENT, SPAN, START, TRACE, instance

REWRITTEN = 0x9D9164DED28611B9
T, S, P = int(TRACE, 16), int(SPAN, 16), int(PARENT, 16)
W3C = f"00-{TRACE}-{SPAN}-01"


def make(given_instance, probability=1.0, sampling=Sampling.PROBABILITY):
    return SpanMaker(SpanParams(sample_probability=probability, sampling=sampling)).make(given_instance)


def place(**fields):
    span = make(instance(**fields))
    assert isinstance(span, Span), span
    return span.trace_id, span.span_id, span.parent_id


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        pytest.param({}, (T, S, P), id="scenario 2"),
        pytest.param({"trace_id": TRACE[16:]}, (T & (1 << 64) - 1, S, P), id="rule 1: 64 bits"),
        pytest.param({"trace_id": "ab", "span_id": "cd"}, (0xAB, 0xCD, P), id="rule 1: short ids are aligned right"),
        pytest.param({"trace_id": "ab" * 9}, (int("ab" * 9, 16), S, P), id="rule 1: 9 bytes are aligned right"),
        pytest.param({"parent_span_id": ""}, (T, S, 0), id="a root"),
        pytest.param({"parent_span_id": "xyz"}, (T, S, 0), id="rule 1: an unusable parent is none"),
        pytest.param({"parent_span_id": "ab" * 9}, (T, S, 0), id="rule 1: an over-long parent is none"),
        pytest.param({"parent_span_id": SPAN}, (T, S, 0), id="nothing is its own parent"),
        pytest.param(
            {"client_span": True, "rewrite_client_span_id": True}, (T, REWRITTEN, P), id="scenario 8: client rewritten"
        ),
        pytest.param({"rewrite_client_span_id": True}, (T, S, REWRITTEN), id="scenario 9: server under the client"),
        pytest.param(
            {"rewrite_client_span_id": True, "span_id": "3f6a2ec3c810c2ab"},
            (T, 0x3F6A2EC3C810C2AB, 0),
            id="an id that rewriting would make zero",
        ),
        pytest.param(
            {"trace_id": f"{TRACE}-{SPAN}-1-{PARENT}", "span_id": "", "parent_span_id": ""}, (T, S, P), id="b3"
        ),
        pytest.param({"trace_id": f"{TRACE}-{SPAN}-1", "span_id": "", "parent_span_id": ""}, (T, S, 0), id="b3, root"),
        pytest.param(
            {"trace_id": f"{TRACE}-{SPAN}-1-{PARENT}", "span_id": "", "rewrite_client_span_id": True},
            (T, S, REWRITTEN),
            id="b3, server under the client",
        ),
        pytest.param(
            {"trace_id": f"{TRACE}-{SPAN}-1", "span_id": "0b", "parent_span_id": "0a"}, (T, 11, 10), id="own ids"
        ),
        pytest.param({"trace_id": W3C, "span_id": "", "parent_span_id": ""}, (T, S, 0), id="traceparent of this hop"),
        pytest.param(
            {"trace_id": W3C, "span_id": "", "parent_span_id": f"00-{TRACE}-{PARENT}-01"},
            (T, S, P),
            id="traceparent of this hop under that of the one before",
        ),
        pytest.param(
            {"parent_span_id": f"00-{'12' * 16}-{PARENT}-01"}, (T, S, 0), id="a stale traceparent is no parent"
        ),
        pytest.param({"trace_id": TRACE, "span_id": W3C}, (T, S, P), id="a whole header as the span's id"),
    ],
)
def test_span_has_its_place_in_the_trace(fields, ids):
    assert place(**fields) == ids


def test_span_under_the_callers_traceparent_is_new():
    same = {"trace_id": W3C, "span_id": "", "parent_span_id": W3C}
    (_, first, parent), (_, second, _) = place(**same), place(**same)

    assert parent == S
    assert len({first, second, S}) == 3


def test_both_ends_under_the_callers_traceparent_hang_together():
    same = {"trace_id": W3C, "span_id": "", "parent_span_id": W3C, "rewrite_client_span_id": True}
    _, client, client_parent = place(**same, client_span=True)
    _, server, server_parent = place(**same)

    assert (client_parent, server_parent) == (S, client)
    assert server not in (S, client)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"trace_id": ""}, Skip.UNTRACED, id="scenario 4: empty trace id"),
        pytest.param({"trace_id": "0"}, Skip.UNTRACED, id="b3 that only denies"),
        pytest.param({"trace_id": "--1"}, Skip.UNTRACED, id="b3 put together from nothing"),
        pytest.param({"trace_id": TRACE[1:]}, Drop.BAD_ID, id="scenario 12: odd-length hex"),
        pytest.param({"trace_id": "00" * 16}, Drop.BAD_ID, id="zero trace id"),
        pytest.param({"trace_id": f"{TRACE}ab"}, Drop.BAD_ID, id="rule 1: over-long trace id"),
        pytest.param({"trace_id": "no trace"}, Drop.BAD_ID, id="undecodable trace id"),
        pytest.param({"span_id": ""}, Drop.BAD_ID, id="rule 1: no span id"),
        pytest.param({"span_id": "12g4"}, Drop.BAD_ID, id="rule 1: bad span id"),
        pytest.param({"span_id": f"{SPAN}ab"}, Drop.BAD_ID, id="rule 1: over-long span id"),
        pytest.param({"start_time": ZERO_TIME}, Drop.BAD_TIME, id="no start"),
        pytest.param({"end_time": ZERO_TIME}, Drop.BAD_TIME, id="no end"),
        pytest.param({"start_time": END, "end_time": START}, Drop.BAD_TIME, id="negative duration"),
        pytest.param({"start_time": Timestamp(-1)}, Drop.BAD_TIME, id="before 1970"),
        pytest.param({"end_time": Timestamp(1 << 63)}, Drop.BAD_TIME, id="after 2262"),
    ],
)
def test_instance_is_no_span(fields, reason):
    assert make(instance(**fields)) is reason


@pytest.mark.parametrize(
    ("trace_id", "probability", "kept"),
    [
        pytest.param("7fffffffffffffff0000000000000000", 0.5, True, id="scenario 13: below"),
        pytest.param("80000000000000000000000000000000", 0.5, False, id="scenario 13: at the bound"),
        pytest.param("ffffffffffffffffffffffffffffffff", 1.0, True, id="1 keeps all"),
        pytest.param("00000000000000010000000000000000", 0.0, False, id="scenario 5: 0 keeps none"),
    ],
)
def test_probability_decides_by_the_trace(trace_id, probability, kept):
    span = make(instance(trace_id=trace_id), probability)

    assert isinstance(span, Span) if kept else span is Skip.UNSAMPLED


def test_short_trace_ids_are_sampled_too():
    kept = sum(is_sampled(n, int(0.25 * (1 << 63))) for n in range(1, 4001))

    assert 900 < kept < 1100


@pytest.mark.parametrize(
    ("trace_id", "sampling", "probability", "kept"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", Sampling.INCOMING, 0.0, True, id="followed: yes"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", Sampling.INCOMING, 1.0, False, id="followed: no"),
        pytest.param(f"{TRACE}-{SPAN}-d", Sampling.INCOMING, 0.0, True, id="followed: debug"),
        pytest.param(f"{TRACE}-{SPAN}-0", Sampling.INCOMING, 1.0, False, id="followed: b3 no"),
        pytest.param(f"{TRACE}-{SPAN}", Sampling.INCOMING, 1.0, True, id="undecided, so by probability"),
        pytest.param(f"{TRACE}-{SPAN}", Sampling.INCOMING, 0.0, False, id="undecided, and none by probability"),
        pytest.param(TRACE, Sampling.INCOMING, 1.0, True, id="a plain id has no decision"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", Sampling.PROBABILITY, 1.0, True, id="rule 2: ignored no"),
        pytest.param(f"00-{TRACE}-{SPAN}-01", Sampling.PROBABILITY, 0.0, False, id="rule 2: ignored yes"),
    ],
)
def test_incoming_decision_is_followed_on_demand(trace_id, sampling, probability, kept):
    span = make(instance(trace_id=trace_id), probability, sampling)

    assert isinstance(span, Span) if kept else span is Skip.UNSAMPLED


@given(st.integers(1, (1 << 128) - 1), st.floats(0, 1), st.floats(0, 1))
def test_more_probability_never_loses_a_trace(trace_id, one, other):
    low, high = sorted((int(one * (1 << 63)), int(other * (1 << 63))))

    assert is_sampled(trace_id, low) <= is_sampled(trace_id, high)


TEXTS = st.text(max_size=12) | st.sampled_from(["", TRACE, SPAN, PARENT, W3C, f"{TRACE}-{SPAN}-0-{PARENT}"])
TIMES = st.integers(-5, 5).map(Timestamp) | st.sampled_from([START, END, ZERO_TIME, Timestamp(1 << 63)])


@given(
    st.builds(
        instance,
        trace_id=TEXTS,
        span_id=TEXTS,
        parent_span_id=TEXTS,
        start_time=TIMES,
        end_time=TIMES,
        source_ip=st.binary(max_size=17),
        http_status_code=st.integers(-(1 << 63), (1 << 63) - 1),
        client_span=st.booleans(),
        rewrite_client_span_id=st.booleans(),
    ),
    st.sampled_from(Sampling),
)
def test_any_instance_is_a_span_or_has_a_reason(given_instance, sampling):
    span = make(given_instance, 0.5, sampling)

    if isinstance(span, Span):
        assert 0 < span.trace_id < 1 << 128
        assert 0 < span.span_id < 1 << 64
        assert span.parent_id != span.span_id
        assert 0 <= span.start_ns <= span.end_ns
    else:
        assert isinstance(span, (Skip, Drop))


@pytest.mark.parametrize("client", [True, False])
def test_reporter_is_the_local_end(client):
    ends = {
        "source_name": "productpage",
        "source_ip": bytes(10) + b"\xff\xff\x0a\x00\x00\x01",
        "destination_name": "reviews",
        "destination_ip": bytes(4),
    }
    span = make(instance(**ends, client_span=client))

    source, destination = Endpoint("productpage", b"\x0a\x00\x00\x01"), Endpoint("reviews", b"")
    assert span.is_client is client
    assert (span.local, span.remote) == ((source, destination) if client else (destination, source))


def test_tags_keep_plain_values_and_write_the_others():
    tags = {"s": "x", "i": 7, "d": 1.5, "b": True, "t": START, "l": Duration.parse("1.5s"), "ip": b"\x01\x02\x03\x04"}
    nothing = {"none": None, "absent": ABSENT}
    span = make(instance(span_tags={**tags, **nothing, "m": {"b": "2", "a": "1"}}))

    assert span.tags == {
        "s": "x",
        "i": 7,
        "d": 1.5,
        "b": True,
        "t": "2006-01-02T22:20:39.900000Z",
        "l": "1.5s",
        "ip": "1.2.3.4",
        "m": "a=1&b=2",
    }


def test_text_without_an_encoding_costs_no_span():
    span = make(instance(span_name="a\ud800b", source_name="\udfff", span_tags={"\ud800": "\ud800", "grün": "grün"}))

    assert (span.name, span.remote.name, span.tags) == ("a?b", "?", {"?": "?", "grün": "grün"})


def test_negative_numbers_are_unknown():
    span = make(instance(http_status_code=-1, request_size=-5, response_total_size=9))

    assert (span.http_status, span.sizes) == (0, (0, 0, 0, 9))


def test_four_services_make_one_tree():
    """B3 as sidecars send it: both ends of a hop share an id; the reporters of four services, rewriting."""
    hops = [("", "0a"), ("0a", "0b"), ("0b", "0c"), ("0c", "0d")]
    spans = [
        make(instance(span_id=own, parent_span_id=parent, client_span=client, rewrite_client_span_id=True))
        for parent, own in hops
        for client in (True, False)
    ]

    above = {span.span_id: span.parent_id for span in spans}
    assert len(above) == len(spans) == 8
    path, at = [], spans[-1].span_id
    while at:
        path.append(at)
        at = above[at]
    assert path == [span.span_id for span in reversed(spans)]


def test_span_is_frozen():
    span = make(instance())
    with pytest.raises(dataclasses.FrozenInstanceError):
        span.name = "other"
