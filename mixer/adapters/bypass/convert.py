"""Instances to the messages of their templates, and a backend's answers to ours. Source: spec adapters 4.15."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration as WireDuration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp as WireTimestamp
from google.rpc.status_pb2 import Status as WireStatus

from mixer.adapters.base import OK_STATUS, CheckResult, DirectResponse, InstanceInfo, QuotaResult, Status
from mixer.api.gen.mixer.adapter.model.v1beta1 import check_pb2, quota_pb2
from mixer.api.gen.mixer.template.checknothing import template_handler_service_pb2 as checknothing_pb2
from mixer.api.gen.mixer.template.metric import template_handler_service_pb2 as metric_pb2
from mixer.api.gen.mixer.template.quota import template_handler_service_pb2 as quota_template_pb2
from mixer.api.gen.mixer.template.reportnothing import template_handler_service_pb2 as reportnothing_pb2
from mixer.api.gen.policy.v1beta1 import type_pb2, value_type_pb2
from mixer.api.gen.policy.v1beta1.http_response_pb2 import DirectHttpResponse
from mixer.attributes import AttributeValue, Duration, Timestamp, ValueType
from mixer.errors import AdapterError
from mixer.store.protojson import describe
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


def to_value(value: AttributeValue, value_type: ValueType | None = None) -> type_pb2.Value:
    """A typed value; the declared type tells apart what is a string to us.

    Raises:
        TypeError: No message holds such a value (a string map).
        ValueError: The instant or span is too far out for its message.
    """
    if isinstance(value, str):
        return _text(value, value_type)
    if isinstance(value, bool):
        return type_pb2.Value(bool_value=value)
    if isinstance(value, Duration):
        span = WireDuration()
        span.FromNanoseconds(value)
        return type_pb2.Value(duration_value=type_pb2.Duration(value=span))
    if isinstance(value, Timestamp):
        instant = WireTimestamp()
        instant.FromNanoseconds(value)
        return type_pb2.Value(timestamp_value=type_pb2.TimeStamp(value=instant))
    if isinstance(value, int):
        return type_pb2.Value(int64_value=value)
    if isinstance(value, float):
        return type_pb2.Value(double_value=value)
    if isinstance(value, bytes):
        return type_pb2.Value(ip_address_value=type_pb2.IPAddress(value=value))
    raise TypeError(f"{describe(value)} is no value of this protocol")


def _text(value: str, value_type: ValueType | None) -> type_pb2.Value:
    if value_type is ValueType.DNS_NAME:
        return type_pb2.Value(dns_name_value=type_pb2.DNSName(value=value))
    if value_type is ValueType.EMAIL_ADDRESS:
        return type_pb2.Value(email_address_value=type_pb2.EmailAddress(value=value))
    if value_type is ValueType.URI:
        return type_pb2.Value(uri_value=type_pb2.Uri(value=value))
    return type_pb2.Value(string_value=value)


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


def check_result(answer: check_pb2.CheckResult) -> CheckResult:
    """A backend's answer to a check, with the direct response that may be in the status' details."""
    return CheckResult(status_of(answer.status), _span(answer.valid_duration), answer.valid_use_count)


def quota_result(answer: quota_pb2.QuotaResult.Result) -> QuotaResult:
    """A backend's answer for one quota."""
    return QuotaResult(answer.granted_amount, _span(answer.valid_duration), status_of(answer.status))


def status_of(status: WireStatus) -> Status:
    """A status as handlers give it."""
    if not status.code and not status.message and not status.details:
        return OK_STATUS
    for detail in status.details:
        response = DirectHttpResponse()
        if detail.Is(DirectHttpResponse.DESCRIPTOR) and detail.Unpack(response):
            direct = DirectResponse(int(response.code), response.body, dict(response.headers))
            return Status(status.code, status.message, direct)
    return Status(status.code, status.message)


def _span(duration: WireDuration) -> Duration:
    return Duration(duration.ToNanoseconds())
