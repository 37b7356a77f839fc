"""Envoy's external authorization service: a serialized ``CheckRequest`` in, a serialized ``CheckResponse`` out.

Requests and connections go the same way: question, bag, verdict of the policy client, answer. Quotas are charged in
the same call, because nowhere else is every attribute at hand. Source: spec envoy 1, 3 and 5.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeAlias

import structlog

from mixer.api.codes import Code
from mixer.api.rpc import NO_HEAD, CallHead, Methods, ServiceError
from mixer.api.wanted import Wanted
from proxy.envoy import paths
from proxy.envoy.answers import Asked, encode_check_response
from proxy.envoy.check_bag import Seen, SeenBag, is_grpc
from proxy.envoy.correlation import CheckRecord
from proxy.envoy.gen.auth_pb2 import CheckRequest
from proxy.envoy.keeping import Keeper
from proxy.envoy.metrics import AnswerCounter, PolicyMetrics
from proxy.envoy.question import GrpcSeen, timeout_s
from proxy.envoy.recent import RecentChecks
from proxy.envoy.repair import parse
from proxy.policy import PolicyClient, Verdict

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.envoy.ext_authz")

_SERVICE: Final = "ext_authz"
_CONNECTION: Final = Asked({}, tcp=True)
_ANY_REQUEST: Final = Asked({})
"""Does where the answer is the same whatever was asked: it passes, and no header changes."""


Decided: TypeAlias = tuple[Verdict, CheckRecord]


class Decider:
    """What both forms of external authorization share: the verdict on what is seen, and its record."""

    def __init__(
        self,
        client: PolicyClient,
        wanted: Callable[[], Wanted | None] = lambda: None,
        report_headers: Collection[str] = (),
        recent: RecentChecks | None = None,
    ) -> None:
        """Prepare.

        Args:
            client: Gives verdicts.
            wanted: Tells which attributes reports read, None when that is not known.
            report_headers: Request headers that reports shall have when it is not known.
            recent: Is told of the checks of connections.
        """
        self._recent = recent
        self._client = client
        self._keeper = Keeper(wanted, report_headers)
        self._prefix = os.urandom(6).hex()
        self._count = 0

    def decide(self, seen: Seen, timeout_s: float | None) -> Decided | Awaitable[Decided]:
        """The verdict, and what of the check its report needs; at once where the client knows the verdict at once."""
        derived = SeenBag(seen)
        tcp = seen.tcp
        service = seen.service
        bag = self._client.compose(derived, service=service, forwarded=seen.forwarded, tcp=tcp)
        given = self._client.check(bag, service=service, tcp=tcp, timeout_s=timeout_s)
        if isinstance(given, Verdict):
            return given, self._record(given, seen, derived)
        return self._decided(given, seen, derived)

    async def _decided(self, coming: Awaitable[Verdict], seen: Seen, derived: SeenBag) -> Decided:
        verdict = await coming
        return verdict, self._record(verdict, seen, derived)

    def _record(self, verdict: Verdict, seen: Seen, derived: SeenBag) -> CheckRecord:
        directive = verdict.directive
        tcp = seen.tcp
        stream = seen.stream
        self._count += 1
        record = CheckRecord(
            stream or f"{self._prefix}-{self._count}",
            seen.service,
            seen.forwarded,
            self._keeper.pick(
                derived, seen.static, tcp=tcp, changed=directive is not None and bool(directive.request_headers)
            ),
            verdict.check_cache_hit,
            verdict.quota_cache_hit,
            verdict.code,
            verdict.message,
            0 if directive is None else directive.direct_response_code,
            verdict.checked,
            verdict.failed,
        )
        if tcp and stream and self._recent is not None:
            self._recent.put(stream, record)
        return record

    def forward(self, service: str) -> str:
        """The forwarded attributes for the next hop."""
        return self._client.forward(service=service)


class Authorization:
    """The service in its gRPC form."""

    def __init__(self, decider: Decider, metrics: PolicyMetrics, now: Callable[[], int] = time.time_ns) -> None:
        """Serve what a decider decides; ``now`` gives nanoseconds since 1970."""
        self._decider = decider
        self._now = now
        self._answers = AnswerCounter(metrics, _SERVICE)
        self._left_out = metrics.left_out

    @property
    def methods(self) -> Methods:
        """The service, for a gRPC port."""
        return Methods({paths.CHECK: self.check})

    async def check(self, data: bytes, head: CallHead = NO_HEAD) -> bytes:
        """Answer a check of Envoy's.

        Raises:
            ServiceError: The request is malformed; to Envoy that is a failure, not a denial.
        """
        try:
            request = parse(CheckRequest, data)
        except Exception as exc:  # protobuf's DecodeError, under whichever implementation
            raise ServiceError(Code.INVALID_ARGUMENT, f"malformed CheckRequest: {exc}") from exc
        seen = GrpcSeen(request.attributes, head, self._now)
        decided = self._decider.decide(seen, timeout_s(head))
        verdict, record = decided if isinstance(decided, tuple) else await decided
        self._answers.count(verdict)
        if seen.tcp:
            asked = _CONNECTION
        else:
            forward = self._decider.forward(seen.service)
            if forward or seen.forwarded or verdict.code or verdict.directive is not None:
                headers = seen.headers()
                asked = Asked(headers, False, is_grpc(headers), bool(seen.forwarded), forward)
            else:
                asked = _ANY_REQUEST
        answer, left_out = encode_check_response(verdict, asked, record)
        if seen.faults or left_out:
            for _ in seen.faults:
                self._left_out.labels(_SERVICE, "bad_context_extension").inc()
            for reason in left_out:
                self._left_out.labels(_SERVICE, reason).inc()
            log.debug("left_out", extensions=seen.faults, answer=left_out)
        return answer
