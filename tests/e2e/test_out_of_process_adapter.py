"""The sample adapter as a real process behind a real ``mixs server``: killed, stopped and restarted under load."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc.aio
import pytest
import yaml

from mixer.api.encode import encode_check
from mixer.api.service import MixerStub
from mixer.cli.ports import read_ready_line
from tests.certificates import Authority

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "config/samples/out-of-process"
SPIFFE = "spiffe://cluster.local/ns/istio-system/sa/mixer"

GOOD = ("7", "0")
"""What ``eve`` and ``ann`` are to be told: PERMISSION_DENIED and OK."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def page(port: int, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


class World:
    """The processes of one test, and its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config"
        self.config.mkdir()
        self.port = free_port()
        self._processes: list[subprocess.Popen[str]] = []
        for file in (
            ROOT / "config/mesh/attributes.yaml",
            ROOT / "config/templates/listentry.yaml",
            SAMPLE / "adapter.yaml",
        ):
            (self.config / file.name).write_text(file.read_text())

    def configure(self, **connection: Any) -> None:
        """The sample's handler, instance and rule, with another connection."""
        objects = list(yaml.safe_load_all((SAMPLE / "visitors.yaml").read_text()))
        objects[0]["spec"]["connection"] = {"address": f"127.0.0.1:{self.port}", "timeout": "500ms", **connection}
        objects[0]["spec"]["params"] = {"guests": ["ann", "bob"]}
        (self.config / "visitors.yaml").write_text(yaml.safe_dump_all(objects))

    def _start(self, command: list[str], name: str) -> tuple[subprocess.Popen[str], str]:
        errors = (self.path / f"{name}.err").open("ab")
        with errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
        self._processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.path / f"{name}.err").read_text()
        return process, line

    def adapter(self, *flags: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(SAMPLE / "visitors.py"), "--address", f"127.0.0.1:{self.port}", *flags]
        process, line = self._start(command, "adapter")
        assert line == f"adapter visitors is ready: 127.0.0.1:{self.port}\n"
        return process

    def mixer(self, *flags: str) -> tuple[subprocess.Popen[str], dict[str, int]]:
        ports = ("--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0")
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{self.config}", *ports]
        process, line = self._start([*command, *flags], "mixs")
        found = read_ready_line(line)
        assert found is not None
        return process, dict(found)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def question(name: str) -> Any:
    return encode_check({"destination.labels": {"app": "guestbook"}, "request.headers": {"end-user": name}})


class Asking:
    """A proxy that asks all the time; remembers when it got which answer, and how long it took."""

    def __init__(self, port: int, connections: int = 4) -> None:
        self._port, self._connections = port, connections
        self.answers: list[tuple[float, float, str]] = []
        self.numbers: list[int] = []
        """For each answer, the number of its connection; the kernel gives each connection to one worker."""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Asking:
        self._tasks = [asyncio.ensure_future(self._ask(n)) for n in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, number: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", options=options) as channel:
            stub = MixerStub(channel)
            while True:
                started = time.monotonic()
                try:
                    answer = await stub.Check(question("ann" if number % 2 else "eve"), timeout=10)
                    said = str(answer.precondition.status.code)
                except grpc.aio.AioRpcError as exc:
                    said = f"{exc.code().name} {exc.details()}"
                self.answers.append((started, time.monotonic() - started, said))
                self.numbers.append(number)
                await asyncio.sleep(0.005)

    def since(self, moment: float) -> list[tuple[float, float, str]]:
        return [answer for answer in self.answers if answer[0] >= moment]

    async def wait_well(self, since: float, limit_s: float = 5.0) -> float:
        """Wait until every connection is answered as it should be; seconds after ``since`` until all of them were."""
        while time.monotonic() - since < limit_s:
            first: dict[int, float] = {}
            for (started, _, said), number in zip(self.answers, self.numbers, strict=True):
                if started >= since and said == GOOD[number % 2]:
                    first.setdefault(number, started)
            if len(first) == self._connections:
                return max(first.values()) - since
            await asyncio.sleep(0.01)
        raise AssertionError(self.answers[-5:])


async def test_an_adapter_that_is_killed_stopped_and_restarted_under_two_workers(world: World) -> None:
    world.configure()
    process = world.adapter()
    mixer, ports = world.mixer("--workers", "2")
    async with Asking(ports["port"]) as asking:
        await asking.wait_well(time.monotonic())

        process.kill()
        process.wait()
        killed = time.monotonic()
        await asyncio.sleep(0.5)
        while_away = asking.since(killed + 0.1)
        restarted_at = time.monotonic()
        successor = world.adapter()
        up = time.monotonic()
        recovery = await asking.wait_well(up)

        successor.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        await asyncio.sleep(1.2)
        while_stopped = [answer for answer in asking.since(stopped) if answer[0] < stopped + 0.6]
        successor.send_signal(signal.SIGCONT)
        resumed = await asking.wait_well(time.monotonic())

    assert restarted_at > killed
    assert while_away
    assert {said.split()[0] for _, _, said in while_away} == {"INTERNAL"}
    assert [said for _, _, said in while_away if "rpc error: code = Unavailable" not in said] == []
    assert max(took for _, took, _ in while_away) < 1.0, "away: failures are quick"
    assert recovery < 1.5
    assert while_stopped
    late = [said for _, _, said in while_stopped if said not in ("0", "7")]
    assert late
    assert [said for said in late if "DeadlineExceeded" not in said] == []
    assert max(took for _, took, _ in while_stopped) < 1.0, "stopped: the time-out of the connection holds"
    assert resumed < 1.5
    print(f"found again {recovery:.2f} s after a restart, {resumed:.2f} s after a stop")
    text = page(ports["monitoring-port"], "/metrics")
    for outcome in ("ok", "late", "unavailable"):
        assert f'mixer_remote_adapter_calls_total{{handler="visitors.istio-system",outcome="{outcome}"' in text
    mixer.terminate()
    successor.terminate()
    assert (mixer.wait(15), successor.wait(15)) == (0, 0)


@pytest.mark.parametrize("names", [["127.0.0.1"], [SPIFFE]], ids=["name", "identity"])
async def test_mutual_tls_between_processes(world: World, names: list[str]) -> None:
    authority = Authority(world.path)
    theirs, ours = authority.issue("server", names), authority.issue("client", names)
    mutual = {
        "privateKey": str(ours.key),
        "clientCertificate": str(ours.certificate),
        "caCertificates": str(authority.ca),
    }
    world.configure(authentication={"mutual": mutual})
    tls = (
        "--tls-certificate",
        str(theirs.certificate),
        "--tls-key",
        str(theirs.key),
        "--tls-client-ca",
        str(authority.ca),
    )
    process = world.adapter(*tls)
    _, ports = world.mixer()
    async with Asking(ports["port"]) as asking:
        await asking.wait_well(time.monotonic())
        process.kill()
        process.wait()
        world.adapter(*tls)
        assert await asking.wait_well(time.monotonic()) < 1.5


async def test_a_token_between_processes(world: World) -> None:
    authority = Authority(world.path)
    pair = authority.issue("server", ["visitors.example"])
    token = world.path / "token"
    token.write_text("tok-hunter2")
    tls = {
        "caCertificates": str(authority.ca),
        "tokenPath": str(token),
        "authHeader": "BEARER",
        "serverName": "visitors.example",
    }
    world.configure(authentication={"tls": tls})
    world.adapter("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key), "--token-file", str(token))
    _, ports = world.mixer()
    async with Asking(ports["port"]) as asking:
        await asking.wait_well(time.monotonic())
        token.write_text("tok-hunter3")
        changed = time.monotonic()
        await asyncio.sleep(1.5)
        assert await asking.wait_well(changed + 1.2) < 1
    logs = "".join(path.read_text() for path in world.path.glob("*.err"))
    assert "hunter" not in logs
    assert "hunter" not in page(ports["console-port"], "/")


def test_the_sample_is_what_the_adapter_prints() -> None:
    command = [sys.executable, str(SAMPLE / "visitors.py"), "resources", "--no-templates"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30).stdout

    assert list(yaml.safe_load_all(printed)) == list(yaml.safe_load_all((SAMPLE / "adapter.yaml").read_text()))


def test_the_sample_is_sound() -> None:
    command = [sys.executable, "-m", "mixer.cli.mixs", "validate", "--output", "json"]
    folders = ["config/mesh", "config/templates", "config/samples/out-of-process"]
    done = subprocess.run([*command, *folders], capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)

    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["problems"] == []
