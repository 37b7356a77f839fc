"""What the dispatcher answers, and how several handlers' answers become one.

Results are combined in the order of the rules, never in the order of completion.
Source: spec runtime 4.4, 4.5 and 4.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mixer.adapters.base import NO_DURATION, CheckResult, Code, DirectResponse, QuotaResult, Status
from mixer.api.answer import (
    NO_QUOTAS,
    AppliedHeader,
    CheckAnswer,
    HeaderKind,
    QuotaAnswer,
    QuotaLevel,
    Referenced,
    RouteDirective,
)
from mixer.attributes import Duration
from mixer.errors import MixerError

DEFAULT_VALID_DURATION = Duration(60 * 1_000_000_000)
DEFAULT_VALID_USE_COUNT = 10_000
NO_OBJECTION: Final = CheckResult(Status(), DEFAULT_VALID_DURATION, DEFAULT_VALID_USE_COUNT)
"""The result where no handler has an opinion."""


@dataclass(frozen=True, slots=True)
class QuotaOutcome:
    """The answer for one quota; ``referenced`` is None when nobody wanted to know."""

    result: QuotaResult
    referenced: Referenced | None

    def answer(self) -> QuotaAnswer:
        """What the caller is told."""
        result = self.result
        status = result.status
        return QuotaAnswer(
            result.amount, result.valid_duration, status.code, status.message, self.referenced, result.level
        )


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The answer to a Check; ``referenced`` is None when nobody wanted to know."""

    result: CheckResult
    referenced: Referenced | None
    directive: RouteDirective | None = None
    quotas: Mapping[str, QuotaOutcome] = field(default_factory=dict)

    def answer(self) -> CheckAnswer:
        """What the caller is told."""
        status = self.result.status
        quotas = {name: quota.answer() for name, quota in self.quotas.items()} if self.quotas else NO_QUOTAS
        return CheckAnswer(
            status.code,
            status.message,
            self.result.valid_duration,
            self.result.valid_use_count,
            self.referenced,
            self.directive,
            quotas,
        )


PASSED: Final = CheckOutcome(NO_OBJECTION, None)
"""What most requests get, if their callers do not want to know what it depended on."""


class DispatchError(MixerError):
    """Some of a request could not be decided or delivered; ``errors`` says what, one line or more each."""

    def __init__(self, prefix: str, errors: Sequence[str]) -> None:
        super().__init__(prefix + multi_error(errors))
        self.errors = tuple(errors)


def multi_error(errors: Sequence[str]) -> str:
    """Several errors as one text. Source: spec runtime 5.2."""
    head = "1 error occurred:" if len(errors) == 1 else f"{len(errors)} errors occurred:"
    return head + "\n\t* " + "\n\t* ".join(errors) + "\n\n"


def combine_checks(results: Sequence[tuple[str, CheckResult]]) -> tuple[CheckResult, Status | None]:
    """One result of many, given with the display names of their handlers in the order of the rules.

    "No opinion" results count for nothing, in any position. Limits are the least of the others. The first
    status that is not OK gives the code, all of them the message.

    Returns:
        The result, and the first status that was not OK, if any.
    """
    opinions = [(name, result) for name, result in results if not result.is_default]
    if not opinions:
        return NO_OBJECTION, None
    denials = [(name, result.status) for name, result in opinions if not result.status.ok]
    first = denials[0][1] if denials else None
    status = Status()
    if first is not None:
        status = Status(first.code, ", ".join(f"{name}:{denial.message}" for name, denial in denials))
    duration = min(result.valid_duration for _, result in opinions)
    uses = min(result.valid_use_count for _, result in opinions)
    return CheckResult(status, duration, uses), first


def combine_quotas(results: Sequence[tuple[str, QuotaResult]]) -> QuotaResult:
    """The least that any of the handlers grants, for the shortest time any of them says; first status not OK.

    A duration of 0 is no time but the absence of an end, and counts only where nothing else is said.
    """
    denials = [(name, result.status) for name, result in results if not result.status.ok]
    status = Status()
    if denials:
        message = ", ".join(f"{name}:{denial.message}" for name, denial in denials)
        status = Status(denials[0][1].code, message)
    ends = [result.valid_duration for _, result in results if result.valid_duration]
    levels = [result.level for _, result in results if result.level is not None]
    return QuotaResult(
        min(result.amount for _, result in results), min(ends, default=NO_DURATION), status, _tightest(levels)
    )


def _tightest(levels: Sequence[QuotaLevel]) -> QuotaLevel | None:
    """The one of which the least is left; of several, the one that takes longest to come back."""
    return min(levels, key=lambda level: (level.remaining, -level.reset), default=None)


_HTTP = {
    Code.OK: 200, Code.CANCELLED: 408, Code.UNKNOWN: 500, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409, Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 412, Code.ABORTED: 409, Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500, Code.UNAVAILABLE: 503, Code.DATA_LOSS: 500, Code.UNAUTHENTICATED: 401,
}  # fmt: skip


def http_status(code: int) -> int:
    """The HTTP status for a status code. Source: spec runtime 4.5."""
    return _HTTP.get(code, 500)  # type: ignore[call-overload, no-any-return]


def direct_response(status: Status, detail: DirectResponse) -> RouteDirective:
    """The directive of a denial that says how the proxy shall answer.

    A ``Set-Cookie`` header holds several cookies, parted by commas outside of an ``Expires`` date.
    """
    headers: list[AppliedHeader] = []
    for name, value in detail.headers.items():
        if name.lower() == "set-cookie":
            cookies = split_cookies(value)
            headers += (AppliedHeader(name, cookie, HeaderKind.APPEND) for cookie in cookies)
        else:
            headers.append(AppliedHeader(name, value, HeaderKind.REPLACE))
    return RouteDirective((), tuple(headers), detail.code or http_status(status.code), detail.body)


def split_cookies(value: str) -> list[str]:
    """The cookies of one ``Set-Cookie`` text; a comma parts two only where a new ``name=`` follows."""
    cookies: list[str] = []
    for piece in value.split(","):
        head = piece.split(";", 1)[0]
        if cookies and "=" not in head:
            cookies[-1] += f",{piece}"
        else:
            cookies.append(piece)
    return cookies


class ReportError(DispatchError):
    """Some records of a Report, or some of their instances, could not be delivered; everything else was."""
