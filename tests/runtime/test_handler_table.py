"""The life of handlers over changes of the configuration. Source: spec runtime 3.8 and 1.16."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mixer.adapters.base import CheckResult, Env, QuotaArgs, Status
from mixer.adapters.testing import settle
from mixer.errors import AdapterError
from mixer.runtime import handlers
from mixer.runtime.results import DispatchError, ReportError
from tests.runtime.fakes import Bench, fake, instance, rule

NOTHING = instance("checknothing", "nothing")
RULE = rule("r", {"h": "nothing"})


def versions(bench: Bench) -> list[tuple[str, int]]:
    """Of each handler built: its role, and how often it was closed."""
    return [(handler.role, handler.closed) for handler in bench.backend.built]


@pytest.fixture
def answering(bench: Bench) -> Bench:
    for role in ("one", "two", "three"):
        bench.backend.answers[role] = CheckResult(Status(7, role), valid_use_count=1)
    return bench


async def message(bench: Bench) -> str:
    return (await bench.check()).result.status.message.rpartition(":")[2]


async def test_unchanged_handler_is_kept(answering: Bench) -> None:
    bench = answering
    await bench.serve(fake("one", "h"), NOTHING, RULE)
    reordered = {
        "spec": {"params": {"mark": "", "role": "one"}, "compiledAdapter": "fake"},
        "kind": "handler",
        "name": "h",
    }

    await bench.serve(instance("metric", "unrelated"), rule("other", {"h": "nothing"}), RULE, NOTHING, reordered)
    await settle()

    assert versions(bench) == [("one", 0)]
    assert bench.sample("mixer_handler_reused_handlers_total") == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param([fake("two", "h"), NOTHING, RULE], id="params"),
        pytest.param([fake("two", "h"), NOTHING, instance("checknothing", "more"), rule("r", {"h": ["nothing", "more"]})], id="instances"),
    ],
)  # fmt: skip
async def test_changed_handler_is_replaced_and_the_former_closed(answering: Bench, change: list[Any]) -> None:
    bench = answering
    await bench.serve(fake("one", "h"), NOTHING, RULE)

    await bench.serve(*change)
    await settle()

    assert await message(bench) == "two"
    assert versions(bench) == [("one", 1), ("two", 0)]


async def test_handler_that_gets_one_more_instance_is_built_anew(answering: Bench) -> None:
    await answering.serve(fake("one", "h"), NOTHING, RULE)

    await answering.serve(
        fake("one", "h"), NOTHING, instance("listentry", "le", {"value": '"x"'}), RULE, rule("more", {"h": "le"})
    )
    await settle()

    assert [[i.name.split(".")[0] for i in h.instances] for h in answering.backend.built] == [
        ["nothing"],
        ["le", "nothing"],
    ]
    assert versions(answering) == [("one", 1), ("one", 0)]


async def test_handler_that_no_rule_uses_is_not_built(bench: Bench) -> None:
    await bench.serve(fake("one", "h"), NOTHING)

    assert versions(bench) == []


async def test_handler_that_no_rule_uses_any_more_is_closed(bench: Bench) -> None:
    await bench.serve(fake("one", "h"), NOTHING, RULE)
    await bench.serve(fake("one", "h"), NOTHING)
    await settle()

    assert versions(bench) == [("one", 1)]
    assert bench.sample("mixer_handler_closed_handlers_total") == 1
    assert bench.sample("mixer_handler_handlers") == 0


async def test_handler_is_closed_after_the_last_request_that_holds_it(answering: Bench) -> None:
    """Two requests hold the old handler; a second change of configuration neither waits for them nor harms them."""
    bench, going_on = answering, asyncio.Event()

    async def slow(_: Any) -> CheckResult:
        await going_on.wait()
        return CheckResult(Status(7, "slow"), valid_use_count=1)

    bench.backend.answers["slow"] = slow
    await bench.serve(fake("slow", "h"), NOTHING, RULE)
    requests = [asyncio.ensure_future(bench.check()) for _ in range(2)]
    await settle()

    await bench.serve(fake("one", "h"), NOTHING, RULE)
    await bench.serve(fake("two", "h"), NOTHING, RULE)
    await settle()
    assert await message(bench) == "two"
    assert versions(bench) == [("slow", 0), ("one", 1), ("two", 0)]
    going_on.set()
    outcomes = await asyncio.gather(*requests)
    await settle()

    assert [outcome.result.status.message for outcome in outcomes] == ["h.istio-system:slow"] * 2
    assert versions(bench) == [("slow", 1), ("one", 1), ("two", 0)]


async def test_handler_shared_by_two_configurations_outlives_the_older(answering: Bench) -> None:
    bench, going_on = answering, asyncio.Event()

    async def slow(_: Any) -> CheckResult:
        await going_on.wait()
        return CheckResult()

    bench.backend.answers["one"] = slow
    await bench.serve(fake("one", "h"), NOTHING, RULE)
    request = asyncio.ensure_future(bench.check())
    await settle()

    await bench.serve(fake("one", "h"), NOTHING, RULE, rule("other", {"h": "nothing"}))
    going_on.set()
    await request
    await settle()

    assert versions(bench) == [("one", 0)]


async def test_handler_that_cannot_be_built_fails_closed(bench: Bench) -> None:
    async def refuse(env: Env) -> None:
        raise AdapterError("no such disk")

    bench.backend.on_build["one"] = refuse
    await bench.serve(
        fake("one", "h"),
        NOTHING,
        instance("quota", "rc"),
        instance("metric", "m"),
        RULE,
        rule("r2", {"h": ["rc", "m"]}),
    )

    with pytest.raises(DispatchError, match=r"handler 'h\.istio-system' could not be built: no such disk"):
        await bench.check()
    with pytest.raises(ReportError, match="could not be built: no such disk"):
        await bench.report({})
    await bench.serve(fake("one", "h"), instance("quota", "rc"), rule("r2", {"h": "rc"}))
    quota = (await bench.check(quotas={"rc": QuotaArgs(5)})).quotas["rc"].result
    assert (quota.amount, quota.status.code) == (0, 14)
    assert bench.sample("mixer_handler_handler_build_failures_total") == 2
    assert bench.sample("mixer_handler_handlers") == 0


async def test_absent_generator_fails_the_request(bench: Bench) -> None:
    async def refuse(env: Env) -> None:
        raise AdapterError("no cluster")

    bench.backend.on_build["one"] = refuse
    await bench.serve(fake("one", "h"), instance("kubernetes", "k8s"), rule("r", {"h": "k8s"}))

    with pytest.raises(DispatchError, match="no cluster"):
        await bench.check()


async def test_absent_handler_is_tried_again_with_the_next_configuration(answering: Bench) -> None:
    bench, disks = answering, ["missing"]

    async def refuse(env: Env) -> None:
        if disks:
            raise AdapterError(disks.pop())

    bench.backend.on_build["one"] = refuse
    await bench.serve(fake("one", "h"), NOTHING, RULE)
    await bench.serve(fake("one", "h"), NOTHING, RULE)

    assert await message(bench) == "one"


async def test_former_handler_runs_on_when_its_successor_cannot_be_built(answering: Bench) -> None:
    async def refuse(env: Env) -> None:
        raise OSError("no such disk")

    bench = answering
    bench.backend.on_build["two"] = refuse
    await bench.serve(fake("one", "h"), NOTHING, RULE)

    await bench.serve(fake("two", "h"), NOTHING, RULE)
    await settle()
    assert await message(bench) == "one"
    assert versions(bench) == [("one", 0)]
    assert bench.sample("mixer_handler_stale", handler="h.istio-system") == 1

    await bench.serve(fake("one", "h"), NOTHING, RULE)
    await settle()
    assert versions(bench) == [("one", 0)]
    assert not bench.sample("mixer_handler_stale", handler="h.istio-system")

    await bench.serve(fake("two", "h"), NOTHING, RULE)
    del bench.backend.on_build["two"]
    await bench.serve(fake("two", "h"), NOTHING, RULE)
    await settle()
    assert versions(bench) == [("one", 1), ("two", 0)]
    assert not bench.sample("mixer_handler_stale", handler="h.istio-system")


@pytest.mark.parametrize("how", ["crashes", "hangs", "leaks a cancellation"])
async def test_handler_whose_build_goes_wrong_does_not_hold_up_the_others(
    answering: Bench, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "BUILD_TIMEOUT_S", 0.02)
    started: list[str] = []

    async def background() -> None:
        started.append("task")
        await asyncio.Event().wait()

    async def sick(env: Env) -> None:
        env.spawn(background())
        await asyncio.sleep(0)
        if how == "hangs":
            await asyncio.Event().wait()
        raise KeyError("x") if how == "crashes" else asyncio.CancelledError

    bench = answering
    bench.backend.on_build["sick"] = sick
    await bench.serve(
        fake("sick"), fake("one", "h"), NOTHING, rule("s", {"sick": "nothing"}, 'request.path == "/"'), RULE
    )

    assert await message(bench) == "one"
    assert started == ["task"]
    assert bench.sample("mixer_handler_tasks", handler="sick.istio-system") == 0


@pytest.mark.parametrize("how", ["crashes", "hangs", "leaks a cancellation"])
async def test_handler_whose_close_goes_wrong_does_not_keep_the_others_open(
    bench: Bench, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "CLOSE_TIMEOUT_S", 0.02)

    async def sick() -> None:
        if how == "hangs":
            await asyncio.Event().wait()
        raise KeyError("x") if how == "crashes" else asyncio.CancelledError

    bench.backend.on_close["sick"] = sick
    await bench.serve(fake("sick"), fake("one", "h"), NOTHING, rule("s", {"sick": "nothing"}), RULE)

    await bench.controller.aclose()

    assert versions(bench) == [("sick", 1), ("one", 1)]
    assert bench.sample("mixer_handler_handler_close_failures_total") == 1


async def test_background_tasks_end_with_their_handler(bench: Bench) -> None:
    ends: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("task")

    async def close() -> None:
        ends.append("handler")

    async def build(env: Env) -> None:
        env.spawn(background())

    bench.backend.on_build["one"], bench.backend.on_close["one"] = build, close
    await bench.serve(fake("one", "h"), NOTHING, RULE)
    await settle()
    assert bench.sample("mixer_handler_tasks", handler="h.istio-system") == 1

    await bench.serve()
    await settle()

    assert ends == ["handler", "task"]
    assert bench.sample("mixer_handler_tasks", handler="h.istio-system") == 0


async def test_background_task_that_crashes_is_counted_and_its_handler_goes_on(answering: Bench) -> None:
    async def background() -> None:
        raise ValueError("oops")

    async def build(env: Env) -> None:
        env.spawn(background())

    bench = answering
    bench.backend.on_build["one"] = build
    await bench.serve(fake("one", "h"), NOTHING, RULE)
    await settle()

    assert await message(bench) == "one"
    assert bench.sample("mixer_handler_task_crashes_total", handler="h.istio-system") == 1


async def test_handlers_of_one_adapter_share_what_outlives_them(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    seen: list[int] = []

    async def count(env: Env) -> None:
        env.shared["built"] = env.shared.get("built", 0) + 1
        seen.append(env.shared["built"])

    bench.backend.on_build = {"one": count, "two": count}
    await bench.serve(fake("one", "a"), NOTHING, rule("r", {"a": "nothing"}))
    await bench.serve(fake("two", "b"), NOTHING, rule("r", {"b": "nothing"}))

    assert seen == [1, 2]
    assert bench.backend.built[0].env.handler == "a.istio-system"
    assert bench.backend.built[0].env.scrape is bench.scrape
