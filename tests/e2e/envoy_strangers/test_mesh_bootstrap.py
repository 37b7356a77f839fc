"""Two sidecars with mutual TLS between them (``bootstraps/mesh.yaml``): both sides report, and the metrics tell whom.

The access logs list no headers and have no tags; all that metrics say of identities comes from checks and TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from loadtest.certificates import Authority
from proxy.client.forwarded import write_forwarded
from tests.e2e.envoy_strangers.stranger import METRICS, Stranger, curl, deny, each_way, stranger

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENT = "cluster.local/ns/ns1/sa/bookinfo-productpage"
SERVER = "cluster.local/ns/ns2/sa/bookinfo-reviews"
REVIEWS = {
    "destination_service": "reviews.ns2.svc.cluster.local",
    "destination_service_name": "reviews",
    "destination_service_namespace": "ns2",
}
CALLER = {
    **REVIEWS, "reporter": "source", "source_workload": "productpage-v1", "source_app": "productpage",
    "source_version": "v1", "connection_security_policy": "unknown",
}  # fmt: skip
CALLEE = {
    "permissive_response_code": "denied", "permissive_response_policyid": "nobody", **REVIEWS, "reporter": "destination", "source_principal": CLIENT, "destination_principal": SERVER,
    "destination_workload": "reviews-v3", "destination_app": "reviews", "destination_version": "v3",
    "connection_security_policy": "mutual_tls",
}  # fmt: skip
ONLY = f'context.reporter.kind == "inbound" && source.principal == "{CLIENT}" && request.url_path == "/secret"'


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=each_way("mesh"))
async def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stranger]:
    folder = tmp_path_factory.mktemp("mesh")
    async with stranger(folder) as running:
        authority = Authority()
        authority.issue(folder / "server", f"spiffe://{SERVER}")
        authority.issue(folder / "client", f"spiffe://{CLIENT}")
        running.start_mixer(deny("secret", ONLY, 7, "not you"), *METRICS, agent=request.param == "mixproxy")
        forward = write_forwarded(
            {
                "source.uid": "kubernetes://productpage-v1-abc.ns1",
                "destination.service.host": "reviews.ns2.svc.cluster.local",
            }
        )
        running.envoy("mesh.yaml", SERVER=str(folder / "server"), CLIENT=str(folder / "client"), FORWARD=forward)
        yield running


async def get(mesh: Stranger, path: str, *more: str) -> tuple[int, str]:
    status, _, body, _ = await curl("-H", "host: reviews:9080", *more, mesh.url("OUTBOUND", path))
    return status, body


async def test_both_sides_count_a_request(mesh: Stranger) -> None:
    assert (await get(mesh, "/reviews/0", "--data", "x" * 100))[0] == 200
    outcome = {"response_code": "200", "response_flags": "-", "request_protocol": "http"}
    await mesh.series("istio_requests_total", 1, **CALLER, **outcome)
    await mesh.series("istio_requests_total", 1, **CALLEE, **outcome)
    await mesh.series("istio_request_bytes_sum", 100, **CALLEE, **outcome)
    there, here = sorted(
        await mesh.mesh.wait_records(2, lambda record: record["request.path"] == "/reviews/0"),
        key=lambda record: str(record["context.reporter.kind"]),
    )
    assert (there["context.reporter.kind"], here["context.reporter.kind"]) == ("inbound", "outbound")
    assert there.items() >= {
        "source.uid": "kubernetes://productpage-v1-abc.ns1", "source.principal": CLIENT, "source.namespace": "ns1",
        "connection.mtls": True, "destination.port": 9080, "destination.uid": "kubernetes://reviews-v3-xyz.ns2",
        "connection.requested_server_name": "outbound_.9080_._.reviews.ns2.svc.cluster.local",
    }.items()  # fmt: skip
    assert here.items() >= {"source.principal": "", "destination.port": mesh.port("INBOUND")}.items()
    assert "x-istio-attributes" not in mesh.http[-1]["headers"]


async def test_denial_at_the_callee_is_seen_on_both_sides(mesh: Stranger) -> None:
    assert await get(mesh, "/secret") == (403, "PERMISSION_DENIED:secret.istio-system:not you")
    await mesh.series("istio_requests_total", 1, **CALLER, response_code="403", response_flags="-")
    await mesh.series("istio_requests_total", 1, **CALLEE, response_code="403", response_flags="UAEX")


async def test_grpc_over_mutual_tls(mesh: Stranger) -> None:
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{mesh.port('OUTBOUND')}", options=[("grpc.default_authority", "reviews.ns2:9080")]
    ) as channel:
        chat = channel.stream_stream("/echo.Echo/Chat")()
        for data in (b"a", b"b"):
            await chat.write(data)
            assert await chat.read() == data
            await asyncio.sleep(0.6)
        await chat.done_writing()
        assert await channel.unary_unary("/echo.Echo/Say")(b"hello") == b"hello"
    outcome = {"response_code": "200", "response_flags": "-", "request_protocol": "grpc"}
    await mesh.series("istio_requests_total", 2, **CALLER, **outcome)
    await mesh.series("istio_requests_total", 2, **CALLEE, **outcome)


async def test_beginnings_and_middles_of_requests_are_no_requests(mesh: Stranger) -> None:
    """`DownstreamStart` and `DownstreamPeriodic` entries come, and are passed over."""
    assert (await get(mesh, "/status/201"))[0] == 201
    await mesh.mesh.wait_records(2, lambda record: record["request.path"] == "/status/201")
    page = mesh.door.page("monitoring-port", "/metrics")
    dropped = [line for line in page.splitlines() if line.startswith("mixer_access_log_dropped_total")]
    assert any('reason="other_type"' in line and float(line.split()[-1]) > 0 for line in dropped), dropped


async def test_host_that_nobody_knows(mesh: Stranger) -> None:
    status, *_ = await curl("-H", "host: elsewhere", mesh.url("OUTBOUND", "/away"))
    assert status == 502
    record = await mesh.record("/away", response_code=502)
    assert record["context.reporter.kind"] == "outbound", "by the name of the log"
    assert record["source.uid"] == "kubernetes://productpage-v1-abc.ns1", "by the node"


async def test_connections_over_mutual_tls(mesh: Stranger) -> None:
    """Neither side was told of opened connections; the check has no stream id."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.port("OUTBOUND_TCP"))
    writer.write(b"m" * 64)
    assert await reader.readexactly(64) == b"M" * 64
    writer.close()
    await writer.wait_closed()
    source = {"reporter": "source", "source_workload": "productpage-v1"}
    target = {"reporter": "destination", "source_principal": CLIENT, "connection_security_policy": "mutual_tls"}
    for labels in (source, target):
        for name, value in (("sent_bytes", 64), ("received_bytes", 64), ("connections_closed", 1)):
            await mesh.series(f"istio_tcp_{name}_total", value, **labels, response_flags="-")
    assert mesh.samples("istio_tcp_sent_bytes_total", **source)[0][0]["destination_service"] == (
        "mongodb.ns2.svc.cluster.local"
    )
    assert mesh.samples("istio_tcp_sent_bytes_total", **target)[0][0]["destination_principal"] == SERVER
