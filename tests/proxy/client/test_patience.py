"""Time limits on calls that may answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from proxy.client.patience import within


async def at_once() -> str:
    """Waits for nothing."""
    return "done"


class Waiting:
    """A call that waits for its future, several times; remembers how it ended."""

    def __init__(self) -> None:
        self.gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended: BaseException | None = None

    async def call(self) -> str:
        try:
            await asyncio.sleep(0)
            found = await self.gate
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
        except BaseException as exc:
            self.ended = exc
            raise
        return found


async def test_answer_at_once_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "timeout_at", None)
    assert await within(1, at_once()) == "done"


async def test_answer_after_waiting_is_passed_on() -> None:
    waiting = Waiting()
    asyncio.get_running_loop().call_later(0.001, waiting.gate.set_result, "late")
    assert await within(5, waiting.call()) == "late"


async def test_error_is_passed_on_at_once_and_after_waiting() -> None:
    async def failing(waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        raise KeyError("mine")

    for waits in (False, True):
        with pytest.raises(KeyError, match="mine"):
            await within(5, failing(waits))


async def test_call_is_cancelled_when_the_time_is_over() -> None:
    waiting = Waiting()
    with pytest.raises(TimeoutError):
        await within(0.005, waiting.call())
    assert isinstance(waiting.ended, asyncio.CancelledError)


async def test_time_before_the_call_waits_counts() -> None:
    loop = asyncio.get_running_loop()

    async def slow() -> None:
        until = loop.time() + 0.02
        while loop.time() < until:
            pass
        await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await within(0.01, slow())


async def test_cancellation_reaches_the_call_and_the_caller() -> None:
    waiting = Waiting()
    task = asyncio.create_task(within(60, waiting.call()))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(waiting.ended, asyncio.CancelledError)


async def test_call_may_answer_a_cancellation() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        return "anyway"

    task = asyncio.create_task(within(60, stubborn()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "anyway"


async def test_awaitable_that_is_no_coroutine_is_awaited() -> None:
    class Ready:
        def __await__(self) -> Generator[None, None, int]:
            yield
            return 7

    assert await within(1, Ready()) == 7
    with pytest.raises(TimeoutError):
        await within(0.001, asyncio.get_running_loop().create_future())
