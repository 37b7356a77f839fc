"""Bindings: which QuotaSpecs and HTTPAPISpecs hold for a service, from resources of ``config.istio.io/v1alpha2``.

Source: spec proxy 7, 7.1 and 9.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias

import re2
from pydantic import AfterValidator, model_validator

from mixer.store import FieldError, Problem, Resource, ResourceKey, Severity
from mixer.store.protojson import ProtoModel, bad_value, decode
from proxy.client.apispec import HttpApi, HTTPAPISpec
from proxy.client.patterns import AtLeastOne, NotEmpty
from proxy.client.quotaspec import QuotaRules, QuotaSpec

HOSTS: Final = 1_000
"""Host names whose specs are remembered."""

_LABEL: Final = re2.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _label(value: str) -> str:
    if _LABEL.fullmatch(value) is None:
        raise bad_value("not a DNS label", "at most 63 of a-z, 0-9 and '-', which does not begin or end it")
    return value


Label: TypeAlias = Annotated[str, AfterValidator(_label)]


class IstioService(ProtoModel):
    """A service, by name or by host name; ``labels`` are accepted and mean nothing."""

    name: Label | None = None
    namespace: Label | None = None
    domain: NotEmpty | None = None
    service: NotEmpty | None = None
    labels: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_way(self) -> IstioService:
        if (self.name is None) == (self.service is None):
            raise bad_value("a service is named in one way", "one of name, service")
        if self.service is not None and (self.namespace is not None or self.domain is not None):
            raise bad_value("service is the whole host name", "no namespace and no domain beside it")
        return self


class SpecReference(ProtoModel):
    """A spec, in the binding's namespace unless told otherwise."""

    name: NotEmpty
    namespace: NotEmpty | None = None


class QuotaSpecBinding(ProtoModel):
    """QuotaSpecs for services."""

    services: Annotated[list[IstioService], AtLeastOne]
    quota_specs: Annotated[list[SpecReference], AtLeastOne]


class HTTPAPISpecBinding(ProtoModel):
    """HTTPAPISpecs for services."""

    services: Annotated[list[IstioService], AtLeastOne]
    api_specs: Annotated[list[SpecReference], AtLeastOne]


_MODELS: Final[Mapping[str, type[ProtoModel]]] = MappingProxyType(
    {model.__name__: model for model in (QuotaSpec, QuotaSpecBinding, HTTPAPISpec, HTTPAPISpecBinding)}
)
KINDS: Final = frozenset(_MODELS)


@dataclass(frozen=True, slots=True, eq=False)
class HostSpecs:
    """What holds for a host name, in the order of the specs' keys; one object for all hosts with the same specs."""

    rules: tuple[QuotaRules, ...] = ()
    apis: tuple[HTTPAPISpec, ...] = ()


@dataclass(frozen=True, slots=True)
class _Binding:
    everything: bool
    hosts: frozenset[str]
    parts: tuple[str, ...]
    specs: tuple[ResourceKey, ...]

    def takes(self, host: str) -> bool:
        """Whether a host fits that is not named."""
        return self.everything or any(part in host for part in self.parts)


class SpecIndex:
    """The specs of each host name; immutable but for its memory of hosts, which is bounded."""

    __slots__ = ("_alike", "_apis", "_memo", "_named", "_rules", "_wild")

    def __init__(
        self,
        rules: dict[ResourceKey, QuotaRules] | None = None,
        apis: dict[ResourceKey, HTTPAPISpec] | None = None,
        bindings: Iterable[_Binding] = (),
    ) -> None:
        self._rules = rules or {}
        self._apis = apis or {}
        self._named: dict[str, list[_Binding]] = {}
        self._wild: list[_Binding] = []
        self._memo: OrderedDict[str, HostSpecs] = OrderedDict()
        self._alike: dict[tuple[ResourceKey, ...], HostSpecs] = {}
        for binding in bindings:
            for host in binding.hosts:
                self._named.setdefault(host, []).append(binding)
            if binding.everything or binding.parts:
                self._wild.append(binding)

    @classmethod
    def build(cls, resources: Iterable[Resource], domain: str = "cluster.local") -> tuple[SpecIndex, list[Problem]]:
        """The index of what is sound, and what is wrong with the rest; see `SpecBuilder.build`."""
        return SpecBuilder(domain).build(resources)

    def __bool__(self) -> bool:
        return bool(self._named or self._wild)

    def of(self, host: str) -> HostSpecs:
        """The specs of a host name."""
        memo = self._memo
        found = memo.get(host)
        if found is not None:
            memo.move_to_end(host)
            return found
        bindings = [*self._named.get(host, ()), *(binding for binding in self._wild if binding.takes(host))]
        keys = tuple(sorted({key for binding in bindings for key in binding.specs}))
        found = self._alike.get(keys)
        if found is None:
            found = HostSpecs(
                tuple(self._rules[key] for key in keys if key in self._rules),
                tuple(self._apis[key] for key in keys if key in self._apis),
            )
            if len(self._alike) >= HOSTS:
                self._alike.clear()
            self._alike[keys] = found
        if len(memo) >= HOSTS:
            memo.popitem(last=False)
        memo[host] = found
        return found


class SpecBuilder:
    """Builds one index after another; a spec or binding that became faulty goes on in its last good version.

    Else a slip of the pen in a QuotaSpec would lift its limits.

    Args:
        domain: Follows ``.svc.`` in the host names of services that are named without a domain.
    """

    def __init__(self, domain: str = "cluster.local") -> None:
        self._domain = domain
        self._good: dict[ResourceKey, Resource] = {}

    def build(self, resources: Iterable[Resource]) -> tuple[SpecIndex, list[Problem]]:
        """The index of what is sound or was so before, and what is wrong; other kinds of resources are passed over.

        Args:
            resources: Of all namespaces; what is not among them any more is forgotten.
        """
        problems: list[Problem] = []
        found: list[tuple[Resource, ProtoModel]] = []
        for resource in resources:
            model = _MODELS.get(resource.key.kind)
            if model is None:
                continue
            spec, faults = decode(model, resource.spec)
            problems += (_problem(resource, fault) for fault in faults)
            if spec is None:
                resource = self._good.get(resource.key, resource)
                spec, _ = decode(model, resource.spec)
            if spec is not None:
                found.append((resource, spec))
        self._good = {resource.key: resource for resource, _ in found}
        rules = {resource.key: QuotaRules([spec]) for resource, spec in found if isinstance(spec, QuotaSpec)}
        apis = {resource.key: spec for resource, spec in found if isinstance(spec, HTTPAPISpec)}
        for resource, spec in found:
            if isinstance(spec, HTTPAPISpec):
                problems += (
                    Problem.of(resource, ("spec", "patterns"), text, severity=Severity.WARNING)
                    for text in HttpApi([spec]).warnings
                )
        known: set[ResourceKey] = {*rules, *apis}
        bindings = [
            _bind(resource, spec, known, self._domain, problems)
            for resource, spec in found
            if isinstance(spec, (QuotaSpecBinding, HTTPAPISpecBinding))
        ]
        return SpecIndex(rules, apis, bindings), problems


def _problem(resource: Resource, fault: FieldError) -> Problem:
    return Problem.of(resource, ("spec", *fault.path), fault.message, expected=fault.expected)


def _bind(
    resource: Resource,
    spec: QuotaSpecBinding | HTTPAPISpecBinding,
    known: set[ResourceKey],
    domain: str,
    problems: list[Problem],
) -> _Binding:
    key = resource.key
    if isinstance(spec, QuotaSpecBinding):
        references, kind, field = spec.quota_specs, "QuotaSpec", "quotaSpecs"
    else:
        references, kind, field = spec.api_specs, "HTTPAPISpec", "apiSpecs"

    def warn(path: tuple[Any, ...], message: str, expected: str) -> None:
        problems.append(Problem.of(resource, ("spec", *path), message, expected=expected, severity=Severity.WARNING))

    everything, hosts, parts = False, set(), []
    for place, service in enumerate(spec.services):
        name = service.service
        if name is None:
            home = f"{service.name}.{service.namespace or key.namespace}"
            hosts.add(f"{home}.{service.domain}" if service.domain is not None else f"{home}.svc.{domain}")
        elif name == "*":
            everything = True
        elif "*" not in name:
            hosts.add(name)
        elif len(name) > 2 and name[0] == name[-1] == "*" and "*" not in name[1:-1]:
            parts.append(name[1:-1])
        else:
            warn(("services", place, "service"), f'"{name}" matches nothing', '"*", a host name, or "*PART*"')
    specs = []
    for place, reference in enumerate(references):
        target = ResourceKey(kind, reference.namespace or key.namespace, reference.name)
        if target in known:
            specs.append(target)
        else:
            warn((field, place), f"there is no {kind} {reference.name} in {target.namespace}", "")
    return _Binding(everything, frozenset(hosts), tuple(parts), tuple(specs))
