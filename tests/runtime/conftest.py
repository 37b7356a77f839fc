"""Fixtures of the runtime's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import Any

import pytest
import structlog.testing

from tests.runtime.fakes import Bench


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., Bench]]:
    """Benches of any options; they are closed at the end, and nothing may be left running then."""
    made: list[Bench] = []

    def make(*args: Any, **kwargs: Any) -> Bench:
        made.append(Bench(*args, **kwargs))
        return made[-1]

    before = asyncio.all_tasks()
    yield make
    for bench in made:
        await bench.controller.aclose()
    assert not asyncio.all_tasks() - before - {asyncio.current_task()}


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the runtime logs; it is kept off the screen, where tracebacks take long to draw."""
    with structlog.testing.capture_logs() as lines:
        yield lines
