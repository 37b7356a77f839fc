"""A worker: serves the gRPC port beside its siblings, configured by its owner, for as long as there is one."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from mixer.adapters.base import AdapterInfo
from mixer.rules.snapshot import Snapshot
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.clock import SystemClock
from mixer.server.guests import Guests, House, Invitation
from mixer.server.methods import Health, mixer_methods, with_health_and_reflection
from mixer.server.options import ServerOptions
from mixer.server.service import MixerService
from mixer.server.transport import new_transport
from mixer.server.workers.config import SentStore, SharedBuilder
from mixer.server.workers.link import Link
from mixer.server.workers.sharing import OwnerCalls, with_stand_ins
from mixer.server.workers.totals import read
from mixer.store import StoreContents
from mixer.tls import ServerCertificates
from mixer.tls.metrics import TlsCollector

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.workers.worker")

READ_EVERY_S: Final = 1.0
"""Pause between two readings of the metrics: what a worker that is killed has counted since is lost."""

READ_SHARE: Final = 50
"""A reading that takes long is made more rarely: at most one part in so many of the time goes into it."""

UNSENT_BYTES: Final = 16 << 20
"""An owner that is so far behind gets no more readings for now."""


class _Controller(Controller):
    """Tells the owner what it serves."""

    link: Link

    async def apply(self, contents: StoreContents) -> Snapshot:
        snapshot = await super().apply(contents)
        errors = {live.name: live.error for live in self.dispatcher.binding.live.values() if live.error}
        self.link.send("applied", snapshot.revision, errors)
        return snapshot


class Worker:
    """One worker; `run` is its whole life."""

    def __init__(
        self,
        link: Link,
        adapters: Mapping[str, AdapterInfo],
        options: ServerOptions,
        invitations: Sequence[Invitation] = (),
    ) -> None:
        self._link = link
        self._options = options
        self._calls = OwnerCalls(link)
        self._store = SentStore()
        self._stop = asyncio.Event()
        self._one_reading = asyncio.Lock()
        self._reads: set[asyncio.Task[None]] = set()
        self._scrape = CollectorRegistry()
        self._metrics = RuntimeMetrics()
        ProcessCollector(registry=self._metrics.registry)
        PlatformCollector(registry=self._metrics.registry)
        self._controller = _Controller(
            SharedBuilder(
                {name: with_stand_ins(info, self._calls) for name, info in adapters.items()},
                default_namespace=options.default_namespace,
            ),
            clock=SystemClock(),
            scrape=self._scrape,
            metrics=self._metrics,
            handler_timeout_s=options.handler_timeout_s,
        )
        self._controller.link = link
        self._certificates = ServerCertificates(options.tls) if options.tls is not None else None
        if self._certificates is not None:
            self._metrics.registry.register(TlsCollector(server=self._certificates))
        self._guests = Guests(invitations, House(self._controller, self._metrics, self._certificates))

    async def run(self) -> None:
        """Serve until the owner says drain, or is gone; every call in progress gets its answer.

        Raises:
            OSError: The port cannot be shared.
        """
        options = self._options
        methods = mixer_methods(MixerService(self._controller, self._metrics)) | self._guests.methods
        health = Health(methods.services)
        transport = new_transport(
            options.transport,
            with_health_and_reflection(methods, health),
            max_message_bytes=options.max_message_bytes,
            max_concurrent_streams=options.max_concurrent_streams,
            reuse_port=True,
            certificates=self._certificates,
        )
        listening = asyncio.create_task(self._listen(), name="listen to the owner")
        reading = None
        try:
            starting = asyncio.create_task(self._controller.start(self._store), name="first configuration")
            stopping = asyncio.create_task(self._stop.wait(), name="wait for the end")
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await self._guests.start()
                await self._guests.listen(options.host, options.guest_ports, reuse_port=True)
                await transport.bind(f"{options.host}:{options.port}")
                await transport.start()
                health.set_serving(True)
                self._link.send("serving")
                reading = asyncio.create_task(self._read_again(), name="read the metrics")
                await stopping
            else:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
        finally:
            health.end()
            self._guests.drain()
            await transport.stop(options.drain_s)
            await self._guests.stop(options.drain_s)
            await self._controller.aclose()
            if reading is not None:
                reading.cancel()
            await self._send_readings()
            self._link.send("bye")
            listening.cancel()
            await self._link.close()

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()

    async def _listen(self) -> None:
        while (message := await self._link.receive()) is not None:
            match message:
                case ("answer", number, error, value):
                    self._calls.answered(number, error, value)
                case ("configure", contents):
                    self._store.put(contents)
                case ("read", number):
                    task = asyncio.create_task(self._send_readings(number), name="read for a scrape")
                    self._reads.add(task)
                    task.add_done_callback(self._reads.discard)
                case ("drain",):
                    self._stop.set()
        self._calls.lose()
        if not self._stop.is_set():
            log.error("owner_is_gone", outcome="draining")
        self._stop.set()

    async def _send_readings(self, number: int = 0) -> None:
        """Send a whole reading; ``number`` says which wish it fulfils, 0 none."""
        async with self._one_reading:  # one that overtook another would turn counters back
            await self._link.send_large(
                lambda: ("readings", number, read(self._scrape.collect()), read(self._metrics.registry.collect()))
            )

    async def _read_again(self) -> None:
        pause = READ_EVERY_S
        while True:
            await asyncio.sleep(pause)
            if self._link.waiting_bytes < UNSENT_BYTES:
                started = perf_counter()
                await self._send_readings()
                pause = max(READ_EVERY_S, READ_SHARE * (perf_counter() - started))


async def run_worker(
    end: socket.socket, adapters: Mapping[str, AdapterInfo], invitations: Sequence[Invitation] = ()
) -> None:
    """Run a worker whose owner holds the other end of a socket."""
    loop = asyncio.get_running_loop()
    link = await Link.open(end)
    greeting = await link.receive()
    if greeting is None:
        return
    _, options = greeting
    worker = Worker(link, adapters, options, invitations)
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a terminal sends it to all; the owner decides
    await worker.run()
