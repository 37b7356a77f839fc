"""A line to a Mixer over TLS: renewed certificates are shown by the next call, and a failing handshake is explained."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mixer.api.codes import Code
from mixer.api.messages import SERVICE_NAME, CheckResponse
from mixer.api.rpc import Methods
from mixer.attributes import MappingBag
from mixer.errors import CertificateError, MixerCallError
from mixer.server.transport import TransportKind, new_transport
from mixer.tls import ClientCertificates, ClientTls, ServerCertificates, ServerTls
from mixer.tls.renewal import LOOK_AGAIN_S
from proxy.client.line import Line
from proxy.client.remote import RemoteMixer, RemoteOptions
from proxy.mixer import CheckCall
from tests.certificates import Authority


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Mixer:
    """Answers Check over mutual TLS, at once or when it is let; counts connections by their certificate."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        pair = self.authority.issue("server", ["127.0.0.1"])
        self.client = self.authority.issue("client", ["proxy.example"])
        self.clock = Clock()
        tls = ServerTls(str(pair.certificate), str(pair.key), str(self.authority.ca))
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0

        async def check(_: bytes, __: Any) -> bytes:
            self.asked += 1
            await self.open.wait()
            return CheckResponse().SerializeToString()

        methods = Methods({f"/{SERVICE_NAME}/Check": check}, {})
        self.transport = new_transport(TransportKind.HTTP2, methods, certificates=ServerCertificates(tls))
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.transport._connections)  # type: ignore[attr-defined]

    def shown(self) -> ClientTls:
        return ClientTls(str(self.authority.ca), str(self.client.certificate), str(self.client.key))


@pytest.fixture
async def mixer(tmp_path: Path) -> AsyncIterator[Mixer]:
    mixer = Mixer(tmp_path)
    mixer.port = await mixer.transport.bind("127.0.0.1:0")
    await mixer.transport.start()
    yield mixer
    await mixer.transport.stop(1.0)


async def test_renewed_certificate_is_shown_by_the_next_call_and_calls_in_progress_end_well(mixer: Mixer) -> None:
    line = Line(mixer.address, ClientCertificates(mixer.shown(), mixer.clock))
    await line.check(b"", timeout=5)
    assert mixer.connections == 1

    mixer.open.clear()
    waiting = asyncio.ensure_future(line.check(b"", timeout=5))
    await until(lambda: mixer.asked == 2)
    mixer.authority.issue("client", ["proxy.example"])
    mixer.clock.now += LOOK_AGAIN_S
    late = asyncio.ensure_future(line.check(b"", timeout=5))
    await until(lambda: mixer.asked == 3)

    assert mixer.connections == 2
    mixer.open.set()
    await asyncio.gather(waiting, late)
    await line.aclose()
    await until(lambda: mixer.connections == 0)


async def test_former_connection_is_closed_after_a_while(mixer: Mixer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.client.line.RETIRE_S", 0.01)
    line = Line(mixer.address, ClientCertificates(mixer.shown(), mixer.clock))
    await line.check(b"", timeout=5)
    mixer.authority.issue("client", ["proxy.example"])
    mixer.clock.now += LOOK_AGAIN_S
    await line.check(b"", timeout=5)

    await until(lambda: mixer.connections == 1)
    await line.aclose()


async def test_broken_renewal_leaves_the_connection_alone(mixer: Mixer) -> None:
    certificates = ClientCertificates(mixer.shown(), mixer.clock)
    line = Line(mixer.address, certificates)
    await line.check(b"", timeout=5)
    mixer.client.key.write_text("broken")
    for _ in range(3):
        mixer.clock.now += LOOK_AGAIN_S
        await line.check(b"", timeout=5)

    assert mixer.connections == 1
    assert certificates.renewed.failures == 1
    await line.aclose()


async def test_line_closes_while_a_retired_channel_still_has_calls(mixer: Mixer) -> None:
    line = Line(mixer.address, ClientCertificates(mixer.shown(), mixer.clock))
    mixer.open.clear()
    waiting = asyncio.ensure_future(line.check(b"", timeout=5))
    await until(lambda: mixer.asked == 1)
    mixer.authority.issue("client", ["proxy.example"])
    mixer.clock.now += LOOK_AGAIN_S
    assert line.check is not None
    await asyncio.wait_for(line.aclose(), 2)

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await line.aclose()


async def test_failing_handshake_is_logged_once_and_becomes_the_message(mixer: Mixer, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    remote = RemoteMixer(RemoteOptions(mixer.address, tls=ClientTls(str(stranger.ca))))

    async def fails() -> str:
        with pytest.raises(MixerCallError) as caught:
            await remote.check(CheckCall(MappingBag({})))
        assert caught.value.code == Code.UNAVAILABLE
        return str(caught.value)

    with capture_logs() as logs:
        await fails()
        await until(lambda: remote.tls_fault != "")
        texts = {await fails() for _ in range(3)}

    assert remote.tls_fault.startswith("the server's certificate is not accepted: ")
    assert texts == {f"TLS with {mixer.address}: {remote.tls_fault}"}
    assert [line["event"] for line in logs if line["event"] != "handshake_refused"] == ["mixer_tls_failed"]
    assert remote.tls_faults == 1
    await remote.aclose()


async def test_nobody_there_is_no_fault_of_tls(mixer: Mixer) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        line = Line(address, ClientCertificates(mixer.shown()))
        line.failed()
        assert line._finding is not None
        await line._finding

    assert (line.tls_fault, line.tls_faults) == ("", 0)
    await line.aclose()


async def test_answer_takes_the_fault_back(mixer: Mixer) -> None:
    line = Line(mixer.address, ClientCertificates(mixer.shown()))
    line.tls_fault = "as it was"
    with capture_logs() as logs:
        line.worked()
        line.worked()

    assert line.tls_fault == ""
    assert [each["event"] for each in logs] == ["mixer_tls_restored"]
    await line.aclose()


async def test_files_that_cannot_be_used_are_told_when_the_client_is_made(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"ca .*/no\.pem: No such file"):
        RemoteMixer(RemoteOptions("127.0.0.1:1", tls=ClientTls(str(tmp_path / "no.pem"))))
