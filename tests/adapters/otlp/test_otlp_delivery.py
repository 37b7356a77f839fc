"""Spans arrive at an OTLP receiver, over gRPC and HTTP, through everything that one and a network may do."""

import gzip

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.adapters.spans.kit import numbered
from tests.e2e.backends.relay import Relay

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def report(handler, *numbers):
    handler.handle_report([numbered(n) for n in numbers])


def ids(spans):
    return sorted(int.from_bytes(span.span_id, "big") - 1 for _, span in spans)


async def test_batch_over_grpc(bench, grpc_server, spans):
    handler = await bench.build(endpoint=grpc_server.address, headers={"Authorization": "Bearer hunter2"})
    handler.handle_report([numbered(1, destination_name="a"), numbered(2, destination_name="b")])

    assert await bench.until_settled() == {"accepted": 2, "delivered": 2}

    assert [(service, span.span_id[-1]) for service, span in spans(grpc_server.requests)] == [("a", 2), ("b", 3)]
    assert grpc_server.metadata[0]["authorization"] == "Bearer hunter2"
    assert "hunter2" not in str(bench.recording.logged)
    await handler.aclose()


async def test_compressed_batch_over_grpc(bench, grpc_server, spans):
    handler = await bench.build(endpoint=grpc_server.address, compression="GZIP")
    report(handler, *range(300))
    await bench.until_settled()

    assert ids(spans(grpc_server.requests)) == list(range(300))
    assert [len(r.resource_spans[0].scope_spans[0].spans) for r in grpc_server.requests] == [256, 44]
    await handler.aclose()


async def test_tls_over_grpc(bench, grpc_server, spans, tls):
    await grpc_server.stop()
    await grpc_server.start(tls=True)
    trusting = await bench.build(endpoint=f"https://{grpc_server.address}", caCertificates=str(tls / "certificate.pem"))
    report(trusting, 1)
    await bench.until(lambda: bench.books().get("delivered") == 1)
    await trusting.aclose()

    wary = await bench.build(endpoint=f"https://{grpc_server.address}", timeout="1s")
    report(wary, 2)
    await bench.until(lambda: bench.books().get("retries", 0) >= 1)
    await wary.aclose(0.05)
    assert ids(spans(grpc_server.requests)) == [1]


@pytest.mark.parametrize("compression", ["NONE", "GZIP"])
async def test_batch_over_http(bench, web_server, spans, compression):
    handler = await bench.build(
        protocol="HTTP", endpoint=web_server.base, compression=compression, headers={"X-Token": "hunter2"}
    )
    report(handler, 1, 2)

    assert await bench.until_settled() == {"accepted": 2, "delivered": 2}

    ((path, headers, body),) = web_server.requests
    assert (path, headers["content-type"], headers["x-token"]) == ("/v1/traces", "application/x-protobuf", "hunter2")
    if headers.get("content-encoding") == "gzip" and body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    assert (headers.get("content-encoding") == "gzip") is (compression == "GZIP")
    assert ids(spans([ExportTraceServiceRequest.FromString(body)])) == [1, 2]
    await handler.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(grpc.StatusCode.UNAVAILABLE, id="unavailable"),
        pytest.param(grpc.StatusCode.ABORTED, id="aborted"),
        pytest.param(grpc.StatusCode.DATA_LOSS, id="data loss"),
        pytest.param((grpc.StatusCode.RESOURCE_EXHAUSTED, 3), id="too many, with a pause"),
        pytest.param("hang", id="no answer"),
    ],
)
async def test_passing_fault_costs_nothing_over_grpc(bench, grpc_server, spans, fault):
    grpc_server.plan = [fault]
    handler = await bench.build(endpoint=grpc_server.address, timeout="200ms")
    report(handler, 1, 2)

    assert await bench.until_settled() == {"accepted": 2, "delivered": 2, "retries": 1}
    assert ids(spans(grpc_server.requests)) == [1, 2]
    await handler.aclose()


async def test_connection_that_leads_nowhere_is_given_up_over_grpc(bench, grpc_server, spans):
    """A router that forgot the connection tells nobody; every later call on it would wait in vain."""
    async with Relay(grpc_server.port) as relay:
        handler = await bench.build(endpoint=f"127.0.0.1:{relay.port}", timeout="500ms")
        report(handler, 1)
        await bench.until_settled()

        relay.bore()
        report(handler, 2)

        assert await bench.until_settled() == {"accepted": 2, "delivered": 2, "retries": 1}
        assert ids(spans(grpc_server.requests)) == [1, 2]
        await handler.aclose()


async def test_pause_that_the_receiver_asks_for_is_kept(bench, grpc_server):
    grpc_server.plan = [(grpc.StatusCode.UNAVAILABLE, 20)]
    handler = await bench.build(endpoint=grpc_server.address)
    report(handler, 1)
    await bench.until_settled()

    assert bench.clock.monotonic() >= 20
    await handler.aclose()


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
    ids=lambda code: code.name,
)
async def test_refusal_is_counted_and_not_repeated_over_grpc(bench, grpc_server, code):
    grpc_server.plan = [code]
    handler = await bench.build(endpoint=grpc_server.address, batchSize=2)
    report(handler, 1, 2, 3)

    assert await bench.until_settled() == {"accepted": 3, "delivered": 1, "dropped": 2, "rejected": 2}
    assert grpc_server.attempts == 2
    await handler.aclose()


@pytest.mark.parametrize(("rejected", "delivered"), [(5, 5), (0, 10), (1000, 0), (-3, 10)])
async def test_partial_success_over_grpc(bench, grpc_server, rejected, delivered):
    grpc_server.plan = [(rejected, "too old")]
    handler = await bench.build(endpoint=grpc_server.address)
    report(handler, *range(10))

    books = await bench.until_settled()

    assert (books.get("delivered", 0), books.get("rejected", 0)) == (delivered, 10 - delivered)
    assert "too old" in str(bench.recording.logged)
    await handler.aclose()


@pytest.mark.parametrize(
    ("answer", "delivered", "event"),
    [
        pytest.param(
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=5, error_message="too old")
            ).SerializeToString(),
            5,
            "spans_dropped",
            id="half rejected",
        ),
        pytest.param(b"\xff\xff\xff", 10, "spans_receiver_warns", id="garbage"),
    ],
)
async def test_answers_over_http(bench, web_server, answer, delivered, event):
    web_server.plan = [(200, PROTOBUF, answer)]
    handler = await bench.build(protocol="HTTP", endpoint=web_server.base)
    report(handler, *range(10))

    books = await bench.until_settled()

    assert (books["delivered"], books.get("rejected", 0)) == (delivered, 10 - delivered)
    assert bench.events("warning") == [event]
    await handler.aclose()


@pytest.mark.parametrize(
    ("fault", "counted"),
    [("cut", "retries"), ("slow", "retries"), (503, "retries"), (429, "retries"), (400, "dropped"), (500, "dropped")],
)
async def test_faults_over_http(bench, web_server, fault, counted):
    web_server.plan = [fault]
    handler = await bench.build(protocol="HTTP", endpoint=web_server.base, timeout="100ms")
    report(handler, 1)

    books = await bench.until_settled()

    assert books[counted] == 1
    await handler.aclose()


async def test_receiver_may_restart(bench, grpc_server, spans):
    handler = await bench.build(endpoint=grpc_server.address, batchSize=10, timeout="1s")
    report(handler, *range(10))
    await bench.until_settled()
    await grpc_server.stop()
    report(handler, *range(10, 45))
    await bench.until(lambda: bench.books().get("retries", 0) >= 2)

    await grpc_server.start()
    books = await bench.until_settled()

    assert books["delivered"] == 45
    assert ids(spans(grpc_server.requests)) == list(range(45))
    await handler.aclose()


async def test_two_handlers_share_nothing(bench, grpc_server, web_server, spans):
    one = await bench.build(endpoint=grpc_server.address, resourceAttributes={"cluster": "one"})
    other = await bench.build(protocol="HTTP", endpoint=web_server.base)
    report(one, 1)
    report(other, 2)
    await bench.until_settled()

    assert ids(spans(grpc_server.requests)) == [1]
    (request,) = (ExportTraceServiceRequest.FromString(body) for _, _, body in web_server.requests)
    assert ids(spans([request])) == [2]
    assert "cluster" not in str(request)
    await one.aclose()
    await other.aclose()
