"""A span as Zipkin's v2 JSON: the rules and scenarios of spec adapters 4.10."""

import json

import pytest

from mixer.adapters.spans.params import SpanParams
from mixer.adapters.spans.span import SpanMaker
from mixer.adapters.zipkin.encoding import canonical_code, encode
from mixer.attributes import Duration, Timestamp
from tests.adapters.spans.kit import PARENT, SPAN, START, TRACE, instance

SERVER_END = {"destination_name": "exampleserver.default", "destination_ip": b"\x0a\x00\x00\x02"}
CLIENT_END = {"source_name": "exampleclient.default", "source_ip": b"\x0a\x00\x00\x01"}
TOTALS = {"request_total_size": 1124, "response_total_size": 2200}


def as_json(**fields):
    span = SpanMaker(SpanParams(sample_probability=1.0)).make(instance(**fields))
    (value,) = json.loads(encode([span]))
    return value


def annotations(value):
    return [a["value"] for a in value["annotations"]]


def test_scenario_2_ids_and_two_tags_and_no_status():
    value = as_json(span_tags={"http.method": "GET", "http.host": "reviews"})

    assert (value["traceId"], value["id"], value["parentId"]) == (TRACE, SPAN, PARENT)
    assert value["kind"] == "SERVER"
    assert value["tags"] == {"http.method": "GET", "http.host": "reviews"}


def test_scenario_3_error():
    assert as_json(http_status_code=500)["tags"] == {
        "http.status_code": "500",
        "error": "UNKNOWN",
        "opencensus.status_description": "UNKNOWN",
    }


def test_scenario_6_server_without_parent():
    value = as_json(parent_span_id="", http_status_code=200, **SERVER_END, **CLIENT_END, **TOTALS)

    assert "parentId" not in value
    assert value["localEndpoint"] == {"serviceName": "exampleserver.default", "ipv4": "10.0.0.2"}
    assert annotations(value) == ["Received 1124 bytes", "Sent 2200 bytes"]
    assert value["tags"] == {"http.status_code": "200", "opencensus.status_description": "OK"}


def test_scenario_7_the_same_as_client():
    value = as_json(http_status_code=200, client_span=True, **SERVER_END, **CLIENT_END, **TOTALS)

    assert value["kind"] == "CLIENT"
    assert value["localEndpoint"] == {"serviceName": "exampleclient.default", "ipv4": "10.0.0.1"}
    assert annotations(value) == ["Sent 1124 bytes", "Received 2200 bytes"]


def test_scenario_10_full_report():
    start = Timestamp(1_136_239_444_900_000_000)
    tags = {
        "s": "text",
        "i": 3,
        "f": 2.5,
        "b": True,
        "d": Duration.parse("10ms"),
        "t": start,
        "ip": b"\x7f\x00\x00\x01",
    }
    value = as_json(
        start_time=start,
        end_time=Timestamp(int(start) + 100_000_000),
        request_total_size=128,
        response_total_size=512,
        http_status_code=200,
        span_tags=tags,
    )

    assert (value["timestamp"], value["duration"]) == (1136239444900000, 100000)
    assert value["annotations"] == [
        {"timestamp": 1136239444900000, "value": "Received 128 bytes"},
        {"timestamp": 1136239445000000, "value": "Sent 512 bytes"},
    ]
    assert value["tags"] == {
        "http.status_code": "200",
        "opencensus.status_description": "OK",
        "s": "text",
        "i": "3",
        "f": "2.5",
        "b": "true",
        "d": "10ms",
        "t": "2006-01-02T22:04:04.900000Z",
        "ip": "127.0.0.1",
    }


def test_span_tag_wins_over_the_status_code():
    assert as_json(http_status_code=503, span_tags={"http.status_code": "mine"})["tags"] == {
        "http.status_code": "mine",
        "error": "UNAVAILABLE",
        "opencensus.status_description": "UNAVAILABLE",
    }


def test_nothing_known_has_defaults():
    value = as_json(span_name="")

    assert value["localEndpoint"] == {"serviceName": "default", "ipv4": "0.0.0.0"}
    assert annotations(value) == ["Received 0 bytes", "Sent 0 bytes"]
    assert {"name", "tags", "shared", "remoteEndpoint"}.isdisjoint(value)


def test_ipv6_address():
    value = as_json(destination_ip=bytes.fromhex("20010db8000000000000000000000001"))

    assert value["localEndpoint"] == {"serviceName": "default", "ipv6": "2001:db8::1"}


def test_trace_id_of_64_bits_stays_short():
    assert as_json(trace_id="ab")["traceId"] == "00000000000000ab"


@pytest.mark.parametrize(
    ("nanoseconds", "duration"), [(0, None), (1, 1), (499, 1), (1499, 1), (1500, 2), (2_000_000, 2000)]
)
def test_duration_is_rounded_to_microseconds(nanoseconds, duration):
    assert as_json(end_time=Timestamp(int(START) + nanoseconds)).get("duration") == duration


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (0, ""),
        (200, "OK"),
        (204, "OK"),
        (302, "OK"),
        (399, "OK"),
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (429, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (500, "UNKNOWN"),
        (418, "UNKNOWN"),
        (101, "UNKNOWN"),
        (999, "UNKNOWN"),
    ],
)
def test_status_has_a_canonical_name(status, code):
    assert canonical_code(status) == code
