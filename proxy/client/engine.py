"""The check, step by step: caches first, then Mixer, then what the fail policy makes of silence.

Source: spec proxy 5, 6.3, 6.4, 8.1, 8.4 and 10.2.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Final, NoReturn

import structlog

from mixer.api.answer import NO_QUOTAS, CheckAnswer, QuotaAnswer, RouteDirective
from mixer.api.codes import Code
from mixer.attributes import AttributeBag
from mixer.errors import MixerCallError
from proxy.client.background import Background
from proxy.client.checkcache import CheckCache
from proxy.client.config import Transport
from proxy.client.flights import Flights, Landing
from proxy.client.outcome import exhausted, failed
from proxy.client.patience import within
from proxy.client.quotacache import QuotaCache, Want
from proxy.client.quotaspec import QuotaRules, Requirements, requirements
from proxy.client.shapes import Signature
from proxy.client.stats import Counters
from proxy.mixer import NO_DEMANDS, CheckCall, Mixer, QuotaDemand
from proxy.policy import Verdict

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.engine")


_NO_AMOUNTS: Final[Requirements] = {}
_ALLOWED: Final = Verdict()
_QUIET_S: Final = 10.0
"""Between two lines about calls without answer."""


class CheckEngine:
    """Verdicts for the requests of one transport.

    Args:
        mixer: Who is asked.
        transport: Which caches there are, and how long an answer may take.
        counters: Where everything is counted.
        monotonic: Seconds.
        background: Owns the calls that no request waits for.
    """

    def __init__(
        self,
        mixer: Mixer,
        transport: Transport,
        counters: Counters,
        *,
        monotonic: Callable[[], float],
        background: Background,
    ) -> None:
        self._mixer = mixer
        self._now = monotonic
        self._background = background
        self._timeout_s = transport.check_timeout_s
        self._counters = counters
        self._crashes = 0
        self._away = False
        self._quiet_until = float("-inf")
        self._flights = Flights()
        self._ids = (f"{prefix}{number}" for prefix in [str(uuid.uuid4())] for number in count())
        self.checks: Final = None if transport.disable_check_cache else CheckCache()
        # Without known decisions prefetched tokens are never used. Source: spec proxy 6.4.
        self.quotas: Final = None if transport.disable_quota_cache or self.checks is None else QuotaCache()

    def check(
        self, bag: AttributeBag, rules: Sequence[QuotaRules], fails_open: bool, timeout_s: float | None
    ) -> Verdict | Awaitable[Verdict]:
        """The verdict on a bag; quotas that the rules demand are charged.

        Args:
            bag: The whole bag; kept until prefetches that it causes are answered.
            rules: Which quotas are charged.
            fails_open: What silence means.
            timeout_s: The verdict is worth nothing after so many seconds; None leaves it to the transport.
        """
        if self.checks is None:
            return self._ask_for_all(bag, rules, fails_open, self._limit_s(timeout_s))
        now = self._now()
        verdict, missed = self.checks.find(bag, now)
        if verdict is None:
            return self._missed(bag, missed, rules, fails_open, self._limit_s(timeout_s), now)
        return self._hit(verdict, bag, rules, fails_open, timeout_s, now)

    def take(
        self, bag: AttributeBag, charges: Mapping[str, int], fails_open: bool, timeout_s: float | None
    ) -> Verdict | Awaitable[Verdict]:
        """Charge quotas, all of them or none; no check rule is asked."""
        if not charges:
            return Verdict()
        self._counters.quota_calls += 1
        return self._charge(bag, charges, Verdict(), fails_open, self._limit_s(timeout_s))

    def _limit_s(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None or timeout_s > self._timeout_s else timeout_s

    def _hit(
        self,
        verdict: Verdict,
        bag: AttributeBag,
        rules: Sequence[QuotaRules],
        fails_open: bool,
        timeout_s: float | None,
        now: float,
    ) -> Verdict | Awaitable[Verdict]:
        counters = self._counters
        counters.check_calls += 1
        counters.check_cache_hits += 1
        if verdict.code:
            if not (fails_open and verdict.code == Code.INTERNAL):
                counters.check_cache_hit_denies += 1
                return verdict
            verdict = Verdict(directive=verdict.directive, check_cache_hit=True)
        counters.check_cache_hit_accepts += 1
        amounts = requirements(rules, bag) if rules else None
        if not amounts:
            return verdict
        counters.quota_calls += 1
        if self.quotas is None:
            return self._charge(bag, amounts, verdict, fails_open, self._limit_s(timeout_s))
        counters.quota_cache_hits += 1
        asked = self.quotas.ask(amounts, bag, now)
        if asked.wants:
            self._prefetch(bag, asked.wants)
        if asked.refused:
            counters.quota_cache_hit_denies += 1
            return exhausted(asked.refused, verdict.directive, check_cache_hit=True, quota_cache_hit=True)
        counters.quota_cache_hit_accepts += 1
        return Verdict(verdict.code, verdict.message, verdict.directive, True, True, True)

    async def _missed(
        self,
        bag: AttributeBag,
        missed: tuple[Signature, ...],
        rules: Sequence[QuotaRules],
        fails_open: bool,
        limit_s: float,
        began: float,
    ) -> Verdict:
        """Wait for the answer to a request like this one, or ask."""
        assert self.checks is not None
        waited = False
        landing = Landing.GIVEN_UP
        while missed and landing is Landing.GIVEN_UP:
            flight = self._flights.of(missed)
            if flight is None:
                break
            if not waited:
                waited = True
                self._counters.check_coalesced += 1
            landing = await flight.join(limit_s - (self._now() - began))
            now = self._now()
            verdict, missed = self.checks.find(bag, now)
            if verdict is not None:
                left_s = limit_s - (now - began)
                answer = self._hit(verdict, bag, rules, fails_open, left_s, now)
                return answer if isinstance(answer, Verdict) else await answer
        left_s = limit_s - (self._now() - began) if waited else limit_s
        asking = self._ask_for_all(bag, rules, fails_open, left_s)
        if isinstance(asking, Verdict):
            return asking
        # Whoever waited in vain asks at once; to wait in turn would make a queue of calls.
        if not missed or landing is not Landing.GIVEN_UP or self._flights.full:
            return await asking
        return await self._flights.fly(missed, asking)

    def _ask_for_all(
        self, bag: AttributeBag, rules: Sequence[QuotaRules], fails_open: bool, limit_s: float
    ) -> Verdict | Awaitable[Verdict]:
        """Ask Mixer for the decision and, exactly, for what the request is charged."""
        counters = self._counters
        counters.check_calls += 1
        counters.check_cache_misses += 1
        counters.remote_check_calls += 1
        amounts = requirements(rules, bag) if rules else _NO_AMOUNTS
        if amounts:
            counters.quota_calls += 1
            counters.quota_cache_misses += 1
            counters.remote_quota_calls += 1
        try:
            given = self._call(bag, amounts, limit_s)
        except MixerCallError as exc:
            return self._undecided(exc, amounts, fails_open)
        if isinstance(given, CheckAnswer):
            return self._decided(bag, amounts, given, fails_open)
        return self._decided_later(bag, amounts, given, fails_open)

    async def _decided_later(
        self, bag: AttributeBag, amounts: Requirements, coming: Awaitable[CheckAnswer], fails_open: bool
    ) -> Verdict:
        try:
            answer = await coming
        except MixerCallError as exc:
            return self._undecided(exc, amounts, fails_open)
        return self._decided(bag, amounts, answer, fails_open)

    def _undecided(self, exc: MixerCallError, amounts: Requirements, fails_open: bool) -> Verdict:
        counters = self._counters
        if amounts:
            counters.remote_quota_accepts += 1  # a quota without answer passes
        if fails_open:
            counters.remote_check_accepts += 1
        else:
            counters.remote_check_denies += 1
        return failed(exc, fails_open)

    def _decided(self, bag: AttributeBag, amounts: Requirements, answer: CheckAnswer, fails_open: bool) -> Verdict:
        counters = self._counters
        if self.checks is not None:
            self.checks.store(bag, answer, self._now())
        if answer.code and not (fails_open and answer.code == Code.INTERNAL):
            counters.remote_check_denies += 1
            return Verdict(answer.code, answer.message, answer.directive, quotas=answer.quotas)
        counters.remote_check_accepts += 1
        if not amounts:
            message = "" if answer.code else answer.message
            return Verdict(directive=answer.directive, message=message) if answer.directive or message else _ALLOWED
        return self._charged(bag, amounts, answer.quotas, answer.directive)

    async def _charge(
        self, bag: AttributeBag, amounts: Mapping[str, int], decided: Verdict, fails_open: bool, limit_s: float
    ) -> Verdict:
        """Ask Mixer for exact charges, the decision being known already."""
        counters = self._counters
        counters.quota_cache_misses += 1
        counters.remote_quota_calls += 1
        try:
            given = self._call(bag, amounts, limit_s, quotas_only=True)
            answer = given if isinstance(given, CheckAnswer) else await given
        except MixerCallError as exc:
            counters.remote_quota_accepts += 1
            return failed(exc, fails_open, decided)
        return self._charged(bag, amounts, answer.quotas, decided.directive, decided.check_cache_hit)

    def _charged(
        self,
        bag: AttributeBag,
        amounts: Mapping[str, int],
        answers: Mapping[str, QuotaAnswer],
        directive: RouteDirective | None,
        check_cache_hit: bool = False,
    ) -> Verdict:
        refused = [name for name, amount in amounts.items() if amount > 0 and _refuses(answers.get(name))]
        if not refused:
            self._counters.remote_quota_accepts += 1
            return Verdict(Code.OK, "", directive, True, check_cache_hit, quotas=answers)
        self._counters.remote_quota_denies += 1
        surplus = {
            name: answer.granted
            for name, answer in answers.items()
            if answer.granted > 0 and amounts.get(name, 0) > 0 and name not in refused
        }
        if surplus and not self._background.spawn(lambda: self._give_back(bag, surplus), "give back quotas"):
            self._counters.quota_units_not_given_back += sum(surplus.values())
        return exhausted(refused, directive, check_cache_hit=check_cache_hit, quotas=answers)

    async def _give_back(self, bag: AttributeBag, units: Mapping[str, int]) -> None:
        counters = self._counters
        counters.remote_quota_calls += 1
        total = sum(units.values())
        try:
            amounts = {name: -amount for name, amount in units.items()}
            given = self._call(bag, amounts, self._timeout_s, quotas_only=True)
            if not isinstance(given, CheckAnswer):
                await given
        except MixerCallError as exc:
            counters.quota_units_not_given_back += total
            log.debug("quotas_not_given_back", error=str(exc))
        except asyncio.CancelledError:
            counters.quota_units_not_given_back += total
            raise
        else:
            counters.quota_units_given_back += total

    def _prefetch(self, bag: AttributeBag, wants: Sequence[Want]) -> None:
        if not self._background.spawn(lambda: self._fetch(bag, wants), "prefetch quotas"):
            self._counters.quota_prefetches_not_sent += len(wants)
            self._settle(bag, wants, NO_QUOTAS)

    async def _fetch(self, bag: AttributeBag, wants: Sequence[Want]) -> None:
        """Ask for tokens; whatever comes of it concerns the pools only."""
        counters = self._counters
        counters.remote_quota_calls += 1
        counters.remote_quota_prefetch_calls += 1
        answers: Mapping[str, QuotaAnswer] = NO_QUOTAS
        try:
            amounts = {want.quota: want.prefetch.amount for want in wants}
            given = self._call(bag, amounts, self._timeout_s, quotas_only=True, best_effort=True)
            answers = (given if isinstance(given, CheckAnswer) else await given).quotas
        except MixerCallError as exc:
            log.debug("prefetch_failed", error=str(exc))
        finally:
            self._settle(bag, wants, answers)

    def _settle(self, bag: AttributeBag, wants: Sequence[Want], answers: Mapping[str, QuotaAnswer]) -> None:
        assert self.quotas is not None
        now = self._now()
        for want in wants:
            self.quotas.answer(want, bag, answers.get(want.quota), now)

    def _call(
        self,
        bag: AttributeBag,
        amounts: Mapping[str, int],
        limit_s: float,
        *,
        quotas_only: bool = False,
        best_effort: bool = False,
    ) -> CheckAnswer | Awaitable[CheckAnswer]:
        """One Check, answered at once where Mixer does; whatever goes wrong with it is a MixerCallError."""
        self._counters.remote_calls += 1
        demands = (
            {name: QuotaDemand(amount, best_effort) for name, amount in amounts.items()} if amounts else NO_DEMANDS
        )
        began = self._now()
        try:
            if limit_s <= 0:
                raise TimeoutError
            given = self._mixer.check(
                CheckCall(bag, demands, next(self._ids), quotas_only, limit_s, self.checks is not None)
            )
        except Exception as exc:  # noqa: BLE001  a Mixer in this process may crash
            self._call_failed(exc, limit_s)
        if isinstance(given, CheckAnswer):
            self._call_succeeded()
            return given
        return self._answer(given, limit_s, began)

    async def _answer(self, coming: Awaitable[CheckAnswer], limit_s: float, began: float) -> CheckAnswer:
        """The answer that a call waits for; the time since it began counts."""
        try:
            answer = await within(limit_s - (self._now() - began), coming)
        except asyncio.CancelledError:
            self._counters.remote_call_cancellations += 1
            raise
        except Exception as exc:  # noqa: BLE001  a Mixer in this process may crash
            self._call_failed(exc, limit_s)
        self._call_succeeded()
        return answer

    def _call_succeeded(self) -> None:
        self._counters.remote_call_successes += 1
        if self._away:
            self._away = False
            log.info("mixer_answers_again")

    def _call_failed(self, exc: Exception, limit_s: float) -> NoReturn:
        """Count a call that failed, and raise the `MixerCallError` that it ends in."""
        counters = self._counters
        if isinstance(exc, MixerCallError):
            counters.call_failed(exc.code)
            self._silent(exc)
            raise exc
        if isinstance(exc, TimeoutError):
            counters.call_failed(Code.DEADLINE_EXCEEDED)
            error = MixerCallError(Code.DEADLINE_EXCEEDED, f"no answer within {limit_s:.3g} s")
            self._silent(error)
            raise error from exc
        counters.call_failed(Code.INTERNAL)
        if self._crashes % 100 == 0:
            log.error("check_crashed", crashes=self._crashes + 1, exc_info=exc)
        self._crashes += 1
        raise MixerCallError(Code.INTERNAL, f"the call failed: {exc!r}") from exc

    def _silent(self, error: MixerCallError) -> None:
        """Say now and then that Mixer gives no answers, and why; the counters tell how many."""
        now = self._now()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            self._away = True
            log.warning("mixer_gives_no_answer", code=Code(error.code).name, error=str(error))


def _refuses(answer: QuotaAnswer | None) -> bool:
    """A quota without answer passes, whatever the fail policy. Source: spec proxy 8.1."""
    return answer is not None and answer.code != Code.UNAVAILABLE and answer.granted <= 0
