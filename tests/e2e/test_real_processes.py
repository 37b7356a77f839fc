"""The commands as an operator runs them: real processes, real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc.aio
import pytest

from mixer.api.encode import encode_check, encode_report
from mixer.api.service import MixerStub
from mixer.cli.ports import read_ready_line

ROOT = Path(__file__).parents[2]
ATTRIBUTES = (ROOT / "config/mesh/attributes.yaml").read_text()
PORTS = ("--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Process:
    """``mixs server`` and what it printed."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{folder}", *PORTS, *flags]
        self.errors = (folder.parent / "stderr.txt").open("wb")
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT)
        assert self.popen.stdout is not None
        ports = read_ready_line(self.popen.stdout.readline())
        assert ports is not None, (folder.parent / "stderr.txt").read_text()
        self.ports = ports

    def get(self, port: str, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.ports[port]}{path}") as page:
            return str(page.read().decode())

    def metric(self, name: str) -> float:
        lines = self.get("metrics-port", "/metrics").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def stop(self) -> tuple[int, str]:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        out, _ = self.popen.communicate(timeout=20)
        self.errors.close()
        return self.popen.returncode, out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "attributes.yaml").write_text(ATTRIBUTES)
    return folder


@pytest.fixture
def serve(folder: Path) -> Iterator[Any]:
    running: list[Process] = []

    def start(*flags: str) -> Process:
        running.append(Process(folder, *flags))
        return running[-1]

    yield start
    for process in running:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.communicate()
        process.errors.close()


def mixc(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mixer.cli.mixc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT, **options)


METRIC = """
kind: instance
metadata: {name: seen, namespace: istio-system}
spec: {compiledTemplate: metric, params: {value: "1", dimensions: {path: 'request.path | "none"'}}}
---
kind: handler
metadata: {name: prom, namespace: istio-system}
spec:
  compiledAdapter: prometheus
  params: {metrics: [{name: seen, instance_name: seen.instance.istio-system, kind: COUNTER, label_names: [path]}]}
---
kind: rule
metadata: {name: seen, namespace: istio-system}
spec: {actions: [{handler: prom, instances: [seen]}]}
"""

DENY = """
kind: handler
metadata: {name: deny, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: "%s"}}}
---
kind: instance
metadata: {name: nothing, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: istio-system}
spec: {actions: [{handler: deny, instances: [nothing]}]}
"""


def test_sigterm_drains_and_exits_with_0_and_one_line(serve: Any) -> None:
    process = serve()

    code, rest = process.stop()

    assert code == 0
    assert rest == ""


def test_mixc_speaks_with_mixs(serve: Any, folder: Path) -> None:
    (folder / "config.yaml").write_text(DENY % "no" + "---" + METRIC)
    process = serve()
    address = f"127.0.0.1:{process.ports['port']}"

    asked = mixc("check", "-m", address, "-a", "request.path=/x,request.size=12", "-q", "rc=2")
    told = mixc(
        "report", "-m", address, "-s", "request.path=/x", "-r", "250", "--report_batch_size", "100", "--fail-on-error"
    )

    assert asked.returncode == 0
    assert "Check status was PERMISSION_DENIED (deny.istio-system:no)" in asked.stdout
    assert "    context.reporter.kind ABSENCE" in asked.stdout
    assert told.stdout.count("Report RPC returned OK") == 3
    assert process.metric('istio_seen{path="/x"}') == 250


def test_mixc_tells_of_failures() -> None:
    asked = mixc("check", "-m", "127.0.0.1:1", "--timeout", "2", "--fail-on-error")

    assert asked.returncode == 1
    assert "Check RPC failed with: UNAVAILABLE" in asked.stderr


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("-s", "a"), "attribute value a does not include an = sign"),
        (("-s", "=b"), "does not contain a valid name"),
        (("-i", "a=x"), "attribute a: 'x' is not a 64-bit number"),
        (("--bytes_attributes", "a=zz"), "not bytes"),
        (("-q", "rc=many"), "quota rc"),
    ],
)
def test_mixc_explains_misuse(flags: tuple[str, ...], complaint: str) -> None:
    asked = mixc("check", *flags)

    assert asked.returncode == 2
    assert complaint in asked.stderr


def test_a_batch_of_expressions(tmp_path: Path) -> None:
    lines = [
        {"vocab": {"a": "STRING", "d": "DURATION", "m": "STRING_MAP"}},
        {"id": "x1", "expr": 'a | "none"', "attrs": {}},
        {"id": "x2", "expr": 'm["k"] == "v"', "attrs": {"m": {"type": "STRING_MAP", "value": {"k": "v"}}}},
        {"id": "x3", "expr": "a", "attrs": {}},
        {"id": "x4", "expr": "a == 1"},
        {"id": "x5", "expr": 'd | "1m30s"', "attrs": {"d": {"type": "DURATION", "value": "20ms"}}},
        {"id": "x6", "expr": "n + 1", "attrs": {"n": {"type": "INT64", "value": 41}}, "vocab": {"n": "INT64"}},
    ]
    text = "\n".join(json.dumps(line) for line in lines)

    done = mixc("eval", "--jsonl", "-", input=text)

    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": "x1", "type": "STRING", "value": "none", "referenced": ["ABSENCE a"]},
        {"id": "x2", "type": "BOOL", "value": True, "referenced": ["EXACT m[k]"]},
        {"id": "x3", "type": "STRING", "error": "lookup failed: 'a'", "referenced": ["ABSENCE a"]},
        {"id": "x4", "compile_error": "EQ($a, 1) arg 2 (1) typeError got INT64, expected STRING"},
        {"id": "x5", "type": "DURATION", "value": "20ms", "referenced": ["EXACT d"]},
        {"id": "x6", "type": "INT64", "value": 42, "referenced": ["EXACT n"]},
    ]


def test_validate_exits_with_0_1_or_2(folder: Path) -> None:
    def validate(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mixer.cli.mixs", "validate", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)

    assert validate("config").returncode == 0
    (folder / "config.yaml").write_text(DENY.replace("handler: deny", "handler: gone"))
    wrong = validate(str(folder))
    assert wrong.returncode == 1
    assert "config.yaml:" in wrong.stdout
    assert "Handler not found: handler='gone'" in wrong.stdout
    as_json = validate(str(folder), "--output", "json")
    assert as_json.returncode == 1
    problem = json.loads(as_json.stdout)["problems"][0]
    assert (problem["object"], problem["field"]) == ("deny.rule.istio-system", "spec.actions[0].handler")
    assert problem["line"] == 12
    assert validate("no/such/path").returncode == 2


async def test_a_thousand_reloads_under_load_fail_no_request_and_reset_no_counter(serve: Any, folder: Path) -> None:
    """Two thirds of the changes touch a rule and a handler beside the counter; each must be harmless."""
    (folder / "metric.yaml").write_text(METRIC)
    (folder / "deny.yaml").write_text(DENY % 0)
    process = serve("--log-level", "error")
    done = asyncio.Event()
    sent = {"reports": 0, "checks": 0}

    async def load(stub: Any) -> None:
        record = encode_report([{"request.path": "/x"}] * 10)
        while not done.is_set():
            await stub.Report(record)
            sent["reports"] += 10
            response = await stub.Check(encode_check({"request.path": "/x"}))
            assert response.precondition.status.code == 7
            sent["checks"] += 1

    async def change() -> None:
        for number in range(1, 1001):
            replacement = folder / "deny.tmp"
            replacement.write_text(DENY % number)
            os.replace(replacement, folder / "deny.yaml")
            await asyncio.sleep(0.01)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.ports['port']}") as channel:
        stub = MixerStub(channel)
        loads = [asyncio.create_task(load(stub)) for _ in range(4)]
        await change()
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up:
            last = await stub.Check(encode_check({}))
            if last.precondition.status.message == "deny.istio-system:1000":
                break
            await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*loads)

    assert last.precondition.status.message == "deny.istio-system:1000"
    assert process.metric('istio_seen{path="/x"}') == sent["reports"]
    assert sent["checks"] > 100
    assert process.stop()[0] == 0
