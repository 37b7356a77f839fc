"""One graph though several processes take reports."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import grpc.aio
import pytest

from mixer.api.encode import encode_report
from mixer.api.service import MixerStub
from mixer.attributes import Timestamp
from mixer.cli.ports import read_ready_line

ROOT = Path(__file__).parents[3]
PORTS = ("--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0")
CALLERS = 16

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = """
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: graph, namespace: istio-system}
spec: {compiledAdapter: servicegraph, params: {port: %d}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: edge, namespace: istio-system}
spec:
  compiledTemplate: edge
  params:
    timestamp: request.time
    sourceWorkloadName: source.workload.name | "unknown"
    destinationWorkloadName: destination.workload.name | "unknown"
    contextProtocol: context.protocol | "http"
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: edges, namespace: istio-system}
spec: {actions: [{handler: graph, instances: [edge]}]}
"""


async def report(address, bag):
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        await MixerStub(channel).Report(encode_report([bag]))


async def report_from_everywhere(address):
    now = Timestamp(time.time_ns())
    bag = {"source.workload.name": "a", "destination.workload.name": "b", "request.time": now}
    await asyncio.gather(*(report(address, bag) for _ in range(CALLERS)))


def test_reports_to_several_workers_meet_in_one_graph(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "attributes.yaml").write_text((ROOT / "config/mesh/attributes.yaml").read_text())
    (folder / "graph.yaml").write_text(CONFIG % port)
    command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{folder}", "--workers", "2"]
    with (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen([*command, *PORTS], stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    try:
        ports = read_ready_line(process.stdout.readline())
        assert ports is not None, (tmp_path / "errors").read_text()
        asyncio.run(report_from_everywhere(f"127.0.0.1:{ports['port']}"))
        with urlopen(f"http://127.0.0.1:{port}/graph", timeout=10) as page:
            graph = json.load(page)
        rate = {"reqs/sec": f"{CALLERS / 300:.6f}"}
        assert graph["edges"] == [{"source": "a", "target": "b", "labels": rate}]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
