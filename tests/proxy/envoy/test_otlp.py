"""Spans of Envoy's as records. Source: spec envoy 7."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mixer.api.codes import Code
from mixer.api.rpc import ServiceError
from mixer.attributes import AttributeBag, Duration, Timestamp
from proxy.envoy.otlp import EXPORT, OtlpMetrics, Traces, span_attributes
from tests.proxy.envoy.log_kit import FakeClient, recorded_spans

TRACE, OWN, PARENT = bytes(range(16)), bytes(range(1, 9)), bytes(range(11, 19))
START = 1_795_398_129_000_000_000


def span(tags: dict[str, Any] | None = None, **fields: Any) -> Span:
    values = {
        "trace_id": TRACE,
        "span_id": OWN,
        "parent_span_id": PARENT,
        "kind": Span.SPAN_KIND_SERVER,
        "flags": 257,
        "start_time_unix_nano": START,
        "end_time_unix_nano": START + 5_000_000,
    }
    found = Span(**{**values, **fields})
    for name, value in (tags or {}).items():
        attribute = found.attributes.add(key=name)
        if isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.string_value = value
    return found


def request(*spans: Span, service: str = "reviews.ns2") -> bytes:
    found = ExportTraceServiceRequest()
    resource = found.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    resource.scope_spans.add().spans.extend(spans)
    return found.SerializeToString()


async def exported(
    *data: bytes, client: FakeClient | None = None, metrics: OtlpMetrics | None = None
) -> list[ExportTraceServiceResponse]:
    traces = Traces(client or FakeClient(), metrics or OtlpMetrics())  # type: ignore[arg-type]
    export = traces.methods.unary[EXPORT]
    return [ExportTraceServiceResponse.FromString(await traces.export(each)) for each in data] if export else []


def outcome(metrics: OtlpMetrics, name: str) -> float:
    return metrics.registry.get_sample_value("mixer_envoy_spans_total", {"outcome": name}) or 0.0


async def test_the_requests_of_a_real_envoy_become_records() -> None:
    client, metrics = FakeClient({"reviews.ns2": {"destination.service.name": "reviews"}}), OtlpMetrics()

    answers = await exported(*recorded_spans(), client=client, metrics=metrics)

    assert all(not answer.HasField("partial_success") for answer in answers)
    first = client.records[0]
    trace = "bf93c5012540303c1df27ea8f3819ad6"
    assert first == {
        "api.protocol": "http",
        "context.protocol": "span",
        "context.proxy_error_code": "-",
        "context.reporter.kind": "inbound",
        "context.reporter.uid": "kubernetes://reviews-1.ns2",
        "destination.namespace": "ns2",
        "destination.service.name": "reviews",
        "destination.uid": "kubernetes://reviews-1.ns2",
        "origin.ip": b"\x7f\x00\x00\x01",
        "source.ip": b"\x7f\x00\x00\x01",
        "request.headers": {
            ":authority": "127.0.0.1:19101",
            ":method": "GET",
            ":path": "/a/b?x=1",
            "user-agent": "curl/7.88.1",
            "x-b3-sampled": "1",
            "x-b3-spanid": "3507c1f2c455e2bf",
            "x-b3-traceid": trace,
            "x-request-id": "263c35d9-29e4-9fcd-96b6-d44c44568d2b",
        },
        "request.host": "127.0.0.1:19101",
        "request.method": "GET",
        "request.path": "/a/b?x=1",
        "request.query_params": {"x": "1"},
        "request.scheme": "http",
        "request.size": 0,
        "request.time": Timestamp(1795398129839438000),
        "request.url_path": "/a/b",
        "request.useragent": "curl/7.88.1",
        "response.code": 200,
        "response.duration": Duration(7163000),
        "response.size": 5,
        "response.time": Timestamp(1795398129846601000),
    }
    assert outcome(metrics, "reported") == len(client.records)
    assert outcome(metrics, "not_server") > 0  # the checks
    assert {service for service, _, _ in client.calls} == {"reviews.ns2"}


def test_ids_stand_where_a_zipkin_tracer_would_put_them() -> None:
    headers = span_attributes(span())["request.headers"]

    assert headers == {
        "x-b3-traceid": TRACE.hex(),
        "x-b3-spanid": OWN.hex(),
        "x-b3-parentspanid": PARENT.hex(),
        "x-b3-sampled": "1",
        "traceparent": f"00-{TRACE.hex()}-{PARENT.hex()}-01",
    }


def test_a_span_without_a_parent_begins_its_trace() -> None:
    headers = span_attributes(span(parent_span_id=b"", flags=0))["request.headers"]

    assert headers == {"x-b3-traceid": TRACE.hex(), "x-b3-spanid": OWN.hex(), "x-b3-sampled": "0"}


def test_a_grpc_call_is_told_as_one() -> None:
    found = span_attributes(span({"grpc.status_code": "7", "grpc.message": "no", "grpc.path": "/a/b"}))

    assert found["api.protocol"] == "grpc"
    assert found["response.grpc_status"] == "7"
    assert found["response.grpc_message"] == "no"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"http.status_code": "0"}, {"response.code": 500}),
        ({"http.status_code": 404}, {"response.code": 404}),
        ({"http.status_code": "soon"}, {"response.code": 500}),
        ({"request_size": "-1", "response_size": "9" * 20}, {"request.size": 0, "response.size": (1 << 63) - 1}),
        ({"http.url": "/no/host"}, {"request.host": None, "request.path": None}),
        ({"http.url": "http://[bad"}, {"request.host": None}),
        ({"http.url": "https://a"}, {"request.host": "a", "request.path": "", "request.scheme": "https"}),
        ({"peer.address": "@pipe"}, {"origin.ip": None}),
        ({"user_agent": "-"}, {"request.useragent": None}),
        ({"node_id": "n1"}, {"context.reporter.uid": None}),
    ],
    ids=str,
)
def test_tags_that_say_little_are_taken_as_they_are(tags: dict[str, Any], expected: dict[str, Any]) -> None:
    found = span_attributes(span(tags))

    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"trace_id": b""}, "trace_id: 16 bytes expected"),
        ({"trace_id": bytes(16)}, "trace_id"),
        ({"span_id": b"123"}, "span_id: 8 bytes expected"),
        ({"start_time_unix_nano": 0}, "times"),
        ({"end_time_unix_nano": START - 1}, "times"),
    ],
    ids=str,
)
async def test_spans_that_cannot_be_right_are_rejected_and_the_others_taken(
    fields: dict[str, Any], complaint: str
) -> None:
    client, metrics = FakeClient(), OtlpMetrics()

    (answer,) = await exported(request(span(), span(**fields), span()), client=client, metrics=metrics)

    assert answer.partial_success.rejected_spans == 1
    assert complaint in answer.partial_success.error_message
    assert len(client.records) == 2
    assert outcome(metrics, "rejected") == 1


async def test_other_spans_are_passed_over_without_complaint() -> None:
    client = FakeClient()

    (answer,) = await exported(request(span(kind=Span.SPAN_KIND_CLIENT, trace_id=b"")), client=client)

    assert not answer.HasField("partial_success")
    assert client.calls == []


async def test_a_malformed_export_is_refused() -> None:
    with pytest.raises(ServiceError, match="malformed ExportTraceServiceRequest") as caught:
        await exported(b"\xff")
    assert caught.value.code == Code.INVALID_ARGUMENT


async def test_a_client_that_breaks_its_word_costs_its_spans_only() -> None:
    class Broken(FakeClient):
        def report(
            self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
        ) -> Awaitable[None] | None:
            raise RuntimeError("no")

    metrics = OtlpMetrics()

    (answer,) = await exported(request(span()), client=Broken(), metrics=metrics)

    assert not answer.HasField("partial_success")
    assert outcome(metrics, "not_taken") == 1


@given(
    st.dictionaries(
        st.sampled_from(["http.url", "http.status_code", "peer.address", "node_id", "request_size", "http.method"]),
        st.text() | st.sampled_from(["http://a/b?c=d", "http://[", "a~b~c~d", "²", "1" * 5000]),
    )
)
def test_any_tags_have_an_answer(tags: dict[str, str]) -> None:
    found = span_attributes(span(tags))

    assert "request.headers" in found
    assert isinstance(found["response.code"], int)
