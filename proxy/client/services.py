"""Which configuration holds for a request, made ready to be used.

Source: spec proxy 2.1 to 2.3.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.client.apispec import HTTPAPISpec
from proxy.client.config import HttpClientConfig, NetworkFailPolicy, ServiceConfig, TcpClientConfig
from proxy.client.forwarded import write_forwarded
from proxy.client.node import LocalNode, is_outbound
from proxy.client.quotaspec import QuotaRules, QuotaSpec
from proxy.client.values import AttributeValues

ROUTES: Final = 1_000
"""Configurations of routes that are kept, the least recently used go first."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What holds for the requests of one service.

    Attributes:
        statics: What the local node and the configuration say of each request.
        header: What the next hop is told.
        checks: Whether Check is called.
        reports: Whether Report is called.
        rules: Quotas that the configuration itself demands.
        apis: API specs of the configuration itself.
        fails_open: What Mixer's silence means.
        bound: Specs that bindings give the service hold as well.
    """

    statics: AttributeValues
    header: str = ""
    checks: bool = False
    reports: bool = False
    rules: tuple[QuotaRules, ...] = ()
    apis: tuple[HTTPAPISpec, ...] = ()
    fails_open: bool = True
    bound: bool = False


class HttpPlans:
    """Plans by service name, and those of routes."""

    __slots__ = ("_config", "_default", "_named", "_node", "_none", "_routes", "_routes_kept")

    def __init__(self, config: HttpClientConfig, node: LocalNode | None, routes: int = ROUTES) -> None:
        self._config = config
        self._node = node
        self._routes_kept = routes
        self._routes: OrderedDict[str, Plan] = OrderedDict()
        self._named = {name: self._plan(service) for name, service in config.service_configs.items()}
        self._none = self._plan(None)
        self._default = self._named.get(config.default_destination_service, self._none)

    def of(self, service: str) -> Plan:
        """The plan for a service or registered route; that of the default service when there is none of that name."""
        plan = self._named.get(service)
        if plan is not None:
            return plan
        plan = self._routes.get(service)
        if plan is None:
            return self._default
        self._routes.move_to_end(service)
        return plan

    def register(self, config: ServiceConfig) -> str:
        """Keep the configuration of a route; the key by which `of` finds it, the same for the same content."""
        digest = hashlib.sha256(repr(_canonical(config.model_dump())).encode("utf-8", "surrogatepass"))
        key = f"route:{digest.hexdigest()}"
        if key not in self._routes:
            self._routes[key] = self._plan(config)
            if len(self._routes) > self._routes_kept:
                self._routes.popitem(last=False)
        self._routes.move_to_end(key)
        return key

    def __contains__(self, service: str) -> bool:
        return service in self._named or service in self._routes

    def _plan(self, service: ServiceConfig | None) -> Plan:
        config = self._config
        outbound = is_outbound(config.mixer_attributes)
        own = {} if self._node is None else self._node.attributes(outbound=outbound)
        forwarded = {} if self._node is None else dict(self._node.forwarded(outbound=outbound))
        forwarded.update(config.forward_attributes)
        statics = {**own, **config.mixer_attributes}
        if service is None:
            return Plan(statics, write_forwarded(forwarded))
        forwarded.update(service.forward_attributes)
        policy = service.network_fail_policy or config.transport.network_fail_policy
        return Plan(
            {**statics, **service.mixer_attributes},
            write_forwarded(forwarded),
            not service.disable_check_calls,
            not service.disable_report_calls,
            _ready(service.quota_spec),
            tuple(service.http_api_spec),
            policy.fails_open,
            bound=not outbound,
        )


def tcp_plan(config: TcpClientConfig | None, node: LocalNode | None) -> Plan:
    """The plan for connections; without configuration nothing is called."""
    if config is None:
        return Plan({})
    own = {} if node is None else node.attributes(outbound=is_outbound(config.mixer_attributes))
    policy: NetworkFailPolicy = config.transport.network_fail_policy
    return Plan(
        {**own, **config.mixer_attributes},
        checks=not config.disable_check_calls,
        reports=not config.disable_report_calls,
        rules=_ready([config.connection_quota_spec] if config.connection_quota_spec is not None else []),
        fails_open=policy.fails_open,
    )


def _ready(specs: Sequence[QuotaSpec]) -> tuple[QuotaRules, ...]:
    return (QuotaRules(specs),) if specs else ()


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return sorted((str(key), _canonical(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return type(value).__name__, value
