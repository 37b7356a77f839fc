"""Both transports over TLS, and over mutual TLS, in this process: who gets in, who does not, and what is renewed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import aio

from mixer.api.rpc import Methods
from mixer.server.methods import Transport
from mixer.server.transport import TransportKind, new_transport
from mixer.tls import ClientCertificates, ClientTls, ServerCertificates, ServerTls, channel_options
from mixer.tls.handshakes import NO_CERTIFICATE, NOT_ACCEPTED, NOT_TLS
from mixer.tls.renewal import LOOK_AGAIN_S
from proxy.envoy.http1 import Answer, HttpServer, Request
from tests.certificates import Authority

ECHO = "/test.Echo/Say"
CLOSED = "the server closes the connection after the handshake; it may"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A transport that echoes, its authority, and another one that nobody knows."""

    def __init__(self, folder: Path, kind: TransportKind, *, mutual: bool = True) -> None:
        self.folder, self.kind = folder, kind
        self.authority, self.stranger = Authority(folder), Authority(folder, "stranger")
        self.pair = self.authority.issue("server", ["localhost", "127.0.0.1"])
        self.clock = Clock()
        ca = str(self.authority.ca) if mutual else ""
        tls = ServerTls(str(self.pair.certificate), str(self.pair.key), ca)
        self.certificates = ServerCertificates(tls, self.clock)

        async def echo(data: bytes, _: Any) -> bytes:
            return data

        methods = Methods({ECHO: echo}, {})
        self.transport: Transport = new_transport(kind, methods, certificates=self.certificates)
        self.port = 0

    async def start(self) -> None:
        self.port = await self.transport.bind("127.0.0.1:0")
        await self.transport.start()

    def client(self, authority: Authority | None, *, ca: Authority | None = None, name: str = "") -> ClientCertificates:
        """A client with a certificate of an authority, or without one."""
        trusted = str((ca or self.authority).ca)
        if authority is None:
            return ClientCertificates(ClientTls(trusted, server_name=name))
        pair = authority.issue("client", ["client.example"])
        return ClientCertificates(ClientTls(trusted, str(pair.certificate), str(pair.key), name))

    async def call(self, client: ClientCertificates | None, data: bytes = b"hello") -> bytes:
        address = f"127.0.0.1:{self.port}"
        options = (("grpc.use_local_subchannel_pool", 1),)
        if client is None:
            channel = aio.insecure_channel(address, options)
        else:
            channel = aio.secure_channel(address, client.credentials(), (*options, *channel_options(client)))
        async with channel:
            answer: bytes = await channel.unary_unary(ECHO)(data, timeout=5)
        return answer

    def renew(self) -> None:
        """Let time pass until files are looked at again."""
        self.clock.now += LOOK_AGAIN_S

    async def serial(self) -> int:
        """Of the certificate that a new connection is shown."""
        client = self.client(self.authority)
        context = client._context(client.renewed.current())
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return x509.load_der_x509_certificate(shown).serial_number

    def on_disk(self) -> int:
        return x509.load_pem_x509_certificate(self.pair.certificate.read_bytes()).serial_number


@pytest.fixture(params=list(TransportKind), ids=str)
async def serve(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    running: list[Served] = []

    async def start(**options: Any) -> Served:
        running.append(Served(tmp_path, request.param, **options))
        await running[-1].start()
        return running[-1]

    yield start
    for served in running:
        await served.transport.stop(1.0)


Serve = Callable[..., Awaitable[Served]]


async def test_call_passes_with_a_certificate_of_the_authority(serve: Serve) -> None:
    served = await serve()

    assert await served.call(served.client(served.authority), b"x" * 300_000) == b"x" * 300_000


async def test_call_passes_without_a_certificate_when_none_is_demanded(serve: Serve) -> None:
    served = await serve(mutual=False)

    assert await served.call(served.client(None)) == b"hello"


REFUSED: dict[str, tuple[Callable[[Served], ClientCertificates], str, tuple[str, ...]]] = {
    "no certificate": (lambda s: s.client(None), NO_CERTIFICATE, (f"{CLOSED} demand a client certificate",)),
    "a stranger's certificate": (
        lambda s: s.client(s.stranger), NOT_ACCEPTED, (f"{CLOSED} not accept the client certificate",),
    ),
    "server is a stranger": (
        lambda s: s.client(s.authority, ca=s.stranger), "",
        (
            "the server's certificate is not accepted: unable to get local issuer certificate",
            "the server's certificate is not accepted: self-signed certificate in certificate chain",
        ),
    ),
    "server has another name": (
        lambda s: s.client(s.authority, name="mixer.example"), "",
        (
            "the server's certificate is not accepted: "
            "Hostname mismatch, certificate is not valid for 'mixer.example'",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("client", "reason", "faults"), REFUSED.values(), ids=REFUSED)
async def test_call_is_refused_and_the_client_can_say_why(
    serve: Serve, client: Callable[[Served], ClientCertificates], reason: str, faults: tuple[str, ...]
) -> None:
    served = await serve()
    who = client(served)

    with pytest.raises(aio.AioRpcError) as caught:
        await served.call(who)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    if served.kind is TransportKind.HTTP2:
        assert set(served.certificates.refusals.counts) == (
            {reason} if reason else set()
        )  # callers that turn away say so themselves
    assert await who.fault_of(f"127.0.0.1:{served.port}") in faults


async def test_call_in_cleartext_is_refused(serve: Serve) -> None:
    served = await serve()

    with pytest.raises(aio.AioRpcError) as caught:
        await served.call(None)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    if served.kind is TransportKind.HTTP2:
        assert set(served.certificates.refusals.counts) == {NOT_TLS}


async def test_client_finds_no_fault_with_who_serves_it_or_with_nobody(serve: Serve) -> None:
    served = await serve()
    client = served.client(served.authority)

    assert await client.fault_of(f"127.0.0.1:{served.port}") == ""
    assert await client.fault_of("127.0.0.1:1") == ""


async def test_server_name_is_what_the_certificate_must_have(serve: Serve) -> None:
    served = await serve()

    assert await served.call(served.client(served.authority, name="localhost")) == b"hello"


async def test_renewed_certificate_is_shown_to_the_next_connection(serve: Serve) -> None:
    served = await serve()
    assert await served.serial() == served.on_disk()

    served.authority.issue("server", ["localhost", "127.0.0.1"])
    served.renew()

    assert await served.serial() == served.on_disk()
    assert await served.call(served.client(served.authority)) == b"hello"


async def test_broken_renewal_leaves_the_former_certificate(serve: Serve) -> None:
    served = await serve()
    before = served.on_disk()

    served.pair.certificate.write_text("broken")
    for _ in range(3):
        served.renew()
        assert await served.serial() == before
    assert served.certificates.renewed.failures == 1


async def test_renewed_authority_decides_who_gets_in(serve: Serve) -> None:
    served = await serve()
    served.authority.ca.write_bytes(served.stranger.ca.read_bytes())
    served.renew()
    pair = served.stranger.issue("client", ["client.example"])
    genuine = served.folder / "genuine.pem"
    genuine.write_bytes(served.authority._authority.pem)
    tls = ClientTls(str(genuine), str(pair.certificate), str(pair.key))

    assert await served.call(ClientCertificates(tls)) == b"hello"
    old = served.authority.issue("old", ["client.example"])
    with pytest.raises(aio.AioRpcError):
        await served.call(ClientCertificates(ClientTls(str(genuine), str(old.certificate), str(old.key))))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_versions_from_tls_1_2_on_are_spoken(serve: Serve, version: ssl.TLSVersion) -> None:
    served = await serve(mutual=False)
    context = ssl.create_default_context(cafile=str(served.authority.ca))
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    connecting = asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname="localhost")

    if version is ssl.TLSVersion.TLSv1_1:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connecting
        return
    _, writer = await connecting
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.transport.abort()


async def test_socket_file_stays_cleartext(serve: Serve, tmp_path: Path) -> None:
    served = await serve()
    beside = new_transport(served.kind, Methods({ECHO: _echo}, {}), certificates=served.certificates)
    path = f"unix://{tmp_path}/m.sock"
    await beside.bind(path)
    await beside.start()
    try:
        async with aio.insecure_channel(path) as channel:
            assert await channel.unary_unary(ECHO)(b"hello", timeout=5) == b"hello"
    finally:
        await beside.stop(1.0)


async def _echo(data: bytes, _: Any) -> bytes:
    return data


async def test_checks_over_http_are_served_over_tls_to_whom_the_authority_knows(tmp_path: Path) -> None:
    served = Served(tmp_path, TransportKind.HTTP2)

    async def app(request: Request) -> Answer:
        await asyncio.sleep(0)
        return Answer(200, (), request.url.decode())

    server = HttpServer(app, lambda why: None)
    server.certificates = served.certificates
    port = await server.listen("127.0.0.1", 0)
    try:
        context = ssl.create_default_context(cafile=str(served.authority.ca))
        context.set_alpn_protocols(["h2", "http/1.1"])
        pair = served.authority.issue("client", ["client.example"])
        context.load_cert_chain(pair.certificate, pair.key)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(b"GET /check/a HTTP/1.1\r\nhost: a\r\n\r\nGET /check/b HTTP/1.1\r\nconnection: close\r\n\r\n")
        answers = await reader.read()
        assert [line for line in answers.split(b"\r\n\r\n") if line.startswith(b"/check")] != []
        assert answers.count(b"200 OK") == 2
        writer.transport.abort()

        assert await served.client(None).fault_of(f"127.0.0.1:{port}") == f"{CLOSED} demand a client certificate"
    finally:
        await server.stop(1.0)
