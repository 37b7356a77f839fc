"""A Check that waits for nothing is answered by a plain call; one that waits keeps its configuration's handlers open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from mixer.adapters.base import CheckResult, QuotaResult, Status
from mixer.attributes import Duration, MappingBag
from mixer.runtime.results import PASSED, CheckOutcome, DispatchError
from tests.runtime.fakes import Bench, fake, instance, rule

NO = CheckResult(Status(7, "no"), valid_use_count=1)
NOTHING = instance("checknothing", "nothing")
JUDGED = (NOTHING, fake("judge"), rule("r", {"judge": "nothing"}, 'request.path == "/judged"'))


def inline(bench: Bench, path: str = "/judged", **options: Any) -> CheckOutcome | Awaitable[CheckOutcome]:
    return bench.controller.dispatcher.check_inline(MappingBag({"request.path": path}), **options)


@pytest.mark.parametrize("references", [True, False])
@pytest.mark.parametrize("path", ["/judged", "/other"])
async def test_answer_is_there_at_once_and_that_of_check(bench: Bench, path: str, references: bool) -> None:
    bench.backend.answers = {"judge": NO}
    await bench.serve(*JUDGED)

    outcome = inline(bench, path, references=references)

    assert isinstance(outcome, CheckOutcome)
    assert outcome == await bench.check({"request.path": path}, references=references)
    assert outcome.result.status.code == (7 if path == "/judged" else 0)
    assert (outcome is PASSED) is (path == "/other" and not references)


async def test_error_is_raised_at_once(bench: Bench) -> None:
    bench.backend.answers = {"judge": "no answer at all"}
    await bench.serve(*JUDGED)

    with pytest.raises(DispatchError, match="instead of CheckResult"):
        inline(bench)


async def test_handler_that_waits_stays_open_until_it_has_answered(bench: Bench) -> None:
    gate = asyncio.Event()

    async def slow(_: Any) -> CheckResult:
        await gate.wait()
        return NO

    bench.backend.answers = {"judge": slow}
    await bench.serve(*JUDGED)
    coming = inline(bench)
    assert not isinstance(coming, CheckOutcome)
    task = asyncio.ensure_future(coming)
    await asyncio.sleep(0)
    await bench.serve()
    for _ in range(5):
        await asyncio.sleep(0)

    assert not bench.backend.closed
    gate.set()
    assert (await task).result.status.code == 7
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.backend.closed


async def test_quotas_alone_ask_no_rule(bench: Bench) -> None:
    bench.backend.answers = {"judge": NO}
    await bench.serve(*JUDGED)

    outcome = inline(bench, quotas_only=True)

    assert isinstance(outcome, CheckOutcome)
    assert outcome.result.status.ok
    assert not bench.backend.calls


@pytest.mark.parametrize("status", [Status(), Status(8, "none left")], ids=["granted", "refused"])
async def test_answer_of_a_single_quota_handler_is_what_all_of_them_would_make(bench: Bench, status: Status) -> None:
    bench.backend.answers = {"meter": QuotaResult(3, Duration(5), status)}
    await bench.serve(instance("quota", "rq"), fake("meter"), rule("r", {"meter": "rq"}))

    class Wanted:
        amount, best_effort = 3, False

    result = (await bench.check(quotas={"rq": Wanted()})).quotas["rq"].result

    assert (result.amount, result.valid_duration, result.status.code) == (3, 5, status.code)
    assert result.status.message == ("" if status.ok else "meter.istio-system:none left")
