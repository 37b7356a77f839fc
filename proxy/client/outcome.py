"""What the proxy's user sees of a verdict, and what is reported of it.

Source: spec proxy 3.2 and 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mixer.api.codes import Code
from mixer.attributes import AttributeValue
from proxy.policy import Verdict

HTTP_STATUS: Final[Mapping[int, int]] = MappingProxyType(
    {
        Code.OK: 200,
        Code.CANCELLED: 499,
        Code.UNKNOWN: 500,
        Code.INVALID_ARGUMENT: 400,
        Code.DEADLINE_EXCEEDED: 504,
        Code.NOT_FOUND: 404,
        Code.ALREADY_EXISTS: 409,
        Code.PERMISSION_DENIED: 403,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.FAILED_PRECONDITION: 400,
        Code.ABORTED: 409,
        Code.OUT_OF_RANGE: 400,
        Code.UNIMPLEMENTED: 501,
        Code.INTERNAL: 500,
        Code.UNAVAILABLE: 503,
        Code.DATA_LOSS: 500,
        Code.UNAUTHENTICATED: 401,
    }
)
"""The HTTP status that stands for a code."""

_NAMES: Final = {int(code): code.name for code in Code}


def http_status(code: int) -> int:
    """The HTTP status for a code; 500 for one that does not exist."""
    return HTTP_STATUS.get(code, 500)


def status_text(code: int, message: str) -> str:
    """``CODE_NAME:message``, or ``CODE_NAME`` without a message: the body of a denial."""
    name = _NAMES.get(code, "UNKNOWN")
    return f"{name}:{message}" if message else name


def check_attributes(verdict: Verdict) -> dict[str, AttributeValue]:
    """What a record says of the Check of its request; nothing when there was none."""
    if not verdict.checked:
        return {}
    found: dict[str, AttributeValue] = {
        "check.cache_hit": verdict.check_cache_hit,
        "quota.cache_hit": verdict.quota_cache_hit,
    }
    if not verdict.ok:
        found["check.error_code"] = int(verdict.code)
        found["check.error_message"] = status_text(verdict.code, verdict.message)
    return found
