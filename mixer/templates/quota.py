"""quota: the identity of a counter that a handler takes units from. Source: spec adapters 2.3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixer.attributes import AttributeValue
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class QuotaInstance:
    """Name and dimensions together are the counter."""

    name: str
    dimensions: Mapping[str, AttributeValue] = field(default_factory=dict)


QUOTA = Template(
    name="quota", variety=Variety.QUOTA, instance_type=QuotaInstance, fields=(Field("dimensions", is_map=True),)
)
