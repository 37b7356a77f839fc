"""Verdicts that are no decision of Mixer's; what the user sees of a verdict, and what is reported of it.

Source: spec proxy 3.2, 8.2, 10.2 and 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from mixer.api.answer import NO_QUOTAS, QuotaAnswer, RouteDirective
from mixer.api.codes import Code
from mixer.attributes import AttributeValue
from mixer.errors import MixerCallError
from proxy.policy import NO_DECISION, QUOTA_EXHAUSTED, Verdict

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


def exhausted(
    refused: Sequence[str],
    directive: RouteDirective | None,
    *,
    check_cache_hit: bool,
    quota_cache_hit: bool = False,
    quotas: Mapping[str, QuotaAnswer] = NO_QUOTAS,
) -> Verdict:
    """The verdict when quotas refuse; what a directive says still holds."""
    message = QUOTA_EXHAUSTED + ",".join(refused)
    return Verdict(Code.RESOURCE_EXHAUSTED, message, directive, True, check_cache_hit, quota_cache_hit, quotas=quotas)


def failed(exc: MixerCallError, fails_open: bool, decided: Verdict | None = None) -> Verdict:
    """The verdict when Mixer gave no answer; ``decided`` is what was known already."""
    directive, cached = (None, False) if decided is None else (decided.directive, decided.check_cache_hit)
    if fails_open:
        return Verdict(directive=directive, check_cache_hit=cached, failed=True)
    return Verdict(exc.code or Code.UNKNOWN, NO_DECISION, directive, check_cache_hit=cached, failed=True)
