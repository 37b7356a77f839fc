"""kubernetes: asks for what the cluster knows of both ends of a request (attribute generator).

Source: spec adapters 2.11.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from mixer.attributes import ValueType
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class KubernetesInstance:
    """What a proxy knows of the two workloads; empty when it does not say."""

    name: str
    source_uid: str = ""
    source_ip: bytes = b""
    destination_uid: str = ""
    destination_ip: bytes = b""
    destination_port: int = 0


_OUTPUTS_OF_A_SIDE = {
    "pod_uid": ValueType.STRING,
    "pod_ip": ValueType.IP_ADDRESS,
    "pod_name": ValueType.STRING,
    "labels": ValueType.STRING_MAP,
    "namespace": ValueType.STRING,
    "service_account_name": ValueType.STRING,
    "host_ip": ValueType.IP_ADDRESS,
    "workload_uid": ValueType.STRING,
    "workload_name": ValueType.STRING,
    "workload_namespace": ValueType.STRING,
    "owner": ValueType.STRING,
}

KUBERNETES = Template(
    name="kubernetes",
    variety=Variety.ATTRIBUTE_GENERATOR,
    instance_type=KubernetesInstance,
    fields=(
        Field("source_uid", ValueType.STRING),
        Field("source_ip", ValueType.IP_ADDRESS),
        Field("destination_uid", ValueType.STRING),
        Field("destination_ip", ValueType.IP_ADDRESS),
        Field("destination_port", ValueType.INT64),
    ),
    outputs=MappingProxyType(
        {
            **{
                f"{side}_{name}": kind
                for side in ("source", "destination")
                for name, kind in _OUTPUTS_OF_A_SIDE.items()
            },
            "destination_container_name": ValueType.STRING,
        }
    ),
    output_prefix="adapter_template_kubernetes.output",
)
