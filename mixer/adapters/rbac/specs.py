"""The objects of RBAC as strict models, and the faults of each by itself. Source: spec adapters 4.9.1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Final

from mixer.store.problem import FieldError
from mixer.store.protojson import Int32, ProtoEnum, ProtoModel, enum_field, to_camel
from mixer.store.resource import ResourceKey

PORT_CONSTRAINT: Final = "destination.port"


class EnforcementMode(ProtoEnum):
    """Whether a binding decides, or is merely tried."""

    ENFORCED = 0
    PERMISSIVE = 1


class RbacMode(ProtoEnum):
    """For which services roles are asked at all."""

    OFF = 0
    ON = 1
    ON_WITH_INCLUSION = 2
    ON_WITH_EXCLUSION = 3


class Constraint(ProtoModel):
    """A property of the action, and the patterns of which it must match one."""

    key: str = ""
    values: list[str] = []


class AccessRule(ProtoModel):
    """What may be done; all fields that are given must hold, and of each one value."""

    services: list[str] = []
    paths: list[str] = []
    methods: list[str] = []
    hosts: list[str] = []
    ports: list[Int32] = []
    not_paths: list[str] = []
    not_methods: list[str] = []
    not_hosts: list[str] = []
    not_ports: list[Int32] = []
    constraints: list[Constraint] = []


class ServiceRole(ProtoModel):
    """What may be done: any of the rules."""

    rules: list[AccessRule] = []


class Subject(ProtoModel):
    """Who; all fields that are given must hold."""

    user: str = ""
    group: str = ""
    properties: dict[str, str] = {}
    names: list[str] = []
    not_names: list[str] = []
    groups: list[str] = []
    not_groups: list[str] = []
    namespaces: list[str] = []
    not_namespaces: list[str] = []
    ips: list[str] = []
    not_ips: list[str] = []


class RoleRef(ProtoModel):
    """Which role."""

    kind: str = ""
    name: str = ""


class ServiceRoleBinding(ProtoModel):
    """Who has a role: any of the subjects. The role is named, or its rules stand here as ``actions``."""

    subjects: list[Subject] = []
    role_ref: RoleRef | None = None
    role: str = ""
    actions: list[AccessRule] = []
    mode: enum_field(EnforcementMode) = EnforcementMode.ENFORCED  # type: ignore[valid-type]


class Target(ProtoModel):
    """Services by their full name, and namespaces with all their services."""

    services: list[str] = []
    namespaces: list[str] = []


class RbacConfig(ProtoModel):
    """For which services roles are asked, and whether they decide."""

    mode: enum_field(RbacMode) = RbacMode.OFF  # type: ignore[valid-type]
    inclusion: Target | None = None
    exclusion: Target | None = None
    enforcement_mode: enum_field(EnforcementMode) = EnforcementMode.ENFORCED  # type: ignore[valid-type]


KINDS: Final[Mapping[str, type[ProtoModel]]] = {
    "ServiceRole": ServiceRole,
    "ServiceRoleBinding": ServiceRoleBinding,
    "ClusterRbacConfig": RbacConfig,
    "RbacConfig": RbacConfig,
}


def faults(key: ResourceKey, spec: ProtoModel) -> Iterator[FieldError]:
    """What is wrong with one object that decodes well."""
    if isinstance(spec, ServiceRole):
        if not spec.rules:
            yield FieldError(("rules",), "a role without rules permits nothing", "at least one rule")
        for index, rule in enumerate(spec.rules):
            yield from (fault.below("rules", index) for fault in _rule_faults(rule))
    elif isinstance(spec, ServiceRoleBinding):
        yield from _binding_faults(spec)
    elif isinstance(spec, RbacConfig):
        if key.name != "default":
            message = f"named '{key.name}', so that it would have no effect"
            yield FieldError(("metadata", "name"), message, "the name default")
        for mode, block, name in (
            (RbacMode.ON_WITH_INCLUSION, spec.inclusion, "inclusion"),
            (RbacMode.ON_WITH_EXCLUSION, spec.exclusion, "exclusion"),
        ):
            if spec.mode == mode and block is None:
                yield FieldError((name,), f"required with mode {mode.name}", "services or namespaces")


def _rule_faults(rule: AccessRule) -> Iterator[FieldError]:
    for index, constraint in enumerate(rule.constraints):
        if not constraint.key:
            yield FieldError(("constraints", index, "key"), "required field is missing", "the name of a property")
        if not constraint.values:
            yield FieldError(("constraints", index, "values"), "required field is missing", "at least one pattern")
        if constraint.key == PORT_CONSTRAINT and rule.ports:
            yield FieldError(("constraints", index, "key"), f"{PORT_CONSTRAINT} stands beside ports", "one of them")
    if rule.methods and rule.not_methods:
        yield FieldError(("notMethods",), "stands beside methods", "one of them")
    if rule.ports and rule.not_ports:
        yield FieldError(("notPorts",), "stands beside ports", "one of them")
    for name, ports in (("ports", rule.ports), ("notPorts", rule.not_ports)):
        for index, port in enumerate(ports):
            if not 0 <= port <= 65535:
                yield FieldError((name, index), f"{port} is no port", "0 to 65535")


# Properties that have a field of their own, and that field's names.
_FIRST_CLASS: Final[Mapping[str, tuple[str, ...]]] = {
    "source.principal": ("user", "names"),
    "request.auth.claims[groups]": ("group", "groups"),
    "source.namespace": ("namespaces",),
    "source.ip": ("ips",),
}


def _binding_faults(binding: ServiceRoleBinding) -> Iterator[FieldError]:
    if not binding.subjects:
        yield FieldError(("subjects",), "a binding without subjects binds nobody", "at least one subject")
    for index, subject in enumerate(binding.subjects):
        yield from (fault.below("subjects", index) for fault in _subject_faults(subject))
    named = [name for name in ("roleRef", "role", "actions") if _given(binding, name)]
    if len(named) != 1:
        message = f"{' and '.join(named)} are given" if named else "no role is given"
        yield FieldError((named[1] if named else "roleRef",), message, "exactly one of roleRef, role and actions")
    reference = binding.role_ref
    if reference is not None:
        if reference.kind != "ServiceRole":
            yield FieldError(("roleRef", "kind"), f"'{reference.kind}' cannot be bound", "ServiceRole")
        if not reference.name:
            yield FieldError(("roleRef", "name"), "required field is missing", "the name of a ServiceRole")
    for index, rule in enumerate(binding.actions):
        yield from (fault.below("actions", index) for fault in _rule_faults(rule))


def _given(binding: ServiceRoleBinding, field: str) -> bool:
    return bool({"roleRef": binding.role_ref, "role": binding.role, "actions": binding.actions}[field])


def _subject_faults(subject: Subject) -> Iterator[FieldError]:
    if subject == Subject():
        yield FieldError((), "a subject without any field is nobody", "a user, a group, properties or others")
    for name, fields in _FIRST_CLASS.items():
        if name in subject.properties:
            for field in fields:
                if getattr(subject, field):
                    yield FieldError(("properties", name), f"stands beside {field}", "one of them")
    for field in ("names", "not_names"):
        for index, value in enumerate(getattr(subject, field)):
            if value == "*":
                yield FieldError((to_camel(field), index), "'*' is no name", "user: '*' for everybody")
    for field in ("ips", "not_ips"):
        for index, value in enumerate(getattr(subject, field)):
            try:
                ip_network(value, strict=False)
            except ValueError:
                yield FieldError((to_camel(field), index), f"'{value}' is no address", "an IP address or CIDR block")
