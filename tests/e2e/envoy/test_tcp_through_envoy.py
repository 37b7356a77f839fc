"""Connections through a stock Envoy: checked at their first data, reported at their beginning, middle and end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from loadtest.certificates import Authority
from loadtest.envoy import free_ports
from proxy.envoy.bootstrap import Endpoint, Listener, MixerAddress, Protocol, Route, Sidecar, Tls, Upstream
from tests.e2e.envoy.apps import tcp_app
from tests.e2e.envoy.mesh import Mesh, logs
from tests.e2e.envoy.test_http_through_envoy import denier

VARIABLES = {
    "event": 'connection.event | ""',
    "id": 'connection.id | ""',
    "received": "connection.received.bytes | 0",
    "sent": "connection.sent.bytes | 0",
    "received_total": "connection.received.bytes_total | 0",
    "sent_total": "connection.sent.bytes_total | 0",
    "protocol": 'context.protocol | ""',
    "error": "check.error_code | 0",
    "message": 'check.error_message | ""',
    "principal": 'source.principal | ""',
    "namespace": 'source.namespace | ""',
    "mtls": "connection.mtls | false",
    "origin": 'origin.ip | ip("0.0.0.0")',
    "uid": 'destination.uid | ""',
    "port": "destination.port | 0",
}


class Through:
    def __init__(self, mesh: Mesh, *configs: str, tls: Tls | None = None, **listener: Any) -> None:
        self.app, self.port = free_ports(2)
        self.mixs = mesh.mixer(logs(mesh.folder, VARIABLES), *configs)
        self.envoy = mesh.envoy(
            Sidecar(
                "sidecar~127.0.0.1~mongodb-v1.ns2~cluster.local",
                "mongodb",
                MixerAddress(Endpoint("127.0.0.1", self.mixs.ports["port"])),
                (
                    Listener(
                        "mongodb", Endpoint("127.0.0.1", self.port), (Route("app"),), protocol=Protocol.TCP, tls=tls,
                        **listener,
                    ),
                ),
                (Upstream("app", Endpoint("127.0.0.1", self.app), uid="kubernetes://mongodb-v1.ns2"),),
                flush_s=0.1,
            )
        )  # fmt: skip


async def talk(port: int, *chunks: bytes, pause_s: float = 0.0, ssl: Any = None) -> bytes:
    """Say the chunks, with pauses after each; what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ssl)
    back = b""
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            back += await asyncio.wait_for(reader.read(65536), 10)
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, OSError):
            await writer.wait_closed()
    return back


def by_event(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in records if record["event"] == event]


async def test_short_connection_opens_and_closes(mesh: Mesh) -> None:
    """Scenario 14."""
    through = Through(mesh)
    async with tcp_app(through.app) as seen:
        assert await talk(through.port, b"x" * 191) == b"X" * 191
        await mesh.wait_records(1, lambda record: record["event"] == "close")
        records = mesh.records()

    assert seen == [b"x" * 191]
    (opened,), (closed,) = by_event(records, "open"), by_event(records, "close")
    assert opened["id"] == closed["id"] != ""
    assert closed.items() >= {"received_total": 191, "sent_total": 191, "protocol": "tcp", "error": 0}.items()
    assert closed["origin"] == "127.0.0.1"
    assert closed["uid"] == "kubernetes://mongodb-v1.ns2"
    assert closed["port"] == through.port, "of the listener: a check came first"


async def test_long_connection_reports_what_went_through_since_the_last_time(mesh: Mesh) -> None:
    through = Through(mesh, access_log_interval_s=1)
    async with tcp_app(through.app):
        assert await talk(through.port, b"x" * 100, b"y" * 50, b"z" * 7, pause_s=1.2) != b""
        await mesh.wait_records(1, lambda record: record["event"] == "close")
        records = mesh.records()

    continued, (closed,) = by_event(records, "continue"), by_event(records, "close")
    assert len(continued) >= 2
    assert sum(record["received"] for record in [*continued, closed]) == closed["received_total"] == 157
    totals = [record["received_total"] for record in continued]
    assert totals == sorted(totals)


async def test_denied_connection_is_closed_without_a_byte(mesh: Mesh) -> None:
    through = Through(mesh, denier("deny", 'context.protocol == "tcp"', 16, ""))
    async with tcp_app(through.app) as seen:
        assert await talk(through.port, b"hello") == b""
        (closed,) = await mesh.wait_records(1, lambda record: record["event"] == "close")
        await asyncio.sleep(0.3)
        records = mesh.records()

    assert seen == []
    assert by_event(records, "open") == [], "a connection that was denied never began"
    assert (closed["error"], closed["sent_total"]) == (16, 0)
    assert closed["message"].startswith("UNAUTHENTICATED")


@pytest.mark.parametrize("denied", [False, True], ids=["allowed", "denied"])
async def test_identity_of_the_peer_arrives(mesh: Mesh, denied: bool) -> None:
    """Scenario 15; a policy may be about who connects."""
    authority = Authority()
    server = authority.issue(mesh.folder / "server", "spiffe://cluster.local/ns/ns2/sa/mongodb", "mongodb.local")
    client = authority.issue(mesh.folder / "client", "spiffe://cluster.local/ns/ns1/sa/ratings")
    match = 'source.principal == "cluster.local/ns/ns1/sa/ratings" && connection.mtls'
    through = Through(mesh, *([denier("deny", match, 7, "no")] if denied else []), tls=server)
    async with tcp_app(through.app) as seen:
        back = await talk(through.port, b"hello", ssl=client_context(client))
        (closed,) = await mesh.wait_records(1, lambda record: record["event"] == "close")

    assert (back, seen) == ((b"", []) if denied else (b"HELLO", [b"hello"]))
    expected = {"principal": "cluster.local/ns/ns1/sa/ratings", "namespace": "ns1", "mtls": True}
    assert closed.items() >= expected.items()
    opened = by_event(mesh.records(), "open")
    assert [record["principal"] for record in opened] == ([] if denied else [expected["principal"]])


def client_context(identity: Tls) -> Any:
    import ssl

    context = ssl.create_default_context(cafile=identity.authority)
    context.check_hostname = False
    context.load_cert_chain(identity.certificate, identity.key)
    return context
