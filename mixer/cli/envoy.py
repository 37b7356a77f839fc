"""Envoy's services in Mixer's own process: the proxy side's code over the dispatcher beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Final

import structlog

from mixer.api.answer import CheckAnswer
from mixer.api.codes import Code
from mixer.attributes import AttributeBag
from mixer.errors import MixerError
from mixer.runtime.controller import Controller
from mixer.server.guests import House
from mixer.server.status import service_error
from mixer.store import StoreContents
from proxy.envoy.access_log import AccessLog, AccessLogMetrics
from proxy.envoy.ext_authz import Authorization, Decider
from proxy.envoy.ext_authz_http import HttpAuthorization
from proxy.envoy.metrics import PolicyMetrics
from proxy.envoy.rate_limit import RateLimits
from proxy.mixer import CheckCall, MixerCallError, QuotaDemand
from proxy.policy import QUOTA_EXHAUSTED, PolicyClient, Verdict

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.cli.envoy")

HTTP_PORT: Final = "ext-authz-http-port"


class InProcessMixer:
    """The dispatcher as `proxy.mixer.Mixer`; there is nothing to retry and nothing to encode."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def check(self, call: CheckCall) -> CheckAnswer:
        """Decide; see `proxy.mixer.Mixer.check`."""
        dispatcher = self._controller.dispatcher
        try:
            async with asyncio.timeout(call.timeout_s):
                outcome = await dispatcher.check(
                    call.bag, call.quotas, call.deduplication_id, quotas_only=call.quotas_only
                )
        except TimeoutError as exc:
            raise MixerCallError(Code.DEADLINE_EXCEEDED, f"no decision within {call.timeout_s:g}s") from exc
        except MixerError as exc:
            raise MixerCallError(service_error(exc).code, str(exc)) from exc
        return outcome.answer()

    async def report(self, records: Sequence[AttributeBag]) -> None:
        """Take records; see `proxy.mixer.Mixer.report`."""
        dispatcher = self._controller.dispatcher
        try:
            await dispatcher.report(records)
        except MixerError as exc:
            raise MixerCallError(service_error(exc).code, str(exc)) from exc


class DirectClient:
    """Asks Mixer each time: `proxy.policy.PolicyClient` without configuration and memory."""

    def __init__(self, mixer: InProcessMixer) -> None:
        self._mixer = mixer

    def compose(
        self, derived: AttributeBag, *, service: str = "", forwarded: str = "", tcp: bool = False
    ) -> AttributeBag:
        """The derived attributes alone."""
        return derived

    async def check(
        self, bag: AttributeBag, *, service: str = "", tcp: bool = False, timeout_s: float | None = None
    ) -> Verdict:
        """Mixer's verdict; closed when there is none."""
        try:
            answer = await self._mixer.check(CheckCall(bag, timeout_s=timeout_s))
        except MixerCallError as exc:
            return Verdict(Code.UNAVAILABLE, str(exc), failed=True)
        return Verdict(answer.code, answer.message, answer.directive)

    async def take(self, bag: AttributeBag, charges: Mapping[str, int], *, timeout_s: float | None = None) -> Verdict:
        """Charge quotas; what one refuses is given back to the others."""
        demands = {name: QuotaDemand(amount) for name, amount in charges.items()}
        try:
            answer = await self._mixer.check(CheckCall(bag, demands, quotas_only=True, timeout_s=timeout_s))
        except MixerCallError as exc:
            return Verdict(Code.UNAVAILABLE, str(exc), failed=True)
        refused = [name for name in charges if answer.quotas[name].granted < charges[name]]
        if not refused:
            return Verdict(quotas=answer.quotas)
        if back := {name: QuotaDemand(-charges[name]) for name in charges if name not in refused}:
            await self._mixer.check(CheckCall(bag, back, quotas_only=True))
        return Verdict(Code.RESOURCE_EXHAUSTED, QUOTA_EXHAUSTED + ",".join(refused), quotas=answer.quotas)

    def report(
        self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
    ) -> Awaitable[None] | None:
        """Hand over."""
        return self._mixer.report(records)

    def forward(self, *, service: str = "") -> str:
        """Nothing."""
        return ""


class EnvoyGuest:
    """External authorization, rate limits and access logs for every Envoy that calls; see `mixer.server.guests.Guest`."""

    ports: Collection[str] = (HTTP_PORT,)

    def __init__(self, client: PolicyClient, house: House) -> None:
        controller, registry = house.controller, house.metrics.registry
        metrics = PolicyMetrics(registry)
        decider = Decider(client, lambda: controller.dispatcher.binding.snapshot.wanted)
        self._http = HttpAuthorization(decider, metrics, controller.ready.is_set)
        self.methods = (
            Authorization(decider, metrics).methods
            | RateLimits(client, metrics).methods
            | AccessLog(client, AccessLogMetrics(registry)).methods
        )

    def configure(self, contents: StoreContents) -> None:
        """Nothing to follow."""

    async def listen(self, name: str, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Serve external authorization in its HTTP form."""
        return await self._http.server.listen(host, port, reuse_port=reuse_port)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self, grace_s: float) -> None:
        """Finish the answers in progress."""
        await self._http.server.stop(grace_s)


def invite_envoy(house: House) -> EnvoyGuest:
    """The guest of a house; see `mixer.server.guests.Invitation`."""
    return EnvoyGuest(DirectClient(InProcessMixer(house.controller)), house)
