"""The sample, from attributes to what a receiver gets."""

import pytest

from mixer.adapters.otlp import INFO
from tests.adapters.spans.kit import PARENT, SPAN, TRACE
from tests.adapters.spans.mesh import CONFIG, END, START, report, request

SAMPLE = CONFIG / "samples" / "tracing" / "tracing-otlp.yaml"
REWRITTEN = "9d9164ded28611b9"


@pytest.fixture
def reported(grpc_server, spans, tmp_path):
    """Reports requests by the sample; the spans that arrive, in order."""

    async def reported(*requests):
        text = SAMPLE.read_text()
        assert "endpoint: localhost:4317" in text
        await report(tmp_path, INFO, text.replace("localhost:4317", grpc_server.address), *requests)
        return spans(grpc_server.requests)

    return reported


def traced(kind="inbound", **headers):
    return request(context__reporter__kind=kind, request__headers={k.replace("_", "-"): v for k, v in headers.items()})


def ids(span):
    return span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()


B3_FORMS = [
    pytest.param({"x_b3_traceid": TRACE, "x_b3_spanid": SPAN, "x_b3_parentspanid": PARENT}, id="x-b3"),
    pytest.param({"b3": f"{TRACE}-{SPAN}-1-{PARENT}"}, id="b3"),
]


@pytest.mark.parametrize("headers", B3_FORMS)
async def test_both_ends_of_a_b3_request(reported, headers):
    (client_of, client), (server_of, server) = await reported(traced("outbound", **headers), traced(**headers))

    assert (client_of, *ids(client)) == ("productpage", TRACE, REWRITTEN, PARENT)
    assert (server_of, *ids(server)) == ("reviews", TRACE, SPAN, REWRITTEN)


async def test_both_ends_of_a_traceparent_request(reported):
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    (_, client), (_, server) = await reported(traced("outbound", **headers), traced(**headers))

    assert ids(client) == (TRACE, REWRITTEN, SPAN)
    assert server.parent_span_id == client.span_id
    assert server.span_id.hex() not in (SPAN, REWRITTEN)


async def test_b3_beside_a_stale_traceparent(reported):
    headers = {"x_b3_traceid": TRACE, "x_b3_spanid": SPAN, "traceparent": f"00-{'12' * 16}-{PARENT}-00"}
    ((_, client),) = await reported(traced("outbound", **headers))

    assert ids(client) == (TRACE, REWRITTEN, "")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no trace"),
        pytest.param({"x_b3_traceid": TRACE, "x_b3_spanid": SPAN, "x_b3_sampled": "0"}, id="x-b3-sampled"),
        pytest.param({"b3": f"{TRACE}-{SPAN}-0"}, id="b3"),
        pytest.param({"traceparent": f"00-{TRACE}-{SPAN}-00"}, id="traceparent"),
    ],
)
async def test_request_leaves_no_span(reported, headers):
    assert await reported(traced(**headers)) == []


async def test_request_without_headers_or_of_another_protocol_leaves_no_span(reported):
    headers = {"b3": f"{TRACE}-{SPAN}-1"}

    assert await reported(request(), request(context__protocol="tcp", request__headers=headers)) == []


async def test_what_is_known_is_told_by_the_names_of_the_conventions(reported):
    ((service, span),) = await reported(
        {
            **traced(b3=f"{TRACE}-{SPAN}-1"),
            "context.protocol": "grpc",
            "response.grpc_status": "14",
            "source.ip": b"\x0a\x00\x00\x01",
            "request.host": "reviews:9080",
            "request.total_size": 100,
        }
    )

    assert (service, span.name) == ("reviews", "GET")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (int(START), int(END))
    assert {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes} == {
        "http.request.method": "GET",
        "http.request.size": 100,
        "http.response.status_code": 200,
        "url.path": "/reviews/0",
        "server.address": "reviews:9080",
        "client.address": "10.0.0.1",
        "network.peer.address": "10.0.0.1",
        "service.peer.name": "productpage",
        "rpc.system.name": "grpc",
        "rpc.response.status_code": "UNAVAILABLE",
        "error.type": "UNAVAILABLE",
    }


async def test_request_that_never_got_an_answer_leaves_a_span(reported):
    headers = {"b3": f"{TRACE}-{SPAN}-1"}
    ((_, span),) = await reported(request(request__headers=headers, response__time=None, response__code=None))

    assert span.end_time_unix_nano == span.start_time_unix_nano == int(START)
