"""All backends of one Mixer break under load: the books balance exactly, and no Check waits.

This is the short form, about ten faults; `tests.e2e.backends.chaos` is the long one, to be run by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.backends.chaos import Plan, Run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("backends")]

PLAN = Plan(
    {
        "fluentd": ("mute", "kill"),
        "otlp": ("hole", "full"),
        "zipkin": ("terminate", "cut"),
        "unix": ("freeze",),
        "opa": ("freeze",),
        "redis": ("full", "kill"),
        "guests": ("kill",),
    },
    seed=1,
)


async def test_books_balance_and_checks_are_in_time_while_every_backend_breaks(tmp_path: Path) -> None:
    found = await Run(PLAN, tmp_path)()

    print(found.text())
    assert found.wrong == []
    assert sum(sum(done.values()) for done in found.injected.values()) == 11
    assert len(found.answers) > 200
