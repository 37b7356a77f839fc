"""The demo as a person runs it: for real, without Envoy, given up, and broken in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from loadtest.demo.programs import DemoError, Program
from loadtest.envoy import envoy_binary
from loadtest.osinfo import process_tree

PATIENCE_S = 60
REAL = [sys.executable, "-m", "loadtest.demo"]
WITHOUT_ENVOY = [
    sys.executable, "-c",
    "import sys; sys.modules['envoy'] = None; from loadtest.demo.command import main; main()",
]  # fmt: skip

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Demo:
    """A running demo; the programs that it started are remembered, to see whether they end."""

    def __init__(self, command: list[str], folder: Path) -> None:
        environment = {**os.environ, "TMPDIR": str(folder)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, bufsize=1
        )
        self.output = ""
        self.started: list[int] = []

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        while text not in self.output:
            line = self.process.stdout.readline()
            assert line, f"{self.output}\n{self.finish()[1]}"
            self.output += line
        self.started = process_tree(self.process.pid)[1:]

    def finish(self) -> tuple[int, str]:
        """Exit status, and what it wrote to standard error."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        self.output += output
        return self.process.returncode, errors

    def left(self) -> list[str]:
        """What still runs of that which it started."""
        give_up = time.monotonic() + 5
        while (running := [each for pid in self.started if (each := command_of(pid))]) and time.monotonic() < give_up:
            time.sleep(0.05)
        return running

    def find(self, part: str) -> int:
        (pid,) = [pid for pid in self.started if part in command_of(pid)]
        return pid


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    found: list[Demo] = []
    yield found
    for demo in found:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.communicate()


def start(demos: list[Demo], tmp_path: Path, command: list[str], *flags: str) -> Demo:
    demos.append(Demo([*command, *flags], tmp_path))
    return demos[-1]


def test_book_shop_runs_and_all_numbers_agree(demos: list[Demo], tmp_path: Path) -> None:
    assert envoy_binary() is not None, "the tests need the Envoy that the development dependencies have"
    demo = start(demos, tmp_path, REAL, "--visits", "24")
    demo.wait_for("The product page is at")

    status, errors = demo.finish()

    assert (status, errors) == (0, ""), f"{demo.output}\n{errors}"
    assert re.search(r"\d+ requests were sent, \d+ records of them reported; all \d+ numbers agree", demo.output)
    assert "< HTTP/1.1 429 Too Many Requests" in demo.output
    assert '< x-ratelimit-limit: 2, 2;w=10;name="productpagecount"' in demo.output
    assert "< retry-after: " in demo.output
    for refusal in (
        "denyreviewsv3.istio-system:reviews v3 may not ask for ratings",
        "detailscallers.istio-system:v3 is not whitelisted",
        "reviewsbanned.istio-system:mallory is blacklisted",
    ):
        assert f"< PERMISSION_DENIED:{refusal}" in demo.output
    (trace,) = re.findall(r"every line has the trace id ([0-9a-f]{32})", demo.output)
    assert f'"traceId":"{trace}"' in demo.output
    assert re.search(r"destination │ reviews-v2 +│ ratings-v2 +│ 200 ", demo.output), "by workload"
    assert demo.left() == []
    assert list(tmp_path.iterdir()) == [], "its folder is gone"


def test_recorded_traffic_is_played_where_there_is_no_envoy(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path, WITHOUT_ENVOY, "--visits", "20")

    status, errors = demo.finish()

    assert (status, errors) == (0, ""), f"{demo.output}\n{errors}"
    assert demo.output.startswith("There is no Envoy for this platform")
    assert re.search(r"\d+ records reported, \d+ checks, \d+ requests counted\.", demo.output)
    assert list(tmp_path.iterdir()) == []


def test_everything_ends_with_a_demo_that_is_given_up_at_the_start(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path, REAL, "--visits", "1000000")
    demo.wait_for("s  Envoy of details-v1")
    assert len(demo.started) >= 3

    demo.process.send_signal(signal.SIGTERM)
    status, _ = demo.finish()

    assert status == 128 + signal.SIGTERM
    assert demo.left() == []
    assert list(tmp_path.iterdir()) == []


def test_kept_demo_goes_on_until_ctrl_c(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path, REAL, "--visits", "4", "--keep")
    demo.wait_for("Ctrl-C ends it.")
    (page,) = re.findall(r"the product page +│ (http://127\.0\.0\.1:\d+/productpage)", demo.output)
    with urlopen(page, timeout=10) as answer:
        assert answer.status == 200

    demo.process.send_signal(signal.SIGINT)

    assert demo.finish() == (0, "")
    assert demo.left() == []
    assert list(tmp_path.iterdir()) == []


def test_part_that_ends_too_early_ends_the_demo(demos: list[Demo], tmp_path: Path) -> None:
    demo = start(demos, tmp_path, REAL, "--visits", "1000000")
    demo.wait_for("The product page is at")

    os.kill(demo.find("envoys/istio-ingressgateway"), signal.SIGKILL)
    status, errors = demo.finish()

    assert status == 1
    assert "the Envoy of istio-ingressgateway has ended with -9" in errors
    assert "Configurations and logs stay in" in errors
    assert demo.left() == []
    assert [path.name for path in next(tmp_path.iterdir()).glob("mixs.*")] != []


def test_help_says_what_is_there_to_see() -> None:
    said = subprocess.run([*REAL, "--help"], capture_output=True, text=True, check=True).stdout

    for word in ("--recorded", "--keep", "--visits", "reviews v2 -> ratings -> mongodb", "mixproxy", "exit status"):
        assert word in said


def test_program_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"(?s)^broken did not start:.*No module named loadtest\.nowhere"):
        Program("broken", ["loadtest.nowhere"], tmp_path)
