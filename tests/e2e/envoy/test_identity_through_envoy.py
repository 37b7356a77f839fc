"""Two Envoys with mutual TLS between them: who calls whom arrives at Mixer, and nobody can pretend."""

from __future__ import annotations

import aiohttp

from loadtest.certificates import Authority
from loadtest.envoy import free_ports
from proxy.client.forwarded import write_forwarded
from proxy.envoy.bootstrap import Direction, Endpoint, Listener, MixerAddress, Route, Sidecar, Upstream
from tests.e2e.envoy.apps import http_app
from tests.e2e.envoy.mesh import Mesh, logs
from tests.e2e.envoy.test_http_through_envoy import denier

SERVICE = "reviews.ns2.svc.cluster.local"
VARIABLES = {
    "kind": 'context.reporter.kind | ""',
    "source": 'source.uid | ""',
    "principal": 'source.principal | ""',
    "namespace": 'source.namespace | ""',
    "own": 'destination.principal | ""',
    "mtls": "connection.mtls | false",
    "sni": 'connection.requested_server_name | ""',
    "service": 'destination.service.host | ""',
    "destination": 'destination.uid | ""',
    "code": "response.code | 0",
    "path": 'request.path | ""',
}


async def test_identity_and_source_arrive_at_the_other_side(mesh: Mesh) -> None:
    """Scenarios 2 and 16 of spec envoy 10, 28 and 30 of spec proxy 13."""
    authority = Authority()
    server = authority.issue(mesh.folder / "server", "spiffe://cluster.local/ns/ns2/sa/reviews", "reviews.ns2")
    client = authority.issue(mesh.folder / "client", "spiffe://cluster.local/ns/ns1/sa/productpage")
    match = 'source.principal == "cluster.local/ns/ns1/sa/productpage" && request.path == "/secret"'
    mixs = mesh.mixer(logs(mesh.folder, VARIABLES), denier("deny", match, 7, "not you"))
    mixer = MixerAddress(Endpoint("127.0.0.1", mixs.ports["port"]))
    app, inbound, outbound = free_ports(3)
    forward = write_forwarded({"source.uid": "kubernetes://productpage-v1.ns1"})
    mesh.envoy(
        Sidecar(
            "sidecar~127.0.0.1~reviews-v1.ns2~cluster.local", "reviews", mixer,
            (Listener("http", Endpoint("127.0.0.1", inbound), (Route("app", service=SERVICE),), tls=server),),
            (Upstream("app", Endpoint("127.0.0.1", app), uid="kubernetes://reviews-v1.ns2"),), flush_s=0.1,
        )
    )  # fmt: skip
    mesh.envoy(
        Sidecar(
            "sidecar~127.0.0.1~productpage-v1.ns1~cluster.local", "productpage", mixer,
            (
                Listener(
                    "http", Endpoint("127.0.0.1", outbound),
                    (Route("reviews", ("reviews:9080",), SERVICE), Route("other")), Direction.OUTBOUND,
                    check=False, forward=forward, attributes={"source.uid": "kubernetes://productpage-v1.ns1"},
                ),
            ),
            (
                Upstream("reviews", Endpoint("127.0.0.1", inbound), http2=True, tls=client, sni="reviews.ns2"),
                Upstream("other", Endpoint("127.0.0.1", app)),
            ),
            flush_s=0.1,
        )
    )  # fmt: skip
    async with http_app(app) as seen, aiohttp.ClientSession(headers={"host": "reviews:9080"}) as session:
        async with session.get(
            f"http://127.0.0.1:{outbound}/open",
            headers={"x-forwarded-client-cert": "By=spiffe://liar;URI=spiffe://liar"},
        ) as answer:
            assert answer.status == 200
        async with session.get(f"http://127.0.0.1:{outbound}/secret") as answer:
            assert (answer.status, await answer.text()) == (403, "PERMISSION_DENIED:deny.istio-system:not you")
        records = await mesh.wait_records(4)

    assert [each["path"] for each in seen] == ["/open"]
    assert "x-istio-attributes" not in seen[0]["headers"]
    assert "liar" not in seen[0]["headers"].get("x-forwarded-client-cert", "")
    server_side = [record for record in records if record["kind"] == "inbound"]
    assert sorted((record["path"], record["code"]) for record in server_side) == [("/open", 200), ("/secret", 403)]
    for record in server_side:
        assert record.items() >= {
            "source": "kubernetes://productpage-v1.ns1", "principal": "cluster.local/ns/ns1/sa/productpage",
            "namespace": "ns1", "own": "cluster.local/ns/ns2/sa/reviews", "mtls": True, "sni": "reviews.ns2",
            "service": SERVICE,
        }.items()  # fmt: skip
    client_side = [record for record in records if record["kind"] == "outbound"]
    assert sorted(record["code"] for record in client_side) == [200, 403]
    assert {record["service"] for record in client_side} == {SERVICE}
    assert {record["source"] for record in client_side} == {"kubernetes://productpage-v1.ns1"}
