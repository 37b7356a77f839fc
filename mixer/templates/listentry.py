"""listentry: a value to be found, or not, in a list. Source: spec adapters 2.4."""

from __future__ import annotations

from dataclasses import dataclass

from mixer.attributes import AttributeValue
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class ListEntryInstance:
    """``value`` is a string or IP bytes; anything else is the handler's to refuse."""

    name: str
    value: AttributeValue | None = None


LISTENTRY = Template(name="listentry", variety=Variety.CHECK, instance_type=ListEntryInstance, fields=(Field("value"),))
