"""A real Envoy that calls mixproxy, and Mixer's HTTP form, over mutual TLS; mixproxy calls Mixer so, too."""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp
import pytest

from loadtest.envoy import free_ports
from loadtest.servers import Server
from proxy.envoy.bootstrap import Endpoint, Listener, MixerAddress, MixerTls, Route, Sidecar, Upstream
from tests.certificates import Authority
from tests.e2e.envoy.apps import http_app
from tests.e2e.envoy.mesh import Mesh, logs
from tests.e2e.envoy.test_http_through_envoy import DENY, SERVICE, VARIABLES

NAME = "mixer.example"
SPIFFE = "spiffe://cluster.local/ns/istio-system/sa/mixer"


@pytest.mark.parametrize(
    ("transport", "form", "name"),
    [("grpc", "grpc", NAME), ("http2", "http", SPIFFE)],
    ids=["grpcio", "own HTTP/2 and the HTTP form"],
)
async def test_verdicts_and_records_pass_over_mutual_tls(
    mesh: Mesh, tmp_path: Path, transport: str, form: str, name: str
) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server", [NAME, SPIFFE])
    client = authority.issue("client", ["envoy.example"])
    shown = ("--tls-cert", str(server.certificate), "--tls-key", str(server.key), "--tls-client-ca", str(authority.ca))
    flags = ("--transport", transport, *shown)
    mixs = mesh.mixer(logs(mesh.folder, VARIABLES), DENY, flags=(*flags, "--ext-authz-http-port", "0"))
    command = [sys.executable, "-m", "mixer.cli.mixproxy", "run", "--mixer", mixs.target, "--port", "0", *flags]
    command += ["--monitoring-port", "0", "--mixer-ca", str(authority.ca), "--mixer-server-name", NAME]
    command += ["--mixer-cert", str(client.certificate), "--mixer-key", str(client.key)]
    folder = mesh.folder / "mixproxy"
    folder.mkdir()
    mixproxy = mesh.stack.enter_context(Server(command, folder))
    app, port = free_ports(2)
    http = Endpoint("127.0.0.1", mixs.ports["ext-authz-http-port"]) if form == "http" else None
    tls = MixerTls(str(authority.ca), str(client.certificate), str(client.key), name)
    mesh.envoy(
        Sidecar(
            "sidecar~127.0.0.1~reviews-v1.ns2~cluster.local",
            "reviews",
            MixerAddress(Endpoint("127.0.0.1", mixproxy.ports["port"]), http, tls),
            (Listener("http", Endpoint("127.0.0.1", port), (Route("app", service=SERVICE),)),),
            (Upstream("app", Endpoint("127.0.0.1", app), uid="kubernetes://reviews-v1.ns2"),),
            flush_s=0.1,
        )
    )
    async with http_app(app), aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/a") as answer:
            assert answer.status == 200
        async with session.get(f"http://127.0.0.1:{port}/admin") as answer:
            assert (answer.status, await answer.text()) == (403, "PERMISSION_DENIED:deny.istio-system:shish")
        records = await mesh.wait_records(2)

    assert sorted(record["code"] for record in records) == [200, 403]
