"""Microseconds for each instance that the prometheus adapter records, by kind and by how often labels repeat.

Run it alone: ``python tests/bench/bench_prometheus.py [--instances N]``. Instances have 20 labels as the default
mesh metrics do, and are built before the clock starts. The best of several rounds is shown, as the machine's noise
only ever adds; the scrape is of all series that the run has made: by prometheus-client's encoder, and as the page
streams it. ``--scrape N`` does nothing but fetch over HTTP the page of N label sets with three histograms each, and
tells the time and the memory that it takes; ``--gzip`` has it compressed, ``--encoder`` has prometheus-client make it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.prometheus import INFO
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.attributes import ValueType
from mixer.server.pages import Pages, scrape_app
from mixer.server.scrape import chunks_of, pieces_of
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


async def measure(kind: str, count: int, label_sets: int) -> tuple[float, float, float]:
    """Microseconds for an instance, seconds for a scrape afterwards by the encoder, and as the page does it."""
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
    encoded = time.perf_counter() - start
    start = time.perf_counter()
    for _ in chunks_of(pieces_of(recording.scrape, generate_latest)):
        pass
    streamed = time.perf_counter() - start
    await handler.aclose()
    return best / count * 1e6, encoded, streamed


class _Encoded:
    """A registry whose families can do nothing but hold samples."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            plain = Metric(family.name, family.documentation, "unknown")
            plain.type, plain.samples = family.type, family.samples
            yield plain


async def fetch(label_sets: int, *, gzipped: bool, encoder: bool) -> None:
    """Fetch a large page, in the process that serves it, and print what it took."""
    names = [f"bench{i}.instance.istio-system" for i in range(3)]
    types = {"value": ValueType.DOUBLE, "dimensions": dict.fromkeys(LABELS, ValueType.STRING)}
    params = {"metrics": [{"instance_name": n, "kind": "DISTRIBUTION", "label_names": LABELS} for n in names]}
    recording = RecordingEnv()
    handler = await build_handler(
        INFO, params, instances=[InstanceInfo(n, METRIC, types) for n in names], env=recording
    )
    for at in range(0, label_sets, BATCH):
        texts = [[f"{label}-of-workload-{number}" for label in LABELS] for number in range(at, at + BATCH)]
        for name in names:
            handler.handle_report([MetricInstance(name, 0.25, dict(zip(LABELS, t, strict=True))) for t in texts])
    pages = Pages("127.0.0.1")
    scraped = _Encoded(recording.scrape) if encoder else recording.scrape
    port = await pages.serve(0, scrape_app(scraped))
    gc.collect()
    before, cpu, start, size, worst = _rss_mib(), time.process_time(), time.perf_counter(), 0, 0.0
    fetching = True

    async def feel() -> None:
        nonlocal worst
        while fetching:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - began - 0.001)

    feeling = asyncio.create_task(feel())
    headers = {"Accept-Encoding": "gzip" if gzipped else "identity"}
    async with (
        aiohttp.ClientSession(auto_decompress=False, headers=headers) as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        async for data in answer.content.iter_any():
            size += len(data)
    fetching = False
    await feeling
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{label_sets} label sets: {size / 2**20:.1f} MiB in {time.perf_counter() - start:.2f} s, "
        f"{time.process_time() - cpu:.2f} s of CPU with the client's, the loop late by {worst * 1e3:.1f} ms at worst; "
        f"{before:.0f} MiB before, {peak:.0f} at the peak, {_rss_mib():.0f} after"
    )
    await pages.close()
    await handler.aclose()


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=20_000)
    parser.add_argument("--scrape", type=int, metavar="N")
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--encoder", action="store_true")
    arguments = parser.parse_args()
    if arguments.scrape:
        asyncio.run(fetch(arguments.scrape, gzipped=arguments.gzip, encoder=arguments.encoder))
        return
    count = arguments.instances
    print(f"python {sys.version.split()[0]}, {len(LABELS)} labels, {count} instances, best of {ROUNDS}")
    print(f"{'kind':14}{'label sets':>12}{'us/instance':>14}{'encoder ms':>12}{'page ms':>12}")
    for kind in ("COUNTER", "GAUGE", "DISTRIBUTION"):
        for label_sets in (1, 100, 5_000):
            micros, encoded, streamed = asyncio.run(measure(kind, count, label_sets))
            print(f"{kind:14}{label_sets:12}{micros:14.2f}{encoded * 1e3:12.1f}{streamed * 1e3:12.1f}")


if __name__ == "__main__":
    main()
