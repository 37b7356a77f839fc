"""The sidecar client: what a host asks, put together from configuration, caches, batches and a Mixer.

Source: spec proxy 1, 2, 5.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from mixer.attributes import ABSENT, AttributeBag
from proxy.client.apispec import HttpApi
from proxy.client.background import Background
from proxy.client.bags import ApiBag, LayeredBag
from proxy.client.batch import Reporter
from proxy.client.bindings import HostSpecs, SpecIndex
from proxy.client.config import HttpClientConfig, ServiceConfig, TcpClientConfig, Transport
from proxy.client.engine import CheckEngine
from proxy.client.forwarded import read_forwarded
from proxy.client.hostnames import HOST, with_host
from proxy.client.node import LocalNode
from proxy.client.quotaspec import QuotaRules
from proxy.client.services import HttpPlans, Plan, tcp_plan
from proxy.client.stats import Counters, Source, StatsCollector
from proxy.client.values import NOTHING, AttributeValues
from proxy.mixer import Mixer
from proxy.policy import NOT_CHECKED, Verdict

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.sidecar")

APIS: Final = 1_000
"""Combinations of service and bound specs whose APIs are kept ready."""

_NO_SPECS: Final = HostSpecs()


class _Side:
    """What one protocol has of its own."""

    __slots__ = ("counters", "engine", "reporter")

    def __init__(
        self, mixer: Mixer, transport: Transport, monotonic: Callable[[], float], background: Background
    ) -> None:
        self.counters: Final = Counters()
        self.engine: Final = CheckEngine(mixer, transport, self.counters, monotonic=monotonic, background=background)
        self.reporter: Final = Reporter(mixer, transport, self.counters)


class SidecarClient:
    """`proxy.policy.PolicyClient` for one process; belongs to one event loop.

    Args:
        mixer: Who is asked and told. It stays the caller's: closing the client does not close it.
        http: What holds for requests.
        tcp: What holds for connections; without it nothing is asked or reported of them.
        specs: Specs that bindings give to services.
        node: Who the proxy is; None where it stands beside no workload, then it says nothing of itself.
        http_api: Whether API keys and the attributes of HTTPAPISpecs are given to requests.
        registry: Where the counters are scraped; they can be read from `counters` without one.
        monotonic: Seconds of a clock that is never set.
    """

    def __init__(
        self,
        mixer: Mixer,
        http: HttpClientConfig,
        tcp: TcpClientConfig | None = None,
        *,
        specs: SpecIndex | None = None,
        node: LocalNode | None = None,
        http_api: bool = True,
        registry: CollectorRegistry | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http_config = http
        self._http_api = http_api
        self._specs = SpecIndex()
        self._binds = False
        self._apis: OrderedDict[tuple[Plan, HostSpecs], HttpApi] = OrderedDict()
        self._plans = HttpPlans(http, node)
        self._tcp_plan = tcp_plan(tcp, node)
        self._background = Background()
        tcp_transport = tcp.transport if tcp is not None else Transport()
        self._http = _Side(mixer, http.transport, monotonic, self._background)
        self._tcp = _Side(mixer, tcp_transport, monotonic, self._background)
        self._fails_open = http.transport.network_fail_policy.fails_open
        if specs is not None:
            self.use_specs(specs)
        self._stats = None if registry is None else StatsCollector(registry, self._sources(), _retries_of(mixer))

    def compose(
        self, derived: AttributeBag, *, service: str = "", forwarded: str = "", tcp: bool = False
    ) -> AttributeBag:
        """The whole bag of a request; see `PolicyClient.compose`.

        An API's attributes stand between derived and forwarded ones. A peer that proved who it is has the last word
        on ``source.namespace``; else the forwarded one wins. Nothing is forwarded to connections. Lowest is what the
        key of the service tells by itself.
        """
        if tcp:
            statics = with_host(self._tcp_plan.statics, service, NOTHING, derived)
            return LayeredBag(NOTHING, derived, statics) if statics else derived
        plan = self._plans.of(service)
        top = NOTHING
        if forwarded and not self._http_config.ignore_forwarded_attributes:
            top = _believed(forwarded, derived)
        statics = with_host(plan.statics, service, top, derived)
        middle = derived
        if self._http_api and (plan.checks or plan.reports):
            middle = ApiBag(self._api(plan, derived, top, statics), derived)
        return LayeredBag(top, middle, statics) if top or statics else middle

    def check(
        self, bag: AttributeBag, *, service: str = "", tcp: bool = False, timeout_s: float | None = None
    ) -> Verdict | Awaitable[Verdict]:
        """The verdict on a composed bag; see `PolicyClient.check`."""
        plan = self._tcp_plan if tcp else self._plans.of(service)
        if not plan.checks:
            return NOT_CHECKED
        rules = plan.rules
        if self._binds and plan.bound:
            rules += self._bound_rules(bag)
        side = self._tcp if tcp else self._http
        return side.engine.check(bag, rules, plan.fails_open, timeout_s)

    def take(
        self, bag: AttributeBag, charges: Mapping[str, int], *, timeout_s: float | None = None
    ) -> Verdict | Awaitable[Verdict]:
        """Charge quotas, all of them or none; see `PolicyClient.take`. Mixer is asked each time, for exact numbers."""
        return self._http.engine.take(bag, charges, self._fails_open, timeout_s)

    def report(
        self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
    ) -> Awaitable[None] | None:
        """Take records; see `PolicyClient.report`. They must stay as they are until they are sent."""
        plan = self._tcp_plan if tcp else self._plans.of(service)
        if not plan.reports or not records:
            return None
        return (self._tcp if tcp else self._http).reporter.report(records)

    def forward(self, *, service: str = "") -> str:
        """The value of ``x-istio-attributes`` for the next hop; empty for no header."""
        return self._plans.of(service).header

    def register(self, config: ServiceConfig) -> str:
        """Keep a route's own configuration; the result is the ``service`` of its requests.

        The least recently used of a thousand make room for new ones, whose requests then have the default service's.
        """
        return self._plans.register(config)

    def use_specs(self, specs: SpecIndex) -> None:
        """Other specs hold from now on."""
        self._specs = specs
        self._binds = bool(specs)
        self._apis.clear()

    def flush(self) -> None:
        """Send the records that wait for company."""
        self._http.reporter.flush()
        self._tcp.reporter.flush()

    def counters(self, *, tcp: bool = False) -> Counters:
        """What was counted for requests, or for connections."""
        return (self._tcp if tcp else self._http).counters

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Send what is waiting for so long, end the tasks; safe twice."""
        await asyncio.gather(
            self._http.reporter.aclose(grace_s), self._tcp.reporter.aclose(grace_s), self._background.aclose(grace_s)
        )
        if self._stats is not None:
            self._stats.close()
            self._stats = None

    def _bound_rules(self, bag: AttributeBag) -> tuple[QuotaRules, ...]:
        host = bag.lookup(HOST, ABSENT)
        return self._specs.of(host).rules if isinstance(host, str) else self._specs.of("").rules

    def _api(self, plan: Plan, derived: AttributeBag, top: AttributeValues, statics: AttributeValues) -> HttpApi:
        bound = _NO_SPECS
        if self._binds and plan.bound:
            host = LayeredBag(top, derived, statics).peek(HOST)
            bound = self._specs.of(host if isinstance(host, str) else "")
        found = self._apis.get((plan, bound))
        if found is None:
            found = HttpApi((*plan.apis, *bound.apis))
            if found.warnings:
                log.warning("templates_left_out", templates=found.warnings)
            if len(self._apis) >= APIS:
                self._apis.popitem(last=False)
            self._apis[plan, bound] = found
        return found

    def _sources(self) -> list[Source]:
        return [
            Source(name, side.counters, side.engine.checks, side.engine.quotas, _pending_of(side.reporter))
            for name, side in (("http", self._http), ("tcp", self._tcp))
        ]


def _pending_of(reporter: Reporter) -> Callable[[], int]:
    return lambda: reporter.pending


def _retries_of(mixer: Mixer) -> Callable[[], int] | None:
    if not isinstance(getattr(mixer, "check_retries", None), int):
        return None
    return lambda: int(getattr(mixer, "check_retries", 0))


def _believed(header: str, derived: AttributeBag) -> AttributeValues:
    found = read_forwarded(header)
    if (
        "source.namespace" in found
        and derived.peek("source.principal") is not ABSENT
        and derived.peek("source.namespace") is not ABSENT
    ):
        return {name: value for name, value in found.items() if name != "source.namespace"}
    return found
