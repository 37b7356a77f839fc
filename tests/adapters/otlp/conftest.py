"""An OTLP receiver over gRPC that misbehaves on demand, one over HTTP, and benches for handlers that send to them."""

import asyncio
import os
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from mixer.adapters.otlp import INFO
from tests.adapters.spans.kit import Bench
from tests.adapters.spans.web import WebReceiver

collect_ignore = [] if os.environ.get("MIXER_JAEGER") else ["test_otlp_jaeger.py"]

TLS = Path(__file__).parent / "tls"


class GrpcServer(trace_service_pb2_grpc.TraceServiceServicer):
    """Answers by ``plan``, then takes everything.

    A step is a status code; a code and the seconds of a RetryInfo; ``hang``; ``garbage``; or a partial success:
    how many spans are rejected, and a message.
    """

    def __init__(self):
        self.plan = []
        self.requests = []
        self.metadata = []
        self.attempts = 0
        self.port = 0
        self._server = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    async def start(self, *, tls=False):
        self._server = grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        where = f"127.0.0.1:{self.port}"
        if tls:
            pair = ((TLS / "key.pem").read_bytes(), (TLS / "certificate.pem").read_bytes())
            self.port = self._server.add_secure_port(where, grpc.ssl_server_credentials([pair]))
        else:
            self.port = self._server.add_insecure_port(where)
        await self._server.start()

    async def stop(self):
        """Gone, calls too; `start` comes back on the same port."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def Export(self, request, context):
        self.attempts += 1
        step = self.plan.pop(0) if self.plan else None
        if step == "hang":
            await asyncio.sleep(30)
        if isinstance(step, grpc.StatusCode):
            await context.abort(step, "as planned")
        answer = ExportTraceServiceResponse()
        if isinstance(step, tuple) and isinstance(step[0], grpc.StatusCode):
            code, seconds = step
            detail = Any()
            detail.Pack(RetryInfo(retry_delay=Duration(seconds=seconds)))
            details = Status(code=code.value[0], details=[detail]).SerializeToString()
            await context.abort(code, "as planned", (("grpc-status-details-bin", details),))
        elif isinstance(step, tuple):
            answer = ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=step[0], error_message=step[1])
            )
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return answer


def spans_of(requests):
    """Every span of requests, with the name of its service."""
    return [
        (next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), span)
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@pytest.fixture(scope="session")
def spans():
    """Reads the spans of requests."""
    return spans_of


@pytest.fixture(scope="session")
def tls():
    """The folder of a certificate for 127.0.0.1, signed by itself, and its key."""
    return TLS


@pytest.fixture
async def grpc_server():
    server = GrpcServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def web_server():
    server = WebReceiver()
    server.mode = (200, {"Content-Type": "application/x-protobuf"}, b"")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def bench():
    bench = Bench(INFO)
    yield bench
    await bench.aclose()
