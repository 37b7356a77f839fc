"""Attributes: values, types, bags and the record of what was looked at. Knows no wire and no configuration."""

from mixer.attributes.bag import (
    AttributeBag,
    Condition,
    MappingBag,
    OverlayBag,
    Reference,
    TrackedMap,
    TrackingBag,
)
from mixer.attributes.manifest import Vocabulary
from mixer.attributes.values import ABSENT, Absent, AttributeValue, Duration, Timestamp, ValueType, stringify

__all__ = [
    "ABSENT",
    "Absent",
    "AttributeBag",
    "AttributeValue",
    "Condition",
    "Duration",
    "MappingBag",
    "OverlayBag",
    "Reference",
    "Timestamp",
    "TrackedMap",
    "TrackingBag",
    "ValueType",
    "Vocabulary",
    "stringify",
]
