"""The handler table: builds handlers when configuration needs them, and closes them after their last request.

A handler is kept while nothing that it depends on changes.

Source: spec runtime 3.8 and 1.16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from mixer.adapters.base import CheckResult, Clock, Env, Handler, QuotaArgs, QuotaResult
from mixer.attributes import AttributeValue
from mixer.errors import BackendUnavailableError
from mixer.rules.snapshot import HandlerConfig
from mixer.runtime.isolation import being_cancelled
from mixer.runtime.metrics import RuntimeMetrics

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.runtime.handlers")

BUILD_TIMEOUT_S = 30.0
"""How long a handler may take to start; meanwhile the former configuration serves."""

CLOSE_TIMEOUT_S = 10.0
"""How long a handler may take to flush and close before it is left to itself."""


class AbsentHandler(Handler):
    """Stands in for a handler that could not be built: whatever needs it fails, and says why.

    A Check that a policy handler should have judged is an error to the caller, never a silent allow.
    """

    def __init__(self, reason: str) -> None:
        self._error = BackendUnavailableError(reason)

    def handle_check(self, instance: Any, /) -> CheckResult:
        """There is no answer."""
        raise self._error

    def handle_report(self, instances: Any, /) -> Awaitable[None] | None:
        """There is no one to tell."""
        raise self._error

    def handle_quota(self, instance: Any, args: QuotaArgs, /) -> QuotaResult:
        """There is no one to ask."""
        raise self._error

    def generate_attributes(self, instance: Any, /) -> Mapping[str, AttributeValue]:
        """There is no answer."""
        raise self._error


@dataclass(eq=False, slots=True)
class LiveHandler:
    """A handler that runs, with the tasks it started; ``bindings`` counts who may still call it."""

    config: HandlerConfig
    handler: Handler
    bindings: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    error: str = ""

    @property
    def name(self) -> str:
        """The display name."""
        return self.config.name


class HandlerTable:
    """All handlers that run. `update` moves it to the handlers of a new snapshot."""

    def __init__(self, clock: Clock, scrape: CollectorRegistry, metrics: RuntimeMetrics) -> None:
        self._clock = clock
        self._scrape = scrape
        self._metrics = metrics
        self._shared: dict[str, dict[str, Any]] = {}
        self._live: dict[str, LiveHandler] = {}

    @property
    def live(self) -> Mapping[str, LiveHandler]:
        """The handlers of the newest configuration, by full name."""
        return self._live

    async def update(self, configs: Mapping[str, HandlerConfig]) -> Mapping[str, LiveHandler]:
        """Build what is new or changed, keep the rest; handlers no longer named run on until `release`."""
        before = self._live
        built = await asyncio.gather(*(self._next(before.get(name), config) for name, config in configs.items()))
        after = dict(zip(configs, built, strict=True))
        self._live = after
        self._metrics.handlers.set(sum(not live.error for live in after.values()))
        self._metrics.handlers_stale.clear()
        for name, live in after.items():
            if live.config.signature != configs[name].signature:
                self._metrics.handlers_stale.labels(live.name).set(1)
        return after

    async def release(self, handlers: Collection[LiveHandler]) -> None:
        """One binding less may call these; close those that none may call any more."""
        for live in handlers:
            live.bindings -= 1
        await asyncio.gather(*(self.close(live) for live in handlers if live.bindings <= 0))

    async def _next(self, old: LiveHandler | None, config: HandlerConfig) -> LiveHandler:
        if old is not None and old.config.signature == config.signature and not old.error:
            self._metrics.handlers_reused.inc()
            return old
        return await self._build(config, old)

    async def _build(self, config: HandlerConfig, old: LiveHandler | None) -> LiveHandler:
        live = LiveHandler(config, Handler())
        try:
            async with asyncio.timeout(BUILD_TIMEOUT_S):
                live.handler = await config.info.build(config.params, config.instances, self._env(live))
        except (Exception, asyncio.CancelledError) as exc:  # whatever an adapter raises, the others must run
            await self._end_tasks(live)
            if isinstance(exc, asyncio.CancelledError) and being_cancelled():
                raise
            self._metrics.build_failures.inc()
            error = str(exc) or type(exc).__name__
            if old is not None and not old.error:
                log.error("handler_build_failed", handler=config.name, error=error, outcome="last good one runs on")
                return old
            log.error("handler_build_failed", handler=config.name, error=error, outcome="its requests fail")
            reason = f"handler '{config.name}' could not be built: {error}"
            return LiveHandler(config, AbsentHandler(reason), error=reason)
        self._metrics.handlers_new.inc()
        return live

    def _env(self, live: LiveHandler) -> Env:
        config = live.config
        logger = structlog.get_logger("mixer.adapters").bind(handler=config.name, adapter=config.info.name)
        tasks = self._metrics.tasks.labels(config.name)
        crashes = self._metrics.task_crashes.labels(config.name)

        def done(task: asyncio.Task[None]) -> None:
            live.tasks.discard(task)
            tasks.dec()
            if not task.cancelled() and (exc := task.exception()) is not None:
                crashes.inc()
                logger.error("background_task_crashed", exc_info=exc)

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            task = asyncio.get_running_loop().create_task(work, name=config.name)
            live.tasks.add(task)
            tasks.inc()
            task.add_done_callback(done)

        shared = self._shared.setdefault(config.info.name, {})
        registry, objects = self._metrics.registry, config.objects.value
        return Env(config.name, logger, self._clock, spawn, shared, self._scrape, registry, objects)

    async def close(self, live: LiveHandler) -> None:
        """Flush and close a handler; never raises."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await live.handler.aclose()
        except (Exception, asyncio.CancelledError) as exc:  # closing goes on with the next
            if isinstance(exc, asyncio.CancelledError) and being_cancelled():
                raise
            self._metrics.close_failures.inc()
            log.error("handler_close_failed", handler=live.name, error=str(exc) or type(exc).__name__)
        await self._end_tasks(live)
        if not live.error:
            self._metrics.handlers_closed.inc()

    async def _end_tasks(self, live: LiveHandler) -> None:
        tasks = list(live.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
