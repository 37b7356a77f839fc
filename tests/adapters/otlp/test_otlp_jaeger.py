"""Against a real Jaeger: through OTLP over gRPC and HTTP, and through Zipkin's JSON.

Opt-in, as it takes a Go compiler and some minutes: ``cd tests/adapters/otlp/jaeger && go build -o PATH
github.com/jaegertracing/jaeger/cmd/all-in-one``, then run with ``MIXER_JAEGER=PATH``; without it the conftest leaves
this file out.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixer.adapters.otlp import INFO as OTLP
from mixer.adapters.zipkin import INFO as ZIPKIN
from mixer.attributes import Timestamp
from mixer.cli.ports import read_ready_line
from tests.adapters.spans.kit import Bench, instance
from tests.jaeger_server import JaegerServer

PROGRAM = os.environ.get("MIXER_JAEGER", "")
ROOT = Path(__file__).parents[3]
SERVICES = ["productpage", "details", "reviews", "ratings"]
CALLS = [("ingress", "productpage", "", "0a"), ("productpage", "details", "0a", "0b")]
CALLS += [("productpage", "reviews", "0a", "0c"), ("reviews", "ratings", "0c", "0d")]
"""Caller, callee, parent's and own x-b3-spanid."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("jaeger")]


@pytest.fixture(scope="module")
def jaeger():
    with JaegerServer.start(PROGRAM) as server:
        yield server


def hex_id(short):
    return short.zfill(16)


def calls(trace_id, now_ns, *, rewrite=True):
    """What both ends of each call report."""
    return [
        instance(
            trace_id=trace_id,
            span_id=hex_id(own),
            parent_span_id=parent and hex_id(parent),
            client_span=client,
            rewrite_client_span_id=rewrite,
            source_name=caller,
            destination_name=callee,
            span_name="GET",
            http_status_code=503 if callee == "ratings" else 200,
            request_total_size=10,
            response_total_size=20,
            start_time=Timestamp(now_ns),
            end_time=Timestamp(now_ns + 5_000_000),
        )
        for caller, callee, parent, own in CALLS
        for client in (True, False)
    ]


def assert_one_tree(spans):
    """Each callee's span is under its caller's client span, that one under the caller's server span."""
    server_of = {s.service: s for s in spans.values() if s.tags["span.kind"] == "server"}
    assert set(server_of) == set(SERVICES)
    for caller, callee, parent, _ in CALLS:
        client = spans[server_of[callee].parent_id]
        assert (client.service, client.tags["span.kind"]) == (caller, "client")
        assert client.parent_id == (server_of[caller].span_id if parent else "")


@pytest.mark.parametrize("way", ["grpc", "http", "zipkin"])
async def test_four_services_are_one_trace(jaeger, way):
    bench = Bench(ZIPKIN if way == "zipkin" else OTLP)
    params = {
        "grpc": {"endpoint": jaeger.otlp_grpc},
        "http": {"protocol": "HTTP", "endpoint": jaeger.otlp_http, "compression": "GZIP"},
        "zipkin": {"url": jaeger.zipkin},
    }[way]
    trace_id = os.urandom(16).hex()
    handler = await bench.build(**params)
    now_ns = time.time_ns() // 1000 * 1000
    handler.handle_report(calls(trace_id, now_ns))

    assert await bench.until_settled() == {"accepted": 8, "delivered": 8}
    spans = await asyncio.to_thread(jaeger.trace, trace_id, spans=8)

    assert_one_tree(spans)
    ratings = next(s for s in spans.values() if s.service == "ratings")
    assert (ratings.operation, ratings.start_us, ratings.duration_us) == ("GET", now_ns // 1000, 5000)
    assert ratings.tags["error"] is True
    assert str(ratings.tags["http.status_code" if way == "zipkin" else "http.response.status_code"]) == "503"
    await handler.aclose()
    await bench.aclose()


async def test_jaeger_may_restart(jaeger):
    bench = Bench(OTLP)
    handler = await bench.build(endpoint=jaeger.otlp_grpc, timeout="2s")
    jaeger.stop()
    trace_id = os.urandom(16).hex()
    handler.handle_report(calls(trace_id, time.time_ns()))
    await bench.until(lambda: bench.books().get("retries", 0) >= 2)

    await asyncio.to_thread(jaeger.restart)
    assert (await bench.until_settled())["delivered"] == 8
    assert_one_tree(await asyncio.to_thread(jaeger.trace, trace_id, spans=8))
    await handler.aclose()
    await bench.aclose()


@contextlib.contextmanager
def mixs(folder, handler):
    """The address of a server on the vocabulary and the sample, whose handler sends to the given place."""
    folder.mkdir()
    (folder / "attributes.yaml").write_text((ROOT / "config/mesh/attributes.yaml").read_text())
    sample = (ROOT / "config/samples/tracing/tracing-otlp.yaml").read_text()
    assert "endpoint: localhost:4317" in sample
    (folder / "tracing.yaml").write_text(sample.replace("localhost:4317", handler))
    command = [Path(sys.executable).parent / "mixs", "server", "--config-store", f"fs://{folder}"]
    command += ["--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        ports = read_ready_line(process.stdout.readline().rstrip("\n"))
        yield f"127.0.0.1:{ports['port']}"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
    assert process.returncode == 0


def report(mixer, caller, callee, kind, headers):
    now = Timestamp(time.time_ns())
    texts = f"context.protocol=http,context.reporter.kind={kind},request.method=GET"
    texts += f",source.workload.name={caller},destination.workload.name={callee},request.path=/{callee}"
    command = [Path(sys.executable).parent / "mixc", "report", "--fail-on-error", "-m", mixer, "-s", texts]
    command += ["-t", f"request.time={now},response.time={now}", "-i", "response.code=200"]
    command += ["--stringmap_attributes", "request.headers=" + ";".join(f"{k}:{v}" for k, v in headers.items())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("form", ["x-b3", "b3", "traceparent"])
def test_sample_makes_one_trace_of_four_services(jaeger, tmp_path, form):
    trace_id = os.urandom(16).hex()
    with mixs(tmp_path / "mesh", jaeger.otlp_grpc) as mixer:
        for caller, callee, parent, own in CALLS:
            headers = {"x-b3-traceid": trace_id, "x-b3-spanid": hex_id(own), "x-b3-sampled": "1"}
            if parent:
                headers["x-b3-parentspanid"] = hex_id(parent)
            if form == "b3":
                headers = {"b3": f"{trace_id}-{hex_id(own)}-1" + (f"-{hex_id(parent)}" if parent else "")}
            if form == "traceparent":
                headers = {"traceparent": f"00-{trace_id}-{hex_id(own)}-01"}
            for kind in ("outbound", "inbound"):
                report(mixer, caller, callee, kind, headers)
        spans = jaeger.trace(trace_id, spans=8)

    if form != "traceparent":
        assert_one_tree(spans)
    else:  # what the applications' own spans would hold together: the client's is under the caller's
        for caller, callee, _, own in CALLS:
            server = next(s for s in spans.values() if s.service == callee and s.tags["span.kind"] == "server")
            client = spans[server.parent_id]
            assert (client.service, client.tags["server.address"]) == (caller, callee)
            assert client.parent_id in ("", hex_id(own))
