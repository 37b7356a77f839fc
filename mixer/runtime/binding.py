"""A snapshot bound to running handlers: what a request pins while it is served.

Source: spec runtime 1.16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from mixer.adapters.base import Clock
from mixer.attributes import Vocabulary
from mixer.rules.routes import Conditional, Directive, Route, Routes
from mixer.rules.snapshot import Snapshot
from mixer.runtime.bound import BoundList, BoundRoute
from mixer.runtime.handlers import LiveHandler
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.reporting import ReportPlan
from mixer.runtime.sampling import Sampler


class BoundRoutes:
    """The routes of one namespace, bound."""

    __slots__ = ("checks", "directives", "generators", "quotas", "reports")

    def __init__(self, routes: Routes, bound: Callable[[Route], BoundRoute], vocabulary: Vocabulary) -> None:
        self.generators: Final = BoundList(routes.generators, bound)
        self.checks: Final = BoundList(routes.checks, bound)
        self.reports: Final = ReportPlan([bound(route) for route in routes.reports], vocabulary)
        self.quotas: Final = {name: BoundList(candidates, bound) for name, candidates in routes.quotas.items()}
        self.directives: Final[Conditional[Directive]] = routes.directives


class _Pin:
    """A request that is being served; one object does for all, as it knows no more than that."""

    __slots__ = ("_begin", "_end")

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *_: object) -> None:
        self._end()


class Binding:
    """One snapshot and its running handlers; counts the requests that hold it."""

    def __init__(
        self, snapshot: Snapshot, live: Mapping[str, LiveHandler], clock: Clock, metrics: RuntimeMetrics
    ) -> None:
        self.snapshot: Final = snapshot
        self.live: Final = dict(live)
        self._requests = 0
        self.pinned: Final = _Pin(self._begin, self._end)
        """Keeps the handlers of this binding open for the time of one request: ``with binding.pinned``."""
        self._idle = asyncio.Event()
        self._idle.set()
        samplers = {rule.key: Sampler(rule.sampling, clock) for rule in snapshot.rules if rule.sampling is not None}

        def bound(route: Route) -> BoundRoute:
            return BoundRoute(route, self.live[route.handler], metrics, samplers.get(route.rule.key))

        table = snapshot.routes
        words = snapshot.vocabulary
        self._routes = {space: BoundRoutes(routes, bound, words) for space, routes in table.by_namespace.items()}
        self._fallback = BoundRoutes(table.fallback, bound, words)
        self.generates: Final = any(routes.generators for routes in (*self._routes.values(), self._fallback))
        """Whether any request gets attributes from generators."""

    def routes(self, namespace: str) -> BoundRoutes:
        """The routes for requests of a namespace."""
        return self._routes.get(namespace, self._fallback)

    def _begin(self) -> None:
        self._requests += 1
        self._idle.clear()

    def _end(self) -> None:
        self._requests -= 1
        if not self._requests:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no request holds this binding; meant for one that gets no new ones."""
        await self._idle.wait()
