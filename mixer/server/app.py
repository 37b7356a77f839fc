"""The server as a whole: ports, start, drain. `MixerServer` is what ``mixs server`` runs and tests embed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from mixer import __version__
from mixer.adapters.base import AdapterInfo
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.clock import SystemClock
from mixer.server.guests import Guests, House, Invitation
from mixer.server.methods import Health, Transport, mixer_methods, with_health_and_reflection
from mixer.server.options import ServerOptions
from mixer.server.pages import Pages, State, console_app, monitoring_app, scrape_app
from mixer.server.service import MixerService
from mixer.server.transport import new_transport
from mixer.store import Store
from mixer.tls import ServerCertificates
from mixer.tls.metrics import TlsCollector

__all__ = ["MixerServer", "ServerOptions"]


class MixerServer:
    """One Mixer in this process.

    ``ports`` names the bound ports by their flag (``port``, ``monitoring-port`` ...) once `start` returns.
    """

    def __init__(
        self,
        store: Store,
        adapters: Mapping[str, AdapterInfo],
        options: ServerOptions,
        invitations: Sequence[Invitation] = (),
    ) -> None:
        """Prepare.

        Raises:
            CertificateError: The files of ``options.tls`` are not fit for use.
        """
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
        self._certificates = ServerCertificates(options.tls) if options.tls is not None else None
        if self._certificates is not None:
            self.metrics.registry.register(TlsCollector(server=self._certificates))
        self._guests = Guests(invitations, House(self.controller, self.metrics, self._certificates))
        self._state = State(self.controller, options.arguments)
        self._pages = Pages(options.host)
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
        methods = mixer_methods(MixerService(self.controller, self.metrics)) | self._guests.methods
        self._health = Health(methods.services)
        self._transport = new_transport(
            options.transport,
            with_health_and_reflection(methods, self._health),
            max_message_bytes=options.max_message_bytes,
            max_concurrent_streams=options.max_concurrent_streams,
            certificates=self._certificates,
        )
        address = options.address.removeprefix("tcp://") or f"{options.host}:{options.port}"
        self.ports["port"] = await self._transport.bind(address)
        try:
            for name, page_port, app in (
                ("monitoring-port", options.monitoring_port, monitoring_app(self._state, self.metrics.registry)),
                ("metrics-port", options.metrics_port, scrape_app(self.scrape)),
                ("console-port", options.console_port, console_app(self._state)),
            ):
                self.ports[name] = await self._pages.serve(page_port, app)
            await self._guests.start()
            self.ports |= await self._guests.listen(options.host, options.guest_ports)
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

    async def stop(self) -> None:
        """Drain: say so, take no new requests, finish those in progress, flush and close every handler."""
        self._state.draining = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._health.end()
        self._guests.drain()
        await self._transport.stop(self._options.drain_s)
        await self._guests.stop(self._options.drain_s)
        await self.controller.aclose()
        await self._pages.close()
