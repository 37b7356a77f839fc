"""The handler of rbac: answers from roles, and follows the folder of them if it has one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Protocol, cast

from prometheus_client import Counter, Gauge

from mixer.adapters.base import CheckResult, Code, ConfigObjects, Env, Handler, Status
from mixer.adapters.rbac.params import RbacParams
from mixer.adapters.rbac.policies import INCOMPLETE, Decision, Policies
from mixer.adapters.rbac.requests import Request
from mixer.adapters.rbac.roles import Roles, join
from mixer.adapters.rbac.specs import KINDS, faults
from mixer.errors import BackendUnavailableError, StoreUnavailableError
from mixer.store.base import StoreContents
from mixer.store.problem import FieldError, Problem
from mixer.store.protojson import decode
from mixer.store.resource import Resource, ResourceKey
from mixer.templates.authorization import AuthorizationInstance

USE_COUNT: Final = 1_000_000_000
OBJECTS: Final = ConfigObjects(kinds=KINDS, compile=join, validate=faults)


class RbacMetrics:
    """The metrics of all handlers of the adapter; one object for each process."""

    def __init__(self, env: Env) -> None:
        registry = env.metrics
        self.checks = Counter(
            "mixer_rbac_checks",
            "Decisions: allowed, denied, unasked (RBAC is off for the service), incomplete (denied for what the instance lacks).",
            ("handler", "outcome"),
            registry=registry,
        )
        self.permissive = Counter(
            "mixer_rbac_permissive_checks",
            "What permissive bindings would have answered (200, 403), and the role that would have admitted.",
            ("handler", "response_code", "policy"),
            registry=registry,
        )
        self.roles = Gauge("mixer_rbac_roles", "Roles in force.", ("handler",), registry=registry)
        self.bindings = Gauge("mixer_rbac_bindings", "Bindings in force.", ("handler",), registry=registry)
        self.problems = Gauge(
            "mixer_rbac_problems", "Problems of the objects in a folder of roles.", ("handler",), registry=registry
        )

    @classmethod
    def of(cls, env: Env) -> RbacMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(env)
        return cast(RbacMetrics, env.shared[_KEY])


_KEY: Final = "metrics"


class RoleStore(Protocol):
    """A configuration store that holds roles; as much of `mixer.store.Store` as is needed here."""

    async def load(self) -> StoreContents:
        """Read everything."""
        ...

    def watch(self) -> AsyncGenerator[StoreContents, None]:
        """The contents after each change."""
        ...


class RbacHandler(Handler):
    """Answers from policies; without any it gives no answer, which fails closed.

    The builder awaits `use` with the objects of Mixer's configuration, or `load` and spawns `follow`.
    """

    def __init__(self, params: RbacParams, env: Env) -> None:
        self._params = params
        self._env = env
        self._policies: Policies | None = None
        self._good: dict[ResourceKey, Resource] = {}
        self._told: frozenset[str] = frozenset()
        self._follower: asyncio.Task[None] | None = None
        self._closed = False
        metrics = self._metrics = RbacMetrics.of(env)
        labels = [metrics.checks.labels(env.handler, outcome) for outcome in ("allowed", "denied", "unasked", "incomplete")]  # fmt: skip
        self._allowed, self._denied, self._unasked, self._incomplete = labels
        limits = params.cache_duration, USE_COUNT
        self._yes = CheckResult(Status(), *limits)
        self._no = CheckResult(Status(Code.PERMISSION_DENIED, "RBAC: permission denied."), *limits)

    def handle_check(self, instance: AuthorizationInstance, /) -> CheckResult:
        """Allow what a role admits.

        Raises:
            BackendUnavailableError: Roles have not been read yet.
        """
        if self._policies is None:
            raise BackendUnavailableError(f"roles cannot be read from {self._params.folder}")
        decision = self._policies.decide(Request.of(instance))
        self._count(decision)
        return self._yes if decision.allowed else self._no

    def _count(self, decision: Decision) -> None:
        if decision.enforced:
            (self._allowed if decision.allowed else self._denied).inc()
        else:
            (self._incomplete if decision is INCOMPLETE else self._unasked).inc()
        if decision.shadow is not None:
            code = "200" if decision.shadow else "403"
            self._metrics.permissive.labels(self._env.handler, code, decision.shadow_role).inc()

    async def use(self, roles: Roles) -> None:
        """Decide by these roles from now on; compiling a thousand takes a while, so it is done in a thread."""
        semantics, domains = self._params.semantics, self._params.trust_domains
        self._policies = await asyncio.to_thread(Policies, roles, semantics, domains)
        known, bound = roles.counts
        self._metrics.roles.labels(self._env.handler).set(known)
        self._metrics.bindings.labels(self._env.handler).set(bound)

    async def load(self, store: RoleStore) -> None:
        """Read the folder once; one that is away is waited for by `follow`."""
        try:
            await self._take(await store.load())
        except StoreUnavailableError as exc:
            self._env.log.warning("roles_not_read", reason=str(exc))

    async def follow(self, store: RoleStore) -> None:
        """Take each change of the folder; runs until `aclose`."""
        if self._closed:
            return
        self._follower = asyncio.current_task()
        async with aclosing(store.watch()) as states:
            async for contents in states:
                await self._take(contents)

    async def _take(self, contents: StoreContents) -> None:
        roles, problems = await asyncio.to_thread(self._read, contents)
        await self.use(roles)
        told = frozenset(map(str, problems))
        for problem in sorted(told - self._told):
            self._env.log.warning("role_problem", problem=problem)
        self._told = told
        self._metrics.problems.labels(self._env.handler).set(len(told))

    def _read(self, contents: StoreContents) -> tuple[Roles, list[Problem]]:
        """The objects of a folder; one that makes no sense keeps its last good version, as in Mixer's configuration."""
        decoded: list[tuple[Resource, Any]] = []
        problems = list(contents.problems)
        good: dict[ResourceKey, Resource] = {}
        for key, resource in contents.resources.items():
            if key.kind not in KINDS:
                continue
            spec, wrong = _decoded(resource)
            problems += (Problem.of(resource, path, message, expected=expected) for path, message, expected in wrong)
            former = self._good.get(key)
            if spec is None and former is not None:
                resource, (spec, _) = former, _decoded(former)
            if spec is not None:
                good[key] = resource
                decoded.append((resource, spec))
        self._good = good
        roles, found = join(decoded)
        return roles, problems + found

    async def aclose(self) -> None:
        """Stop following the folder."""
        self._closed = True
        follower, self._follower = self._follower, None
        if follower is not None and follower is not asyncio.current_task():
            follower.cancel()
            await asyncio.wait({follower})


def _decoded(resource: Resource) -> tuple[Any, list[FieldError]]:
    """A spec, or its faults by paths from the object's root."""
    spec, wrong = decode(KINDS[resource.key.kind], resource.spec)
    if spec is not None:
        wrong = list(faults(resource.key, spec))
    wrong = [fault if fault.path[:1] == ("metadata",) else fault.below("spec") for fault in wrong]
    return (None if wrong else spec), wrong
