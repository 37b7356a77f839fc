"""A span by OpenTelemetry's conventions, read back from the bytes that are sent."""

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from mixer.adapters.otlp.encoding import SpanEncoder
from mixer.adapters.spans.params import SpanParams
from mixer.adapters.spans.span import SpanMaker
from mixer.attributes import Duration
from tests.adapters.spans.kit import END, PARENT, SPAN, START, TRACE, instance

ENDS = {
    "source_name": "productpage",
    "source_ip": b"\x0a\x00\x00\x01",
    "destination_name": "reviews",
    "destination_ip": b"\x0a\x00\x00\x02",
}


def exported(*instances, **resource_attributes):
    maker = SpanMaker(SpanParams(sample_probability=1.0))
    body = SpanEncoder(resource_attributes).encode([maker.make(i) for i in instances])
    return ExportTraceServiceRequest.FromString(body)


def span_of(**fields):
    return exported(instance(**fields)).resource_spans[0].scope_spans[0].spans[0]


def plain(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def test_ids_times_name_and_kind():
    span = span_of()

    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN, PARENT)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (int(START), int(END))
    assert (span.name, span.kind) == ("/reviews", Span.SPAN_KIND_SERVER)
    assert span_of(client_span=True).kind == Span.SPAN_KIND_CLIENT


def test_trace_id_of_64_bits_is_padded_and_a_root_has_no_parent():
    span = span_of(trace_id="ab", parent_span_id="", span_name="")

    assert (span.trace_id.hex(), span.parent_span_id, span.name) == ("ab".zfill(32), b"", "unknown")


def test_each_reporting_service_is_one_resource():
    request = exported(
        instance(**ENDS),
        instance(**ENDS, client_span=True),
        instance(**ENDS),
        instance(),
        **{"deployment.environment.name": "test", "service.name": "overruled"},
    )

    assert [(plain(r.resource.attributes), len(r.scope_spans[0].spans)) for r in request.resource_spans] == [
        ({"deployment.environment.name": "test", "service.name": name}, count)
        for name, count in (("reviews", 2), ("productpage", 1), ("default", 1))
    ]
    assert {s.scope.name for r in request.resource_spans for s in r.scope_spans} == {"mixer"}


def test_attributes_of_a_server():
    span = span_of(
        **ENDS,
        http_status_code=200,
        request_size=10,
        request_total_size=100,
        response_size=20,
        response_total_size=200,
        api_protocol="HTTP",
        span_tags={"http.request.method": "GET", "n": 3, "x": 0.5, "b": False, "d": Duration.parse("1s")},
    )

    assert plain(span.attributes) == {
        "http.response.status_code": 200,
        "http.request.body.size": 10,
        "http.response.body.size": 20,
        "http.request.size": 100,
        "http.response.size": 200,
        "network.protocol.name": "http",
        "network.local.address": "10.0.0.2",
        "network.peer.address": "10.0.0.1",
        "client.address": "10.0.0.1",
        "service.peer.name": "productpage",
        "http.request.method": "GET",
        "n": 3,
        "x": 0.5,
        "b": False,
        "d": "1s",
    }


def test_attributes_of_a_client():
    assert plain(span_of(**ENDS, client_span=True).attributes) == {
        "network.local.address": "10.0.0.1",
        "network.peer.address": "10.0.0.2",
        "server.address": "reviews",
        "service.peer.name": "reviews",
    }
    assert (
        plain(span_of(destination_ip=b"\x0a\x00\x00\x02", client_span=True).attributes)["server.address"] == "10.0.0.2"
    )


def test_nothing_known_has_no_attributes():
    assert plain(span_of(source_ip=bytes(4), destination_ip=bytes(16)).attributes) == {}


def test_tag_wins():
    span = span_of(http_status_code=503, span_tags={"http.response.status_code": "mine", "error.type": "mine"})

    assert plain(span.attributes) == {"http.response.status_code": "mine", "error.type": "mine"}


def test_empty_tag_is_left_out():
    assert plain(
        span_of(http_status_code=200, span_tags={"http.response.status_code": "", "url.path": ""}).attributes
    ) == {"http.response.status_code": 200}


@pytest.mark.parametrize(
    ("http_status", "server", "client"),
    [
        (0, "", ""),
        (101, "", ""),
        (200, "", ""),
        (302, "", ""),
        (400, "", "400"),
        (404, "", "404"),
        (499, "", "499"),
        (500, "500", "500"),
        (503, "503", "503"),
    ],
)
def test_http_status_is_an_error_by_side(http_status, server, client):
    for is_client, error in ((False, server), (True, client)):
        span = span_of(http_status_code=http_status, client_span=is_client)
        assert span.status.code == (Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET)
        assert plain(span.attributes).get("error.type", "") == error


@pytest.mark.parametrize(
    ("tags", "name", "server", "client"),
    [
        pytest.param({"rpc.grpc.status_code": "0"}, "OK", False, False, id="OK"),
        pytest.param({"rpc.grpc.status_code": 5}, "NOT_FOUND", False, True, id="a client's fault"),
        pytest.param({"rpc.grpc.status_code": "14"}, "UNAVAILABLE", True, True, id="a server's fault"),
        pytest.param({"rpc.response.status_code": "INTERNAL"}, "INTERNAL", True, True, id="by name"),
        pytest.param({"rpc.response.status_code": "2"}, "UNKNOWN", True, True, id="by number, today's attribute"),
    ],
)
def test_grpc_status_decides_in_place_of_http(tags, name, server, client):
    for is_client, error in ((False, server), (True, client)):
        span = span_of(http_status_code=200, api_protocol="grpc", span_tags=tags, client_span=is_client)
        attributes = plain(span.attributes)
        assert (span.status.code == Status.STATUS_CODE_ERROR) is error
        assert attributes["rpc.system.name"] == "grpc"
        assert attributes["rpc.response.status_code"] == name
        assert attributes.get("error.type", "") == (name if error else "")


@pytest.mark.parametrize("code", ["", "99", "nonsense"])
def test_unknown_grpc_status_leaves_the_http_status(code):
    span = span_of(http_status_code=503, api_protocol="grpc", span_tags={"rpc.grpc.status_code": code})

    assert span.status.code == Status.STATUS_CODE_ERROR
    assert plain(span.attributes)["error.type"] == "503"
