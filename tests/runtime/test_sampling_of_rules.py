"""Sampling: which of the requests that match a rule acts upon. Source: spec runtime 4.9."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.adapters.base import CheckResult, QuotaArgs, QuotaResult, Status
from tests.runtime.fakes import Bench, fake, instance, rule

DENY = CheckResult(Status(7, "no"), valid_use_count=1)


async def serve(bench: Bench, sampling: dict[str, Any], *more: dict[str, Any]) -> None:
    bench.backend.answers["judge"] = DENY
    await bench.serve(
        fake("judge"), instance("checknothing", "nothing"), rule("r", {"judge": "nothing"}, sampling=sampling), *more
    )


async def denied(bench: Bench, attributes: dict[str, Any] | None = None) -> bool:
    return not (await bench.check(attributes or {})).result.status.ok


def request(draw: int) -> dict[str, Any]:
    return {"request.headers": {"x-request-id": f"{draw:08x}-9d1e-4b5c"}}


@pytest.mark.parametrize(
    ("percent", "selected"),
    [
        pytest.param({}, [], id="unset is none"),
        pytest.param({"numerator": 1}, [0, 100], id="one in a hundred"),
        pytest.param({"numerator": 50}, [0, 1, 49, 100, 149], id="half"),
        pytest.param({"numerator": 100}, [0, 1, 49, 50, 99, 100, 149], id="all"),
        pytest.param({"numerator": 300}, [0, 1, 49, 50, 99, 100, 149], id="more than all"),
        pytest.param({"numerator": 50, "denominator": "TEN_THOUSAND"}, [0, 1, 49], id="half a percent"),
    ],
)
async def test_request_id_decides_alike_on_every_hop(
    bench: Bench, percent: dict[str, Any], selected: list[int]
) -> None:
    await serve(bench, {"random": {"percentSampled": percent}})

    draws = [0, 1, 49, 50, 99, 100, 149]
    assert [draw for draw in draws if await denied(bench, request(draw))] == selected


@pytest.mark.parametrize(
    ("attributes", "selected"),
    [({"request.size": 40}, [0, 39]), ({}, []), ({"request.size": "many"}, []), ({"request.size": 0}, [])],
    ids=["number", "absent", "no number", "zero"],
)
async def test_attribute_takes_the_place_of_the_numerator(
    bench: Bench, attributes: dict[str, Any], selected: list[int]
) -> None:
    random = {"attributeExpression": "request.size", "percentSampled": {"numerator": 100}}
    await serve(bench, {"random": random})

    assert [draw for draw in (0, 39, 40, 99) if await denied(bench, {**request(draw), **attributes})] == selected


@pytest.mark.parametrize("headers", [{}, {"request.headers": {}}, {"request.headers": {"x-request-id": "zz"}}])
async def test_without_a_request_id_chance_decides(
    bench: Bench, headers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter([9, 10, 0])
    monkeypatch.setattr("random.randrange", lambda whole: next(draws))
    await serve(bench, {"random": {"percentSampled": {"numerator": 10}}})

    assert [await denied(bench, headers) for _ in range(3)] == [True, False, True]


async def test_independent_randomness_leaves_the_request_id_aside(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.randrange", lambda whole: whole - 1)
    await serve(bench, {"random": {"percentSampled": {"numerator": 99}, "useIndependentRandomness": True}})

    assert not await denied(bench, request(0))


async def test_rate_limit_passes_the_first_of_a_period_and_then_one_of_so_many(bench: Bench) -> None:
    await serve(bench, {"rateLimit": {"samplingDuration": "10s", "maxUnsampledEntries": 2, "samplingRate": 3}})

    first = [await denied(bench) for _ in range(9)]
    await bench.clock.advance(10)
    second = [await denied(bench) for _ in range(3)]

    assert first == [True, True, False, False, True, False, False, True, False]
    assert second == [True, True, False]


async def test_both_must_select(bench: Bench) -> None:
    random = {"percentSampled": {"numerator": 50}}
    await serve(bench, {"random": random, "rateLimit": {"samplingDuration": "10s", "maxUnsampledEntries": 1}})

    assert not await denied(bench, request(60))  # not drawn, hence not counted
    assert await denied(bench, request(0))
    assert not await denied(bench, request(0))


async def test_rule_draws_once_a_request_for_all_its_actions_and_phases(bench: Bench) -> None:
    bench.backend.answers = {"judge": CheckResult(), "gen": {}, "q": QuotaResult(0)}
    actions = {"gen": "k8s", "judge": ["n1", "n2"], "q": "rc", "sink": "m"}
    await bench.serve(
        *map(fake, ["gen", "judge", "q", "sink"]),
        instance("kubernetes", "k8s"), instance("checknothing", "n1"), instance("checknothing", "n2"),
        instance("quota", "rc"), instance("metric", "m"),
        rule("r", actions, sampling={"rateLimit": {"samplingDuration": "10s", "maxUnsampledEntries": 2}}),
    )  # fmt: skip

    for _ in range(2):
        await bench.check(quotas={"rc": QuotaArgs(1)})
    await bench.report({})

    assert [call[0] for call in bench.backend.calls] == ["gen", "judge", "judge", "q"] * 2


async def test_sampling_of_one_rule_does_not_concern_another(bench: Bench) -> None:
    await serve(bench, {"random": {}}, rule("always", {"judge": "nothing"}))

    assert await denied(bench)
