"""Log lines of the commands, as they arrive on standard error."""

from __future__ import annotations

import subprocess
import sys

import pytest

CRASH = """
import structlog
from mixer.cli.logs import set_up_logging

set_up_logging("info", as_json={as_json})

def connect():
    token = "hunter2-" + "Zx9"
    raise RuntimeError("refused")

try:
    connect()
except RuntimeError as exc:
    structlog.get_logger("x").error("crashed", exc_info=exc)
"""


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_traceback_of_a_crash_shows_no_variables(as_json: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH.format(as_json=as_json)], capture_output=True, text=True, timeout=30, check=True
    )

    assert "refused" in done.stderr
    assert "connect" in done.stderr
    assert "hunter2-Zx9" not in done.stderr
    assert done.stdout == ""
