"""Quotas at the dispatcher. Source: spec runtime 4.7 and 10."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.adapters import memquota
from mixer.adapters.base import CheckResult, QuotaArgs, QuotaResult, Status
from mixer.attributes import Condition, Duration
from tests.runtime.fakes import Bench, fake, instance, rule

MINUTE, SECOND = Duration.parse("1m"), Duration.parse("1s")


async def one(bench: Bench, name: str, amount: int, attributes: Any = None, **args: Any) -> QuotaResult:
    dedup_id = args.pop("dedup_id", "")
    outcome = await bench.check(attributes, quotas={name: QuotaArgs(amount, **args)}, dedup_id=dedup_id)
    return outcome.quotas[name].result


async def test_quota_without_configuration_is_free_for_a_minute(bench: Bench) -> None:
    """Case 11."""
    assert await one(bench, "anything", 3) == QuotaResult(3, MINUTE)


async def test_memquota_answers_as_the_reference_does(make_bench: Any) -> None:
    """Case 12: refusals, best effort, and a retry with the same deduplication id."""
    bench = make_bench([memquota.INFO])
    limit = {"name": "rc.instance.istio-system", "maxAmount": 5, "validDuration": "60s"}
    spec = {"compiledAdapter": "memquota", "params": {"quotas": [limit]}}
    await bench.serve({"kind": "handler", "name": "mq", "spec": spec}, instance("quota", "rc"), rule("r", {"mq": "rc"}))

    wanted = [(3, False, "x"), (3, False, "x"), (3, False, "a"), (3, True, "b"), (1, True, "c"), (1, False, "d")]
    results = [await one(bench, "rc", n, best_effort=effort, dedup_id=dedup) for n, effort, dedup in wanted]

    assert [result.amount for result in results] == [3, 3, 0, 2, 0, 0]


@pytest.mark.parametrize("attributes", [{"request.path": "/other"}, {}], ids=["no match", "match cannot be evaluated"])
async def test_quota_of_a_rule_that_does_not_match_is_free(bench: Bench, attributes: dict[str, str]) -> None:
    """Case 13: no handler is called."""
    await bench.serve(fake("q"), instance("quota", "rc"), rule("r", {"q": "rc"}, 'request.path == "/paid"'))

    assert await one(bench, "rc", 9, attributes) == QuotaResult(9, MINUTE)
    assert bench.backend.calls == []


@pytest.mark.parametrize(
    ("name", "asked"), [("rc", True), ("RC", True), ("Rc", True), ("rc.instance.istio-system", False), ("r", False)]
)
async def test_quota_is_asked_for_by_short_name_in_any_case(bench: Bench, name: str, asked: bool) -> None:
    """Case 14."""
    bench.backend.answers["q"] = QuotaResult(2, SECOND)
    await bench.serve(fake("q"), instance("quota", "rc"), rule("r", {"q": "rc"}))

    assert (await one(bench, name, 9)).amount == (2 if asked else 9)


async def test_quota_with_capitals_in_its_name_is_found(bench: Bench) -> None:
    bench.backend.answers["q"] = QuotaResult(2, SECOND)
    await bench.serve(fake("q"), instance("quota", "RequestCount"), rule("r", {"q": "RequestCount"}))

    assert (await one(bench, "requestcount", 9)).amount == 2


async def test_denied_request_takes_no_quota(bench: Bench) -> None:
    """Case 15."""
    bench.backend.answers = {"q": QuotaResult(1), "judge": CheckResult(Status(7, "no"), valid_use_count=1)}
    await bench.serve(
        fake("q"), fake("judge"), instance("quota", "rc"), instance("checknothing", "nothing"),
        rule("r", {"q": "rc", "judge": "nothing"}),
    )  # fmt: skip

    outcome = await bench.check(quotas={"rc": QuotaArgs(1)})

    assert (outcome.result.status.code, outcome.quotas) == (7, {})
    assert bench.backend.calls_of("q") == []


async def test_handler_gets_amount_effort_and_a_deduplication_id_per_quota(bench: Bench) -> None:
    bench.backend.answers = {"q": QuotaResult(1)}
    await bench.serve(fake("q"), instance("quota", "b"), instance("quota", "a"), rule("r", {"q": ["b", "a"]}))

    await bench.check(quotas={"b": QuotaArgs(4, True), "a": QuotaArgs(-2)}, dedup_id="id-")

    calls = [(asked.name, args) for asked, args in bench.backend.calls_of("q")]
    assert calls == [
        ("a.instance.istio-system", QuotaArgs(-2, False, "id-a")),
        ("b.instance.istio-system", QuotaArgs(4, True, "id-b")),
    ]


async def test_least_grant_of_several_candidates_counts(bench: Bench) -> None:
    bench.backend.answers = {
        "wide": QuotaResult(5, Duration.parse("2s")),
        "narrow": QuotaResult(3, Duration.parse("9s")),
        "timeless": QuotaResult(4),
    }
    roles = ["wide", "narrow", "timeless"]
    await bench.serve(instance("quota", "rc"), *map(fake, roles), rule("r", dict.fromkeys(roles, "rc")))

    assert await one(bench, "rc", 5) == QuotaResult(3, Duration.parse("2s"))
    assert [call[0] for call in bench.backend.calls] == roles


async def test_candidate_that_does_not_match_neither_grants_nor_is_asked(bench: Bench) -> None:
    """The free grant of the one does not hide the refusal of the other."""
    bench.backend.answers = {"q": QuotaResult(0, SECOND)}
    await bench.serve(
        fake("q"), fake("unasked"), instance("quota", "rc"),
        rule("a", {"unasked": "rc"}, 'request.path == "/never"'), rule("b", {"q": "rc"}),
    )  # fmt: skip

    assert (await one(bench, "rc", 5, {"request.path": "/"})).amount == 0
    assert [call[0] for call in bench.backend.calls] == ["q"]


async def test_first_refusing_status_counts_and_the_messages_are_joined(bench: Bench) -> None:
    bench.backend.answers = {
        "fine": QuotaResult(5, SECOND),
        "tired": QuotaResult(0, SECOND, Status(8, "tired")),
        "gone": QuotaResult(0, SECOND, Status(14, "gone")),
    }
    roles = ["fine", "tired", "gone"]
    await bench.serve(instance("quota", "rc"), *map(fake, roles), rule("r", dict.fromkeys(roles, "rc")))

    result = await one(bench, "rc", 5)

    assert result == QuotaResult(0, SECOND, Status(8, "tired.istio-system:tired, gone.istio-system:gone"))


async def test_quota_of_two_rules_is_taken_once(bench: Bench) -> None:
    bench.backend.answers = {"q": QuotaResult(1, SECOND)}
    await bench.serve(fake("q"), instance("quota", "rc"), rule("a", {"q": "rc"}), rule("b", {"q": "rc"}))

    await one(bench, "rc", 1)

    assert len(bench.backend.calls) == 1


async def test_quota_whose_instance_cannot_be_built_grants_nothing(bench: Bench) -> None:
    await bench.serve(
        fake("q"), instance("quota", "rc", {"dimensions": {"user": "source.user"}}), rule("r", {"q": "rc"})
    )

    result = await one(bench, "rc", 5)

    text = "evaluation failed at [rc.instance.istio-system]'Dimensions[user]': 'lookup failed: 'source.user''"
    assert result == QuotaResult(0, status=Status(13, text))


async def test_each_quota_refers_to_what_preprocessing_and_itself_read(bench: Bench) -> None:
    bench.backend.answers = {"q": QuotaResult(1), "gen": {}, "judge": CheckResult()}
    await bench.serve(
        fake("q"), fake("gen"), fake("judge"),
        instance("kubernetes", "k8s", {"sourceUid": "source.uid"}),
        instance("quota", "a", {"dimensions": {"user": "source.user"}}),
        instance("quota", "b", {"dimensions": {"key": 'request.headers["k"] | ""'}}),
        instance("listentry", "path", {"value": "request.path"}),
        rule("r", {"gen": "k8s", "q": ["a", "b"], "judge": "path"}),
    )  # fmt: skip
    exact, absent = Condition.EXACT, Condition.ABSENCE
    common = {
        ("context.reporter.kind", ""): absent, ("destination.namespace", ""): absent, ("source.uid", ""): exact
    }  # fmt: skip

    outcome = await bench.check(
        {"source.uid": "u", "source.user": "me", "request.headers": {}, "request.path": "/"},
        quotas={"a": QuotaArgs(1), "b": QuotaArgs(1), "none": QuotaArgs(1)},
    )

    assert outcome.referenced == {**common, ("request.path", ""): exact}
    assert outcome.quotas["a"].referenced == {**common, ("source.user", ""): exact}
    assert outcome.quotas["b"].referenced == {**common, ("request.headers", "k"): absent}
    assert outcome.quotas["none"].referenced == common


async def test_quotas_alone_do_not_ask_the_check_rules(bench: Bench) -> None:
    bench.backend.answers = {"q": QuotaResult(1), "judge": CheckResult(Status(7, "no"), valid_use_count=1)}
    await bench.serve(
        fake("q"), fake("judge"), instance("quota", "rc"), instance("checknothing", "nothing"),
        rule("r", {"q": "rc", "judge": "nothing"}),
    )  # fmt: skip

    outcome = await bench.check(quotas={"rc": QuotaArgs(1)}, quotas_only=True)

    assert (outcome.result.status.code, outcome.result.valid_use_count) == (0, 0)
    assert outcome.quotas["rc"].result == QuotaResult(1)
    assert bench.backend.calls_of("judge") == []
