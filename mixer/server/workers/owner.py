"""The owner: one Mixer made of several processes, to the outside the same as `mixer.server.app.MixerServer`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, PlatformCollector, ProcessCollector

from mixer import __version__
from mixer.adapters.base import AdapterInfo
from mixer.rules.snapshot import Snapshot
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.clock import SystemClock
from mixer.server.options import ServerOptions
from mixer.server.pages import Pages, State, console_app, monitoring_app, scrape_app
from mixer.server.workers.config import SentContents, SharedBuilder
from mixer.server.workers.link import Message
from mixer.server.workers.processes import Process, Slot, how_it_ended, reserve_port
from mixer.server.workers.sharing import SharedHandlers
from mixer.server.workers.totals import Rules, Totals, read
from mixer.store import Store, StoreContents
from mixer.tls import ServerCertificates

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.workers.owner")

START_S: Final = 60.0
"""How long all workers together may take to serve for the first time."""

FALLS_AT_START: Final = 3
"""So many workers that fall before the first has served: it will not get better."""

SETTLE_S: Final = 5.0
"""How long a handler that configuration dropped is kept for workers that have not followed yet."""

READ_S: Final = 1.0
"""How long a scrape waits for the newest readings; then those of a second ago must do."""

CLOSE_S: Final = 15.0
"""How long a worker may take to flush and close its handlers, after its drain."""

OWN_RULES: Final = Rules(
    left_out=(
        "mixer_config_*",
        "istio_build",
        "mixer_handler_handlers",
        "mixer_handler_new_handlers",
        "mixer_handler_reused_handlers",
        "mixer_handler_closed_handlers",
    ),
    told_apart=("process_*", "python_*"),
    most=("mixer_handler_stale", "mixer_tls_*"),
    summed=("*",),
)
SCRAPE_RULES: Final = Rules(most=("mixer_prometheus_series",))


class _Controller(Controller):
    """Publishes here, for shared handlers and the console, then to the workers."""

    owner: Owner

    async def apply(self, contents: StoreContents) -> Snapshot:
        self.owner.settled.clear()
        try:
            snapshot = await super().apply(contents)
            if self.snapshot is snapshot:  # else strict mode refused it
                await self.owner.publish(contents)
        finally:
            self.owner.settled.set()
        return snapshot


class Owner:
    """Owner of a number of workers; ``ports`` is complete once `start` returns."""

    def __init__(
        self,
        store: Store,
        adapters: Mapping[str, AdapterInfo],
        options: ServerOptions,
        *,
        workers: int,
        command: Sequence[str],
    ) -> None:
        """Prepare.

        Args:
            store: Where configuration is.
            adapters: All of them, as `MixerServer` takes them.
            options: For the server as a whole; each worker gets a copy.
            workers: How many.
            command: Runs `run_worker` when ``--link`` and a file descriptor are added to it.
        """
        self._store = store
        self._options = options
        self._shared = SharedHandlers(lambda: self.settled.wait())
        self._builder = SharedBuilder(
            {name: self._shared.keep(info) for name, info in adapters.items()},
            default_namespace=options.default_namespace,
        )
        self._scrape = CollectorRegistry()
        self._metrics = RuntimeMetrics()
        self._metrics.build.labels("mixer", __version__).set(1)
        self._controller = _Controller(
            self._builder,
            clock=SystemClock(),
            scrape=self._scrape,
            metrics=self._metrics,
            handler_timeout_s=options.handler_timeout_s,
            strict=options.strict,
        )
        self._controller.owner = self
        self._slots = [Slot(index, command, self) for index in range(workers)]
        self._counters = _Counters(self._metrics.registry)
        self._scrape_totals, self._own_totals = Totals(SCRAPE_RULES), Totals(OWN_RULES)
        ProcessCollector(registry=self._metrics.registry)
        PlatformCollector(registry=self._metrics.registry)
        self._state = State(
            self._controller, options.arguments, serving=lambda: bool(self._serving), workers=self._describe
        )
        self._pages = Pages(options.host)
        self._reserved: list[socket.socket] = []
        self._published: SentContents | None = None
        self._moved = asyncio.Event()
        self._read: dict[int, set[str]] = {}
        self._reads = 0
        self._all_read = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._fallen = 0
        self.settled = asyncio.Event()
        self.settled.set()
        self.ports: dict[str, int] = {}

    @property
    def _processes(self) -> list[Process]:
        return [slot.now for slot in self._slots if slot.now is not None]

    @property
    def _serving(self) -> list[Process]:
        return [process for process in self._processes if process.serving]

    async def start(self) -> None:
        """Open every port, load the configuration, start the workers; all serve when this returns.

        Raises:
            OSError: A port is taken, or workers do not come to serve.
            CertificateError: The files of ``options.tls`` are not fit for use.
            StoreUnavailableError: There is no configuration to load.
        """
        options = self._options
        if options.address:
            raise OSError("several workers need --host and --port; they cannot share an --address")
        if options.tls is not None:
            ServerCertificates(options.tls)  # one clear complaint here in place of one from each worker, and restarts
        try:
            for name, port in (("port", options.port), *options.guest_ports.items()):
                reserved, self.ports[name] = reserve_port(options.host, port)
                self._reserved.append(reserved)
            scrape = _Joined(lambda: self._totals(self._scrape, self._scrape_totals))
            own = _Joined(lambda: self._totals(self._metrics.registry, self._own_totals))
            self.ports |= {
                "monitoring-port": await self._pages.serve(
                    options.monitoring_port, monitoring_app(self._state, own, self._read_all)
                ),
                "metrics-port": await self._pages.serve(options.metrics_port, scrape_app(scrape, self._read_all)),
                "console-port": await self._pages.serve(options.console_port, console_app(self._state)),
            }
            await self._controller.start(self._store)
            for slot in self._slots:
                slot.start()
            if self._controller.ready.is_set():
                await self._first_served()
        except BaseException:
            await self.stop()
            raise

    async def _first_served(self) -> None:
        end = monotonic() + START_S
        while len(self._serving) < len(self._slots):
            if self._fallen >= FALLS_AT_START or monotonic() > end:
                raise OSError("the workers do not come to serve; the log says why")
            self._moved.clear()
            await _within(self._moved.wait(), 1.0)

    async def stop(self) -> None:
        """Drain all workers, then close what is shared."""
        self._state.draining = True
        patience = self._options.drain_s + CLOSE_S
        await asyncio.gather(*(slot.stop(patience) for slot in self._slots))
        await self._controller.aclose()
        await self._pages.close()
        for reserved in self._reserved:
            reserved.close()

    async def publish(self, contents: StoreContents) -> None:
        """Send a configuration to all workers, and wait a while for them to serve it."""
        self._published = sent = self._builder.to_send(contents)
        for process in self._processes:
            process.link.send("configure", sent)
        end = monotonic() + SETTLE_S
        while any(process.revision < sent.revision for process in self._serving) and monotonic() < end:
            self._moved.clear()
            await _within(self._moved.wait(), end - monotonic())

    # What workers say

    def started(self, process: Process) -> None:
        """Greet a worker."""
        options = self._options
        guest_ports = {name: self.ports[name] for name in options.guest_ports}
        process.link.send("options", options.for_worker(self.ports["port"], guest_ports))
        if self._published is not None:
            process.link.send("configure", self._published)
        log.info("worker_started", worker=process.name, pid=process.process.pid)

    def heard(self, process: Process, message: Message) -> None:
        """Listen to a worker."""
        match message:
            case ("call", number, handler, method, arguments):
                work = self._shared.answer(process.link, number, handler, method, arguments)
                task = asyncio.get_running_loop().create_task(work, name=f"{method} for a worker")
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
            case ("readings", number, scrape, own):
                process.heard = monotonic()
                self._scrape_totals.update(process.name, scrape)
                self._own_totals.update(process.name, own)
                self._has_read(number, process.name)
            case ("applied", revision, errors):
                process.revision, process.errors = revision, errors
                self._moved.set()
            case ("serving",):
                process.serving = True
                self._counters.serving.set(len(self._serving))
                self._moved.set()
            case ("bye",):
                process.said_bye = True

    def ended(self, process: Process, code: int, restart_in_s: float | None) -> None:
        """Settle what a worker leaves behind."""
        self._scrape_totals.depart(process.name)
        self._own_totals.depart(process.name)
        for number in list(self._read):
            self._has_read(number, process.name)
        self._counters.serving.set(len(self._serving))
        reason = how_it_ended(code)
        self._counters.exits.labels(reason).inc()
        if not process.said_bye and process.serving:
            self._counters.unread.inc(max(0.0, monotonic() - process.heard))
        if not process.serving:
            self._fallen += 1
        self._moved.set()
        if restart_in_s is None:
            log.info("worker_ended", worker=process.name, how=reason)
        else:
            log.error("worker_fell", worker=process.name, how=reason, restart_in_s=round(restart_in_s, 1))

    # Metrics

    async def _read_all(self) -> None:
        """Ask every worker for a reading, and wait for those that answer soon."""
        self._reads += 1
        number = self._reads
        asked = self._read[number] = {process.name for process in self._serving}
        for process in self._serving:
            process.link.send("read", number)
        end = monotonic() + READ_S
        while asked and monotonic() < end:
            self._all_read.clear()
            await _within(self._all_read.wait(), end - monotonic())
        del self._read[number]

    def _has_read(self, number: int, worker: str) -> None:
        asked = self._read.get(number)
        if asked is not None:
            asked.discard(worker)
            self._all_read.set()

    def _totals(self, registry: CollectorRegistry, totals: Totals) -> list[Metric]:
        both = Totals(Rules(summed=("*",)))
        both.update("owner", read(registry.collect()))
        both.update("workers", read(totals.collect()))
        return list(both.collect())

    def _describe(self) -> list[dict[str, Any]]:
        return [
            {
                "worker": process.name,
                "pid": process.process.pid,
                "serving": process.serving,
                "revision": process.revision,
                "handler_errors": process.errors,
            }
            for process in self._processes
        ]


class _Counters:
    """What the owner knows of its workers' lives."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.serving = Gauge("mixer_workers_serving", "Workers that serve.", registry=registry)
        self.exits = Counter("mixer_worker_exits", "Workers that ended.", ("how",), registry=registry)
        self.unread = Counter(
            "mixer_worker_unread_seconds",
            "Time for which the metrics of workers that fell are missing.",
            registry=registry,
        )


class _Joined:
    """Looks like a registry to prometheus-client's encoders."""

    def __init__(self, collect: Any) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return iter(self._collect())


async def _within(wait: Any, seconds: float) -> None:
    """Wait for something, but not longer."""
    with suppress(TimeoutError):
        await asyncio.wait_for(wait, max(0.0, seconds))
