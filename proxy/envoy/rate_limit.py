"""Envoy's rate limit service over Mixer's quotas: descriptors are charges, and all are made or none.

A descriptor is one charge of one quota. Its entry ``quota`` names the quota; without one its entry ``generic_key`` does,
which is how Envoy spells a constant, and without that the domain. Every other entry is an attribute, typed by
`proxy.envoy.values`; Envoy's own ``remote_address`` is ``origin.ip``. The domain is the key of a service's
configuration, whose static attributes the descriptors of the domain share.

Several descriptors may have several sets of attributes, so they are charged one set after another, and what was granted
is given back when any refuses. Source: spec envoy 6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mixer.api.answer import QuotaAnswer, QuotaLevel
from mixer.api.codes import Code
from mixer.api.rpc import NO_HEAD, CallHead, Methods, ServiceError
from mixer.attributes import AttributeBag, AttributeValue, MappingBag
from proxy.envoy import paths
from proxy.envoy.gen.ratelimit_pb2 import RateLimitRequest, RateLimitResponse
from proxy.envoy.metrics import AnswerCounter, PolicyMetrics
from proxy.envoy.question import timeout_s
from proxy.envoy.repair import parse
from proxy.envoy.values import read_texts
from proxy.headers import quota_headers
from proxy.policy import QUOTA_EXHAUSTED, PolicyClient, Verdict
from proxy.status import status_text

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.envoy.rate_limit")

QUOTA_ENTRY: Final = "quota"
GENERIC_ENTRY: Final = "generic_key"
RENAMED: Final[Mapping[str, str]] = {"remote_address": "origin.ip"}
"""Entries that Envoy names itself -> attributes."""

MAX_DESCRIPTORS: Final = 256

_SERVICE: Final = "rate_limit"
_LARGEST: Final = (1 << 63) - 1
_UINT32: Final = (1 << 32) - 1
_NANOS: Final = 1_000_000_000
_UNITS: Final = {
    _NANOS: RateLimitResponse.RateLimit.SECOND,
    60 * _NANOS: RateLimitResponse.RateLimit.MINUTE,
    3_600 * _NANOS: RateLimitResponse.RateLimit.HOUR,
    86_400 * _NANOS: RateLimitResponse.RateLimit.DAY,
    7 * 86_400 * _NANOS: RateLimitResponse.RateLimit.WEEK,
    30 * 86_400 * _NANOS: RateLimitResponse.RateLimit.MONTH,
    365 * 86_400 * _NANOS: RateLimitResponse.RateLimit.YEAR,
}


@dataclass(frozen=True, slots=True)
class Charge:
    """A descriptor.

    Attributes:
        quota: Whose counter.
        amount: Units; 0 asks for nothing.
        attributes: What the quota's rules see.
        faults: What is wrong with entries that are left out.
    """

    quota: str
    amount: int
    attributes: Mapping[str, AttributeValue]
    faults: tuple[str, ...] = ()


def read_charge(descriptor: Any, domain: str, hits: int) -> Charge:
    """The charge that a descriptor asks for; ``hits`` is the request's own addend, 0 for none."""
    entries = [(entry.key, entry.value) for entry in descriptor.entries]
    names = dict(reversed(entries))  # of one key twice, the first counts
    key = next((key for key in (QUOTA_ENTRY, GENERIC_ENTRY) if names.get(key)), "")
    values, faults = read_texts((RENAMED.get(name, name), value) for name, value in entries if name != key)
    amount = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else hits or 1
    return Charge(names[key] if key else domain, min(amount, _LARGEST), values, faults)


@dataclass(slots=True)
class _Set:
    """Charges that share their attributes."""

    bag: AttributeBag
    charges: dict[str, int]
    verdict: Verdict | None = None

    def refuses(self, quota: str) -> bool:
        """Whether this quota is the reason, or one of them, why there is no grant."""
        verdict = self.verdict
        if verdict is None or verdict.ok:
            return False
        answer = verdict.quotas.get(quota)
        short = [name for name, a in verdict.quotas.items() if _is_short(a, self.charges.get(name, 0))]
        return not short or (answer is not None and quota in short)

    def granted(self) -> dict[str, int]:
        """What was charged; less than was asked for where a quota passed without a grant, for want of an answer."""
        verdict = self.verdict
        if verdict is None or not verdict.ok:
            return {}  # all or none
        answers = ((name, verdict.quotas.get(name), amount) for name, amount in self.charges.items())
        return {
            name: min(answer.granted, amount)
            for name, answer, amount in answers
            if answer is not None and answer.granted > 0
        }


def _is_short(answer: QuotaAnswer, amount: int) -> bool:
    return answer.code == Code.OK and answer.granted < amount


class RateLimits:
    """The service."""

    def __init__(self, client: PolicyClient, metrics: PolicyMetrics) -> None:
        """Charge through a client."""
        self._client = client
        self._answers = AnswerCounter(metrics, _SERVICE)
        self._left_out = metrics.left_out

    @property
    def methods(self) -> Methods:
        """The service, for a gRPC port."""
        return Methods({paths.SHOULD_RATE_LIMIT: self.should_rate_limit})

    async def should_rate_limit(self, data: bytes, head: CallHead = NO_HEAD) -> bytes:
        """Answer Envoy's question whether a request is within its limits.

        Raises:
            ServiceError: The request is malformed, or asks for more than `MAX_DESCRIPTORS`.
        """
        try:
            request = parse(RateLimitRequest, data)
        except Exception as exc:  # protobuf's DecodeError, under whichever implementation
            raise ServiceError(Code.INVALID_ARGUMENT, f"malformed RateLimitRequest: {exc}") from exc
        if len(request.descriptors) > MAX_DESCRIPTORS:
            raise ServiceError(Code.INVALID_ARGUMENT, f"{len(request.descriptors)} descriptors, of {MAX_DESCRIPTORS}")
        charges = [read_charge(descriptor, request.domain, request.hits_addend) for descriptor in request.descriptors]
        for charge in charges:
            for fault in charge.faults:
                self._left_out.labels(_SERVICE, "bad_entry").inc()
                log.debug("left_out", domain=request.domain, entry=fault)
        sets = self._sets(charges, request.domain)
        limit_s = timeout_s(head)
        for one in sets.values():
            given = self._client.take(one.bag, one.charges, timeout_s=limit_s)
            one.verdict = await given if isinstance(given, Awaitable) else given
        verdict = await self._settled(list(sets.values()))
        self._answers.count(verdict)
        return _encoded(verdict, [(charge, sets.get(_set_key(charge))) for charge in charges])

    def _sets(self, charges: Sequence[Charge], domain: str) -> dict[object, _Set]:
        sets: dict[object, _Set] = {}
        for charge in charges:
            if not charge.amount:
                continue
            key = _set_key(charge)
            one = sets.get(key)
            if one is None:
                bag = self._client.compose(MappingBag(charge.attributes), service=domain)
                one = sets[key] = _Set(bag, {})
            one.charges[charge.quota] = min(one.charges.get(charge.quota, 0) + charge.amount, _LARGEST)
        return sets

    async def _settled(self, sets: Sequence[_Set]) -> Verdict:
        """One verdict of all; grants are given back when it is a refusal."""
        verdicts = [one.verdict for one in sets if one.verdict is not None]
        denials = [verdict for verdict in verdicts if not verdict.ok]
        quotas = {name: answer for verdict in verdicts for name, answer in verdict.quotas.items()}
        if not denials:
            return Verdict(quotas=quotas)
        for one in sets:
            if granted := one.granted():
                given = self._client.take(one.bag, {name: -amount for name, amount in granted.items()})
                if isinstance(given, Awaitable):
                    await given
        exhausted = [d.message.removeprefix(QUOTA_EXHAUSTED) for d in denials if d.message.startswith(QUOTA_EXHAUSTED)]
        if len(exhausted) < len(denials):
            first = next(d for d in denials if not d.message.startswith(QUOTA_EXHAUSTED))
            return Verdict(first.code, first.message, failed=first.failed, quotas=quotas)
        names = dict.fromkeys(name for text in exhausted for name in text.split(","))
        return Verdict(Code.RESOURCE_EXHAUSTED, QUOTA_EXHAUSTED + ",".join(names), quotas=quotas)


def _set_key(charge: Charge) -> object:
    return frozenset(
        (name, frozenset(value.items()) if isinstance(value, Mapping) else (type(value), value))
        for name, value in charge.attributes.items()
    )


def _encoded(verdict: Verdict, charged: Sequence[tuple[Charge, _Set | None]]) -> bytes:
    response = RateLimitResponse()
    code = RateLimitResponse.OK if verdict.ok else RateLimitResponse.OVER_LIMIT
    response.overall_code = code
    for charge, one in charged:
        status = response.statuses.add()
        refused = one is not None and one.refuses(charge.quota)
        status.code = RateLimitResponse.OVER_LIMIT if refused else RateLimitResponse.OK
        answer = one.verdict.quotas.get(charge.quota) if one is not None and one.verdict is not None else None
        if answer is not None and answer.level is not None:
            _write_level(status, charge.quota, answer.level)
    if not verdict.ok:
        response.raw_body = status_text(verdict.code, verdict.message).encode("utf-8", "replace")
        for name, value in quota_headers(verdict.quotas, denied=True):
            if name == "retry-after":  # the others Envoy makes itself, of the statuses
                response.response_headers_to_add.add(key=name, value=value)
    return response.SerializeToString()


def _write_level(status: Any, quota: str, level: QuotaLevel) -> None:
    status.current_limit.name = quota
    status.current_limit.requests_per_unit = min(max(level.limit, 0), _UINT32)
    status.current_limit.unit = _UNITS.get(int(level.window), RateLimitResponse.RateLimit.UNKNOWN)
    status.limit_remaining = min(max(level.remaining, 0), _UINT32)
    reset = max(int(level.reset), 0)
    status.duration_until_reset.seconds, status.duration_until_reset.nanos = divmod(reset, _NANOS)
