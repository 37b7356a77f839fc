"""Roles joined with their bindings: what the objects mean together, and what dangles.

Source: spec adapters 4.9.1 and 4.9.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixer.adapters.rbac.specs import (
    AccessRule,
    EnforcementMode,
    RbacConfig,
    ServiceRole,
    ServiceRoleBinding,
    Subject,
)
from mixer.store.problem import Problem, Severity
from mixer.store.resource import Resource


@dataclass(frozen=True, slots=True)
class Grant:
    """A role with the subjects that have it, in one mode; subjects are those of all its bindings."""

    role: str
    rules: tuple[AccessRule, ...]
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class NamespaceGrants:
    """The grants of one namespace, in the order of the roles' declaration."""

    enforced: tuple[Grant, ...] = ()
    permissive: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Roles:
    """All grants, by namespace, and for which services they are asked; ``config`` is None when nothing says so.

    ``counts`` is how many roles and bindings there are that can have an effect.
    """

    namespaces: Mapping[str, NamespaceGrants] = field(default_factory=dict)
    config: RbacConfig | None = None
    counts: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class _Role:
    rules: tuple[AccessRule, ...]
    enforced: list[Subject] = field(default_factory=list)
    permissive: list[Subject] = field(default_factory=list)


def join(objects: Sequence[tuple[Resource, Any]]) -> tuple[Roles, list[Problem]]:
    """Bind subjects to roles, whatever the order of their declaration; what refers to nothing is a warning."""
    problems: list[Problem] = []
    namespaces: dict[str, dict[str, _Role]] = {}
    bindings: list[tuple[Resource, ServiceRoleBinding]] = []
    configs: list[tuple[Resource, RbacConfig]] = []
    for resource, spec in objects:
        if isinstance(spec, ServiceRole):
            namespaces.setdefault(resource.key.namespace, {})[resource.key.name] = _Role(tuple(spec.rules))
        elif isinstance(spec, ServiceRoleBinding):
            bindings.append((resource, spec))
        elif isinstance(spec, RbacConfig):
            configs.append((resource, spec))
    roles = sum(map(len, namespaces.values()))
    bound = 0
    for resource, binding in bindings:
        role = _role_of(resource, binding, namespaces, problems)
        if role is not None:
            bound += 1
            mode = role.enforced if binding.mode == EnforcementMode.ENFORCED else role.permissive
            mode.extend(binding.subjects)
    grants = {namespace: _grants(found) for namespace, found in namespaces.items()}
    return Roles(grants, _config(configs, problems), (roles, bound)), problems


def _grants(roles: Mapping[str, _Role]) -> NamespaceGrants:
    return NamespaceGrants(
        tuple(Grant(name, role.rules, tuple(role.enforced)) for name, role in roles.items() if role.enforced),
        tuple(Grant(name, role.rules, tuple(role.permissive)) for name, role in roles.items() if role.permissive),
    )


def _role_of(
    resource: Resource,
    binding: ServiceRoleBinding,
    namespaces: dict[str, dict[str, _Role]],
    problems: list[Problem],
) -> _Role | None:
    namespace, name = resource.key.namespace, resource.key.name
    if binding.actions:
        return namespaces.setdefault(namespace, {}).setdefault(f"{name} (actions)", _Role(tuple(binding.actions)))
    wanted = binding.role_ref.name if binding.role_ref is not None else binding.role
    known = namespaces.get(namespace, {})
    if wanted in known:
        return known[wanted]
    elsewhere = sorted(space for space, roles in namespaces.items() if wanted in roles)
    message = f"role '{wanted}' not found in namespace {namespace}, so this binding has no effect"
    if elsewhere:
        message += f"; namespace {elsewhere[0]} has one, but roles are bound in their own namespace"
    path = ("spec", "roleRef", "name") if binding.role_ref is not None else ("spec", "role")
    expected = "the name of a ServiceRole in the same namespace"
    problems.append(Problem.of(resource, path, message, expected=expected, severity=Severity.WARNING))
    return None


def _config(configs: list[tuple[Resource, RbacConfig]], problems: list[Problem]) -> RbacConfig | None:
    """The one that counts: a ClusterRbacConfig before an RbacConfig, which it replaced; then the first."""
    configs = sorted(configs, key=lambda pair: pair[0].key.kind != "ClusterRbacConfig")
    for resource, _ in configs[1:]:
        message = f"{configs[0][0].key} counts, so this one has no effect"
        problems.append(Problem.of(resource, (), message, expected="one for all", severity=Severity.WARNING))
    return configs[0][1] if configs else None
