"""What a template is: the shape of the instances that rules build and handlers get.

Source: spec runtime 1.10, spec adapters 2.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from mixer.attributes import ValueType
from mixer.store.resource import to_camel


class Variety(enum.IntEnum):
    """When instances of a template are built, and what their handlers answer."""

    CHECK = 0
    REPORT = 1
    QUOTA = 2
    ATTRIBUTE_GENERATOR = 3


class Instance(Protocol):
    """What a handler gets: plain data with the full name of the instance resource that it was built from."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a template.

    Attributes:
        name: The protobuf name, which is also the attribute's name on the instance class in snake case.
        type: What the expression must evaluate to; None for a dynamic ``Value``, which takes any type.
        is_map: The field maps literal keys to expressions.
        fields: The fields of a nested message; ``type`` and ``is_map`` then mean nothing.
        message: The nested message's class.
    """

    name: str
    type: ValueType | None = None
    is_map: bool = False
    fields: tuple[Field, ...] = ()
    message: Callable[..., Any] | None = None

    @property
    def title(self) -> str:
        """The name as error messages write it: ``monitored_resource_type`` -> ``MonitoredResourceType``."""
        camel = to_camel(self.name)
        return camel[:1].upper() + camel[1:]


InferredTypes: TypeAlias = Mapping[str, ValueType | Mapping[str, ValueType]]
"""The types that expressions gave to the dynamic fields: field -> type, or field -> key -> type.

Nested messages prefix their fields with a dot: ``subject.properties``. An omitted dynamic field is
VALUE_TYPE_UNSPECIFIED.
"""


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of instance.

    Attributes:
        name: What ``compiledTemplate`` says, and the legacy kind.
        instance_type: The class of the instances: keyword arguments are ``name`` and one for each field.
        outputs: What the handler of an attribute generator answers with, by field.
        output_prefix: The name under which expressions see the outputs (what ``$out`` stands for).
    """

    name: str
    variety: Variety
    instance_type: type[Any]
    fields: tuple[Field, ...] = ()
    outputs: Mapping[str, ValueType] = field(default_factory=lambda: MappingProxyType({}))
    output_prefix: str = ""

    def __repr__(self) -> str:
        return f"Template({self.name!r})"
