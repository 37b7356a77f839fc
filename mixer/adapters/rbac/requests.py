"""One request as roles see it, and reading the properties that constraints name. Source: spec adapters 2.7, 4.9."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mixer.templates.authorization import AuthorizationInstance


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants to do what; texts that the instance omits are empty."""

    namespace: str
    service: str
    method: str
    path: str
    user: str
    groups: str
    action: Mapping[str, Any]
    subject: Mapping[str, Any]

    @classmethod
    def of(cls, instance: AuthorizationInstance) -> Request:
        """The request in an instance."""
        subject, action = instance.subject, instance.action
        return cls(
            action.namespace if action else "",
            action.service if action else "",
            action.method if action else "",
            action.path if action else "",
            subject.user if subject else "",
            subject.groups if subject else "",
            action.properties if action else {},
            subject.properties if subject else {},
        )

    @property
    def tcp(self) -> bool:
        """Whether it is a connection, which has neither method nor path."""
        return not self.method and not self.path


Test: TypeAlias = Callable[[Request], bool]
Read: TypeAlias = Callable[[Request], Any]
"""Reads one thing of a request; None when the instance does not have it."""

_ENTRY: Final = re.compile(r"(.+?)\[(.*)\]")
_NAMESPACE: Final = re.compile(r"(?:^|/)ns/([^/]+)(?:/|$)")
_ACCOUNT: Final = "/sa/"


def compile_read(key: str) -> Read:
    """How a property is read: from the action, else from the subject.

    ``map[key]`` is a property of that name, or the entry of a property that is a string map. Some names are known
    without a property.
    """
    if key == "source.principal":
        return lambda request: request.user
    if key == "source.namespace":
        return source_namespace
    if key == "destination.namespace":
        return lambda request: request.namespace
    if key == "destination.user":
        return _account
    entry = _ENTRY.fullmatch(key)
    if entry is None:
        return lambda request: request.action.get(key, request.subject.get(key))
    container, inner = entry.groups()

    def read(request: Request) -> Any:
        for properties in (request.action, request.subject):
            value = properties.get(key)
            if value is None and isinstance(held := properties.get(container), Mapping):
                value = held.get(inner)
            if value is not None:
                return value
        return None

    return read


def source_namespace(request: Request) -> str:
    """The caller's namespace: a property, or what its principal (``.../ns/NAMESPACE/...``) says."""
    given = request.subject.get("source.namespace", request.action.get("source.namespace"))
    if isinstance(given, str):
        return given
    found = _NAMESPACE.search(request.user)
    return found[1] if found else ""


def _account(request: Request) -> Any:
    """The service account's name alone."""
    value = request.action.get("destination.user")
    return value.rpartition(_ACCOUNT)[2] if isinstance(value, str) else value
