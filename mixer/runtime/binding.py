"""A snapshot bound to running handlers: what a request pins while it is served.

Source: spec runtime 1.16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from mixer.adapters.base import Clock, Handler
from mixer.attributes import AttributeBag
from mixer.rules.routes import ALWAYS, Directive, Route, Routes
from mixer.rules.snapshot import Snapshot
from mixer.runtime.handlers import LiveHandler
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.sampling import Sampler
from mixer.templates.builder import CompiledInstance


class BoundRoute:
    """A route with its running handler and its metrics, looked up once when configuration changes."""

    __slots__ = (
        "bind",
        "build",
        "condition",
        "failed",
        "handler",
        "identity",
        "instance",
        "live",
        "name",
        "rule",
        "sampler",
        "served",
    )

    def __init__(self, route: Route, live: LiveHandler, metrics: RuntimeMetrics, sampler: Sampler | None) -> None:
        self.condition: Final = route.condition
        self.instance: Final[CompiledInstance] = route.instance
        self.rule: Final = route.rule
        self.live: Final = live
        self.handler: Final[Handler] = live.handler
        self.name: Final = live.name
        self.identity: Final = (route.handler, route.instance.name)
        self.build: Final[Callable[[AttributeBag], Any]] = route.instance.build
        self.bind: Final = route.instance.bind
        self.sampler: Final = sampler
        labels = (route.instance.template.name, live.name, live.config.info.name)
        self.served = _observer(metrics, (*labels, "false"))
        self.failed = _observer(metrics, (*labels, "true"))


def _observer(metrics: RuntimeMetrics, labels: tuple[str, ...]) -> Callable[[float], None]:
    count, seconds = metrics.dispatches.labels(*labels), metrics.dispatch_seconds.labels(*labels)

    def observe(elapsed_s: float) -> None:
        count.inc()
        seconds.observe(elapsed_s)

    return observe


class BoundRoutes:
    """The routes of one namespace, bound."""

    __slots__ = ("checks", "conditions", "directives", "generators", "quotas", "reports")

    def __init__(self, routes: Routes, bound: Callable[[Route], BoundRoute]) -> None:
        self.conditions: Final = tuple(program.evaluate for program in routes.conditions)
        self.generators: Final = tuple(map(bound, routes.generators))
        self.checks: Final = tuple(map(bound, routes.checks))
        self.reports: Final = tuple(map(bound, routes.reports))
        self.quotas: Final = {name: tuple(map(bound, candidates)) for name, candidates in routes.quotas.items()}
        self.directives: Final[tuple[Directive, ...]] = routes.directives


class Matches:
    """Which conditions hold for one bag: each is evaluated when first asked for, and once.

    ``drawn`` is what sampling has decided for the request so far; all its phases share it.
    """

    __slots__ = ("_bag", "_conditions", "_drawn", "_holds", "_on_error")

    def __init__(
        self, routes: BoundRoutes, bag: AttributeBag, drawn: dict[Sampler, bool], on_error: Callable[[Exception], None]
    ) -> None:
        self._conditions = routes.conditions
        self._bag = bag
        self._holds: list[bool | None] = [None] * len(self._conditions)
        self._drawn = drawn
        self._on_error = on_error

    def holds(self, condition: int) -> bool:
        """Whether a condition holds; one that cannot be evaluated does not."""
        if condition == ALWAYS:
            return True
        held = self._holds[condition]
        if held is None:
            try:
                held = self._conditions[condition](self._bag) is True
            except Exception as exc:  # noqa: BLE001  one rule must not cost the others
                held = False
                self._on_error(exc)
            self._holds[condition] = held
        return held

    def selects(self, route: BoundRoute) -> bool:
        """Whether a route's condition holds and its rule's sampling picks the request, one draw for a rule."""
        if not self.holds(route.condition):
            return False
        sampler = route.sampler
        if sampler is None:
            return True
        drawn = self._drawn.get(sampler)
        if drawn is None:
            drawn = self._drawn[sampler] = sampler.selects(self._bag)
        return drawn


class Binding:
    """One snapshot and its running handlers; counts the requests that hold it."""

    def __init__(
        self, snapshot: Snapshot, live: Mapping[str, LiveHandler], clock: Clock, metrics: RuntimeMetrics
    ) -> None:
        self.snapshot: Final = snapshot
        self.live: Final = dict(live)
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        samplers = {rule.key: Sampler(rule.sampling, clock) for rule in snapshot.rules if rule.sampling is not None}

        def bound(route: Route) -> BoundRoute:
            return BoundRoute(route, self.live[route.handler], metrics, samplers.get(route.rule.key))

        table = snapshot.routes
        self._routes = {namespace: BoundRoutes(routes, bound) for namespace, routes in table.by_namespace.items()}
        self._fallback = BoundRoutes(table.fallback, bound)

    def routes(self, namespace: str) -> BoundRoutes:
        """The routes for requests of a namespace."""
        return self._routes.get(namespace, self._fallback)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Keeps the handlers of this binding open for the time of one request."""
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no request holds this binding; meant for one that gets no new ones."""
        await self._idle.wait()
