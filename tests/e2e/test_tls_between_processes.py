"""Mixer and mixproxy as real processes over mutual TLS: who gets in, what is logged, and what renewal does."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from loadtest.servers import Server, sum_of
from proxy.envoy.gen.auth_pb2 import CheckRequest, CheckResponse
from tests.certificates import Authority, KeyPair

ROOT = Path(__file__).parents[2]
FREE = [part for name in ("", "monitoring-", "metrics-", "console-") for part in (f"--{name}port", "0")]
DENY = """
kind: handler
metadata: {name: closed, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: secured}}}
---
kind: instance
metadata: {name: all, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: istio-system}
spec: {actions: [{handler: closed, instances: [all]}]}
"""

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class World:
    """The processes of one test and their certificates."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.authority = Authority(folder)
        self.server = self.authority.issue("server", ["mixer.example", "127.0.0.1"])
        self.client = self.authority.issue("client", ["proxy.example"])
        config = folder / "config"
        config.mkdir()
        (config / "attributes.yaml").write_text((ROOT / "config/mesh/attributes.yaml").read_text())
        (config / "deny.yaml").write_text(DENY)

    def tls(self) -> tuple[str, ...]:
        pair = self.server
        return (
            "--tls-cert",
            str(pair.certificate),
            "--tls-key",
            str(pair.key),
            "--tls-client-ca",
            str(self.authority.ca),
        )

    def mixs(self, *flags: str) -> Server:
        command = (sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{self.folder}/config")
        return self._start("mixs", *command, *FREE, *self.tls(), *flags)

    def mixproxy(self, mixs: Server, *flags: str, pair: KeyPair | None = None, ca: Path | None = None) -> Server:
        pair = pair or self.client
        command = [sys.executable, "-m", "mixer.cli.mixproxy", "run", "--mixer", mixs.target, "--port", "0"]
        command += ["--monitoring-port", "0", "--mixer-ca", str(ca or self.authority.ca)]
        command += ["--mixer-cert", str(pair.certificate), "--mixer-key", str(pair.key)]
        return self._start("mixproxy", *command, *flags)

    def _start(self, name: str, *command: str) -> Server:
        folder = self.folder / name
        folder.mkdir()
        return self._stack.enter_context(Server(command, folder))

    def logged(self, name: str) -> str:
        text = (self.folder / name / "stderr.log").read_text()
        assert "PRIVATE" not in text
        return text

    def mixc(self, server: Server, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "mixer.cli.mixc",
            "check",
            "-m",
            server.target,
            "--tls-ca",
            str(self.authority.ca),
        ]
        return subprocess.run([*command, *flags], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)

    def shown(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.client.certificate), "--tls-key", str(self.client.key))

    def serial(self, port: int) -> int:
        """Of the certificate that a new connection is shown."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        context.load_cert_chain(self.client.certificate, self.client.key)
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="mixer.example") as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    def on_disk(self) -> int:
        return x509.load_pem_x509_certificate(self.server.certificate.read_bytes()).serial_number


def envoy_asks(world: World, mixproxy: Server) -> CheckResponse:
    """What an Envoy would be answered."""
    credentials = grpc.ssl_channel_credentials(
        world.authority.ca.read_bytes(), world.client.key.read_bytes(), world.client.certificate.read_bytes()
    )
    request = CheckRequest()
    request.attributes.request.http.path = f"/{time.monotonic()}"
    with grpc.secure_channel(mixproxy.target, credentials) as channel:
        method = channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )
        answer: CheckResponse = method(request, timeout=5)
    return answer


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def test_verdict_comes_through_and_renewals_are_followed(world: World) -> None:
    mixs = world.mixs("--transport", "grpc")
    mixproxy = world.mixproxy(mixs, "--transport", "http2", *world.tls())

    assert "secured" in envoy_asks(world, mixproxy).denied_response.body
    refused = world.mixc(mixs)
    assert "UNAVAILABLE" in refused.stderr
    assert "it may demand a client certificate" in refused.stderr
    assert "PERMISSION_DENIED" in world.mixc(mixs, *world.shown()).stdout

    world.mixc(mixproxy)
    counted = 'mixer_tls_handshakes_refused_total{reason="no_certificate",side="server"}'
    page = mixproxy.page("monitoring-port", "/metrics")
    assert sum_of(page, counted.partition("{")[0]) > 0
    assert counted in page

    before = world.on_disk()
    for pair, names in ((world.server, ["mixer.example", "127.0.0.1"]), (world.client, ["proxy.example"])):
        world.authority.issue(pair.certificate.stem, names)
    assert world.on_disk() != before
    for server in (mixs, mixproxy):
        wait_until(lambda server=server: world.serial(server.ports["port"]) == world.on_disk(), "renewed certificate")  # type: ignore[misc]
    assert "secured" in envoy_asks(world, mixproxy).denied_response.body

    renewed = world.on_disk()
    world.server.key.write_text("broken")
    metric = "mixer_tls_renewal_failures_total"
    wait_until(lambda: sum_of(mixs.page("monitoring-port", "/metrics"), metric) == 1, "a failure is counted")
    assert world.serial(mixs.ports["port"]) == renewed
    assert f"--tls-key {world.server.key}: holds no private key" in world.logged("mixs")
    renewals = 'mixer_tls_renewals_total{side="client"} 1.0'
    assert renewals in mixproxy.page("monitoring-port", "/metrics")


def test_wrong_authority_is_told_in_the_log_of_mixproxy(world: World) -> None:
    stranger = Authority(world.folder, "stranger")
    mixs = world.mixs("--transport", "http2")
    mixproxy = world.mixproxy(mixs, *world.tls(), ca=stranger.ca)

    assert envoy_asks(world, mixproxy).status.code != 0
    metric = "mixer_proxy_tls_faults_total"
    wait_until(lambda: sum_of(mixproxy.page("monitoring-port", "/metrics"), metric) >= 1, "the fault is counted")
    wait_until(lambda: "mixer_tls_failed" in world.logged("mixproxy"), "the fault is logged")
    assert "the server's certificate is not accepted: " in world.logged("mixproxy")


def test_workers_share_the_port_and_follow_renewals(world: World) -> None:
    mixs = world.mixs("--workers", "2", "--ext-authz-http-port", "0")
    ports = (mixs.ports["port"], mixs.ports["ext-authz-http-port"])
    assert {world.serial(port) for port in ports} == {world.on_disk()}
    assert "PERMISSION_DENIED" in world.mixc(mixs, *world.shown()).stdout

    world.authority.issue("server", ["mixer.example", "127.0.0.1"])
    metric = 'mixer_tls_renewals_total{side="server"} 2.0'
    wait_until(lambda: metric in mixs.page("monitoring-port", "/metrics"), "both workers took the renewal")
    assert {world.serial(port) for port in ports * 4} == {world.on_disk()}
