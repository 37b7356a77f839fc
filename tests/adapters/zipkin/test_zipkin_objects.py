"""The objects of spec adapters 6.6, as an operator of the original has them, from attributes to Zipkin's JSON."""

import json

from mixer.adapters.zipkin import INFO
from tests.adapters.spans.kit import PARENT, SPAN, TRACE
from tests.adapters.spans.mesh import START, report, request

OBJECTS = """
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: span, namespace: istio-system}
spec:
  compiledTemplate: tracespan
  params:
    traceId: request.headers["x-b3-traceid"] | ""
    spanId: request.headers["x-b3-spanid"] | ""
    parentSpanId: request.headers["x-b3-parentspanid"] | ""
    spanName: request.path | "/"
    startTime: request.time
    endTime: response.time
    clientSpan: (context.reporter.kind | "inbound") == "outbound"
    rewriteClientSpanId: "false"
    httpStatusCode: response.code | 0
    sourceName: source.workload.name | ""
    sourceIp: source.ip | ip("0.0.0.0")
    destinationName: destination.workload.name | ""
    destinationIp: destination.ip | ip("0.0.0.0")
    requestTotalSize: request.total_size | 0
    responseTotalSize: response.total_size | 0
    spanTags: {http.method: request.method | "", http.host: request.host | ""}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: zipkin, namespace: istio-system}
spec: {compiledAdapter: zipkin, params: {url: "URL", sampleProbability: 1.0}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: spans, namespace: istio-system}
spec: {match: context.protocol == "http" || context.protocol == "grpc", actions: [{handler: zipkin, instances: [span]}]}
"""
HEADERS = {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-parentspanid": PARENT, "x-b3-sampled": "0"}


async def test_report_becomes_a_span(collector, tmp_path):
    objects = OBJECTS.replace("URL", f"{collector.base}/api/v2/spans")
    attributes = request(request__headers=HEADERS, response__total_size=9, destination__ip=b"\x0a\x00\x00\x02")

    assert await report(tmp_path, INFO, objects, attributes) == []

    ((_, _, body),) = collector.requests
    start_us = int(START) // 1000
    assert json.loads(body) == [
        {
            "traceId": TRACE,
            "id": SPAN,
            "parentId": PARENT,
            "name": "/reviews/0",
            "kind": "SERVER",
            "timestamp": start_us,
            "duration": 200_000,
            "localEndpoint": {"serviceName": "reviews", "ipv4": "10.0.0.2"},
            "annotations": [
                {"timestamp": start_us, "value": "Received 0 bytes"},
                {"timestamp": start_us + 200_000, "value": "Sent 9 bytes"},
            ],
            "tags": {
                "http.method": "GET",
                "http.host": "",
                "http.status_code": "200",
                "opencensus.status_description": "OK",
            },
        }
    ]


async def test_scenario_11_no_instance_without_request_time(collector, tmp_path):
    objects = OBJECTS.replace("URL", f"{collector.base}/api/v2/spans")
    attributes = request(request__headers=HEADERS, request__time=None)

    await report(tmp_path, INFO, objects, attributes)

    assert collector.requests == []
