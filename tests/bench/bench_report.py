"""CPU of a Report and a Check inside one process: bytes to handlers, no transport.

Run from the repository root: ``python -m tests.bench.bench_report --help``.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from loadtest.bookinfo import visits
from mixer.adapters.loading import load_adapters
from mixer.api.encode import encode_check, encode_report
from mixer.attributes import AttributeValue
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.app import SystemClock
from mixer.server.service import MixerService
from mixer.store.file import FileStore

CONFIG = Path(__file__).parents[2] / "config" / "mesh"
IDLE = """
kind: rule
metadata: {{name: idle{number}, namespace: istio-system}}
spec:
  match: destination.service.host == "idle-{number}.default.svc.cluster.local"
  actions: [{{handler: prometheus, instances: [requestcount]}}]
---
"""


def records(count: int, labels: int) -> list[dict[str, AttributeValue]]:
    """Reports of BookInfo's hops; ``labels`` distinct label sets through distinct principals."""
    found: list[dict[str, AttributeValue]] = []
    for visit in visits(count, 3):
        for hop in (visit, *visit.then):
            record = hop.report_attributes("inbound")
            found.append({**record, "source.principal": f"cluster.local/ns/default/sa/caller-{len(found) % labels}"})
    return found[:count]


async def controller_of(idle: int, access_log: bool) -> Controller:
    """A controller on the mesh configuration with idle rules added."""
    with tempfile.TemporaryDirectory() as folder:
        for path in CONFIG.glob("*.yaml"):
            if access_log or path.name != "accesslog.yaml":
                text = path.read_text().replace("compiledAdapter: stdio", "compiledAdapter: stdio")
                (Path(folder) / path.name).write_text(text)
        (Path(folder) / "zz-idle.yaml").write_text("".join(IDLE.format(number=n) for n in range(idle)))
        controller = Controller(
            SnapshotBuilder(load_adapters()),
            clock=SystemClock(),
            scrape=CollectorRegistry(),
            metrics=RuntimeMetrics(),
        )
        await controller.apply(await FileStore(Path(folder)).load())
    return controller


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=1_000, help="distinct label sets")
    parser.add_argument("--idle", type=int, default=0, help="rules that match nothing")
    parser.add_argument("--access-log", action="store_true", help="with the access log, to standard output")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to measure each")
    parser.add_argument("--profile", action="store_true", help="print where a Report's time goes")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    controller = await controller_of(options.idle, options.access_log)
    service = MixerService(controller, RuntimeMetrics())
    all_records = records(20_000, options.labels)
    batches = [
        encode_report(all_records[start : start + 100]).SerializeToString() for start in range(0, len(all_records), 100)
    ]
    checks = [encode_check(dict(list(record.items())[:40])).SerializeToString() for record in all_records[:2_000]]
    for batch in batches:
        await service.report(batch)

    async def measure(work: list[bytes], serve: object, units: int) -> float:
        done, started = 0, time.process_time()
        while time.process_time() - started < options.seconds:
            for data in work:
                await serve(data)  # type: ignore[operator]
                done += units
        return (time.process_time() - started) / done * 1e6

    if options.profile:
        profile = cProfile.Profile()
        profile.enable()
        await measure(batches, service.report, 100)
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
        return
    bytes_each = sum(map(len, batches)) / len(all_records)
    print(f"{bytes_each:.0f} bytes a record", file=sys.stderr)
    print(f"report {await measure(batches, service.report, 100):8.2f} us a record", file=sys.stderr)
    print(f"check  {await measure(checks, service.check, 1):8.2f} us", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
