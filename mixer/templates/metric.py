"""metric: a number with dimensions, for a metrics backend. Source: spec adapters 2.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixer.attributes import AttributeValue, ValueType
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class MetricInstance:
    """One measurement; ``value`` is None when the configuration sets none."""

    name: str
    value: AttributeValue | None = None
    dimensions: Mapping[str, AttributeValue] = field(default_factory=dict)
    monitored_resource_type: str = ""
    monitored_resource_dimensions: Mapping[str, AttributeValue] = field(default_factory=dict)


METRIC = Template(
    name="metric",
    variety=Variety.REPORT,
    instance_type=MetricInstance,
    fields=(
        Field("value"),
        Field("dimensions", is_map=True),
        Field("monitored_resource_type", ValueType.STRING),
        Field("monitored_resource_dimensions", is_map=True),
    ),
)
