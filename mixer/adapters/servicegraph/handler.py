"""The handler of servicegraph: instances are counted along their edges. Source: spec adapters 4.13."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from prometheus_client import Counter, Gauge

from mixer.adapters.base import Env, Handler, InstanceInfo
from mixer.adapters.servicegraph.graph import Drop, Limits, edge_of
from mixer.adapters.servicegraph.params import ServiceGraphParams
from mixer.adapters.servicegraph.site import Site
from mixer.attributes.values import ZERO_TIME
from mixer.templates.edge import EdgeInstance

_KEY: Final = "metrics"


class GraphMetrics:
    """The metrics of all handlers of the adapter: each instance is recorded or dropped."""

    def __init__(self, env: Env) -> None:
        self.recorded = Counter(
            "mixer_servicegraph_calls_recorded", "Calls counted in the graph.", ("handler",), registry=env.metrics
        )
        self.dropped = Counter(
            "mixer_servicegraph_calls_dropped", "Calls left out.", ("handler", "reason"), registry=env.metrics
        )
        self.edges = Gauge(
            "mixer_servicegraph_edges", "Edges in the handler's graph.", ("handler",), registry=env.metrics
        )

    @classmethod
    def of(cls, env: Env) -> GraphMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(env)
        return cast(GraphMetrics, env.shared[_KEY])


class ServiceGraphHandler(Handler):
    """Counts calls; waits for nothing."""

    def __init__(self, site: Site, key: tuple[str, int, str], env: Env) -> None:
        metrics = GraphMetrics.of(env)
        self._site, self._key, self._env = site, key, env
        self._recorded = metrics.recorded.labels(env.handler)
        self._dropped = {reason: metrics.dropped.labels(env.handler, reason.value) for reason in Drop}
        self._edges = metrics.edges.labels(env.handler)
        self._closed = False

    @property
    def port(self) -> int:
        """Where the pages are."""
        return self._site.port

    def handle_report(self, instances: Sequence[EdgeInstance], /) -> None:
        """Count calls at their time; without one, now. What finds no place is counted as dropped, and no error."""
        now_s = self._env.clock.now() / 1e9
        graph = self._site.graph
        for instance in instances:
            at_s = now_s if instance.timestamp == ZERO_TIME else instance.timestamp / 1e9
            reason = graph.record(edge_of(instance), at_s, now_s)
            if reason is None:
                self._recorded.inc()
            else:
                self._dropped[reason].inc()
        self._edges.set(len(graph))

    async def aclose(self) -> None:
        """Leave the site, which the last one closes."""
        if not self._closed:
            self._closed = True
            if await self._site.leave(self._env.shared, self._key):
                self._edges.set(0)


async def build(params: ServiceGraphParams, instances: Sequence[InstanceInfo], env: Env) -> ServiceGraphHandler:
    """A handler whose pages are served.

    Raises:
        AdapterError: The port cannot be opened.
    """
    limits = Limits(params.retention.seconds, params.resolution.seconds, params.max_edges)
    key = (params.host, params.port, "" if params.port else env.handler)
    site = await Site.join(env.shared, key, limits, env.clock)
    env.log.info("servicegraph_serves", host=params.host, port=site.port)
    return ServiceGraphHandler(site, key, env)
