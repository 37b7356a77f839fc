"""A mixproxy between Envoy and Mixer: caches, policy, and reports that survive Mixer's absence."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from loadtest.envoy import free_ports
from loadtest.servers import Server, sum_of
from proxy.envoy.bootstrap import Endpoint, ExtAuthz, Listener, MixerAddress, Route, Sidecar, Upstream
from tests.e2e.envoy.apps import http_app
from tests.e2e.envoy.mesh import Mesh, logs, objects, wait_until
from tests.e2e.envoy.test_http_through_envoy import DENY, SERVICE, VARIABLES

DROPPED = "mixer_proxy_records_dropped_total"


class Through:
    """Mixer, a mixproxy and an Envoy, in a row before one service."""

    def __init__(
        self,
        mesh: Mesh,
        *configs: str,
        flags: tuple[str, ...] = (),
        socket: Path | None = None,
        mixer_socket: Path | None = None,
        **ext_authz: Any,
    ) -> None:
        self.mesh, self.configs, self.mixer_socket = mesh, configs, mixer_socket
        self.app, self.port, self.mixer_port = free_ports(3)
        self.mixs = self.start_mixer()
        mixer = f"unix://{mixer_socket}" if mixer_socket else f"127.0.0.1:{self.mixer_port}"
        command = [sys.executable, "-m", "mixer.cli.mixproxy", "run", "--mixer", mixer]
        command += ["--port", "0", "--monitoring-port", "0", *flags]
        if socket is not None:
            command += ["--address", f"unix://{socket}"]
        folder = mesh.folder / "mixproxy"
        folder.mkdir()
        self.mixproxy = mesh.stack.enter_context(Server(command, folder))
        grpc = Endpoint(path=str(socket)) if socket else Endpoint("127.0.0.1", self.mixproxy.ports["port"])
        self.envoy = mesh.envoy(
            Sidecar(
                "sidecar~127.0.0.1~reviews-v1.ns2~cluster.local",
                "reviews",
                MixerAddress(grpc),
                (Listener("http", Endpoint("127.0.0.1", self.port), (Route("app", service=SERVICE),)),),
                (Upstream("app", Endpoint("127.0.0.1", self.app), uid="kubernetes://reviews-v1.ns2"),),
                flush_s=0.1,
                ext_authz=ExtAuthz(**ext_authz),
            )
        )
        self.url = f"http://127.0.0.1:{self.port}"

    def start_mixer(self) -> Server:
        flags = ("--address", f"unix://{self.mixer_socket}") if self.mixer_socket else ()
        return self.mesh.mixer(logs(self.mesh.folder, VARIABLES), *self.configs, port=self.mixer_port, flags=flags)

    def counted(self, name: str) -> float:
        return sum_of(self.mixproxy.page("monitoring-port", "/metrics"), name)


def kill(server: Server) -> None:
    server._process.kill()
    server._process.wait()


class Killed:
    """Lets a server that a test killed end without complaint."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original: Callable[..., None] = Server.__exit__

        def leave(server: Server, *failure: Any) -> None:
            if server._process.returncode == -signal.SIGKILL:
                assert server._process.stdout is not None
                server._process.stdout.close()
                return
            original(server, *failure)

        monkeypatch.setattr(Server, "__exit__", leave)


@pytest.fixture(autouse=True)
def killed(monkeypatch: pytest.MonkeyPatch) -> Killed:
    return Killed(monkeypatch)


@pytest.mark.parametrize("unix", [True, False], ids=["unix sockets", "tcp"])
async def test_verdicts_and_records_pass_through(mesh: Mesh, tmp_path: Path, unix: bool) -> None:
    sockets = {"socket": tmp_path / "p.sock", "mixer_socket": tmp_path / "m.sock"} if unix else {}
    through = Through(mesh, DENY, flags=("--report-header", "x-user"), **sockets)
    async with http_app(through.app) as seen, aiohttp.ClientSession() as session:
        async with session.get(f"{through.url}/a?x=1", headers={"x-user": "ann"}) as answer:
            assert answer.status == 200
        async with session.get(f"{through.url}/admin") as answer:
            assert (answer.status, await answer.text()) == (403, "PERMISSION_DENIED:deny.istio-system:shish")
        records = await mesh.wait_records(2)

    assert [each["path"] for each in seen] == ["/a?x=1"]
    passed, denied = sorted(records, key=lambda record: record["code"])
    assert (
        passed.items()
        >= {"path": "/a?x=1", "service": SERVICE, "user": "ann", "uid": "kubernetes://reviews-v1.ns2"}.items()
    )
    assert denied.items() >= {"path": "/admin", "error": 7, "flags": "UAEX", "code": 403}.items()


async def test_known_decisions_hold_while_mixer_is_away_and_reports_wait(mesh: Mesh) -> None:
    through = Through(mesh, DENY, flags=("--check-timeout", "300ms"))
    async with http_app(through.app), aiohttp.ClientSession() as session:

        async def get(path: str) -> int:
            started = time.monotonic()
            async with session.get(through.url + path) as answer:
                await answer.read()
                assert time.monotonic() - started < 2
                return answer.status

        assert [await get("/a"), await get("/admin")] == [200, 403]
        await mesh.wait_records(2)
        kill(through.mixs)

        assert [await get("/a"), await get("/admin"), await get("/new")] == [200, 403, 503]
        await wait_until(lambda: through.counted("mixer_proxy_records_pending") == 3, "three reports wait")
        through.start_mixer()
        records = await mesh.wait_records(5)

        async def passes_again() -> bool:
            return await get("/new") == 200

        for _ in range(100):
            if await passes_again():
                break
            await asyncio.sleep(0.05)
        assert await passes_again()

    assert Counter(record["path"] for record in records)["/admin"] == 2
    assert Counter(record["path"] for record in records)["/new"] == 1
    assert through.counted(DROPPED) == 0


async def test_fail_open_lets_new_requests_pass(mesh: Mesh) -> None:
    through = Through(mesh, DENY, flags=("--check-timeout", "300ms", "--fail-policy", "open"))
    kill(through.mixs)
    async with http_app(through.app), aiohttp.ClientSession() as session:
        async with session.get(f"{through.url}/admin") as answer:
            assert answer.status == 200
        through.start_mixer()
        (record,) = await mesh.wait_records(1)

    assert (record["path"], record["code"], record["error"]) == ("/admin", 200, 0)


@pytest.mark.parametrize("allow", [True, False], ids=["open", "closed"])
async def test_without_mixproxy_envoys_own_failure_mode_decides(mesh: Mesh, allow: bool) -> None:
    """Scenario 10."""
    through = Through(mesh, DENY, failure_mode_allow=allow, timeout_s=0.3)
    async with http_app(through.app), aiohttp.ClientSession() as session:
        async with session.get(f"{through.url}/a") as answer:
            assert answer.status == 200
        kill(through.mixproxy)
        async with session.get(f"{through.url}/admin") as answer:
            assert answer.status == (200 if allow else 503)


async def test_frozen_mixer_costs_no_more_than_the_time_limit(mesh: Mesh) -> None:
    through = Through(mesh, flags=("--check-timeout", "200ms", "--check-retries", "0"), timeout_s=1.0)
    process = through.mixs._process
    async with http_app(through.app), aiohttp.ClientSession() as session:
        process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            async with session.get(f"{through.url}/a") as answer:
                assert answer.status in (503, 504), "away, or too late"
            assert time.monotonic() - started < 0.9
        finally:
            process.send_signal(signal.SIGCONT)
        await mesh.wait_records(1)


async def test_killing_envoy_in_the_middle_leaks_nothing(mesh: Mesh) -> None:
    through = Through(mesh)
    async with http_app(through.app), aiohttp.ClientSession() as session:
        await asyncio.gather(*(fetch(session, f"{through.url}/{n}") for n in range(50)))
        streams = "mixer_access_log_streams"
        await wait_until(lambda: through.counted(streams) >= 1, "a stream is open")
        through.envoy.process.kill()
        through.envoy.process.wait()
        await wait_until(lambda: through.counted(streams) == 0, "streams end with their Envoy")
    assert through.counted("mixer_access_log_connections") == 0


async def fetch(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        await answer.read()
        return answer.status


QUOTA = objects(
    {
        "kind": "handler",
        "name": "mq",
        "spec": {
            "compiledAdapter": "memquota",
            "params": {"quotas": [{"name": "rq.instance.istio-system", "maxAmount": 5, "validDuration": "60s"}]},
        },
    },
    {
        "kind": "instance",
        "name": "rq",
        "spec": {"compiledTemplate": "quota", "params": {"dimensions": {"user": 'request.headers["x-user"] | "-"'}}},
    },
    {"kind": "rule", "name": "rq", "spec": {"actions": [{"handler": "mq", "instances": ["rq"]}]}},
    {"kind": "QuotaSpec", "name": "all", "spec": {"rules": [{"quotas": [{"charge": 1, "quota": "rq"}]}]}},
    {
        "kind": "QuotaSpecBinding",
        "name": "all",
        "spec": {"quotaSpecs": [{"name": "all", "namespace": "istio-system"}], "services": [{"service": "*"}]},
    },
)


async def test_quota_specs_are_charged_by_the_agent(mesh: Mesh) -> None:
    folder = mesh.folder / "specs"
    folder.mkdir()
    (folder / "quota.yaml").write_text(QUOTA)
    through = Through(mesh, QUOTA, flags=("--config-store", f"fs://{folder}"))
    async with http_app(through.app), aiohttp.ClientSession() as session:
        statuses = [await fetch(session, f"{through.url}/{n}") for n in range(12)]
        async with session.get(f"{through.url}/13") as answer:
            assert answer.status == 429
            assert await answer.text() == "RESOURCE_EXHAUSTED:Quota is exhausted for: rq"

    assert Counter(statuses)[200] >= 5, "what Mixer grants, and what the prefetch lends before the first answer"
    assert Counter(statuses)[429] >= 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["restarted", "killed"])
async def test_mixer_ends_and_returns_under_load(mesh: Mesh, end: signal.Signals) -> None:
    """No request hangs, policy decides, and each request has its record in the end."""
    through = Through(mesh, DENY, flags=("--check-timeout", "300ms", "--fail-policy", "open"))
    sent: list[str] = []
    slowest = 0.0
    running = True

    async def client(session: aiohttp.ClientSession, name: int) -> None:
        nonlocal slowest
        number = 0
        while running:
            number += 1
            path = f"/c{name}/{number}"
            started = time.monotonic()
            assert await fetch(session, through.url + path) == 200, path
            slowest = max(slowest, time.monotonic() - started)
            sent.append(path)

    async with http_app(through.app), aiohttp.ClientSession() as session:
        clients = [asyncio.create_task(client(session, n)) for n in range(8)]
        await asyncio.sleep(1)
        through.mixs._process.send_signal(end)
        await asyncio.to_thread(through.mixs._process.wait)
        before = len(sent)
        await asyncio.sleep(1)
        assert len(sent) > before, "requests go on without Mixer"
        await asyncio.to_thread(through.start_mixer)
        await asyncio.sleep(1)
        running = False
        await asyncio.gather(*clients)
        await mesh.wait_records(len(sent))
        await wait_until(lambda: through.counted("mixer_proxy_records_pending") == 0, "all is delivered")

    paths = Counter(record["path"] for record in mesh.records())
    assert set(paths) == set(sent)
    assert through.counted(DROPPED) == 0
    assert slowest < 1.5
    repeated = sum(paths.values()) - len(paths)
    if end is signal.SIGTERM:
        assert repeated == 0, "Mixer answers what it took before it goes"
    else:
        assert repeated <= 200, "at most the two batches whose answers were lost"
