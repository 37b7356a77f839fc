"""The dispatcher: attributes in, handlers called, one answer out.

A request pins one binding (snapshot and running handlers) for its whole life. In-process handlers answer
inline; those that must wait are awaited together, each under a time-out. Whatever one rule, instance or
handler does wrong costs that one only, and ends in an answer or a `DispatchError`, never in anything else.

Source: spec runtime 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol, TypeVar

import structlog

from mixer.adapters.base import CheckResult, Code, QuotaArgs, QuotaResult, Series, Status
from mixer.attributes import AttributeBag, OverlayBag, TrackingBag
from mixer.errors import AdapterError, BackendUnavailableError, EvalError, MixerError
from mixer.rules.routes import request_namespace
from mixer.runtime.binding import Binding, BoundRoutes
from mixer.runtime.bound import BoundRoute, Drawn
from mixer.runtime.headers import header_directive
from mixer.runtime.isolation import being_cancelled
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.reporting import Batch
from mixer.runtime.results import (
    DEFAULT_VALID_DURATION,
    NO_OBJECTION,
    PASSED,
    CheckOutcome,
    DispatchError,
    QuotaOutcome,
    ReportError,
    combine_checks,
    combine_quotas,
    direct_response,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.runtime.dispatcher")

T = TypeVar("T")

_NOT_ASKED = CheckOutcome(CheckResult(), {})

RECORDS_PER_TURN = 100
"""A Report of more records than this lets other requests run in between."""


class QuotaRequest(Protocol):
    """How much of a quota a caller wants."""

    @property
    def amount(self) -> int:
        """Units."""
        ...

    @property
    def best_effort(self) -> bool:
        """Whether less is welcome."""
        ...


class _Failure:
    """A call that gave no answer, in the place where its answer would stand."""

    __slots__ = ("code", "text")

    def __init__(self, text: str, code: Code = Code.INTERNAL) -> None:
        self.text, self.code = text, code


class Dispatcher:
    """Serves requests from whatever binding was published last."""

    def __init__(self, binding: Binding, metrics: RuntimeMetrics, *, handler_timeout_s: float = 5.0) -> None:
        self.binding = binding
        self._metrics = metrics
        self._timeout_s = handler_timeout_s

    async def check(
        self,
        bag: AttributeBag,
        quotas: Mapping[str, QuotaRequest] | None = None,
        dedup_id: str = "",
        *,
        quotas_only: bool = False,
        references: bool = True,
    ) -> CheckOutcome:
        """Decide on a request, and take from quotas if it may pass; arguments and errors as for `check_inline`."""
        given = self.check_inline(bag, quotas, dedup_id, quotas_only=quotas_only, references=references)
        return given if isinstance(given, CheckOutcome) else await given

    def check_inline(
        self,
        bag: AttributeBag,
        quotas: Mapping[str, QuotaRequest] | None = None,
        dedup_id: str = "",
        *,
        quotas_only: bool = False,
        references: bool = True,
    ) -> CheckOutcome | Awaitable[CheckOutcome]:
        """The same at once where nothing has to wait; an awaitable must be awaited before the loop turns.

        Args:
            bag: The request's attributes.
            quotas: What to take, by quota name.
            dedup_id: The same for each retry of one call.
            quotas_only: Take from the quotas whatever the check rules say, which are not asked; the answer is OK
                and must not be cached.
            references: Whether the caller wants to know what the answer depends on; finding out takes time.

        Raises:
            DispatchError: A handler or an instance that the decision needs gave no answer.
        """
        binding = self.binding
        if quotas or binding.generates:
            return self._check(binding, bag, quotas, dedup_id, quotas_only, references)
        if quotas_only:
            return _NOT_ASKED
        tracked = TrackingBag(bag) if references else None
        given = self._precondition(binding, bag if tracked is None else tracked, tracked, {})
        return given if isinstance(given, CheckOutcome) else _holding(binding, given)

    async def _check(
        self,
        binding: Binding,
        bag: AttributeBag,
        quotas: Mapping[str, QuotaRequest] | None,
        dedup_id: str,
        quotas_only: bool,
        references: bool,
    ) -> CheckOutcome:
        """A check in all its steps."""
        with binding.pinned:
            tracked = TrackingBag(bag) if references else None
            drawn: Drawn = {}
            visible: AttributeBag = bag if tracked is None else tracked
            if binding.generates:
                visible = await self._preprocess(binding, visible, drawn)
            before_check = {} if tracked is None else dict(tracked.referenced)
            outcome = _NOT_ASKED
            if not quotas_only:
                given = self._precondition(binding, visible, tracked, drawn)
                outcome = given if isinstance(given, CheckOutcome) else await given
            if not quotas or not outcome.result.status.ok:
                return outcome
            answers = {}
            for name in sorted(quotas):
                if tracked is not None:
                    tracked.referenced.clear()
                    tracked.referenced.update(before_check)
                quota_id = dedup_id + name if dedup_id else ""  # without an id nothing is a retry
                result = await self._quota(binding, visible, name, quotas[name], quota_id, drawn)
                answers[name] = QuotaOutcome(result, None if tracked is None else tracked.record())
            return CheckOutcome(outcome.result, outcome.referenced, outcome.directive, answers)

    async def report(self, records: Iterable[AttributeBag]) -> None:
        """Deliver a batch of records: each handler gets all its instances of one template in one call.

        Raises:
            ReportError: Some could not be delivered; everything else was.
        """
        binding = self.binding
        batch = Batch(self._not_built)
        with binding.pinned:
            for index, record in enumerate(records):
                if index % RECORDS_PER_TURN == RECORDS_PER_TURN - 1:
                    await asyncio.sleep(0)
                drawn: Drawn = {}
                bag = record
                if binding.generates:
                    try:
                        bag = await self._preprocess(binding, record, drawn)
                    except DispatchError as exc:
                        batch.errors.append(str(exc))
                        continue
                binding.routes(request_namespace(bag)).reports.add(bag, batch, drawn, self._match_failed)
            self._metrics.instances_per_request.observe(len(batch))
            calls = [(route, _sampling(route, samples)) for route, samples in batch.samples.values()]
            calls += ((route, _reporting(route, instances)) for route, instances in batch.instances.values())
            given = self._call_all(calls, type(None))
            answers = given if isinstance(given, list) else await given
        errors = batch.errors
        errors += (f"failed to report all values: {a.text}" for a in answers if isinstance(a, _Failure))
        if errors:
            raise ReportError("", errors)

    async def _preprocess(self, binding: Binding, bag: AttributeBag, drawn: Drawn) -> AttributeBag:
        """The bag with what attribute generators add; the very bag when there are none."""
        routes = binding.routes(request_namespace(bag))
        if not routes.generators:
            return bag
        errors: list[str] = []
        selected = routes.generators.selected(bag, drawn, self._match_failed)
        calls = self._prepare(selected, bag, errors, lambda route: route.handler.generate_attributes)
        given = self._call_all(calls, Mapping)
        answers = given if isinstance(given, list) else await given
        overlay = OverlayBag(bag)
        hidden: list[str] = []
        for (route, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, _Failure):
                errors.append(answer.text)
            elif route.bind is not None:
                try:
                    hidden += overlay.merge(route.bind(answer, bag))
                except Exception as exc:  # noqa: BLE001  whatever a handler put out
                    errors.append(f"attribute bindings of [{route.instance.name}]: {exc}")
        if errors:
            raise DispatchError("preprocessing attributes failed: ", errors)
        if hidden and isinstance(bag, TrackingBag):
            bag.stands_in_for(hidden)
        return overlay

    def _precondition(
        self, binding: Binding, bag: AttributeBag, tracked: TrackingBag | None, drawn: Drawn
    ) -> CheckOutcome | Awaitable[CheckOutcome]:
        routes = binding.routes(request_namespace(bag))
        selected = routes.checks.selected(bag, drawn, self._match_failed)
        if not selected:
            self._metrics.instances_per_request.observe(0)
            return self._outcome(routes, bag, tracked, NO_OBJECTION)
        errors: list[str] = []
        calls = self._prepare(selected, bag, errors, lambda route: route.handler.handle_check)
        self._metrics.instances_per_request.observe(len(calls))
        given = self._call_all(calls, CheckResult)
        if isinstance(given, list):
            return self._decision(routes, bag, tracked, calls, errors, given)
        return self._decision_later(routes, bag, tracked, calls, errors, given)

    async def _decision_later(
        self,
        routes: BoundRoutes,
        bag: AttributeBag,
        tracked: TrackingBag | None,
        calls: Sequence[tuple[BoundRoute, object]],
        errors: list[str],
        coming: Awaitable[list[CheckResult | _Failure]],
    ) -> CheckOutcome:
        return self._decision(routes, bag, tracked, calls, errors, await coming)

    def _decision(
        self,
        routes: BoundRoutes,
        bag: AttributeBag,
        tracked: TrackingBag | None,
        calls: Sequence[tuple[BoundRoute, object]],
        errors: list[str],
        answers: Sequence[CheckResult | _Failure],
    ) -> CheckOutcome:
        """What the handlers' answers make together."""
        results = []
        for (route, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, _Failure):
                errors.append(answer.text)
            else:
                results.append((route.name, answer))
        if errors:
            raise DispatchError("performing check operation failed: ", errors)
        result, denial = combine_checks(results)
        return self._outcome(routes, bag, tracked, result, denial)

    def _outcome(
        self,
        routes: BoundRoutes,
        bag: AttributeBag,
        tracked: TrackingBag | None,
        result: CheckResult,
        denial: Status | None = None,
    ) -> CheckOutcome:
        directive = None
        if denial is not None:
            if denial.direct_response is not None:
                directive = direct_response(denial, denial.direct_response)
        elif routes.directives.things:
            directive = header_directive(routes.directives, bag, self._match_failed)
        if tracked is not None:
            return CheckOutcome(result, tracked.record(), directive)
        return PASSED if result is NO_OBJECTION and directive is None else CheckOutcome(result, None, directive)

    async def _quota(
        self,
        binding: Binding,
        bag: AttributeBag,
        name: str,
        request: QuotaRequest,
        dedup_id: str,
        drawn: Drawn,
    ) -> QuotaResult:
        """Ask every candidate that matches; with none, the whole amount is free for a minute."""
        routes = binding.routes(request_namespace(bag))
        candidates = routes.quotas.get(name.lower())
        if candidates is None:
            log.debug("quota_not_configured", quota=name)
            return QuotaResult(request.amount, DEFAULT_VALID_DURATION)
        args = QuotaArgs(request.amount, request.best_effort, dedup_id)
        errors: list[str] = []

        def asking(route: BoundRoute) -> Callable[[Any], QuotaResult | Awaitable[QuotaResult]]:
            return lambda instance: route.handler.handle_quota(instance, args)

        selected = candidates.selected(bag, drawn, self._match_failed)
        calls = self._prepare(selected, bag, errors, asking)
        given = self._call_all(calls, QuotaResult)
        answers = given if isinstance(given, list) else await given
        failures = [_Failure(text) for text in errors]
        results: list[tuple[str, QuotaResult]] = []
        for (route, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, _Failure):
                failures.append(answer)
            else:
                results.append((route.name, answer))
        if failures:
            text = ", ".join(failure.text for failure in failures)
            return QuotaResult(status=Status(failures[0].code, text))
        if not results:
            return QuotaResult(request.amount, DEFAULT_VALID_DURATION)
        if len(results) == 1 and results[0][1].status.ok:
            return results[0][1]
        return combine_quotas(results)

    def _prepare(
        self,
        routes: Sequence[BoundRoute],
        bag: AttributeBag,
        errors: list[str],
        method: Callable[[BoundRoute], Callable[[Any], T | Awaitable[T]]],
    ) -> list[tuple[BoundRoute, Callable[[], T | Awaitable[T]]]]:
        """The calls that the selected routes ask for, each (handler, instance) once."""
        calls: list[tuple[BoundRoute, Callable[[], T | Awaitable[T]]]] = []
        seen: set[tuple[str, str]] = set()
        for route in routes:
            if route.identity in seen:
                continue
            seen.add(route.identity)
            try:
                instance = route.build(bag)
            except Exception as exc:  # noqa: BLE001  the sibling instances still run
                errors.append(self._not_built(route, exc))
                continue
            calls.append((route, _applied(method(route), instance)))
        return calls

    def _call_all(
        self, calls: Sequence[tuple[BoundRoute, Callable[[], T | Awaitable[T]]]], kind: type[Any]
    ) -> list[T | _Failure] | Awaitable[list[T | _Failure]]:
        """Call handlers; answers in the order of the calls, a failure in place of what is no answer of that kind."""
        answers: list[Any] = []
        waiting: list[int] = []
        for route, call in calls:
            started = perf_counter()
            try:
                answer = call()
            except Exception as exc:  # noqa: BLE001  a fault of one handler must not cost the others
                answers.append(self._failed(route, exc, started))
                continue
            if isinstance(answer, kind):
                route.served(perf_counter() - started)
                answers.append(answer)
            elif isinstance(answer, Awaitable):
                waiting.append(len(answers))
                answers.append(self._wait(route, answer, started))
            else:
                route.served(perf_counter() - started)
                answers.append(_wrong_answer(route, answer, kind))
        return self._wait_all(calls, answers, waiting, kind) if waiting else answers

    async def _wait_all(
        self, calls: Sequence[tuple[BoundRoute, object]], answers: list[Any], waiting: Sequence[int], kind: type[Any]
    ) -> list[Any]:
        """The answers, when those that are waited for have come."""
        if len(waiting) == 1:
            done = [await answers[waiting[0]]]
        else:
            done = await asyncio.gather(*(answers[index] for index in waiting))
        for index, answer in zip(waiting, done, strict=True):
            fits = isinstance(answer, (kind, _Failure))
            answers[index] = answer if fits else _wrong_answer(calls[index][0], answer, kind)
        return answers

    async def _wait(self, route: BoundRoute, answer: Awaitable[T], started: float) -> T | _Failure:
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                result = await answer
        except asyncio.CancelledError as exc:
            if being_cancelled():
                raise
            return self._failed(route, exc, started)
        except Exception as exc:  # noqa: BLE001  a fault of one handler must not cost the others
            if limit.expired():
                route.failed(perf_counter() - started)
                text = f"handler '{route.name}' gave no answer within {self._timeout_s:g}s"
                return _Failure(text, Code.UNAVAILABLE)
            return self._failed(route, exc, started)
        route.served(perf_counter() - started)
        return result

    def _failed(self, route: BoundRoute, exc: BaseException, started: float) -> _Failure:
        route.failed(perf_counter() - started)
        if isinstance(exc, BackendUnavailableError):
            return _Failure(str(exc), Code.UNAVAILABLE)
        if isinstance(exc, AdapterError):
            return _Failure(str(exc))
        log.error("handler_crashed", handler=route.name, exc_info=exc)
        return _Failure(f"handler '{route.name}' crashed: {type(exc).__name__}: {exc}")

    def _not_built(self, route: BoundRoute, exc: Exception) -> str:
        self._metrics.instance_errors.labels(route.instance.name).inc()
        if isinstance(exc, MixerError):
            return str(exc)
        log.error("instance_builder_crashed", instance=route.instance.name, exc_info=exc)
        return f"evaluation failed at [{route.instance.name}]: '{type(exc).__name__}: {exc}'"

    def _match_failed(self, exc: Exception) -> None:
        self._metrics.match_errors.inc()
        if isinstance(exc, EvalError):
            log.debug("match_not_evaluated", error=str(exc))
        else:
            log.error("match_crashed", exc_info=exc)


async def _holding(binding: Binding, coming: Awaitable[T]) -> T:
    """What comes, with the handlers of a binding kept open until then."""
    with binding.pinned:
        return await coming


def _wrong_answer(route: BoundRoute, answer: object, kind: type[Any]) -> _Failure:
    log.error("handler_answer_of_wrong_kind", handler=route.name, answer=type(answer).__name__, expected=kind.__name__)
    return _Failure(f"handler '{route.name}' answered with {type(answer).__name__} instead of {kind.__name__}")


def _applied(method: Callable[[Any], T], instance: Any) -> Callable[[], T]:
    return lambda: method(instance)


def _reporting(route: BoundRoute, instances: Sequence[Any]) -> Callable[[], Awaitable[None] | None]:
    return lambda: route.handler.handle_report(instances)


def _sampling(route: BoundRoute, samples: Sequence[tuple[Series, Any]]) -> Callable[[], Awaitable[None] | None]:
    return lambda: route.handler.handle_samples(samples)
