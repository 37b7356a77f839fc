"""What a configuration means, once all names are resolved and all expressions compiled. Immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixer.adapters.base import AdapterInfo, InstanceInfo, Params
from mixer.api.wanted import Wanted
from mixer.attributes import Vocabulary
from mixer.expr import Program
from mixer.rules.objects import NO_OBJECTS, CompiledObjects
from mixer.rules.routes import Routes, RoutingTable
from mixer.rules.specs import HeaderOperationKind, Sampling
from mixer.store import Problem, Resource, ResourceKey
from mixer.templates.builder import CompiledInstance


@dataclass(frozen=True, slots=True, eq=False)
class HandlerConfig:
    """A handler as configured.

    Attributes:
        name: The display name, which messages, logs and metric labels use.
        signature: Equal exactly when nothing that the running handler depends on differs: adapter, params,
            objects, and the instances that rules route to it.
        instances: Those instances, sorted by name.
        objects: The configuration's objects that belong to the adapter.
    """

    key: ResourceKey
    name: str
    info: AdapterInfo
    params: Params
    resource: Resource
    signature: str = ""
    instances: tuple[InstanceInfo, ...] = ()
    objects: CompiledObjects = NO_OBJECTS


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """One handler and the instances it gets, in the order of the configuration; at least one."""

    handler: str
    instances: tuple[CompiledInstance, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class HeaderOperation:
    """One operation on one header; ``value`` is None for REMOVE."""

    name: str
    kind: HeaderOperationKind
    value: Program | None
    on_request: bool


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A resolved rule; ``match`` is None when it holds for every request."""

    key: ResourceKey
    match: Program | None
    actions: tuple[Action, ...]
    header_operations: tuple[HeaderOperation, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One configuration, ready to serve; a request pins one and never sees two.

    Attributes:
        revision: Grows by one for each snapshot of a process, from 0 for the empty one.
        handlers: By full name; only those that some rule uses.
        rules: Default namespace first, each namespace in the order of declaration.
        problems: What is wrong with the resources that this was built from.
        stale: Resources whose last good version serves because the present one is wrong.
        counts: How many resources of each kind took part.
        wanted: What of a request any of this can read.
    """

    revision: int
    vocabulary: Vocabulary
    handlers: Mapping[str, HandlerConfig]
    instances: Mapping[str, CompiledInstance]
    rules: tuple[Rule, ...]
    routes: RoutingTable
    problems: tuple[Problem, ...] = ()
    stale: frozenset[ResourceKey] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    wanted: Wanted = field(default_factory=lambda: Wanted({}))


def empty_snapshot() -> Snapshot:
    """What is served before any configuration was read: nothing."""
    return Snapshot(0, Vocabulary({}), {}, {}, (), RoutingTable({}, "", Routes()))
