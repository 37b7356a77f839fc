"""Time limits that cost nothing until a call has to wait: a Mixer in the same process mostly answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType, coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(limit_s: float, call: Awaitable[T]) -> T:
    """What a call answers, in this task.

    The timer is set when the call waits for the first time; the time before that counts, too.

    Raises:
        TimeoutError: There was no answer within so many seconds, and the call was cancelled.
    """
    deadline = asyncio.get_running_loop().time() + limit_s
    if not isinstance(call, CoroutineType):
        async with asyncio.timeout_at(deadline):
            return await call
    try:
        awaited = call.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    async with asyncio.timeout_at(deadline):
        return await _rest(call, awaited)


@coroutine
def _rest(call: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """Goes on with a coroutine that has begun and waits for what it gave first."""
    while True:
        raised: BaseException | None = None
        sent = None
        try:
            sent = yield awaited
        except BaseException as exc:  # noqa: BLE001  a cancellation, as a rule: the coroutine's to handle
            raised = exc
        try:
            awaited = call.send(sent) if raised is None else call.throw(raised)
        except StopIteration as end:
            answer: T = end.value
            return answer
