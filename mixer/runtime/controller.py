"""The controller: follows a store, and publishes each of its states as one snapshot with running handlers.

Publishing is one reference swap. Requests that hold the former binding finish on it; its handlers that the
new one does not use are closed afterwards, without holding up anything.

Source: spec runtime 1.16.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from time import perf_counter

import structlog
from prometheus_client import CollectorRegistry

from mixer.adapters.base import Clock
from mixer.rules.build import SnapshotBuilder
from mixer.rules.snapshot import Snapshot, empty_snapshot
from mixer.runtime.binding import Binding
from mixer.runtime.dispatcher import Dispatcher
from mixer.runtime.handlers import HandlerTable
from mixer.runtime.metrics import RuntimeMetrics
from mixer.store import Severity, Store, StoreContents

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.runtime.controller")

WATCH_AGAIN_S = 1.0
"""Pause after a store's watch broke off."""


class Controller:
    """Owns the dispatcher's binding: `start` publishes the first configuration, `aclose` ends everything.

    ``followers`` are told the contents of the store that were published; they must not raise.
    """

    def __init__(
        self,
        builder: SnapshotBuilder,
        *,
        clock: Clock,
        scrape: CollectorRegistry,
        metrics: RuntimeMetrics,
        handler_timeout_s: float = 5.0,
        strict: bool = False,
    ) -> None:
        self._builder = builder
        self._clock = clock
        self._metrics = metrics
        self._strict = strict
        self._table = HandlerTable(clock, scrape, metrics)
        self._watch: asyncio.Task[None] | None = None
        self._applying = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self.dispatcher = Dispatcher(
            Binding(empty_snapshot(), {}, clock, metrics), metrics, handler_timeout_s=handler_timeout_s
        )
        self._told: frozenset[str] = frozenset()
        self.ready = asyncio.Event()
        self.latest: Snapshot = self.snapshot
        self.followers: list[Callable[[StoreContents], None]] = []

    @property
    def snapshot(self) -> Snapshot:
        """What is served now; `latest` differs when strict mode refused a configuration."""
        return self.dispatcher.binding.snapshot

    async def start(self, store: Store) -> None:
        """Load and publish the store's contents, then follow its changes in the background.

        Raises:
            StoreUnavailableError: There is nothing to load from.
        """
        await self.apply(await store.load())
        self._watch = asyncio.get_running_loop().create_task(self._follow(store), name="follow the store")

    async def _follow(self, store: Store) -> None:
        while True:
            try:
                async for contents in store.watch():
                    await self._apply_guarded(contents)
                return
            except Exception as exc:
                log.error("store_watch_failed", exc_info=exc, retry_in_s=WATCH_AGAIN_S)
            await self._clock.sleep(WATCH_AGAIN_S)

    async def _apply_guarded(self, contents: StoreContents) -> None:
        try:
            await self.apply(contents)
        except Exception as exc:
            log.error("configuration_not_applied", exc_info=exc)

    async def apply(self, contents: StoreContents) -> Snapshot:
        """Build and publish one state of the store; returns once requests are served from it.

        Several calls take turns, in the order of their arrival.
        """
        async with self._applying:
            return await self._apply(contents)

    async def _apply(self, contents: StoreContents) -> Snapshot:
        started = perf_counter()
        snapshot = await asyncio.to_thread(self._builder.build, contents)
        self.latest = snapshot
        self._tell(snapshot)
        if self._strict and any(problem.severity is Severity.ERROR for problem in snapshot.problems):
            log.error("configuration_refused", revision=snapshot.revision, reason="strict mode and problems")
            return snapshot
        live = await self._table.update(snapshot.handlers)
        binding = Binding(snapshot, live, self._clock, self._metrics)
        for handler in live.values():
            handler.bindings += 1
        former, self.dispatcher.binding = self.dispatcher.binding, binding
        task = asyncio.get_running_loop().create_task(self._retire(former), name="retire a configuration")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        for follow in self.followers:
            follow(contents)
        self.ready.set()
        self._metrics.config_revision.set(snapshot.revision)
        self._metrics.config_reloads.inc()
        self._metrics.config_build_seconds.observe(perf_counter() - started)
        log.info(
            "configuration_published",
            revision=snapshot.revision,
            rules=len(snapshot.rules),
            handlers=len(snapshot.handlers),
            problems=len(snapshot.problems),
        )
        return snapshot

    async def _retire(self, binding: Binding) -> None:
        await binding.wait_idle()
        await self._table.release(list(binding.live.values()))

    def _tell(self, snapshot: Snapshot) -> None:
        metrics = self._metrics
        metrics.config_attributes.set(len(snapshot.vocabulary))
        metrics.config_stale.set(len(snapshot.stale))
        for kind, count in snapshot.counts.items():
            metrics.config_resources.labels(kind).set(count)
        metrics.config_problems.clear()
        kinds = Counter((p.resource.kind if p.resource else "", p.severity.value) for p in snapshot.problems)
        for (kind, severity), count in kinds.items():
            metrics.config_problems.labels(kind, severity).set(count)
        for problem in sorted({str(problem) for problem in snapshot.problems} - self._told):
            log.warning("configuration_problem", problem=problem)
        self._told = frozenset(str(problem) for problem in snapshot.problems)

    async def aclose(self) -> None:
        """Stop following the store, let requests finish, flush and close every handler."""
        self.ready.clear()
        if self._watch is not None:
            async with self._applying:  # not in the middle of a change, whose new handlers nobody would close
                self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*self._retiring, return_exceptions=True)
        former, self.dispatcher.binding = (
            self.dispatcher.binding,
            Binding(empty_snapshot(), {}, self._clock, self._metrics),
        )
        await self._retire(former)
