"""A Check's answer on the wire: `CheckAnswer` to ``CheckResponse`` and back.

Source: spec language 6.3, spec proxy 6.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mixer.api import messages
from mixer.api.answer import (
    AppliedHeader,
    CheckAnswer,
    HeaderKind,
    QuotaAnswer,
    QuotaLevel,
    Referenced,
    RouteDirective,
)
from mixer.api.codes import Code
from mixer.api.referenced import decode_referenced, encode_referenced
from mixer.attributes import Condition, Duration
from mixer.errors import WireError

NO_PRECONDITION: Final = "CheckResponse doesn't have PreconditionResult"
_INT32_MAX: Final = (1 << 31) - 1
_SECOND: Final = 10**9
_OPERATIONS: Final[Mapping[int, messages.HeaderOperation.Operation.ValueType]] = {
    HeaderKind.REPLACE: messages.HeaderOperation.REPLACE,
    HeaderKind.REMOVE: messages.HeaderOperation.REMOVE,
    HeaderKind.APPEND: messages.HeaderOperation.APPEND,
}


def encode_answer(answer: CheckAnswer, global_word_count: int) -> messages.CheckResponse:
    """The message for a client that knows so many global words; texts that are not Unicode are sent with ``?``."""
    response = messages.CheckResponse()
    precondition = response.precondition
    _set_status(precondition.status, answer.code, answer.message)
    if answer.valid_duration is not None:
        _set_duration(precondition.valid_duration, answer.valid_duration)
    precondition.valid_use_count = max(-1, min(answer.valid_use_count, _INT32_MAX))
    precondition.referenced_attributes.CopyFrom(encode_referenced(answer.referenced or {}, global_word_count))
    if answer.directive is not None:
        _set_directive(precondition.route_directive, answer.directive)
    for name, quota in answer.quotas.items():
        entry = response.quotas[name]
        entry.granted_amount = quota.granted
        if quota.valid_duration is not None:
            _set_duration(entry.valid_duration, quota.valid_duration)
        _set_status(entry.status, quota.code, quota.message)
        entry.referenced_attributes.CopyFrom(encode_referenced(quota.referenced or {}, global_word_count))
        if quota.level is not None:
            _set_level(entry.level, quota.level)
    return response


def decode_answer(response: messages.CheckResponse) -> CheckAnswer:
    """What a message says; one without precondition is answered with INVALID_ARGUMENT.

    ``referenced`` is None where it holds an index without a word or a regular expression: such an answer holds for
    its own request only.
    """
    quotas = {name: _quota(entry) for name, entry in response.quotas.items()}
    if not response.HasField("precondition"):
        return CheckAnswer(Code.INVALID_ARGUMENT, NO_PRECONDITION, quotas=quotas)
    found = response.precondition
    return CheckAnswer(
        found.status.code,
        found.status.message,
        _duration(found.valid_duration) if found.HasField("valid_duration") else None,
        found.valid_use_count,
        _referenced(found.referenced_attributes),
        _directive(found.route_directive) if found.HasField("route_directive") else None,
        quotas,
    )


def _quota(entry: messages.QuotaResult) -> QuotaAnswer:
    level = None
    if entry.HasField("level"):
        wire = entry.level
        level = QuotaLevel(wire.limit, wire.remaining, _duration(wire.reset), _duration(wire.window))
    return QuotaAnswer(
        entry.granted_amount,
        _duration(entry.valid_duration) if entry.HasField("valid_duration") else None,
        entry.status.code,
        entry.status.message,
        _referenced(entry.referenced_attributes),
        level,
    )


def _referenced(message: messages.ReferencedAttributes) -> Referenced | None:
    try:
        found = decode_referenced(message)
    except WireError:
        return None
    if Condition.REGEX in found.values():
        return None
    return {key: condition for key, condition in found.items() if condition is not Condition.CONDITION_UNSPECIFIED}


def _directive(message: messages.RouteDirective) -> RouteDirective:
    return RouteDirective(
        tuple(AppliedHeader(h.name, h.value, h.operation) for h in message.request_header_operations),
        tuple(AppliedHeader(h.name, h.value, h.operation) for h in message.response_header_operations),
        message.direct_response_code,
        message.direct_response_body,
    )


def _duration(message: messages.WireDuration) -> Duration:
    return Duration(message.seconds * _SECOND + message.nanos)


def _set_duration(message: messages.WireDuration, span: Duration) -> None:
    ns = int(span)
    # Seconds and nanos share the sign of the whole. Source: google/protobuf/duration.proto.
    message.seconds, message.nanos = (ns // _SECOND, ns % _SECOND) if ns >= 0 else (-(-ns // _SECOND), -(-ns % _SECOND))


def _set_status(message: messages.Status, code: int, text: str) -> None:
    message.code = code
    message.message = _unicode(text)


def _set_level(message: messages.QuotaLevel, level: QuotaLevel) -> None:
    message.limit, message.remaining = level.limit, level.remaining
    _set_duration(message.reset, level.reset)
    _set_duration(message.window, level.window)


def _set_directive(message: messages.RouteDirective, directive: RouteDirective) -> None:
    for headers, into in (
        (directive.request_headers, message.request_header_operations),
        (directive.response_headers, message.response_header_operations),
    ):
        for header in headers:
            into.add(name=header.name, value=_unicode(header.value), operation=_OPERATIONS[header.kind])
    message.direct_response_code = directive.direct_response_code
    message.direct_response_body = directive.direct_response_body


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
