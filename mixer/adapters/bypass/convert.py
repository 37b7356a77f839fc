"""Instances to the messages of their templates, and a backend's answers to ours. Source: spec adapters 4.15."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from mixer.adapters.base import InstanceInfo
from mixer.adapters.remote.answers import check_result, quota_result, status_of, to_value
from mixer.api.gen.mixer.template.checknothing import template_handler_service_pb2 as checknothing_pb2
from mixer.api.gen.mixer.template.metric import template_handler_service_pb2 as metric_pb2
from mixer.api.gen.mixer.template.quota import template_handler_service_pb2 as quota_template_pb2
from mixer.api.gen.mixer.template.reportnothing import template_handler_service_pb2 as reportnothing_pb2
from mixer.api.gen.policy.v1beta1 import type_pb2, value_type_pb2
from mixer.attributes import AttributeValue, ValueType
from mixer.errors import AdapterError
from mixer.templates import InferredTypes
from mixer.templates.metric import MetricInstance
from mixer.templates.quota import QuotaInstance

NO_TYPES: Final[InferredTypes] = {}


def to_metric(instance: MetricInstance, types: InferredTypes) -> metric_pb2.InstanceMsg:
    """Name, value and dimensions; the monitored resource stays behind, as in the reference.

    Raises:
        AdapterError: A value has no form on this wire.
    """
    message = metric_pb2.InstanceMsg(name=instance.name)
    if instance.value is not None:
        message.value.CopyFrom(_value(instance.name, "value", instance.value, types.get("value")))
    for key, value in _values(instance.name, instance.dimensions, types).items():
        message.dimensions[key].CopyFrom(value)
    return message


def to_quota(instance: QuotaInstance, types: InferredTypes) -> quota_template_pb2.InstanceMsg:
    """Name and dimensions.

    Raises:
        AdapterError: A value has no form on this wire.
    """
    return quota_template_pb2.InstanceMsg(
        name=instance.name, dimensions=_values(instance.name, instance.dimensions, types)
    )


def _values(instance: str, dimensions: Mapping[str, AttributeValue], types: InferredTypes) -> dict[str, type_pb2.Value]:
    by_key = types.get("dimensions")
    known: Mapping[str, ValueType] = by_key if isinstance(by_key, Mapping) else {}
    return {
        key: _value(instance, f"dimension {key!r}", value, known.get(key))
        for key, value in dimensions.items()
        if value is not None
    }


def _value(
    instance: str, place: str, value: AttributeValue, value_type: ValueType | Mapping[str, ValueType] | None
) -> type_pb2.Value:
    try:
        return to_value(value, value_type if isinstance(value_type, ValueType) else None)
    except (TypeError, ValueError) as exc:
        raise AdapterError(f"{instance}: {place} cannot be sent: {exc}") from None


def to_type(info: InstanceInfo) -> AnyMessage:
    """The inferred types of an instance, as the message ``Type`` of its template."""
    message: Message
    match info.template.name:
        case "metric":
            value = info.types.get("value")
            message = metric_pb2.Type(
                value=_wire_type(value if isinstance(value, ValueType) else ValueType.VALUE_TYPE_UNSPECIFIED),
                dimensions=_wire_types(info.types, "dimensions"),
                monitored_resource_dimensions=_wire_types(info.types, "monitored_resource_dimensions"),
            )
        case "quota":
            message = quota_template_pb2.Type(dimensions=_wire_types(info.types, "dimensions"))
        case "checknothing":
            message = checknothing_pb2.Type()
        case _:
            message = reportnothing_pb2.Type()
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _wire_types(types: InferredTypes, field: str) -> dict[str, value_type_pb2.ValueType.ValueType]:
    by_key = types.get(field)
    return {key: _wire_type(kind) for key, kind in by_key.items()} if isinstance(by_key, Mapping) else {}


def _wire_type(kind: ValueType) -> value_type_pb2.ValueType.ValueType:
    return value_type_pb2.ValueType.Value(kind.name)


__all__ = ["NO_TYPES", "check_result", "quota_result", "status_of", "to_metric", "to_quota", "to_type", "to_value"]
