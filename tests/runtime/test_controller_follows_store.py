"""The controller: what is published, when, and what ends with it. Source: spec runtime 1.16."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mixer.adapters.base import CheckResult, Env, Status
from mixer.adapters.testing import settle
from mixer.errors import StoreUnavailableError
from mixer.runtime.controller import WATCH_AGAIN_S
from mixer.store import StoreContents
from tests.runtime.fakes import Bench, contents, fake, instance, rule

NOTHING = instance("checknothing", "nothing")
BROKEN = rule("broken", {"h": "nothing"}, "no.such.attribute")


def denying(role: str) -> StoreContents:
    return contents(fake(role, "h"), NOTHING, rule("r", {"h": "nothing"}))


class FakeStore:
    """Gives what the test puts in."""

    def __init__(self, first: StoreContents | None) -> None:
        self.first = first
        self.changes: asyncio.Queue[StoreContents | Exception] = asyncio.Queue()
        self.watches = 0

    async def load(self) -> StoreContents:
        if self.first is None:
            raise StoreUnavailableError("nothing here")
        return self.first

    async def watch(self) -> AsyncIterator[StoreContents]:
        self.watches += 1
        while True:
            change = await self.changes.get()
            if isinstance(change, Exception):
                raise change
            yield change


@pytest.fixture
def answering(bench: Bench) -> Bench:
    for role in ("one", "two"):
        bench.backend.answers[role] = CheckResult(Status(7, role), valid_use_count=1)
    return bench


async def message(bench: Bench) -> str:
    return (await bench.check()).result.status.message.rpartition(":")[2]


async def until(condition: Callable[[], bool]) -> None:
    """Building happens in a thread, so the loop has to turn until it is done."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  no event tells of what a test may want to see
            await asyncio.sleep(0.001)


async def test_start_publishes_and_follows(answering: Bench) -> None:
    controller, store = answering.controller, FakeStore(denying("one"))
    assert not controller.ready.is_set()

    await controller.start(store)
    assert controller.ready.is_set()
    assert await message(answering) == "one"
    store.changes.put_nowait(denying("two"))
    await until(lambda: controller.snapshot.revision == 2)

    assert await message(answering) == "two"
    assert answering.sample("mixer_config_revision") == 2
    assert answering.sample("mixer_config_reloads_total") == 2


async def test_start_fails_when_there_is_nothing_to_load(bench: Bench) -> None:
    with pytest.raises(StoreUnavailableError):
        await bench.controller.start(FakeStore(None))

    assert not bench.controller.ready.is_set()


async def test_watch_that_breaks_off_is_taken_up_again(answering: Bench) -> None:
    store = FakeStore(denying("one"))
    await answering.controller.start(store)
    store.changes.put_nowait(RuntimeError("connection lost"))
    await until(lambda: bool(answering.clock._sleepers))

    await answering.clock.advance(WATCH_AGAIN_S)
    store.changes.put_nowait(denying("two"))
    await until(lambda: answering.controller.snapshot.revision == 2)

    assert await message(answering) == "two"
    assert store.watches == 2


async def test_configuration_that_crashes_the_builder_leaves_the_former_one(
    answering: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, build = FakeStore(denying("one")), answering.builder.build
    await answering.controller.start(store)
    crashes: list[str] = []

    def crash(_: StoreContents) -> Any:
        crashes.append("crash")
        raise RuntimeError("a bug")

    monkeypatch.setattr(answering.builder, "build", crash)
    store.changes.put_nowait(denying("two"))
    await until(lambda: bool(crashes))
    assert await message(answering) == "one"
    monkeypatch.setattr(answering.builder, "build", build)
    store.changes.put_nowait(denying("two"))
    await until(lambda: answering.controller.snapshot.revision == 2)

    assert await message(answering) == "two"


async def test_strict_mode_refuses_a_configuration_with_errors_as_a_whole(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(strict=True)
    for role in ("one", "two"):
        bench.backend.answers[role] = CheckResult(Status(7, role), valid_use_count=1)
    rules = rule("r", {"h": "nothing"})

    await bench.serve(fake("two", "h"), NOTHING, rules, BROKEN, sound=False)
    assert not bench.controller.ready.is_set()
    assert bench.backend.built == []
    await bench.serve(fake("one", "h"), NOTHING, rules)
    await bench.serve(fake("two", "h"), NOTHING, rules, BROKEN, sound=False)

    assert await message(bench) == "one"
    assert bench.controller.ready.is_set()
    assert (bench.controller.snapshot.revision, bench.controller.latest.revision) == (2, 3)
    assert [str(p.field) for p in bench.controller.latest.problems] == ["spec.match"]


async def test_strict_mode_tolerates_warnings(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(strict=True)
    manifest = {"kind": "attributemanifest", "name": "more", "spec": {"attributes": {"untyped": {}}}}

    await bench.serve(manifest)

    assert bench.controller.ready.is_set()
    assert len(bench.controller.snapshot.problems) == 1


async def test_lenient_mode_serves_the_sound_part_and_counts_problems(answering: Bench) -> None:
    await answering.serve(fake("one", "h"), NOTHING, rule("r", {"h": "nothing"}), BROKEN, sound=False)

    assert await message(answering) == "one"
    assert answering.sample("mixer_config_problems", kind="rule", severity="error") == 1
    assert answering.sample("mixer_config_resources", kind="rule") == 2

    await answering.serve(fake("one", "h"), NOTHING, rule("r", {"h": "nothing"}))

    assert answering.sample("mixer_config_problems", kind="rule", severity="error") is None
    assert answering.sample("mixer_config_resources", kind="rule") == 1


async def test_stale_resources_are_counted(answering: Bench) -> None:
    await answering.serve(fake("one", "h"), NOTHING, rule("r", {"h": "nothing"}))
    await answering.serve(fake("one", "h"), NOTHING, rule("r", {"h": "nothing"}, "no.such"), sound=False)

    assert answering.sample("mixer_config_stale_resources") == 1
    assert await message(answering) == "one"


async def test_configurations_are_applied_one_after_the_other(answering: Bench) -> None:
    slow, going_on = asyncio.Event(), asyncio.Event()

    async def build(env: Env) -> None:
        slow.set()
        await going_on.wait()

    answering.backend.on_build["one"] = build
    first = asyncio.ensure_future(answering.controller.apply(denying("one")))
    await slow.wait()
    second = asyncio.ensure_future(answering.controller.apply(denying("two")))
    await settle()
    going_on.set()

    assert [snapshot.revision for snapshot in await asyncio.gather(first, second)] == [1, 2]
    await settle()
    assert await message(answering) == "two"
    assert [(h.role, h.closed) for h in answering.backend.built] == [("one", 1), ("two", 0)]


async def test_close_lets_requests_finish_then_flushes_and_closes_handlers(bench: Bench) -> None:
    going_on, order = asyncio.Event(), []

    async def slow(_: Any) -> CheckResult:
        await going_on.wait()
        order.append("answer")
        return CheckResult()

    async def flush() -> None:
        order.append("flush")

    bench.backend.answers["one"], bench.backend.on_close["one"] = slow, flush
    await bench.controller.start(FakeStore(denying("one")))
    request = asyncio.ensure_future(bench.check())
    await settle()

    closing = asyncio.ensure_future(bench.controller.aclose())
    await settle()
    assert not bench.controller.ready.is_set()
    assert order == []
    going_on.set()
    await asyncio.gather(request, closing)

    assert order == ["answer", "flush"]


async def test_close_is_safe_unused_and_twice(bench: Bench) -> None:
    await bench.controller.aclose()
    await bench.controller.aclose()


async def test_close_in_the_middle_of_a_change_closes_what_the_change_builds(bench: Bench) -> None:
    slow, going_on = asyncio.Event(), asyncio.Event()

    async def build(env: Env) -> None:
        slow.set()
        await going_on.wait()

    bench.backend.on_build["two"] = build
    store = FakeStore(denying("one"))
    await bench.controller.start(store)
    store.changes.put_nowait(denying("two"))
    await slow.wait()

    closing = asyncio.ensure_future(bench.controller.aclose())
    await settle()
    going_on.set()
    await closing

    assert [(h.role, h.closed) for h in bench.backend.built] == [("one", 1), ("two", 1)]
