"""Envoys whose configuration is a file beside the tests, before services of the test's own loop, and Mixer behind.

Nothing of `proxy.envoy.bootstrap` is used: the files are written as other people write theirs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import string
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from loadtest.envoy import EnvoyServer, free_ports
from loadtest.servers import Server
from tests.e2e.envoy.apps import http_app, tcp_app
from tests.e2e.envoy.mesh import ROOT, Mesh, logs, objects

BOOTSTRAPS = Path(__file__).parent / "bootstraps"
METRICS = tuple(
    (ROOT / "config/mesh" / name).read_text() for name in ("metrics-http.yaml", "metrics-tcp.yaml", "prometheus.yaml")
)
SECRET = b"a secret that only the tests and their Envoy know"
JWKS = json.dumps(
    {
        "keys": [
            {
                "kty": "oct",
                "alg": "HS256",
                "kid": "one",
                "k": base64.urlsafe_b64encode(SECRET).rstrip(b"=").decode(),
            }
        ]
    }
)

VARIABLES = {
    name: f"{name} | {default}"
    for names, default in (
        (
            (
                "request.method", "request.path", "request.url_path", "request.host", "request.scheme",
                "context.protocol", "context.proxy_error_code", "context.reporter.kind", "check.error_message",
                "source.principal", "source.namespace", "source.uid", "destination.principal", "destination.uid",
                "destination.service.host", "destination.service.name", "destination.service.namespace",
                "connection.requested_server_name", "connection.event", "connection.id", "request.auth.principal",
                "request.auth.audiences", "request.auth.presenter", "request.auth.raw_claims", "response.grpc_status",
                "request.useragent",
            ),
            '""',
        ),
        (
            (
                "response.code", "check.error_code", "request.size", "response.size", "destination.port",
                "connection.received.bytes", "connection.sent.bytes", "connection.received.bytes_total",
                "connection.sent.bytes_total",
            ),
            "0",
        ),
        (("connection.mtls", "check.cache_hit"), "false"),
        (("origin.ip",), 'ip("0.0.0.0")'),
    )
    for name in names
} | {
    f"header:{name}": f'request.headers["{name}"] | ""'
    for name in (
        "x-custom", "x-user", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-istio-attributes",
        "x-envoy-auth-partial-body",
    )
} | {
    "claim": 'request.auth.claims["some-other-string-claims"] | ""',
    "claim:exp": 'request.auth.claims["exp"] | ""',
    "app": 'destination.labels["app"] | ""',
    "query": 'request.query_params["x"] | ""',
    "checked": 'conditional(check.cache_hit | true, conditional(check.cache_hit | false, "hit", "no"), "miss")',
}  # fmt: skip
"""What each record tells; ``checked`` is "no" where there is no ``check.cache_hit``."""


def token(**claims: Any) -> str:
    """A token that Envoy accepts."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(json.dumps({"alg": "HS256", "kid": "one", "typ": "JWT"}).encode())
    said = head + b"." + part(json.dumps(claims).encode())
    return (said + b"." + part(hmac.digest(SECRET, said, hashlib.sha256))).decode()


def deny(name: str, match: str, code: int, message: str, **status: Any) -> str:
    return objects(
        {
            "kind": "handler",
            "name": name,
            "spec": {"compiledAdapter": "denier", "params": {"status": {"code": code, "message": message, **status}}},
        },
        {"kind": "instance", "name": name, "spec": {"compiledTemplate": "checknothing"}},
        {"kind": "rule", "name": name, "spec": {"match": match, "actions": [{"handler": name, "instances": [name]}]}},
    )


def answer(code: int, body: str, **headers: str) -> list[dict[str, Any]]:
    """Details of a denier's status: a direct response."""
    kind = "type.googleapis.com/istio.policy.v1beta1.DirectHttpResponse"
    return [{"@type": kind, "code": code, "body": body, "headers": headers}]


@asynccontextmanager
async def grpc_app(port: int) -> AsyncIterator[list[str]]:
    """``/echo.Echo/Say`` answers its request, ``/echo.Echo/Chat`` each of them. Yields the methods that were called."""
    seen: list[str] = []

    async def say(data: bytes, context: Any) -> bytes:
        seen.append("Say")
        return data

    async def chat(requests: Any, context: Any) -> AsyncIterator[bytes]:
        seen.append("Chat")
        async for data in requests:
            yield data

    methods = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Deny": grpc.unary_unary_rpc_method_handler(say),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await server.start()
    try:
        yield seen
    finally:
        await server.stop(0)


@asynccontextmanager
async def rude_app(port: int, *, hang_up: bool) -> AsyncIterator[None]:
    """Takes connections and never answers; or hangs up after the first data."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65536) and not hang_up:
                pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


@dataclass
class Stranger:
    """What runs: Mixer, perhaps a mixproxy, Envoys, services."""

    mesh: Mesh
    ports: dict[str, int] = field(default_factory=dict)
    mixs: Server = None  # type: ignore[assignment]
    door: Server = None  # type: ignore[assignment]
    """Where Envoys ask: Mixer itself or a mixproxy."""
    http: list[dict[str, Any]] = field(default_factory=list)
    grpc: list[str] = field(default_factory=list)
    tcp: list[bytes] = field(default_factory=list)

    def port(self, name: str) -> int:
        """A port by the name that a bootstrap has for it; a free one at first use."""
        if name not in self.ports:
            self.ports[name] = free_ports(1)[0]
        return self.ports[name]

    def url(self, name: str, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port(name)}{path}"

    def start_mixer(self, *configs: str, agent: bool = False) -> None:
        self.mixs = self.door = self.mesh.mixer(
            logs(self.mesh.folder, VARIABLES), *configs, flags=("--ext-authz-http-port", "0")
        )
        if agent:
            command = [
                sys.executable,
                "-m",
                "mixer.cli.mixproxy",
                "run",
                "--mixer",
                f"127.0.0.1:{self.mixs.ports['port']}",
            ]
            command += ["--port", "0", "--monitoring-port", "0", "--ext-authz-http-port", "0"]
            command += ["--config-store", f"fs://{self.mesh.folder / 'config'}"]
            command += [part for name in ("x-custom", "x-user") for part in ("--report-header", name)]
            folder = self.mesh.folder / "agent"
            folder.mkdir()
            self.door = self.mesh.stack.enter_context(Server(command, folder))
        self.ports["MIXER"] = self.door.ports["port"]
        self.ports["MIXER_HTTP"] = self.door.ports["ext-authz-http-port"]

    async def start_apps(self) -> None:
        stack = self.mesh.stack
        self.http = await stack.enter_async_context(http_app(self.port("APP")))
        self.grpc = await stack.enter_async_context(grpc_app(self.port("GRPC_APP")))
        self.tcp = await stack.enter_async_context(tcp_app(self.port("TCP_APP")))
        await stack.enter_async_context(rude_app(self.port("HANGUP"), hang_up=True))
        await stack.enter_async_context(rude_app(self.port("SILENT"), hang_up=False))

    def envoy(self, bootstrap: str, **values: str) -> EnvoyServer:
        """Start an Envoy on a file of `BOOTSTRAPS`."""
        text = string.Template((BOOTSTRAPS / bootstrap).read_text())
        ports = {name: str(self.port(name)) for name in text.get_identifiers() if name not in values}
        config = yaml.safe_load(text.substitute(ports, **values))
        return self.mesh.envoy(None, config=config, admin_port=self.port("ADMIN"))

    async def record(self, path: str, **expected: Any) -> dict[str, Any]:
        """The record of the only request for a path."""
        (found,) = await self.mesh.wait_records(
            1, lambda record: record["request.path"] == path and record["context.protocol"] != "span"
        )
        assert found.items() >= {key.replace("_", ".", 1): value for key, value in expected.items()}.items()
        return found

    async def connection(self, which: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The records of the connection whose end is like that."""
        (end,) = await self.mesh.wait_records(1, lambda each: each["connection.event"] == "close" and which(each))
        return [each for each in self.mesh.records() if each["connection.id"] == end["connection.id"]]

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """What the mesh's metrics tell, of those series that have the labels."""
        page = self.mixs.page("metrics-port", "/metrics")
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        ]

    async def series(self, name: str, value: float, **labels: str) -> dict[str, str]:
        """Wait until the only series with the labels has this value."""
        give_up = time.monotonic() + 10
        while True:
            found = self.samples(name, **labels)
            if len(found) == 1 and found[0][1] == value:
                return found[0][0]
            assert time.monotonic() < give_up, f"{name} {labels} should be {value}: {found}"
            await asyncio.sleep(0.05)


def each_way(name: str) -> list[Any]:
    """Parameters of a module's fixture: Envoy asks Mixer itself, and through a mixproxy, each in a process of xdist."""
    return [pytest.param(way, marks=pytest.mark.xdist_group(f"{name}-{way}")) for way in ("mixs", "mixproxy")]


@asynccontextmanager
async def stranger(folder: Path) -> AsyncIterator[Stranger]:
    async with Mesh(folder) as mesh, AsyncExitStack():
        running = Stranger(mesh)
        await running.start_apps()
        yield running


async def curl(*arguments: str) -> tuple[int, dict[str, str], str, str]:
    """Status, headers, body and protocol version of an answer, as curl got it; status 0 when it got none."""
    command = ["curl", "-sS", "-i", "--max-time", "10", "-w", "\n%{http_code} %{http_version}", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    text, _, end = output.decode("utf-8", "replace").rpartition("\n")
    status, _, version = end.partition(" ")
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    while head.startswith("HTTP/1.1 100"):
        head, _, body = body.partition("\n\n")
    pairs = (line.partition(": ") for line in head.splitlines()[1:])
    headers: dict[str, str] = {}
    for name, _, value in pairs:
        name = name.lower()
        headers[name] = f"{headers[name]}\n{value}" if name in headers else value
    return int(status), headers, body, version
