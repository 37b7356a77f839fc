"""``mixs server --workers``: real processes, which are killed, stopped and restarted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest

from mixer.api.encode import encode_check, encode_report
from mixer.api.messages import QuotaParams
from mixer.api.service import MixerStub
from mixer.cli.ports import read_ready_line
from mixer.server.transport import TransportKind

ROOT = Path(__file__).parents[2]
ATTRIBUTES = (ROOT / "config/mesh/attributes.yaml").read_text()
PORTS = ("--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0")
CALLERS = 24  # connections; that all meet the same worker is as likely as one in eight million

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = """
kind: handler
metadata: {name: prom, namespace: istio-system}
spec:
  compiledAdapter: prometheus
  params:
    metrics:
    - {name: seen, instance_name: seen.instance.istio-system, kind: COUNTER, label_names: [path]}
    - {name: size, instance_name: size.instance.istio-system, kind: GAUGE, label_names: []}
---
kind: instance
metadata: {name: seen, namespace: istio-system}
spec: {compiledTemplate: metric, params: {value: "1", dimensions: {path: 'request.path | "none"'}}}
---
kind: instance
metadata: {name: size, namespace: istio-system}
spec: {compiledTemplate: metric, params: {value: request.size | 0}}
---
kind: rule
metadata: {name: seen, namespace: istio-system}
spec: {actions: [{handler: prom, instances: [seen, size]}]}
---
kind: handler
metadata: {name: mq, namespace: istio-system}
spec:
  compiledAdapter: memquota
  params: {minDeduplicationDuration: 60s, quotas: [{name: rc.instance.istio-system, maxAmount: 50}]}
---
kind: instance
metadata: {name: rc, namespace: istio-system}
spec: {compiledTemplate: quota, params: {dimensions: {user: 'source.user | "none"'}}}
---
kind: rule
metadata: {name: rc, namespace: istio-system}
spec: {actions: [{handler: mq, instances: [rc]}]}
---
kind: handler
metadata: {name: deny, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: "one"}}}
---
kind: instance
metadata: {name: nothing, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: istio-system}
spec: {match: request.path == "/denied", actions: [{handler: deny, instances: [nothing]}]}
"""


def rewrite(path: Path, text: str) -> None:
    """Replace a file at once; the watch would see one that is half written."""
    new = path.parent.with_name(f"new-{path.name}")
    new.write_text(text)
    new.rename(path)


def gone(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def eventually(what: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


class Mixer:
    """A server of several processes."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{folder}", *PORTS, *flags]
        self.log = folder.parent / "stderr.txt"
        with self.log.open("wb") as errors:
            self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
        assert self.popen.stdout is not None
        ports = read_ready_line(self.popen.stdout.readline())
        assert ports is not None, self.log.read_text()
        self.ports = ports
        self.address = f"127.0.0.1:{ports['port']}"

    def get(self, port: str, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10) as page:
            return str(page.read().decode())

    def metric(self, name: str, port: str = "metrics-port") -> float:
        lines = self.get(port, "/metrics").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("console-port", "/config"))["workers"]
        return found

    def pids(self) -> list[int]:
        return [worker["pid"] for worker in self.workers() if worker["serving"]]

    def stop(self) -> tuple[int, str]:
        self.popen.send_signal(signal.SIGTERM)
        out, _ = self.popen.communicate(timeout=30)
        return self.popen.returncode, out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "attributes.yaml").write_text(ATTRIBUTES)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Mixer]]:
    running: list[Mixer] = []

    def start(*flags: str, transport: str = "http2") -> Mixer:
        running.append(Mixer(folder, "--workers", "2", "--transport", transport, *flags))
        return running[-1]

    yield start
    for mixer in running:
        if mixer.popen.poll() is None:
            mixer.popen.kill()
        mixer.popen.communicate()


@pytest.fixture
async def callers() -> AsyncIterator[Callable[[Mixer], list[Any]]]:
    """Clients of their own connections, which the kernel spreads over the workers."""
    channels: list[grpc.aio.Channel] = []

    def connect(mixer: Mixer) -> list[Any]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        new = [grpc.aio.insecure_channel(mixer.address, options) for _ in range(CALLERS)]
        channels.extend(new)
        return [MixerStub(channel) for channel in new]

    yield connect
    for channel in channels:
        await channel.close()


async def ask(caller: Any, path: str = "/", **quota: Any) -> Any:
    quotas = {"rc": QuotaParams(amount=1)} if quota else {}
    request = encode_check({"request.path": path}, quotas=quotas, deduplication_id=quota.get("dedup", ""))
    return await caller.Check(request, timeout=20, wait_for_ready=True)


async def tell(callers: list[Any], times: int, *, size: int = 0) -> None:
    request = encode_report([{"request.path": "/x", "request.size": size}] * 10)
    await asyncio.gather(
        *(c.Report(request, timeout=20, wait_for_ready=True) for c in callers for _ in range(times)),
    )


@pytest.mark.parametrize("transport", list(TransportKind), ids=str)
async def test_workers_count_as_one_and_drain_together(serve: Any, callers: Any, transport: str) -> None:
    mixer = serve(transport=transport)
    pids = mixer.pids()

    clients = callers(mixer)
    await tell(clients, 5)
    counted = await asyncio.to_thread(mixer.metric, "istio_seen")
    again = await asyncio.to_thread(mixer.metric, "istio_seen")
    own = await asyncio.to_thread(mixer.metric, "mixer_api_records_total", "monitoring-port")
    code, rest = await asyncio.to_thread(mixer.stop)

    assert counted == again == own == CALLERS * 5 * 10
    assert len(set(pids)) == 2
    assert (code, rest) == (0, "")
    assert all(map(gone, pids))


async def test_a_gauge_is_the_value_set_last(serve: Any, callers: Any) -> None:
    mixer = serve()
    for size, caller in enumerate(callers(mixer)[:8]):
        await tell([caller], 1, size=size)
        assert await asyncio.to_thread(mixer.metric, "istio_size") == size


async def test_a_worker_that_is_killed_comes_back_and_its_counts_stay(serve: Any, callers: Any) -> None:
    mixer = serve()
    await tell(callers(mixer), 5)
    assert mixer.metric("istio_seen") == CALLERS * 50
    first = mixer.pids()

    os.kill(first[0], signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: len(mixer.pids()) == 2 and set(mixer.pids()) != set(first))
    assert mixer.metric("istio_seen") == CALLERS * 50
    await tell(callers(mixer), 5)

    assert mixer.metric("istio_seen") == CALLERS * 100
    assert mixer.metric('mixer_worker_exits_total{how="signal SIGKILL"}', "monitoring-port") == 1
    assert mixer.metric("mixer_worker_unread_seconds_total", "monitoring-port") < 2.5
    await asyncio.to_thread(eventually, lambda: mixer.metric("mixer_workers_serving", "monitoring-port") == 2)


async def test_a_worker_loses_what_it_counted_since_its_last_reading_and_no_more(serve: Any, callers: Any) -> None:
    mixer = serve()
    clients = callers(mixer)
    await tell(clients, 5)
    await asyncio.sleep(2.5)  # a reading and a half
    await tell(clients, 1)
    for pid in mixer.pids():
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: len(mixer.pids()) == 2)

    assert CALLERS * 50 <= mixer.metric("istio_seen") <= CALLERS * 60


async def test_quotas_are_exact_over_all_workers(serve: Any, callers: Any) -> None:
    mixer = serve()

    answers = await asyncio.gather(*(ask(c, dedup=f"{i}.{n}") for i, c in enumerate(callers(mixer)) for n in range(8)))

    assert sum(answer.quotas["rc"].granted_amount for answer in answers) == 50


LOG = """
---
kind: handler
metadata: {name: file, namespace: istio-system}
spec: {compiledAdapter: stdio, params: {logStream: ROTATED_FILE, outputPath: PATH, maxMegabytesBeforeRotation: 1}}
---
kind: instance
metadata: {name: line, namespace: istio-system}
spec: {compiledTemplate: logentry, params: {severity: '"info"', variables: {text: request.path | ""}}}
---
kind: rule
metadata: {name: line, namespace: istio-system}
spec: {actions: [{handler: file, instances: [line]}]}
"""


async def test_a_rotated_file_gets_every_line_of_every_worker(
    serve: Any, callers: Any, folder: Path, tmp_path: Path
) -> None:
    (folder / "log.yaml").write_text(LOG.replace("PATH", str(tmp_path / "logs" / "out.log")))
    mixer = serve()
    request = encode_report([{"request.path": "/" + "x" * 3_000}] * 20)
    await asyncio.gather(*(c.Report(request, timeout=20) for c in callers(mixer) for _ in range(2)))

    files = list((tmp_path / "logs").iterdir())
    assert sum(file.read_text().count("\n") for file in files) == CALLERS * 40
    assert len(files) == 3


async def test_a_retry_that_meets_another_worker_is_known(serve: Any, callers: Any) -> None:
    mixer = serve()

    answers = [await ask(caller, dedup="same") for caller in callers(mixer)]
    rest = await asyncio.gather(*(ask(c, dedup=f"{i}.{n}") for i, c in enumerate(callers(mixer)) for n in range(4)))

    assert {answer.quotas["rc"].granted_amount for answer in answers} == {1}
    assert sum(answer.quotas["rc"].granted_amount for answer in rest) == 49


async def test_a_quota_outlives_its_workers(serve: Any, callers: Any) -> None:
    mixer = serve()
    await asyncio.gather(*(ask(c, dedup=f"a{i}") for i, c in enumerate(callers(mixer))))
    for pid in mixer.pids():
        os.kill(pid, signal.SIGKILL)

    answers = await asyncio.gather(*(ask(c, dedup=f"b{i}.{n}") for i, c in enumerate(callers(mixer)) for n in range(3)))

    assert sum(answer.quotas["rc"].granted_amount for answer in answers) == 50 - CALLERS


async def test_an_owner_that_hangs_costs_a_check_no_more_than_the_handler_timeout(serve: Any, callers: Any) -> None:
    mixer = serve("--handler-timeout", "300ms")
    clients = callers(mixer)
    await ask(clients[0])
    mixer.popen.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers = await asyncio.gather(*(ask(caller, dedup="x") for caller in clients))
        took = time.monotonic() - started
    finally:
        mixer.popen.send_signal(signal.SIGCONT)

    assert took < 2.0
    assert {answer.quotas["rc"].status.code for answer in answers} == {14}
    assert {answer.precondition.status.code for answer in answers} == {0}
    assert (await ask(clients[0], dedup="y")).quotas["rc"].granted_amount == 1


async def test_all_workers_follow_the_configuration_also_new_ones(serve: Any, callers: Any, folder: Path) -> None:
    mixer = serve()

    async def denials() -> set[str]:
        answers = await asyncio.gather(*(ask(caller, "/denied") for caller in callers(mixer)))
        return {answer.precondition.status.message for answer in answers}

    assert await denials() == {"deny.istio-system:one"}
    rewrite(folder / "config.yaml", CONFIG.replace('"one"', '"two"'))
    await asyncio.to_thread(eventually, lambda: [w["revision"] for w in mixer.workers()] == [2, 2])
    assert await denials() == {"deny.istio-system:two"}

    rewrite(folder / "config.yaml", CONFIG.replace('message: "one"', "massage: 3"))
    await asyncio.to_thread(eventually, lambda: [w["revision"] for w in mixer.workers()] == [3, 3])
    first = mixer.pids()
    os.kill(first[0], signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: len(mixer.pids()) == 2 and set(mixer.pids()) != set(first))

    assert [worker["revision"] for worker in mixer.workers()] == [3, 3]
    assert await denials() == {"deny.istio-system:two"}  # the last good version, which the new worker never read


async def test_workers_wait_for_a_configuration_that_is_not_refused(serve: Any, callers: Any, folder: Path) -> None:
    (folder / "config.yaml").write_text(CONFIG.replace('message: "one"', "massage: 3"))
    waiting = serve("--strict", "--drain-timeout", "60s")
    code, _ = await asyncio.to_thread(waiting.stop)  # which has less patience than the drain
    assert code == 0

    mixer = serve("--strict")
    assert mixer.pids() == []
    rewrite(folder / "config.yaml", CONFIG)
    await asyncio.to_thread(eventually, lambda: len(mixer.pids()) == 2)
    assert (await ask(callers(mixer)[0], "/denied")).precondition.status.message == "deny.istio-system:one"


async def test_requests_in_progress_are_answered_while_draining(serve: Any, callers: Any) -> None:
    mixer = serve()
    clients = callers(mixer)
    await asyncio.gather(*(ask(caller) for caller in clients))
    answered = 0

    async def keep_asking(caller: Any) -> None:
        nonlocal answered
        while True:
            try:
                await caller.Check(encode_check({}), timeout=20)
            except grpc.aio.AioRpcError as exc:
                assert exc.code() is grpc.StatusCode.UNAVAILABLE, exc  # noqa: PT017  no other error will do
                assert "GOAWAY" in str(exc.details()) or "connect" in str(exc.details()), exc.details()  # noqa: PT017
                return
            answered += 1

    asking = [asyncio.create_task(keep_asking(caller)) for caller in clients]
    await asyncio.sleep(0.3)
    code, _ = await asyncio.to_thread(mixer.stop)
    await asyncio.gather(*asking)

    assert code == 0
    assert answered > CALLERS


async def test_workers_that_fall_and_fall_are_restarted_ever_more_slowly(serve: Any) -> None:
    mixer = serve()
    for _ in range(4):
        await asyncio.to_thread(eventually, lambda: len(mixer.pids()) == 2)
        os.kill(mixer.pids()[0], signal.SIGKILL)
        await asyncio.to_thread(eventually, lambda: len(mixer.pids()) < 2)
    await asyncio.to_thread(eventually, lambda: len(mixer.pids()) == 2)

    pauses = [
        line.split("restart_in_s=")[1].split()[0] for line in mixer.log.read_text().splitlines() if "fell" in line
    ]
    assert pauses == ["0.1", "0.2", "0.4", "0.8"]
    assert mixer.metric("mixer_worker_exits_total", "monitoring-port") == 4


async def test_readiness_follows_the_workers(serve: Any) -> None:
    mixer = serve()
    assert mixer.get("monitoring-port", "/readyz") == "ok\n"
    for pid in mixer.pids():
        os.kill(pid, signal.SIGKILL)

    def not_ready() -> bool:
        try:
            mixer.get("monitoring-port", "/readyz")
        except HTTPError as exc:
            return exc.code == 503 and b"no worker serves" in exc.read()
        return False

    await asyncio.to_thread(eventually, not_ready)
    await asyncio.to_thread(eventually, lambda: len(mixer.pids()) == 2)
    assert mixer.get("monitoring-port", "/readyz") == "ok\n"


async def test_no_worker_outlives_an_owner_that_is_killed(serve: Any) -> None:
    mixer = serve()
    pids = mixer.pids()

    mixer.popen.kill()

    await asyncio.to_thread(eventually, lambda: all(map(gone, pids)))


def test_a_port_that_is_taken_is_an_error(serve: Any, folder: Path) -> None:
    mixer = serve()
    command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{folder}", "--workers", "2"]
    port = str(mixer.ports["port"])

    second = subprocess.run([*command, *PORTS, "--port", port], capture_output=True, text=True, timeout=30, check=False)

    assert second.returncode == 1
    assert "cannot start" in second.stderr
    assert second.stdout == ""
