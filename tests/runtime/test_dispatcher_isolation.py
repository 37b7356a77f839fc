"""What one handler does wrong costs that one, and ends in an answer or a DispatchError. Source: spec runtime 4.10."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mixer.adapters.base import CheckResult, QuotaArgs, QuotaResult, Status
from mixer.adapters.testing import settle
from mixer.errors import AdapterError, BackendUnavailableError
from mixer.runtime.results import DispatchError, ReportError
from tests.runtime.fakes import Bench, fake, instance, rule

NO = CheckResult(Status(7, "no"), valid_use_count=1)


def raising(exc: BaseException) -> Callable[..., Any]:
    def handle(*_: Any) -> Any:
        raise exc

    return handle


def raising_later(exc: BaseException) -> Callable[..., Awaitable[Any]]:
    async def handle(*_: Any) -> Any:
        await asyncio.sleep(0)
        raise exc

    return handle


async def hanging(*_: Any) -> Any:
    await asyncio.Event().wait()


async def cancelling_its_own_work(*_: Any) -> Any:
    work = asyncio.ensure_future(asyncio.Event().wait())
    work.cancel()
    return await work


FAULTS = [
    pytest.param(raising(AdapterError("bad day")), "bad day", id="adapter error"),
    pytest.param(raising_later(AdapterError("bad day")), "bad day", id="adapter error, later"),
    pytest.param(raising(BackendUnavailableError("backend is away")), "backend is away", id="backend away"),
    pytest.param(raising(ZeroDivisionError("oops")), "handler 'sick.istio-system' crashed: ZeroDivisionError: oops", id="crash"),
    pytest.param(
        raising_later(KeyError("k")), "handler 'sick.istio-system' crashed: KeyError: 'k'", id="crash, later"
    ),
    pytest.param(
        raising_later(TimeoutError("of its own")),
        "handler 'sick.istio-system' crashed: TimeoutError: of its own",
        id="time-out of its own",
    ),
    pytest.param(cancelling_its_own_work, "handler 'sick.istio-system' crashed: CancelledError: ", id="leaked cancellation"),
    pytest.param(hanging, "handler 'sick.istio-system' gave no answer within 0.02s", id="no answer"),
]  # fmt: skip


@pytest.fixture
def hasty(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(timeout_s=0.02)


@pytest.mark.parametrize("others", [0, 3], ids=["alone", "among others"])
@pytest.mark.parametrize(("fault", "text"), FAULTS)
async def test_check_fails_closed_and_the_others_are_asked(hasty: Bench, fault: Any, text: str, others: int) -> None:
    async def later(*_: Any) -> CheckResult:
        await asyncio.sleep(0)
        return NO

    hasty.backend.answers = {"sick": fault, "well0": NO, "well1": later, "well2": later}
    wells = [f"well{i}" for i in range(others)]
    await hasty.serve(
        instance("checknothing", "nothing"),
        fake("sick"),
        *map(fake, wells),
        rule("r", {"sick": "nothing", **dict.fromkeys(wells, "nothing")}),
    )

    with pytest.raises(DispatchError) as caught:
        await hasty.check()

    assert str(caught.value) == f"performing check operation failed: 1 error occurred:\n\t* {text}\n\n"
    assert [call[0] for call in hasty.backend.calls] == ["sick", *wells]
    labels = {"meshFunction": "checknothing", "handler": "sick.istio-system", "adapter": "fake"}
    assert hasty.sample("mixer_runtime_dispatches_total", **labels, error="true") == 1
    assert hasty.sample("mixer_runtime_dispatches_total", **labels, error="false") == 0


@pytest.mark.parametrize(("fault", "text"), FAULTS)
async def test_report_delivers_to_the_others(hasty: Bench, fault: Any, text: str) -> None:
    hasty.backend.answers = {"sick": fault}
    await hasty.serve(
        instance("reportnothing", "nothing"), fake("sick"), fake("well"),
        rule("r", {"sick": "nothing", "well": "nothing"}),
    )  # fmt: skip

    with pytest.raises(ReportError) as caught:
        await hasty.report({}, {})

    assert str(caught.value) == f"1 error occurred:\n\t* failed to report all values: {text}\n\n"
    assert [len(call[0]) for call in hasty.backend.calls_of("well")] == [2]


@pytest.mark.parametrize(("fault", "text"), FAULTS)
async def test_attribute_generator_that_fails_fails_the_request(hasty: Bench, fault: Any, text: str) -> None:
    hasty.backend.answers = {"sick": fault, "judge": NO}
    await hasty.serve(
        instance("kubernetes", "k8s"), instance("checknothing", "nothing"), fake("sick"), fake("judge"),
        rule("r", {"sick": "k8s", "judge": "nothing"}),
    )  # fmt: skip

    with pytest.raises(DispatchError) as caught:
        await hasty.check()

    assert str(caught.value) == f"preprocessing attributes failed: 1 error occurred:\n\t* {text}\n\n"
    assert hasty.backend.calls_of("judge") == []


@pytest.mark.parametrize(("fault", "text"), FAULTS)
async def test_quota_of_a_failing_handler_grants_nothing_and_says_why(hasty: Bench, fault: Any, text: str) -> None:
    hasty.backend.answers = {"sick": fault, "well": QuotaResult(5)}
    await hasty.serve(
        instance("quota", "rc"), instance("quota", "other"), fake("sick"), fake("well"),
        rule("r", {"sick": "rc", "well": "other"}),
    )  # fmt: skip

    quotas = (await hasty.check(quotas={"rc": QuotaArgs(5), "other": QuotaArgs(5)})).quotas

    away = "away" in text or "no answer" in text
    assert quotas["rc"].result == QuotaResult(0, status=Status(14 if away else 13, text))
    assert quotas["other"].result.amount == 5


@pytest.mark.parametrize("answer", [None, "yes", QuotaResult(1), True], ids=repr)
async def test_check_answer_of_another_kind_is_a_failure_of_that_handler(bench: Bench, answer: Any) -> None:
    bench.backend.answers = {"judge": answer}
    await bench.serve(instance("checknothing", "nothing"), fake("judge"), rule("r", {"judge": "nothing"}))

    with pytest.raises(DispatchError, match=f"answered with {type(answer).__name__} instead of CheckResult"):
        await bench.check()


async def test_quota_answer_of_another_kind_grants_nothing(bench: Bench) -> None:
    bench.backend.answers = {"q": None}
    await bench.serve(instance("quota", "rc"), fake("q"), rule("r", {"q": "rc"}))

    result = (await bench.check(quotas={"rc": QuotaArgs(5)})).quotas["rc"].result

    assert (result.amount, result.status.code) == (0, 13)


async def test_generator_answer_of_another_kind_fails_the_request(bench: Bench) -> None:
    bench.backend.answers = {"gen": None}
    await bench.serve(instance("kubernetes", "k8s"), fake("gen"), rule("r", {"gen": "k8s"}))

    with pytest.raises(DispatchError, match="instead of Mapping"):
        await bench.check()


async def test_handlers_that_wait_are_awaited_together(bench: Bench) -> None:
    """Two handlers that each wait for the other's call to begin: one after the other they would never end."""
    started = {"a": asyncio.Event(), "b": asyncio.Event()}

    def meeting(own: str, other: str) -> Callable[..., Awaitable[CheckResult]]:
        async def handle(_: Any) -> CheckResult:
            started[own].set()
            await started[other].wait()
            return CheckResult(Status(7, own), valid_use_count=1)

        return handle

    bench.backend.answers = {"a": meeting("a", "b"), "b": meeting("b", "a")}
    await bench.serve(
        instance("checknothing", "nothing"), fake("a"), fake("b"), rule("r", {"b": "nothing", "a": "nothing"})
    )

    assert (await bench.check()).result.status.message == "b.istio-system:b, a.istio-system:a"


async def test_result_does_not_depend_on_who_finishes_first(bench: Bench) -> None:
    """The first of the declaration decides the code, also when its handler is the last to answer."""
    late = asyncio.Event()

    async def slow(_: Any) -> CheckResult:
        await late.wait()
        return CheckResult(Status(3, "slow"), valid_use_count=5)

    async def quick(_: Any) -> CheckResult:
        late.set()
        return CheckResult(Status(7, "quick"), valid_use_count=2)

    bench.backend.answers = {"slow": slow, "quick": quick}
    await bench.serve(
        instance("checknothing", "nothing"), fake("slow"), fake("quick"),
        rule("r", {"slow": "nothing", "quick": "nothing"}),
    )  # fmt: skip

    result = (await bench.check()).result

    assert (result.status.code, result.valid_use_count) == (3, 2)
    assert result.status.message == "slow.istio-system:slow, quick.istio-system:quick"


async def test_cancelled_request_lets_go_of_its_handlers(bench: Bench) -> None:
    """A caller that gives up ends the waiting; its configuration is no longer held."""
    bench.backend.answers = {"a": hanging, "b": hanging}
    await bench.serve(
        instance("checknothing", "nothing"), fake("a"), fake("b"), rule("r", {"a": "nothing", "b": "nothing"})
    )
    task = asyncio.ensure_future(bench.check())
    await settle()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.serve()
    await settle()

    assert {handler.role for handler in bench.backend.closed} == {"a", "b"}


async def test_crash_in_an_expression_costs_its_rule_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expression is not meant to raise anything but EvalError; should it do so, other rules go on."""
    bench.backend.answers = {"judge": NO}

    class Odd(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            if key == "source.user":
                raise RuntimeError("a bag that breaks")
            return super().get(key, default)

    await bench.serve(
        instance("checknothing", "nothing"), fake("judge"),
        rule("broken", {"judge": "nothing"}, 'source.user == "a"'),
        rule("sound", {"judge": "nothing"}, 'request.path == "/"'),
    )  # fmt: skip

    assert (await bench.check(Odd({"request.path": "/"}))).result.status.code == 7
