"""Routes with their running handlers, looked up once when configuration changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from mixer.adapters.base import Handler
from mixer.attributes import AttributeBag
from mixer.rules.routes import Conditional, Route
from mixer.runtime.handlers import LiveHandler
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.sampling import Sampler
from mixer.templates.builder import CompiledInstance

Drawn: TypeAlias = dict[Sampler, bool]
"""What sampling has decided for one request."""


class BoundRoute:
    """A route with its running handler and its metrics, looked up once when configuration changes."""

    __slots__ = (
        "bind",
        "build",
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


class BoundList:
    """Bound routes of one variety (or of one quota), in the order of declaration."""

    __slots__ = ("_index", "_routes", "_sampled")

    def __init__(self, routes: Conditional[Route], bound: Callable[[Route], BoundRoute]) -> None:
        self._routes: Final = tuple(map(bound, routes.things))
        self._index: Final = routes.index
        self._sampled: Final = any(route.sampler is not None for route in self._routes)

    def __bool__(self) -> bool:
        return bool(self._routes)

    def selected(self, bag: AttributeBag, drawn: Drawn, on_error: Callable[[Exception], None]) -> list[BoundRoute]:
        """The routes whose condition holds and whose rule's sampling picks the request.

        ``drawn`` is what sampling has decided for the request so far; all its phases share it.
        """
        routes = self._routes
        selected = [routes[position] for position in self._index.matching(bag.lookup, on_error)]
        return [route for route in selected if is_drawn(route, bag, drawn)] if self._sampled else selected


def is_drawn(route: BoundRoute, bag: AttributeBag, drawn: Drawn) -> bool:
    """Whether sampling picks the request; one draw for a rule, however many routes it has."""
    sampler = route.sampler
    if sampler is None:
        return True
    picked = drawn.get(sampler)
    if picked is None:
        picked = drawn[sampler] = sampler.selects(bag)
    return picked
