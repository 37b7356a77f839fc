"""Edges with a different choice of options at each listener (``bootstraps/sandbox.yaml``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.envoy.mesh import objects
from tests.e2e.envoy.test_http_through_envoy import headers_rule
from tests.e2e.envoy_strangers.stranger import METRICS, Stranger, curl, deny, each_way, stranger

pytestmark = pytest.mark.asyncio(loop_scope="module")


def quota(name: str, most: int, **dimensions: str) -> list[dict[str, Any]]:
    quotas = [{"name": f"{name}.instance.istio-system", "maxAmount": most, "validDuration": "600s"}]
    return [
        {"kind": "handler", "name": name, "spec": {"compiledAdapter": "memquota", "params": {"quotas": quotas}}},
        {
            "kind": "instance",
            "name": name,
            "spec": {"compiledTemplate": "quota", "params": {"dimensions": dimensions}},
        },
        {"kind": "rule", "name": name, "spec": {"actions": [{"handler": name, "instances": [name]}]}},
    ]


RULES = (
    deny("admin", 'request.url_path == "/admin" || (request.headers["x-user"] | "") == "eve"', 7, "no"),
    headers_rule(
        'request.url_path == "/headers"',
        [{"name": "x-custom", "values": ['"more"'], "operation": "APPEND"}],
        [{"name": "x-out", "values": ["request.method"]}],
    ),
    objects(
        *quota("rq", 5, user='request.headers["x-user"] | ""'),
        *quota("small", 2, who='origin.ip | ip("0.0.0.0")'),
        *quota("connections", 2, who='origin.ip | ip("0.0.0.0")'),
    ),
    *METRICS,
)


class Relay:
    """A way to Mixer that can be cut and opened again; ``bytes`` went through."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.open: set[asyncio.StreamWriter] = set()
        self.server: asyncio.Server | None = None
        self.count = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self.count += 1
        self.open |= {writer, back}
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def cut(self) -> None:
        if self.server is not None:
            self.server.close()
        for writer in self.open:
            writer.close()
        self.open.clear()
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=each_way("sandbox"))
async def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stranger]:
    async with stranger(tmp_path_factory.mktemp("sandbox")) as running:
        running.start_mixer(*RULES, agent=request.param == "mixproxy")
        running.envoy("sandbox.yaml")
        yield running


async def test_raw_headers_and_a_log_without_lists(mesh: Stranger) -> None:
    """Scenario 1."""
    url = mesh.url("RAW", "/headers?x=1")
    status, headers, _, _ = await curl(
        "-H", "X-Custom: one", "-H", "x-custom: two", "-H", "x-user: zoë", "-H", "x-istio-attributes: Zm9v", url
    )
    assert (status, headers["x-out"]) == (200, "GET")
    seen = mesh.http[-1]["headers"]
    assert seen["x-custom"] == "one,more,two", "Envoy appends to the first of several lines"
    assert "x-istio-attributes" not in seen
    record = await mesh.record("/headers?x=1", response_code=200)
    assert record.items() >= {
        "header:x-custom": "one,two", "header:x-user": "zoë", "context.proxy_error_code": "-", "query": "1",
        "context.protocol": "http", "request.scheme": "http", "checked": "miss", "destination.port": mesh.port("RAW"),
    }.items()  # fmt: skip
    status, _, body, _ = await curl(mesh.url("RAW", "/admin"))
    assert (status, body) == (403, "PERMISSION_DENIED:admin.istio-system:no")
    await mesh.record("/admin", response_code=403, context_proxy_error_code="UAEX", check_error_code=7)
    await mesh.series("istio_requests_total", 1, response_code="403", response_flags="UAEX", reporter="destination")


async def test_route_that_answers_itself(mesh: Stranger) -> None:
    assert (await curl(mesh.url("RAW", "/static")))[2] == "static"
    await mesh.record("/static", response_code=200, checked="miss", context_proxy_error_code="-")


async def test_headers_that_may_be_checked(mesh: Stranger) -> None:
    """Pseudo headers are not among them; strange tags cost nothing but themselves."""
    status, *_ = await curl("-H", "x-user: eve", "-H", "x-other: 1", mesh.url("FEW", "/few?x=2"))
    assert status == 403
    record = await mesh.record("/few?x=2", request_method="GET", check_error_code=7)
    assert record.items() >= {
        "header:x-user": "eve", "request.url_path": "/few", "request.host": f"127.0.0.1:{mesh.port('FEW')}",
        "query": "2",
    }.items()  # fmt: skip
    await mesh.series("istio_requests_total", 1, destination_workload="reviews-v9", response_code="403")
    page = mesh.door.page("monitoring-port", "/metrics")
    assert "mixer_access_log_faulty_tags_total 1.0" in page.splitlines()


async def test_large_body_of_which_a_part_is_checked(mesh: Stranger) -> None:
    """Scenario 21; without partial messages Envoy refuses it before it asks."""
    payload = mesh.mesh.folder / "payload"
    payload.write_bytes(b"x" * (1 << 20))
    for name, expected in (("BODY", 200), ("WHOLE", 413)):
        status, *_ = await curl("--data-binary", f"@{payload}", mesh.url(name, f"/body/{name}"))
        assert status == expected
    record = await mesh.record("/body/BODY", request_size=1 << 20, response_code=200, checked="miss")
    assert record["header:x-envoy-auth-partial-body"] == ""
    assert "x-envoy-auth-partial-body" not in mesh.http[-1]["headers"]
    await mesh.record("/body/WHOLE", response_code=413, checked="no", check_error_code=0)


async def test_edge(mesh: Stranger) -> None:
    """Scenario 16 where remote addresses are used, and scenario 19 by a Zipkin tracer."""
    trace = "463ac35c9f6413ad48485a3953bb6124"
    status, *_ = await curl(
        "-H", "x-forwarded-for: 8.8.8.8, 9.9.9.9", "-H", f"x-b3-traceid: {trace}", "-H", "x-b3-spanid: a2fb4a1d1a96d312",
        "-H", "x-b3-sampled: 1", mesh.url("EDGE", "/edge"),
    )  # fmt: skip
    assert status == 200
    record = await mesh.record("/edge", origin_ip="127.0.0.1")
    assert record["header:x-b3-traceid"] == trace
    assert record["header:x-b3-spanid"] not in ("", "a2fb4a1d1a96d312")
    assert record["header:x-b3-parentspanid"] == "a2fb4a1d1a96d312"


async def test_http_form(mesh: Stranger) -> None:
    status, _, body, _ = await curl("-H", "x-user: eve", mesh.url("HTTP_FORM", "/form?x=3"))
    assert (status, body) == (403, "PERMISSION_DENIED:admin.istio-system:no")
    record = await mesh.record("/form?x=3", response_code=403, check_error_code=7, origin_ip="127.0.0.1")
    assert (record["query"], record["context.proxy_error_code"]) == ("3", "UAEX")
    status, headers, _, _ = await curl("-H", "x-custom: one", mesh.url("HTTP_FORM", "/headers?form"))
    assert (status, headers["x-out"]) == (200, "GET")
    await mesh.record("/headers?form", response_code=200, checked="miss")


@pytest.mark.parametrize(
    ("name", "status"), [("AWAY_CLOSED", 503), ("AWAY_OPEN", 200), ("SLOW_CLOSED", 503), ("SLOW_OPEN", 200)]
)
async def test_nobody_answers_checks(mesh: Stranger, name: str, status: int) -> None:
    """Scenarios 10 and 11."""
    started = time.monotonic()
    got, *_ = await curl(mesh.url(name, f"/{name}"))
    took = time.monotonic() - started
    assert got == status
    assert 0.3 <= took < 0.9 if name.startswith("SLOW") else took < 0.9
    await mesh.record(f"/{name}", response_code=status, checked="no", check_error_code=0)


async def limited(mesh: Stranger, path: str, user: str, *more: str) -> tuple[int, dict[str, str], str]:
    header = ("-H", f"x-user: {user}") if user else ()
    status, headers, body, _ = await curl(*header, *more, mesh.url("LIMITED", path))
    return status, headers, body


async def test_limits_of_a_route(mesh: Stranger) -> None:
    """Scenarios 17 and 18."""
    answers = [await limited(mesh, "/old", "ann") for _ in range(6)]
    assert [status for status, *_ in answers] == [200] * 5 + [429]
    _, headers, body = answers[-1]
    assert body == "RESOURCE_EXHAUSTED:Quota is exhausted for: rq"
    assert "x-envoy-ratelimited" not in headers
    assert headers["x-ratelimit-limit"].startswith("5")
    assert headers["x-ratelimit-remaining"] == "0"
    assert [(await limited(mesh, "/old", "\udcff\udcfe"))[0] for _ in range(6)] == [200] * 5 + [429], "bytes, no text"
    assert [(await limited(mesh, "/old", ""))[0] for _ in range(6)] == [200] * 6, "the descriptor is gone"
    assert (await limited(mesh, "/old", "eve"))[2] == "PERMISSION_DENIED:admin.istio-system:no"
    record, _ = await mesh.mesh.wait_records(
        2, lambda record: record["request.path"] == "/old" and record["response.code"] == 429
    )
    assert (record["context.proxy_error_code"], record["check.error_code"]) == ("RL", 0)


async def test_charges(mesh: Stranger) -> None:
    assert [(await limited(mesh, "/five", "five"))[0] for _ in range(2)] == [200, 429]
    charged = [(await limited(mesh, "/charge", "charge", "-H", f"x-charge: {n}"))[0] for n in (3, 3, 2, 1)]
    assert charged == [200, 429, 200, 429]
    cost = [(await limited(mesh, "/old", "cost", "-H", f"x-cost: {n}"))[0] for n in (4, 2, 1, 1)]
    assert cost == [200, 429, 200, 429]


async def test_both_charges_or_none(mesh: Stranger) -> None:
    answers = [await limited(mesh, "/two", "two") for _ in range(3)]
    assert [status for status, *_ in answers] == [200, 200, 429]
    assert answers[-1][2] == "RESOURCE_EXHAUSTED:Quota is exhausted for: small"
    assert [(await limited(mesh, "/old", "two"))[0] for _ in range(4)] == [200, 200, 200, 429], "two were charged"


async def connect(port: int) -> bytes:
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        back = await reader.read(100)
        writer.close()
        await writer.wait_closed()
        return back
    return b""


async def test_limited_connections(mesh: Stranger) -> None:
    assert [await connect(mesh.port("LIMITED_TCP")) for _ in range(3)] == [b"HELLO", b"HELLO", b""]
    closed = await mesh.mesh.wait_records(3, lambda each: each["connection.event"] == "close")
    assert sorted(each["connection.sent.bytes_total"] for each in closed) == [0, 5, 5]


async def test_hundred_requests(mesh: Stranger) -> None:
    """Scenario 13."""
    urls = [mesh.url("MANY", f"/many/{number}") for number in range(100)]
    process = await asyncio.create_subprocess_exec("curl", "-s", *urls, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    records = await mesh.mesh.wait_records(100, lambda record: record["request.path"].startswith("/many/"))
    assert len({record["request.path"] for record in records}) == len(records) == 100


async def test_stream_of_the_log_breaks(mesh: Stranger) -> None:
    """Scenario 22."""
    relay = Relay(mesh.port("RELAY"), mesh.ports["MIXER"])
    await relay.start()
    try:
        for number in (0, 1):
            paths = [f"/relayed/{number}/{n}" for n in range(5)]
            for path in paths:
                assert (await curl(mesh.url("RELAYED", path)))[0] == 200
            found = await mesh.mesh.wait_records(5, lambda record, paths=paths: record["request.path"] in paths)  # type: ignore[misc]
            assert {record["context.reporter.kind"] for record in found} == {"inbound"}, "named again"
            if number == 0:
                await relay.cut()
                await relay.start()
        assert relay.count == 2
        await asyncio.sleep(0.3)
        paths_seen = [each["request.path"] for each in mesh.mesh.records() if "/relayed/" in each["request.path"]]
        assert len(paths_seen) == len(set(paths_seen)) == 10
    finally:
        await relay.cut()


@pytest.mark.parametrize("name", ["RAW", "FEW", "EDGE"])
async def test_headers_that_are_no_text(mesh: Stranger, name: str) -> None:
    path = f"/bytes/{name}"
    status, *_ = await curl("-H", "x-user: \udcff\udcfe", "-A", "a\udcffb", mesh.url(name, path))
    assert status == 200
    record = await mesh.record(path, response_code=200, checked="miss")
    assert record["request.useragent"].startswith("a")
    assert record["header:x-user"] != ""


async def test_large_headers(mesh: Stranger) -> None:
    more = [part for number in range(8) for part in ("-H", f"x-{number}: {'v' * 6_000}")]
    status, *_ = await curl(*more, mesh.url("RAW", "/large"))
    assert status == 200
    record = await mesh.record("/large", response_code=200)
    assert record["request.url_path"] == "/large"
