"""The handler of opa: from what a policy came to, to an answer. Source: spec adapters 4.11."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from time import perf_counter
from typing import Final

from mixer.adapters.base import CheckResult, Code, Env, Handler, InstanceInfo, Status
from mixer.adapters.opa.breaker import Breaker
from mixer.adapters.opa.document import input_document
from mixer.adapters.opa.ledger import OpaMetrics, Outcome
from mixer.adapters.opa.params import OpaParams, data_path, policy_faults
from mixer.adapters.opa.rego import EvaluationError, Query, compile_policies
from mixer.adapters.opa.server import OpaServer
from mixer.errors import AdapterError, BackendUnavailableError
from mixer.templates.authorization import AuthorizationInstance

REJECTED: Final = "opa: request was rejected"
_OK: Final = CheckResult()
_NO: Final = CheckResult(Status(Code.PERMISSION_DENIED, REJECTED))


class OpaHandler(Handler):
    """Asks a query in this process, or an agent; with neither, the configuration was wrong and all is denied.

    Durations and use counts of answers are 0: an admission is no opinion, and a denial must not be cached.
    """

    def __init__(
        self, env: Env, *, fail_close: bool, query: Query | None, server: OpaServer | None, breaker: Breaker | None
    ) -> None:
        metrics = OpaMetrics.of(env)
        self._count = {outcome: metrics.checks.labels(env.handler, outcome.value) for outcome in Outcome}
        self._seconds = metrics.seconds.labels(env.handler)
        self._spared = metrics.spared.labels(env.handler)
        self._log = env.log
        self._fail_close, self._query = fail_close, query
        self._server, self._breaker = server, breaker
        self._failing = False

    def handle_check(self, instance: AuthorizationInstance, /) -> CheckResult | Awaitable[CheckResult]:
        """Decide."""
        if self._server is not None:
            return self._ask(self._server, instance)
        if self._query is None:
            self._count[Outcome.MISCONFIGURED].inc()
            return _NO
        started = perf_counter()
        try:
            decision = self._query.evaluate(input_document(instance))
        except EvaluationError as exc:
            return self._failed(str(exc), admits=exc.certain and not self._fail_close)
        finally:
            self._seconds.observe(perf_counter() - started)
        return self._decided(decision)

    async def _ask(self, server: OpaServer, instance: AuthorizationInstance) -> CheckResult:
        started = perf_counter()
        try:
            decision = await server.decide(input_document(instance))
        except BackendUnavailableError as exc:
            return self._failed(str(exc), admits=not self._fail_close)
        finally:
            self._seconds.observe(perf_counter() - started)
            if self._breaker is not None:
                self._spared.set(self._breaker.is_open)
        return self._decided(decision)

    def _decided(self, decision: bool | None) -> CheckResult:
        if self._failing:
            self._failing = False
            self._log.info("opa_decides_again")
        if decision is None:
            self._count[Outcome.UNDEFINED].inc()
            return _NO if self._fail_close else _OK
        self._count[Outcome.ALLOWED if decision else Outcome.DENIED].inc()
        return _OK if decision else _NO

    def _failed(self, reason: str, *, admits: bool) -> CheckResult:
        self._count[Outcome.FAILED].inc()
        if not self._failing:
            self._failing = True
            self._log.warning("opa_gave_no_decision", reason=reason, outcome="admitted" if admits else "denied")
        return _OK if admits else CheckResult(Status(Code.PERMISSION_DENIED, f"{REJECTED}. err: {reason}"))

    async def aclose(self) -> None:
        """Close what is open towards an agent, and free the interpreter in the thread that made it."""
        self._query = None
        if self._server is not None:
            await self._server.aclose()
            self._spared.set(0)


async def build(params: OpaParams, instances: Sequence[InstanceInfo], env: Env) -> OpaHandler:
    """A handler; an agent need not be there yet.

    Raises:
        AdapterError: The policies do not compile, and ``failClose`` does not say to go on.
    """
    if params.server_url:
        breaker = Breaker(env.clock)
        server = OpaServer(
            params.server_url,
            data_path(params.check_method),
            token=params.token.get_secret_value(),
            timeout_s=params.timeout.seconds,
            breaker=breaker,
        )
        return OpaHandler(env, fail_close=params.fail_close, query=None, server=server, breaker=breaker)
    if faults := policy_faults(params):
        reason = "; ".join(fault.message for fault in faults)
        if not params.fail_close:
            raise AdapterError(reason)
        env.log.error("opa_policies_are_unusable", reason=reason, outcome="every request is denied")
        query = None
    else:
        query = compile_policies(params.policy, params.check_method, v1=params.rego_v1).query
    return OpaHandler(env, fail_close=params.fail_close, query=query, server=None, breaker=None)
