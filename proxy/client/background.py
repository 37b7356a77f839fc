"""Tasks that a client owns: bounded, and none outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.background")

BOUND: Final = 1_000


class Background:
    """A set of running tasks."""

    __slots__ = ("_bound", "_closed", "_tasks")

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> bool:
        """Start work unless there is too much of it already, or the owner is closed; answers whether it was started."""
        if self._closed or len(self._tasks) >= self._bound:
            return False
        task = asyncio.get_running_loop().create_task(work(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return True

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Wait so long for what runs, then cancel it; safe twice."""
        self._closed = True
        await asyncio.sleep(0)  # what was just started gets to know of its end
        if self._tasks and grace_s > 0:
            await asyncio.wait(self._tasks, timeout=grace_s)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("task_crashed", task=task.get_name(), error=repr(exc))
