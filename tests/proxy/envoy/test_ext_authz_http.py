"""The HTTP form of external authorization, over real sockets: questions, answers, and all that can go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mixer.api.codes import Code
from mixer.attributes import AttributeBag, Timestamp
from proxy.envoy.ext_authz import Decider
from proxy.envoy.ext_authz_http import HttpAuthorization
from proxy.envoy.http1 import Bounds
from proxy.envoy.metrics import PolicyMetrics
from proxy.policy import Verdict

NOW = 1_700_000_000_000_000_000


class Client:
    """Denies ``x-user: bad``, waits for ``x-wait``, crashes for ``x-crash``."""

    def __init__(self) -> None:
        self.bags: list[dict[str, Any]] = []
        self.asked: dict[str, Any] = {}
        self.gate, self.waits = asyncio.Event(), asyncio.Event()

    def compose(self, derived: AttributeBag, **told: Any) -> AttributeBag:
        self.asked = told
        return derived

    def check(self, bag: AttributeBag, **told: Any) -> Any:
        self.asked |= told
        self.bags.append({name: bag.peek(name) for name in bag.names()})
        headers = self.bags[-1]["request.headers"]
        if "x-wait" in headers:
            return self._waiting()
        if "x-crash" in headers:
            raise RuntimeError("crashed")
        return Verdict(Code.PERMISSION_DENIED, "shish") if headers.get("x-user") == "bad" else Verdict()

    async def _waiting(self) -> Verdict:
        self.waits.set()
        await self.gate.wait()
        return Verdict()

    def take(self, *_: Any, **__: Any) -> Verdict:
        raise AssertionError("not asked for")

    def report(self, *_: Any, **__: Any) -> None:
        raise AssertionError("not asked for")

    def forward(self, *, service: str = "") -> str:
        return ""


class Running:
    """The service on a port."""

    def __init__(self) -> None:
        self.client = Client()
        self.metrics = PolicyMetrics()
        self.ready = True
        self.service = HttpAuthorization(Decider(self.client), self.metrics, lambda: self.ready, lambda: NOW)
        self.server = self.service.server
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def ask(self, data: bytes, answers: int = 1) -> list[tuple[int, dict[str, str], str]]:
        """Send bytes, and read so many answers."""
        reader, writer = await self.connect()
        writer.write(data)
        return [await read_answer(reader) for _ in range(answers)]

    def refused(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("mixer_envoy_bad_requests_total", {"reason": reason}) or 0.0


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> tuple[int, dict[str, str], str]:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        length = 0 if head_only else int(headers.get("content-length", "0"))
        return int(head[0].split()[1]), headers, (await reader.readexactly(length)).decode()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    here = Running()
    here.port = await here.server.listen("127.0.0.1", 0)
    yield here
    here.client.gate.set()
    await here.server.stop(1)
    for writer in here.writers:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def question(path: str = "/check/a/b?x=1", method: str = "GET", **headers: str) -> bytes:
    """As Envoy 1.39 asks, with the headers that it is told to add."""
    lines = {
        "host": "istio.io:31180",
        "content-length": "0",
        "x-mixer-source": "127.0.0.1:45576",
        "x-mixer-dest": "10.0.0.2:80",
        "x-mixer-peer": "spiffe://cluster.local/ns/ns1/sa/client",
        "x-mixer-stream": "id-1",
        "x-mixer-listener": "inbound_http",
        "x-mixer-service": "reviews.ns2",
        "x-envoy-expected-rq-timeout-ms": "250",
        "x-forwarded-proto": "https",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode()


async def test_a_question_becomes_the_attributes_of_the_grpc_form(running: Running) -> None:
    [(status, headers, body)] = await running.ask(
        question(
            x_custom="one,two", user_agent="curl", x_istio_attributes="Cg==", x_mixer_context="destination.port=81"
        )
    )

    assert (status, body) == (200, "")
    assert running.client.bags == [
        {
            "request.headers": {
                ":method": "GET",
                ":path": "/a/b?x=1",
                ":authority": "istio.io:31180",
                "x-forwarded-proto": "https",
                "x-custom": "one,two",
                "user-agent": "curl",
            },
            "request.host": "istio.io:31180",
            "request.path": "/a/b?x=1",
            "request.url_path": "/a/b",
            "request.query_params": {"x": "1"},
            "request.method": "GET",
            "request.scheme": "https",
            "request.useragent": "curl",
            "request.time": Timestamp(NOW),
            "context.protocol": "http",
            "context.reporter.kind": "inbound",
            "origin.ip": bytes((127, 0, 0, 1)),
            "source.principal": "cluster.local/ns/ns1/sa/client",
            "source.user": "cluster.local/ns/ns1/sa/client",
            "source.namespace": "ns1",
            "connection.mtls": True,
            "destination.ip": bytes((10, 0, 0, 2)),
            "destination.port": 81,
        }
    ]
    assert running.client.asked == {"service": "reviews.ns2", "forwarded": "Cg==", "tcp": False, "timeout_s": 0.25}
    assert json.loads(headers["x-mixer-md-mixer"])["id"] == "id-1"


async def test_context_never_tells_who_calls(running: Running) -> None:
    forged = "source.principal=c/ns/n/sa/admin;source.uid=x;request.auth.principal=i/s;destination.service.host=reviews"
    await running.ask(question(x_mixer_peer="", x_mixer_context=forged))

    bag = running.client.bags[0]
    assert bag["destination.service.host"] == "reviews"
    assert not {"source.principal", "source.uid", "request.auth.principal"} & bag.keys()


async def test_a_denial_is_the_answer(running: Running) -> None:
    [(status, headers, body)] = await running.ask(question(x_user="bad"))

    assert (status, body) == (403, "PERMISSION_DENIED:shish")
    assert headers["content-type"] == "text/plain"


@pytest.mark.parametrize("peer", ["", "-", "uri=", "uri=-"])
async def test_no_identity_is_none_however_it_is_spelled(running: Running, peer: str) -> None:
    await running.ask(question(x_mixer_peer=peer))

    assert "source.principal" not in running.client.bags[0]
    assert running.client.bags[0]["connection.mtls"] is False


async def test_an_identity_may_have_a_word_in_front(running: Running) -> None:
    await running.ask(question(x_mixer_peer="uri=spiffe://c/ns/n/sa/a,https://second"))

    assert running.client.bags[0]["source.principal"] == "c/ns/n/sa/a"


async def test_a_header_that_both_the_client_and_envoy_set_is_refused(running: Running) -> None:
    forged = question().replace(b"\r\n\r\n", b"\r\nX-Mixer-Peer: spiffe://c/ns/n/sa/admin\r\n\r\n")

    [(status, _, body)] = await running.ask(forged)

    assert (status, body) == (400, "header x-mixer-peer comes twice")
    assert running.refused("doubled_header") == 1


@pytest.mark.parametrize("path", ["/", "/other", "/checked", "*"])
async def test_what_is_not_below_the_prefix_is_refused(running: Running, path: str) -> None:
    [(status, _, body)] = await running.ask(question(path))

    assert status == 404
    assert "path_prefix" in body


@pytest.mark.parametrize("path", ["/check", "/check/", "/check?x=1"])
async def test_the_root_can_be_asked_about(running: Running, path: str) -> None:
    [(status, _, _)] = await running.ask(question(path))

    assert status == 200
    assert running.client.bags[0]["request.path"] == path.removeprefix("/check")


async def test_requests_of_one_connection_are_answered_in_their_order(running: Running) -> None:
    data = b"".join(question(x_user="bad" if number % 3 else "good", x_n=str(number)) for number in range(200))

    answers = await running.ask(data, 200)

    assert [status for status, _, _ in answers] == [403 if number % 3 else 200 for number in range(200)]
    assert [bag["request.headers"]["x-n"] for bag in running.client.bags] == [str(n) for n in range(200)]


async def test_a_slow_verdict_holds_up_its_own_connection_only(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(question(x_wait="1") + question(x_user="bad"))

    [(status, _, _)] = await running.ask(question())
    running.client.gate.set()

    assert status == 200
    assert [(await read_answer(reader))[0] for _ in range(2)] == [200, 403]


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_question_may_come_in_pieces(running: Running, size: int) -> None:
    reader, writer = await running.connect()
    data = question()
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await asyncio.sleep(0)

    assert (await read_answer(reader))[0] == 200


async def test_a_body_is_read_and_dropped(running: Running) -> None:
    body = b"x" * 300_000
    one = question(method="POST").replace(b"content-length: 0", f"content-length: {len(body)}".encode()) + body

    answers = await running.ask(one + question(), 2)

    assert [status for status, _, _ in answers] == [200, 200]


async def test_an_answer_to_head_has_no_body(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(question(method="HEAD", x_user="bad") + question(x_user="bad"))

    assert (await read_answer(reader, head_only=True))[0] == 403
    assert (await read_answer(reader))[2] == "PERMISSION_DENIED:shish"


async def test_a_request_to_upgrade_is_a_question_like_any_other(running: Running) -> None:
    answers = await running.ask(question(connection="Upgrade", upgrade="websocket") + question(x_user="bad"), 2)

    assert [status for status, _, _ in answers] == [200, 403]


async def test_the_client_may_close_after_asking(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(question(x_wait="1"))
    writer.write_eof()
    await asyncio.sleep(0)
    running.client.gate.set()

    assert (await read_answer(reader))[0] == 200
    assert await reader.read() == b""


async def test_a_connection_can_be_for_one_question(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(question(connection="close"))

    assert (await read_answer(reader))[1]["connection"] == "close"
    assert await reader.read() == b""


async def test_without_a_configuration_nobody_decides(running: Running) -> None:
    running.ready = False

    [(status, _, _)] = await running.ask(question())

    assert status == 503


async def test_a_crash_costs_one_answer(running: Running) -> None:
    answers = await running.ask(question(x_crash="1") + question(), 2)

    assert [status for status, _, _ in answers] == [500, 200]


# Bad input


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"nonsense\r\n\r\n", 400, "malformed"),
        (b"GET /check HTTP/9.9\r\n\r\n", 400, "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "malformed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
        (question(content_length="-1"), 400, "malformed"),
        (question() + b"GARBAGE \0\r\n\r\n", 400, "malformed"),
        (question(x_big="x" * 300_000), 431, "head_too_large"),
        (b"GET /check/" + b"p" * 300_000, 431, "head_too_large"),
    ],
    ids=["words", "version", "TLS", "HTTP/2", "length", "after a good one", "header", "target"],
)
async def test_what_makes_no_sense_is_answered_and_ends_the_connection(
    running: Running, data: bytes, status: int, reason: str
) -> None:
    reader, writer = await running.connect()
    writer.write(data)
    found = await read_answer(reader)
    if found[0] == 200:
        found = await read_answer(reader)

    assert found[0] == status
    assert found[1]["connection"] == "close"
    assert running.refused(reason) == 1
    [(again, _, _)] = await running.ask(question())
    assert again == 200


async def test_bytes_that_are_no_text_are_borne_with(running: Running) -> None:
    [(status, _, _)] = await running.ask(question().replace(b"\r\n\r\n", b"\r\nx-odd: \xff\xfe\r\n\r\n"))

    assert status == 200
    assert running.client.bags[0]["request.headers"]["x-odd"] == "��"


async def test_a_body_beyond_the_bound_is_refused(running: Running) -> None:
    running.server.bounds = Bounds(body_bytes=1000)
    data = question(method="POST").replace(b"content-length: 0", b"content-length: 5000") + b"x" * 2000

    [(status, _, _)] = await running.ask(data)

    assert status == 413
    assert running.refused("body_too_large") == 1


async def test_a_request_that_never_ends_is_given_up(running: Running) -> None:
    running.server.bounds = Bounds(head_s=0.02)

    [(status, headers, _)] = await running.ask(question()[:-2])

    assert (status, headers["connection"]) == (408, "close")
    assert running.refused("slow") == 1


async def test_connections_beyond_the_bound_are_closed(running: Running) -> None:
    running.server.bounds = Bounds(connections=1)
    first, writer = await running.connect()
    writer.write(question())
    await read_answer(first)

    reader, _ = await running.connect()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await read_answer(reader)
    assert running.refused("too_many_connections") == 1


async def test_one_who_asks_much_and_reads_nothing_is_not_read_on(running: Running) -> None:
    _, writer = await running.connect()
    running.client.gate.set()
    data = question(x_user="bad") * 200
    for _ in range(400):  # 40 MB of questions
        writer.write(data)
        try:
            async with asyncio.timeout(0.05):
                await writer.drain()
        except TimeoutError:
            break

    assert len(running.client.bags) < 80_000
    writer.transport.abort()


# The end


async def test_a_drain_lets_questions_in_progress_finish(running: Running) -> None:
    reader, writer = await running.connect()
    idle, _ = await running.connect()
    writer.write(question(x_wait="1"))
    await running.client.waits.wait()

    stopping = asyncio.create_task(running.server.stop(5))
    assert await idle.read() == b""
    running.client.gate.set()
    status, headers, _ = await read_answer(reader)
    await stopping

    assert (status, headers["connection"]) == (200, "close")
    assert not running.server.connections


async def test_a_drain_does_not_wait_for_ever(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(question(x_wait="1"))
    await running.client.waits.wait()

    async with asyncio.timeout(2):
        await running.server.stop(0.01)

    assert not running.server.connections
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await read_answer(reader)
