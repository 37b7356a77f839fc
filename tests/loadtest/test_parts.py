"""The small parts: what the operating system tells, pages of metrics, slopes, the registry, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest import osinfo
from loadtest.cases import all_cases
from loadtest.cli import main
from loadtest.leash import on_leash
from loadtest.meshconfig import write_config
from loadtest.scenario import Load, Mode, Scenario
from loadtest.servers import series_in, sum_of
from loadtest.soak import slope
from loadtest.suites import SUITES, standard

PAGE = """\
# HELP istio_requests_total Requests
istio_requests_total{reporter="source"} 3.0
istio_requests_total{reporter="destination"} 4.0
istio_requests_total_other 100.0
istio_tcp_sent_bytes_total{reporter="source"} 512.0
mixer_api_records_total 7.0
"""


def test_usage_counts_cpu_time_and_memory_of_this_process() -> None:
    before = osinfo.tree_usage(os.getpid())
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    after = osinfo.tree_usage(os.getpid())
    assert 0.02 <= after.cpu_s - before.cpu_s < 5
    assert 0 < after.rss_bytes <= after.peak_rss_bytes


def test_the_tree_of_a_process_that_ended_uses_nothing() -> None:
    assert osinfo.tree_usage(2**22 + 1) == osinfo.Usage(0.0, 0, 0)


def test_the_environment_names_what_figures_depend_on() -> None:
    found = osinfo.environment()
    assert found["cores"] >= 1
    assert found["python"].startswith("CPython 3.")
    assert found["packages"]["grpcio"] != "not installed"


def test_sums_and_series_are_read_from_a_page() -> None:
    assert sum_of(PAGE, "istio_requests_total") == 7
    assert sum_of(PAGE, "mixer_api_records_total") == 7
    assert sum_of(PAGE, "absent") == 0
    assert series_in(PAGE) == 3


def test_slope_is_that_of_a_straight_line() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(1, 1), (1, 5)]) == 0
    assert slope([]) == 0


def test_cases_are_found_by_themselves() -> None:
    cases = all_cases()
    assert {"report", "check-cold", "check-repeated", "quota"} <= set(cases)
    assert all(case.summary and case.modes for case in cases.values())


def test_the_standard_suite_varies_rules_series_and_log() -> None:
    todo = list(standard(all_cases(), Scenario(), Load()))
    wire = {
        (job.scenario.idle_rules, job.scenario.label_sets, job.scenario.access_log)
        for job in todo
        if job.case.name == "report" and job.mode is Mode.WIRE
    }
    assert wire == {
        (1, 1000, False), (1000, 1000, False), (1, 12_000, False), (1, 1000, True), (1000, 12_000, True),
    }  # fmt: skip
    assert all(job.load.then_share == 0.5 for job in todo)
    assert {job.mode for job in todo} == set(Mode)
    assert set(SUITES) == {"envoy", "standard"}


def test_the_access_log_is_written_to_nowhere(tmp_path: Path) -> None:
    write_config(Scenario(access_log=True), tmp_path, policy=False)
    assert "/dev/null" in (tmp_path / "accesslog.yaml").read_text()
    assert not (tmp_path / "policy.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["run"], "give CASEs", id="nothing to do"),
        pytest.param(["run", "report", "--suite", "standard"], "give CASEs", id="too much to do"),
        pytest.param(["run", "repotr"], "no case 'repotr'", id="no such case"),
    ],
)
def test_run_explains_misuse(arguments: list[str], message: str) -> None:
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 2
    assert message in answer.output


def test_cases_are_listed() -> None:
    answer = CliRunner().invoke(main, ["cases"])
    assert answer.exit_code == 0
    assert all(name in answer.output for name in all_cases())


def test_help_keeps_its_examples_on_lines_of_their_own() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    assert any(line.strip() == "loadtest soak --seconds 60" for line in lines)


@pytest.mark.slow
def test_a_process_on_a_leash_ends_with_its_starter() -> None:
    starter = (
        "import subprocess, sys; from loadtest.leash import on_leash\n"
        "process = subprocess.Popen(on_leash([sys.executable, '-c', 'print(1, flush=True); input()']),"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "process.stdout.readline(); print(process.pid, flush=True)\n"
        "import os; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=True, timeout=20)
    stat = Path("/proc") / done.stdout.strip() / "stat"
    end = time.monotonic() + 5
    while stat.exists() and " Z " not in stat.read_text() and time.monotonic() < end:
        time.sleep(0.01)
    assert time.monotonic() < end


def test_a_leash_runs_the_command_given() -> None:
    command = on_leash([sys.executable, "-c", "print(6 * 7)"])
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout == "42\n"
