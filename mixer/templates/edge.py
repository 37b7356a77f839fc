"""edge: one workload called another; the raw material of a service graph. Source: spec adapters 2.10."""

from __future__ import annotations

from dataclasses import dataclass

from mixer.attributes import Timestamp, ValueType
from mixer.attributes.values import ZERO_TIME
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class EdgeInstance:
    """Both ends of a call, and when it was."""

    name: str
    timestamp: Timestamp = ZERO_TIME
    source_workload_namespace: str = ""
    source_workload_name: str = ""
    source_owner: str = ""
    source_uid: str = ""
    destination_workload_namespace: str = ""
    destination_workload_name: str = ""
    destination_owner: str = ""
    destination_uid: str = ""
    destination_service_namespace: str = ""
    destination_service_name: str = ""
    context_protocol: str = ""
    api_protocol: str = ""


EDGE = Template(
    name="edge",
    variety=Variety.REPORT,
    instance_type=EdgeInstance,
    fields=(
        Field("timestamp", ValueType.TIMESTAMP),
        *(
            Field(name, ValueType.STRING)
            for name in (
                "source_workload_namespace",
                "source_workload_name",
                "source_owner",
                "source_uid",
                "destination_workload_namespace",
                "destination_workload_name",
                "destination_owner",
                "destination_uid",
                "destination_service_namespace",
                "destination_service_name",
                "context_protocol",
                "api_protocol",
            )
        ),
    ),
)
