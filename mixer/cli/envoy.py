"""Envoy's services in Mixer's own process: the sidecar client over the dispatcher beside it.

The client's caches are off, because asking costs less than remembering. QuotaSpecs, HTTPAPISpecs and their bindings
are read from the same store as rules, each time a configuration is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from typing import Final

import structlog
from prometheus_client import Gauge

from mixer.api.answer import CheckAnswer
from mixer.attributes import AttributeBag
from mixer.errors import MixerError
from mixer.runtime.controller import Controller
from mixer.runtime.results import PASSED, CheckOutcome
from mixer.server.guests import House
from mixer.server.status import service_error
from mixer.store import Problem, StoreContents
from proxy.client import (
    PASS_THROUGH,
    FailPolicy,
    HttpClientConfig,
    NetworkFailPolicy,
    ServiceConfig,
    SidecarClient,
    SpecBuilder,
    TcpClientConfig,
)
from proxy.envoy.access_log import AccessLog, AccessLogMetrics
from proxy.envoy.ext_authz import Authorization, Decider
from proxy.envoy.ext_authz_http import HttpAuthorization
from proxy.envoy.metrics import PolicyMetrics
from proxy.envoy.otlp import OtlpMetrics, Traces
from proxy.envoy.rate_limit import RateLimits
from proxy.envoy.recent import RecentChecks
from proxy.mixer import CheckCall, MixerCallError

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.cli.envoy")

HTTP_PORT: Final = "ext-authz-http-port"

_DEFAULT: Final = "default"
_TRANSPORT: Final = PASS_THROUGH.model_copy(
    update={"network_fail_policy": NetworkFailPolicy(policy=FailPolicy.FAIL_CLOSE)}
)
"""A mesh fails closed unless it says otherwise; Envoy's own failure mode is for a Mixer that is away."""

HTTP_CLIENT: Final = HttpClientConfig(
    transport=_TRANSPORT, service_configs={_DEFAULT: ServiceConfig()}, default_destination_service=_DEFAULT
)
TCP_CLIENT: Final = TcpClientConfig(transport=_TRANSPORT)
_PASSED: Final = PASSED.answer()


class InProcessMixer:
    """The dispatcher as `proxy.mixer.Mixer`: nothing is encoded, and the time limit is the caller's."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def check(self, call: CheckCall) -> CheckAnswer | Awaitable[CheckAnswer]:
        """Decide; see `proxy.mixer.Mixer.check`."""
        bag, quotas, deduplication_id, quotas_only, _, references = call
        try:
            given = self._controller.dispatcher.check_inline(
                bag, quotas, deduplication_id, quotas_only=quotas_only, references=references
            )
        except MixerError as exc:
            raise _call_error(exc) from exc
        if given is PASSED:
            return _PASSED
        return given.answer() if isinstance(given, CheckOutcome) else _answered(given)

    async def report(self, records: Sequence[AttributeBag]) -> None:
        """Take records; see `proxy.mixer.Mixer.report`."""
        try:
            await self._controller.dispatcher.report(records)
        except MixerError as exc:
            raise _call_error(exc) from exc


async def _answered(coming: Awaitable[CheckOutcome]) -> CheckAnswer:
    try:
        return (await coming).answer()
    except MixerError as exc:
        raise _call_error(exc) from exc


def _call_error(exc: MixerError) -> MixerCallError:
    return MixerCallError(service_error(exc).code, str(exc))


class EnvoyGuest:
    """External authorization, rate limits and access logs for every Envoy; see `mixer.server.guests.Guest`."""

    ports: Collection[str] = (HTTP_PORT,)

    def __init__(self, house: House) -> None:
        controller, registry = house.controller, house.metrics.registry
        self.client = SidecarClient(InProcessMixer(controller), HTTP_CLIENT, TCP_CLIENT, registry=registry)
        metrics = PolicyMetrics(registry)
        recent = RecentChecks()
        decider = Decider(self.client, lambda: controller.dispatcher.binding.snapshot.wanted, recent=recent)
        self.http_server = HttpAuthorization(decider, metrics, controller.ready.is_set).server
        self._problems = Gauge(
            "mixer_proxy_config_problems",
            "Problems of QuotaSpecs, HTTPAPISpecs and their bindings.",
            ("kind", "severity"),
            registry=registry,
        )
        self._specs = SpecBuilder()
        self._told: frozenset[str] = frozenset()
        self.methods = (
            Authorization(decider, metrics).methods
            | RateLimits(self.client, metrics).methods
            | AccessLog(self.client, AccessLogMetrics(registry), recent=recent).methods
            | Traces(self.client, OtlpMetrics(registry)).methods
        )

    def configure(self, contents: StoreContents) -> None:
        """Use the specs and bindings of a configuration; what is wrong with some costs those only."""
        specs, problems = self._specs.build(contents.resources.values())
        self.client.use_specs(specs)
        self._tell(problems)

    def _tell(self, problems: Sequence[Problem]) -> None:
        self._problems.clear()
        kinds = Counter((p.resource.kind if p.resource else "", p.severity.value) for p in problems)
        for (kind, severity), count in kinds.items():
            self._problems.labels(kind, severity).set(count)
        texts = frozenset(str(problem) for problem in problems)
        for text in sorted(texts - self._told):
            log.warning("configuration_problem", problem=text)
        self._told = texts

    async def listen(self, name: str, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Serve external authorization in its HTTP form."""
        return await self.http_server.listen(host, port, reuse_port=reuse_port)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self, grace_s: float) -> None:
        """Finish the answers in progress, and what they left to do."""
        await self.http_server.stop(grace_s)
        await self.client.aclose(grace_s)


def invite_envoy(house: House) -> EnvoyGuest:
    """The guest of a house; see `mixer.server.guests.Invitation`."""
    return EnvoyGuest(house)
