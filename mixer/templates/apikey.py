"""apikey: a key presented for an operation of an API. Source: spec adapters 2.8."""

from __future__ import annotations

from dataclasses import dataclass

from mixer.attributes import Timestamp, ValueType
from mixer.attributes.values import ZERO_TIME
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class ApiKeyInstance:
    """An API key and what it was presented for."""

    name: str
    api: str = ""
    api_version: str = ""
    api_operation: str = ""
    api_key: str = ""
    timestamp: Timestamp = ZERO_TIME


APIKEY = Template(
    name="apikey",
    variety=Variety.CHECK,
    instance_type=ApiKeyInstance,
    fields=(
        Field("api", ValueType.STRING),
        Field("api_version", ValueType.STRING),
        Field("api_operation", ValueType.STRING),
        Field("api_key", ValueType.STRING),
        Field("timestamp", ValueType.TIMESTAMP),
    ),
)
