"""Messages of the model of adapters in other processes: results and values, to ours and back.

Source: spec adapters 4.15, spec runtime 6.1 and 6.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration as WireDuration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp as WireTimestamp
from google.rpc.status_pb2 import Status as WireStatus

from mixer.adapters.base import OK_STATUS, CheckResult, DirectResponse, QuotaResult, Status
from mixer.api.gen.mixer.adapter.model.v1beta1 import check_pb2, quota_pb2
from mixer.api.gen.policy.v1beta1 import http_response_pb2, type_pb2
from mixer.attributes import AttributeValue, Duration, Timestamp, ValueType
from mixer.store.protojson import describe


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
        response = http_response_pb2.DirectHttpResponse()
        if detail.Is(response.DESCRIPTOR) and detail.Unpack(response):
            direct = DirectResponse(int(response.code), response.body, dict(response.headers))
            return Status(status.code, status.message, direct)
    return Status(status.code, status.message)


def wire_check_result(result: CheckResult) -> check_pb2.CheckResult:
    """A handler's opinion as a message."""
    return check_pb2.CheckResult(
        status=wire_status(result.status),
        valid_duration=_wire_span(result.valid_duration),
        valid_use_count=result.valid_use_count,
    )


def wire_quota_result(result: QuotaResult) -> quota_pb2.QuotaResult.Result:
    """A handler's grant as a message."""
    return quota_pb2.QuotaResult.Result(
        granted_amount=result.amount,
        valid_duration=_wire_span(result.valid_duration),
        status=wire_status(result.status),
    )


def wire_status(status: Status) -> WireStatus:
    """A status as a message."""
    message = WireStatus(code=status.code, message=status.message)
    direct = status.direct_response
    if direct is not None:
        response = http_response_pb2.DirectHttpResponse(body=direct.body, headers=direct.headers)
        response.code = direct.code  # type: ignore[assignment]
        message.details.add().Pack(response)
    return message


def _span(duration: WireDuration) -> Duration:
    return Duration(duration.ToNanoseconds())


def _wire_span(duration: Duration) -> WireDuration | None:
    if not duration:
        return None
    span = WireDuration()
    span.FromNanoseconds(duration)
    return span


_TEXT_FIELDS: Final[Mapping[ValueType, str]] = {
    ValueType.DNS_NAME: "dns_name_value",
    ValueType.EMAIL_ADDRESS: "email_address_value",
    ValueType.URI: "uri_value",
}


def to_value(value: AttributeValue, value_type: ValueType | None = None) -> type_pb2.Value:
    """A typed value; the declared type tells apart what is a string to us.

    Raises:
        TypeError: No message holds such a value (a string map).
        ValueError: The instant or span is too far out for its message.
    """
    if isinstance(value, str):
        name = _TEXT_FIELDS.get(value_type) if value_type is not None else None
        return type_pb2.Value(string_value=value) if name is None else type_pb2.Value(**{name: {"value": value}})  # type: ignore[arg-type]
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


def native(value: Any) -> Any:
    """The attribute value that a field's value stands for; a ``Value`` that is not set is None.

    Typed by the message's full name, so that messages of any pool will do.
    """
    if not isinstance(value, Message):
        return value
    match value.DESCRIPTOR.full_name:
        case "google.protobuf.Duration":
            return Duration(_nanoseconds(value))
        case "google.protobuf.Timestamp":
            return Timestamp(_nanoseconds(value))
        case "istio.policy.v1beta1.Value":
            chosen = value.WhichOneof("value")
            return None if chosen is None else native(getattr(value, chosen))
        case _:
            return native(value.value)  # type: ignore[attr-defined]


def _nanoseconds(value: Any) -> int:
    return int(value.seconds) * 1_000_000_000 + int(value.nanos)
