"""logentry: one line of a log. Source: spec adapters 2.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixer.attributes import AttributeValue, Timestamp, ValueType
from mixer.attributes.values import ZERO_TIME
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class LogEntryInstance:
    """One entry; an unset ``timestamp`` is the zero time."""

    name: str
    variables: Mapping[str, AttributeValue] = field(default_factory=dict)
    timestamp: Timestamp = ZERO_TIME
    severity: str = ""
    monitored_resource_type: str = ""
    monitored_resource_dimensions: Mapping[str, AttributeValue] = field(default_factory=dict)


LOGENTRY = Template(
    name="logentry",
    variety=Variety.REPORT,
    instance_type=LogEntryInstance,
    fields=(
        Field("variables", is_map=True),
        Field("timestamp", ValueType.TIMESTAMP),
        Field("severity", ValueType.STRING),
        Field("monitored_resource_type", ValueType.STRING),
        Field("monitored_resource_dimensions", is_map=True),
    ),
)
