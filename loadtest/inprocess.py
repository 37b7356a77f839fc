"""Measuring without a transport: the service, the dispatcher or bare parsing, called in a fresh process.

The process is fresh so that one measurement leaves nothing to the next: series, caches, memory.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvloop
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from loadtest.encoded import REPORT, Requests
from loadtest.histogram import QUANTILES, Histogram, exact_quantile
from loadtest.meshconfig import write_config
from loadtest.osinfo import tree_usage
from loadtest.results import Measurement, Window
from loadtest.scenario import Load, Mode, Scenario, to_json
from loadtest.servers import series_in
from mixer.adapters.loading import load_adapters
from mixer.api.decode import CheckEnvelope, WireBag, decode_check_bytes, decode_report_bytes
from mixer.api.messages import CheckRequest, ReportRequest
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.clock import SystemClock
from mixer.server.service import MixerService
from mixer.store.file import FileStore

_UNITS_AT_ONCE = 2_000
"""Records or Checks prepared together, so that the clock of the process, a system call, is seldom read."""

Prepare = Callable[[bytes], Any]
Serve = Callable[[Any], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Engine:
    """One Mixer without ports."""

    controller: Controller
    service: MixerService
    scrape: CollectorRegistry


@asynccontextmanager
async def running_engine(scenario: Scenario, *, policy: bool) -> AsyncIterator[Engine]:
    """A Mixer with the configuration of a scenario; it says warnings only."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    scrape, metrics = CollectorRegistry(), RuntimeMetrics()
    controller = Controller(SnapshotBuilder(load_adapters()), clock=SystemClock(), scrape=scrape, metrics=metrics)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        write_config(scenario, Path(folder), policy=policy)
        await controller.start(FileStore(Path(folder)))
        try:
            if problems := controller.snapshot.problems:
                raise ValueError(f"the configuration has problems, so figures would mean little: {problems[0]}")
            yield Engine(controller, MixerService(controller, metrics), scrape)
        finally:
            await controller.aclose()


def measure_inprocess(
    case: str,
    mode: Mode,
    scenario: Scenario,
    load: Load,
    requests: Requests,
    *,
    policy: bool,
    tell: Callable[[str], None],
) -> list[Measurement]:
    """One call after the other, in a process of its own; of ``load`` only the times and repetitions matter."""
    found = Measurement(case, mode, requests.unit, to_json(scenario), {}, scenario.text, "")
    tell(f"{found.title}, {scenario.text}")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found.windows, found.notes = pool.submit(_measure, mode, scenario, load, requests, policy).result()
    return [found]


def _measure(
    mode: Mode, scenario: Scenario, load: Load, requests: Requests, policy: bool
) -> tuple[list[Window], dict[str, float]]:
    return uvloop.run(_measure_all(mode, scenario, load, requests, policy))


async def _measure_all(
    mode: Mode, scenario: Scenario, load: Load, requests: Requests, policy: bool
) -> tuple[list[Window], dict[str, float]]:
    chunks = endless_chunks(requests)
    notes: dict[str, float] = {}
    async with running_engine(scenario, policy=policy) as engine:
        prepare, serve = paths(mode, requests, engine)
        await run_window(chunks, prepare, serve, load.warmup_s, requests.units)
        windows = [
            await run_window(chunks, prepare, serve, load.seconds, requests.units) for _ in range(load.repetitions)
        ]
        if mode is not Mode.PARSE:
            notes["series"] = series_in(generate_latest(engine.scrape).decode())
    return windows, notes


def endless_chunks(requests: Requests) -> Iterator[Sequence[bytes]]:
    """The requests over and over, as many at once as are prepared together."""
    size = max(_UNITS_AT_ONCE // requests.units, 1)
    turn = itertools.cycle(requests.bodies)
    while True:
        yield list(itertools.islice(turn, size))


def paths(mode: Mode, requests: Requests, engine: Engine) -> tuple[Prepare, Serve]:
    """What is done with a request before the clock runs, and what while it runs."""
    is_report = requests.method == REPORT
    dispatcher, service = engine.controller.dispatcher, engine.service
    if mode is Mode.INPROCESS:
        return _as_is, service.report if is_report else service.check
    if mode is Mode.DISPATCHER:
        wanted = dispatcher.binding.snapshot.wanted  # bags as the service makes them
        if is_report:
            return (lambda data: decode_report_bytes(data, wanted).bags), dispatcher.report

        async def check(call: tuple[WireBag, CheckEnvelope]) -> object:
            bag, request = call
            return await dispatcher.check(bag, request.quotas, request.deduplication_id)

        return (lambda data: decode_check_bytes(data, wanted)), check
    parse = ReportRequest.FromString if is_report else CheckRequest.FromString

    async def parse_only(data: bytes) -> object:
        return parse(data)

    return _as_is, parse_only


def _as_is(data: bytes) -> bytes:
    return data


async def run_window(
    chunks: Iterator[Sequence[bytes]], prepare: Prepare, serve: Serve, seconds: float, units: int
) -> Window:
    """Serve for so many seconds, not counting preparation."""
    latencies, wall_s, cpu_s = array("d"), 0.0, 0.0
    while wall_s < seconds:
        prepared = [prepare(body) for body in next(chunks)]
        cpu, before = time.process_time(), time.perf_counter()
        wall_s -= before
        for each in prepared:
            await serve(each)
            now = time.perf_counter()
            latencies.append(now - before)
            before = now
        cpu_s += time.process_time() - cpu
        wall_s += before
    usage, ordered = tree_usage(multiprocessing.current_process().pid or 0), sorted(latencies)
    return Window(
        seconds=wall_s,
        calls=len(ordered),
        units=len(ordered) * units,
        cpu_s=cpu_s,
        latency={name: exact_quantile(ordered, q) for name, q in QUANTILES.items()} if ordered else {},
        histogram=Histogram.of(ordered).to_json(),
        rss_bytes=usage.rss_bytes,
        peak_rss_bytes=usage.peak_rss_bytes,
    )
