"""Microseconds for each instance that the prometheus adapter records, by kind and by how often labels repeat.

Run it alone: ``python tests/bench/bench_prometheus.py [--instances N]``. Instances have 20 labels as the default
mesh metrics do, and are built before the clock starts. The best of several rounds is shown, as the machine's noise
only ever adds; the scrape is of all series that the run has made.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time

from prometheus_client.exposition import generate_latest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.prometheus import INFO
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.attributes import ValueType
from mixer.templates import METRIC
from mixer.templates.metric import MetricInstance

LABELS = [f"label_{i:02d}" for i in range(20)]
BATCH = 400
ROUNDS = 7


def instances_of(name: str, count: int, label_sets: int) -> list[list[MetricInstance]]:
    """Batches whose label texts are objects of their own each time, as decoding makes them."""

    def dimensions(number: int) -> dict[str, str | int]:
        texts: dict[str, str | int] = {label: "".join((label, "-of-workload-", str(number))) for label in LABELS[:-1]}
        return {**texts, LABELS[-1]: 200}

    made = [MetricInstance(name, 0.25, dimensions(i % label_sets)) for i in range(count)]
    return [made[at : at + BATCH] for at in range(0, count, BATCH)]


async def measure(kind: str, count: int, label_sets: int) -> tuple[float, float]:
    """Microseconds for an instance, seconds for a scrape afterwards."""
    name = "bench.instance.istio-system"
    info = InstanceInfo(
        name, METRIC, {"value": ValueType.DOUBLE, "dimensions": dict.fromkeys(LABELS, ValueType.STRING)}
    )
    params = {"metrics": [{"instance_name": name, "kind": kind, "label_names": LABELS}]}
    recording = RecordingEnv()
    handler = await build_handler(INFO, params, instances=[info], env=recording)
    best = float("inf")
    for _ in range(ROUNDS):
        batches = instances_of(name, count, label_sets)
        gc.collect()
        start = time.perf_counter()
        for batch in batches:
            handler.handle_report(batch)
        best = min(best, time.perf_counter() - start)
    start = time.perf_counter()
    generate_latest(recording.scrape)
    scrape = time.perf_counter() - start
    await handler.aclose()
    return best / count * 1e6, scrape


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=20_000)
    count = parser.parse_args().instances
    print(f"python {sys.version.split()[0]}, {len(LABELS)} labels, {count} instances, best of {ROUNDS}")
    print(f"{'kind':14}{'label sets':>12}{'us/instance':>14}{'scrape ms':>12}")
    for kind in ("COUNTER", "GAUGE", "DISTRIBUTION"):
        for label_sets in (1, 100, 5_000):
            micros, scrape = asyncio.run(measure(kind, count, label_sets))
            print(f"{kind:14}{label_sets:12}{micros:14.2f}{scrape * 1e3:12.1f}")


if __name__ == "__main__":
    main()
