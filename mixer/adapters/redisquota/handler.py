"""The redisquota handler: a quota becomes a script call, and Redis's reply, or the lack of one, a result.

Source: spec adapters 4.7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final

from mixer.adapters.base import Env, Handler, InstanceInfo, QuotaArgs, QuotaResult, Status
from mixer.adapters.redisquota.courier import Courier, NoDecisionError
from mixer.adapters.redisquota.fallback import EXHAUSTED, Fallback
from mixer.adapters.redisquota.ledger import Ledger, Outcome, Reason
from mixer.adapters.redisquota.limits import Limit, key_base, limits_by_name
from mixer.adapters.redisquota.link import Call, Link, open_links
from mixer.adapters.redisquota.params import RedisQuotaParams
from mixer.adapters.redisquota.scripts import SCRIPTS, Scripts
from mixer.api.answer import QuotaLevel
from mixer.api.codes import Code
from mixer.attributes import Duration
from mixer.templates.quota import QuotaInstance

_NOTHING: Final = QuotaResult()
_INTERNAL: Final = QuotaResult(status=Status(Code.INTERNAL, "redisquota: Internal Error"))


class RedisQuotaHandler(Handler):
    """Counters in Redis.

    A call waits for Redis for the params' time-out at most. Nothing of it is retried: a call whose answer is
    lost may have been charged, so quotas may lose units then and never grant too many.
    """

    def __init__(self, params: RedisQuotaParams, scripts: Scripts, courier: Courier, ledger: Ledger, env: Env) -> None:
        self._limits = limits_by_name(params, scripts)
        self._prefix = params.key_prefix
        self._dedup = params.deduplication_duration > 0
        self._courier, self._ledger = courier, ledger
        self._fallback = Fallback(params.failure_policy, env.clock)

    def handle_quota(self, instance: QuotaInstance, args: QuotaArgs, /) -> QuotaResult | Awaitable[QuotaResult]:
        """Take units, or give them back when the amount is negative; never raises."""
        limits = self._limits.get(instance.name)
        if limits is None or not args.amount:
            return _NOTHING
        limit = limits.of(instance.dimensions)
        if not limit.max_amount:
            if args.amount < 0:
                return _NOTHING
            return QuotaResult(status=EXHAUSTED, level=QuotaLevel(0, 0, Duration(0), limit.level_window))
        base = key_base(instance)
        if not self._courier.available:
            self._ledger.failed(self._courier.why_not)
            return self._fallback.decide(limit, base, args)
        dedup = self._dedup and bool(args.dedup_id)
        keys = limit.keys(self._prefix, base, args.dedup_id if dedup else "")
        call = Call(limit.script, keys, limit.arguments(args.amount, best_effort=args.best_effort, dedup=dedup))
        return self._decide(call, limit, base, args)

    async def _decide(self, call: Call, limit: Limit, base: str, args: QuotaArgs) -> QuotaResult:
        try:
            reply = await self._courier.ask(call)
        except NoDecisionError as exc:
            self._ledger.failed(exc.reason)
            if exc.detail:
                self._ledger.complain(exc.reason, "failed to run quota script", error=exc.detail)
            return self._fallback.decide(limit, base, args)
        if not _is_sound(reply):
            self._ledger.failed(Reason.MALFORMED)
            self._ledger.complain(Reason.MALFORMED, "invalid response from the redis server", shape=_shape(reply))
            return _INTERNAL
        granted, holds_us, left, reset_us, repeated = reply
        level = QuotaLevel(limit.max_amount, left, Duration(reset_us * 1000), limit.level_window)
        self._ledger.decided(_outcome(granted, args.amount, repeated))
        if granted <= 0 and args.amount > 0:
            return QuotaResult(status=EXHAUSTED, level=level)
        return QuotaResult(granted, Duration(holds_us * 1000), level=level)

    async def aclose(self) -> None:
        """Drop the connections; counters stay in Redis."""
        await self._courier.aclose()


def _outcome(granted: int, wanted: int, repeated: int) -> Outcome:
    if repeated:
        return Outcome.REPEATED
    if wanted < 0:
        return Outcome.RELEASED
    if granted <= 0:
        return Outcome.REFUSED
    return Outcome.GRANTED if granted == wanted else Outcome.PARTIAL


def _is_sound(reply: Any) -> bool:
    return type(reply) is list and len(reply) == 5 and all(type(number) is int and number >= 0 for number in reply)


def _shape(reply: Any) -> str:
    return f"{len(reply)} elements" if isinstance(reply, list) else type(reply).__name__


async def build(params: RedisQuotaParams, instances: Sequence[InstanceInfo], env: Env) -> RedisQuotaHandler:
    """A handler that connects in the background; a Redis that is away does no harm."""
    return open_handler(params, open_links(params), env)


def open_handler(
    params: RedisQuotaParams, links: Sequence[Link], env: Env, *, scripts: Scripts = SCRIPTS
) -> RedisQuotaHandler:
    """A handler on the given links, with its tasks started."""
    ledger = Ledger(env)
    courier = Courier(links, ledger, timeout_s=params.request_timeout.seconds, env=env)
    courier.start()
    return RedisQuotaHandler(params, scripts, courier, ledger, env)
