"""Telling a request that was given up from a handler that cancelled what it awaited itself. Source: spec runtime 4.10."""

from __future__ import annotations

import asyncio


def being_cancelled() -> bool:
    """Whether a CancelledError in the running task is meant for this task.

    Otherwise it leaked out of code that awaited a task which it had cancelled, and is that code's failure.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
