"""Reports a second and CPU a record of ``mixs server`` on the default mesh configuration, by number of workers.

Run ``python tests/bench/bench_workers.py 1 2``. The client takes a few percent of a core; what else runs on the
machine takes its share too, so the CPU for each record says more than the rate where cores are few.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import uvloop
from grpc import aio

from mixer.cli.ports import read_ready_line
from tests.bench.bench_transports import SERVICE, cpu_s, processes_below, report_bytes

ROOT = Path(__file__).parents[2]
RECORDS = 100


async def drive(port: int, data: bytes, *, connections: int, seconds: float) -> tuple[int, float]:
    """Reports in a closed loop, two in flight on each connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(connections)]
    end = time.perf_counter() + seconds
    count = 0

    async def loop(channel: aio.Channel) -> None:
        nonlocal count
        call = channel.unary_unary(f"/{SERVICE}/Report")  # type: ignore[call-arg, unused-ignore]
        while time.perf_counter() < end:
            await call(data)
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(loop(channel) for channel in channels for _ in range(2)))
    took = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return count, took


def measure(workers: int, transport: str, connections: int, seconds: float) -> None:
    """Print one line of the table."""
    ports = ("--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0")
    flags = ("--config-store", f"fs://{ROOT}/config/mesh", "--workers", str(workers), "--transport", transport)
    command = [sys.executable, "-m", "mixer.cli.mixs", "server", *ports, *flags, "--log-level", "error"]
    # The default configuration logs to standard output.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        found = read_ready_line(process.stdout.readline())
        assert found is not None
        with subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL):
            data = report_bytes(RECORDS)
            uvloop.run(drive(found["port"], data, connections=connections, seconds=seconds / 4))
            pids = processes_below(process.pid)
            before = {pid: cpu_s([pid]) for pid in pids}
            count, took = uvloop.run(drive(found["port"], data, connections=connections, seconds=seconds))
            spent = [cpu_s([pid]) - before[pid] for pid in pids]
            each = sum(spent) / count / RECORDS * 1e6
            shares = " + ".join(f"{s / took:.2f}" for s in spent)
            print(f"| {workers} | {transport} | {count / took:.0f} | {each:.1f} | {shares} |", flush=True)
            os.kill(process.pid, signal.SIGTERM)


def main() -> None:
    """Measure each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workers", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--transport", default="http2")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    print("| workers | transport | Reports/s | us CPU a record | cores used, by process |\n|---|---|---|---|---|")
    for workers in options.workers:
        measure(workers, options.transport, options.connections, options.seconds)


if __name__ == "__main__":
    main()
