"""The server as a whole: ports, start, drain. `MixerServer` is what ``mixs server`` runs and tests embed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, time_ns
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from mixer import __version__
from mixer.adapters.base import AdapterInfo
from mixer.attributes import Timestamp
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.methods import Health, Transport, mixer_methods
from mixer.server.pages import State, console_app, monitoring_app, scrape_app
from mixer.server.service import MixerService
from mixer.server.transport import TransportKind, new_transport
from mixer.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server")


class SystemClock:
    """The time of the machine."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return monotonic()

    def now(self) -> Timestamp:
        """The wall clock."""
        return Timestamp(time_ns())

    async def sleep(self, seconds: float, /) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server runs; port 0 picks a free one.

    Attributes:
        address: ``host:port`` or ``unix:///path`` of the gRPC API; empty = ``host`` and ``port``.
        transport: What carries the gRPC API.
        handler_timeout_s: How long a handler may take over one call.
        drain_s: How long requests in progress may take to finish after the order to stop.
        strict: Refuse a configuration that has problems; the former one goes on serving.
    """

    host: str = "127.0.0.1"
    port: int = 9091
    address: str = ""
    transport: TransportKind = TransportKind.GRPC
    monitoring_port: int = 15014
    metrics_port: int = 42422
    console_port: int = 9876
    max_message_bytes: int = 1 << 20
    max_concurrent_streams: int = 1024
    default_namespace: str = "istio-system"
    handler_timeout_s: float = 5.0
    drain_s: float = 10.0
    strict: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


class MixerServer:
    """One Mixer in this process.

    ``ports`` names the bound ports by their flag (``port``, ``monitoring-port`` ...) once `start` returns.
    """

    def __init__(self, store: Store, adapters: Mapping[str, AdapterInfo], options: ServerOptions) -> None:
        self._store = store
        self._options = options
        self.scrape = CollectorRegistry()
        self.metrics = RuntimeMetrics()
        self.metrics.build.labels("mixer", __version__).set(1)
        ProcessCollector(registry=self.metrics.registry)
        PlatformCollector(registry=self.metrics.registry)
        self.controller = Controller(
            SnapshotBuilder(adapters, default_namespace=options.default_namespace),
            clock=SystemClock(),
            scrape=self.scrape,
            metrics=self.metrics,
            handler_timeout_s=options.handler_timeout_s,
            strict=options.strict,
        )
        self._state = State(self.controller, options.arguments)
        self._runners: list[web.AppRunner] = []
        self._waiting: asyncio.Task[None] | None = None
        self._transport: Transport
        self._health: Health
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Open every port, then load the configuration; serves when this returns.

        Raises:
            OSError: A port is taken.
            StoreUnavailableError: There is no configuration to load.
        """
        options = self._options
        # The transport is made here because grpc.aio binds to the running loop.
        self._health = Health()
        self._transport = new_transport(
            options.transport,
            mixer_methods(MixerService(self.controller, self.metrics), self._health),
            max_message_bytes=options.max_message_bytes,
            max_concurrent_streams=options.max_concurrent_streams,
        )
        address = options.address.removeprefix("tcp://") or f"{options.host}:{options.port}"
        self.ports["port"] = await self._transport.bind(address)
        try:
            await self._serve_page(
                "monitoring-port", options.monitoring_port, monitoring_app(self._state, self.metrics.registry)
            )
            await self._serve_page("metrics-port", options.metrics_port, scrape_app(self.scrape))
            await self._serve_page("console-port", options.console_port, console_app(self._state))
            await self._transport.start()
            await self.controller.start(self._store)
        except BaseException:
            await self.stop()
            raise
        if self.controller.ready.is_set():
            self._health.set_serving(True)
        else:  # strict mode refused what there is; health follows once something sound is published
            self._waiting = asyncio.get_running_loop().create_task(
                self._serve_when_ready(), name="wait for a configuration"
            )

    async def _serve_when_ready(self) -> None:
        await self.controller.ready.wait()
        self._health.set_serving(True)

    async def _serve_page(self, name: str, port: int, app: web.Application) -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self._options.host, port)
        await site.start()
        self.ports[name] = runner.addresses[0][1]

    async def stop(self) -> None:
        """Drain: say so, take no new requests, finish those in progress, flush and close every handler."""
        self._state.draining = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._health.set_serving(False)
        await self._transport.stop(self._options.drain_s)
        await self.controller.aclose()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
