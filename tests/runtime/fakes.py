"""What the tests of the runtime share: adapters that do as they are told, and a bench that serves a configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from mixer.adapters.base import AdapterInfo, Env, Handler, InstanceInfo, Params, QuotaArgs
from mixer.adapters.loading import by_name
from mixer.adapters.testing import FakeClock
from mixer.attributes import MappingBag
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.results import CheckOutcome
from mixer.store import Resource, ResourceKey, Severity, StoreContents
from mixer.templates import TEMPLATES

MANIFEST = {
    "kind": "attributemanifest",
    "name": "attributes",
    "spec": {
        "attributes": {
            **{
                name: {"valueType": "STRING"}
                for name in (
                    "request.path",
                    "request.method",
                    "source.user",
                    "source.uid",
                    "source.workload",
                    "source.namespace",
                    "destination.namespace",
                    "context.reporter.kind",
                )
            },
            "request.size": {"valueType": "INT64"},
            "request.headers": {"valueType": "STRING_MAP"},
            "source.labels": {"valueType": "STRING_MAP"},
            "source.ip": {"valueType": "IP_ADDRESS"},
        }
    },
}


class FakeParams(Params):
    """Params of the fake adapter: a name that the test knows the handler by, and a mark that makes versions differ."""

    role: str = ""
    mark: str = ""


@dataclass
class FakeHandler(Handler):
    """Records what it is asked, and answers as the test says."""

    backend: FakeBackend
    role: str
    instances: Sequence[InstanceInfo]
    env: Env
    closed: int = 0

    def _answer(self, *args: Any) -> Any:
        self.backend.calls.append((self.role, *args))
        answer = self.backend.answers[self.role]
        return answer(*args) if callable(answer) else answer

    def handle_check(self, instance: Any, /) -> Any:
        return self._answer(instance)

    def handle_report(self, instances: Sequence[Any], /) -> Any:
        return self._answer(list(instances)) if self.role in self.backend.answers else self._keep(instances)

    def _keep(self, instances: Sequence[Any]) -> None:
        self.backend.calls.append((self.role, list(instances)))

    def handle_quota(self, instance: Any, args: QuotaArgs, /) -> Any:
        return self._answer(instance, args)

    def generate_attributes(self, instance: Any, /) -> Any:
        return self._answer(instance)

    async def aclose(self) -> None:
        self.closed += 1
        self.backend.closed.append(self)
        if self.role in self.backend.on_close:
            await self.backend.on_close[self.role]()


@dataclass
class FakeBackend:
    """Everything that the fake handlers of one test did, and what they shall answer, by role."""

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    built: list[FakeHandler] = field(default_factory=list)
    closed: list[FakeHandler] = field(default_factory=list)
    on_build: dict[str, Callable[[Env], Awaitable[None]]] = field(default_factory=dict)
    on_close: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)

    async def build(self, params: FakeParams, instances: Sequence[InstanceInfo], env: Env) -> FakeHandler:
        if params.role in self.on_build:
            await self.on_build[params.role](env)
        handler = FakeHandler(self, params.role, instances, env)
        self.built.append(handler)
        return handler

    @property
    def info(self) -> AdapterInfo:
        return AdapterInfo("fake", tuple(TEMPLATES.values()), FakeParams, self.build)

    def calls_of(self, role: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == role]


def resource(kind: str, name: str, spec: Mapping[str, Any], namespace: str = "istio-system") -> Resource:
    return Resource(ResourceKey(kind, namespace, name), spec)


def contents(*documents: str | Mapping[str, Any]) -> StoreContents:
    """Store contents from texts of YAML documents, or mappings: kind, name, namespace? and spec."""
    flat: list[Mapping[str, Any]] = [MANIFEST]
    for document in documents:
        flat += yaml.safe_load_all(document) if isinstance(document, str) else [document]
    resources = [
        resource(d["kind"], d["name"], d.get("spec") or {}, d.get("namespace", "istio-system")) for d in flat if d
    ]
    return StoreContents({r.key: r for r in resources})


def fake(role: str, name: str = "", mark: str = "") -> dict[str, Any]:
    """A handler resource of the fake adapter."""
    spec = {"compiledAdapter": "fake", "params": {"role": role, "mark": mark}}
    return {"kind": "handler", "name": name or role, "spec": spec}


def instance(template: str, name: str, params: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"kind": "instance", "name": name, "spec": {"compiledTemplate": template, "params": params or {}, **spec}}


def rule(name: str, actions: Mapping[str, str | Sequence[str]], match: str = "", **extra: Any) -> dict[str, Any]:
    """A rule: handler -> instances."""
    namespace = extra.pop("namespace", "istio-system")
    listed = [{"handler": h, "instances": [i] if isinstance(i, str) else list(i)} for h, i in actions.items()]
    spec = {"match": match, "actions": listed, **extra}
    return {"kind": "rule", "name": name, "namespace": namespace, "spec": spec}


class Bench:
    """A controller that serves configurations of fakes."""

    def __init__(self, adapters: Iterable[AdapterInfo] = (), *, strict: bool = False, timeout_s: float = 5.0) -> None:
        self.backend = FakeBackend()
        self.clock = FakeClock()
        self.scrape = CollectorRegistry()
        self.metrics = RuntimeMetrics()
        self.builder = SnapshotBuilder(by_name([self.backend.info, *adapters]))
        self.controller = Controller(
            self.builder,
            clock=self.clock,
            scrape=self.scrape,
            metrics=self.metrics,
            handler_timeout_s=timeout_s,
            strict=strict,
        )

    async def serve(self, *documents: str | Mapping[str, Any], sound: bool = True) -> None:
        snapshot = await self.controller.apply(contents(*documents))
        if sound:
            assert not [str(p) for p in snapshot.problems if p.severity is Severity.ERROR]

    async def check(self, attributes: Mapping[str, Any] | None = None, **kwargs: Any) -> CheckOutcome:
        return await self.controller.dispatcher.check(MappingBag(attributes or {}), **kwargs)

    async def report(self, *records: Mapping[str, Any]) -> None:
        await self.controller.dispatcher.report([MappingBag(record) for record in records])

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)
