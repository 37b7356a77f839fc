"""Answers in place of the service's: what a verdict, or its directive, tells the client. Source: spec proxy 11."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mixer.api.answer import AppliedHeader, HeaderKind
from mixer.api.codes import Code
from proxy.headers import Fate, fates, quota_headers
from proxy.policy import Verdict
from proxy.status import http_code, status_text

BODILESS: Final = frozenset((204, 205, 304))
"""HTTP codes whose answers have no body."""


@dataclass(frozen=True, slots=True)
class LocalReply:
    """An answer in place of the service's.

    Attributes:
        rpc_code: For Envoy and for gRPC clients.
        status: HTTP code.
        headers: Names in lower case; a name may come several times.
    """

    rpc_code: int
    status: int
    body: str
    headers: Sequence[tuple[str, str]]
    refused: Sequence[str] = ()


def local_reply(verdict: Verdict) -> LocalReply | None:
    """What the client is told instead of the service's answer; None when the request goes on."""
    directive = verdict.directive
    if directive is not None and directive.direct_response_code:
        status = directive.direct_response_code
        wanted, refused = fates(_without_removals(directive.response_headers))
        if not 200 <= status <= 599:
            status = http_code(verdict.code or Code.INTERNAL)
            refused = [*refused, "bad_status"]
        body = "" if status in BODILESS else directive.direct_response_body
        headers = [(fate.name, value) for fate in wanted for value in fate.values]
        return LocalReply(verdict.code, status, body, headers + quota_pairs(verdict, wanted), refused)
    if verdict.ok:
        return None
    body = status_text(verdict.code, verdict.message)
    return LocalReply(verdict.code, http_code(verdict.code), body, quota_pairs(verdict, ()))


def _without_removals(operations: Sequence[AppliedHeader]) -> list[AppliedHeader]:
    """Operations on a response that is made here: a removal undoes what came before it, and that is all."""
    kept: list[AppliedHeader] = []
    for operation in operations:
        if operation.kind == HeaderKind.REMOVE:
            kept = [other for other in kept if other.name.lower() != operation.name.lower()]
        else:
            kept.append(operation)
    return kept


def quota_pairs(verdict: Verdict, given: Sequence[Fate]) -> list[tuple[str, str]]:
    """Headers that tell where quotas stand, without those that are given already."""
    if not verdict.quotas:
        return []
    taken = {fate.name for fate in given}
    return [pair for pair in quota_headers(verdict.quotas, denied=not verdict.ok) if pair[0] not in taken]
