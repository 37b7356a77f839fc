"""authorization: who wants to do what. Source: spec adapters 2.7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixer.attributes import AttributeValue, ValueType
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class Subject:
    """Who; ``groups`` is one string, not a list."""

    user: str = ""
    groups: str = ""
    properties: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(slots=True)
class Action:
    """What, on what."""

    namespace: str = ""
    service: str = ""
    method: str = ""
    path: str = ""
    properties: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(slots=True)
class AuthorizationInstance:
    """Subject and action; each is None when the configuration omits it."""

    name: str
    subject: Subject | None = None
    action: Action | None = None


AUTHORIZATION = Template(
    name="authorization",
    variety=Variety.CHECK,
    instance_type=AuthorizationInstance,
    fields=(
        Field(
            "subject",
            message=Subject,
            fields=(
                Field("user", ValueType.STRING),
                Field("groups", ValueType.STRING),
                Field("properties", is_map=True),
            ),
        ),
        Field(
            "action",
            message=Action,
            fields=(
                Field("namespace", ValueType.STRING),
                Field("service", ValueType.STRING),
                Field("method", ValueType.STRING),
                Field("path", ValueType.STRING),
                Field("properties", is_map=True),
            ),
        ),
    ),
)
