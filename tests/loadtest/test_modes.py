"""Each mode once, for a moment, with everything that belongs to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest.cases import all_cases
from loadtest.cli import main
from loadtest.scenario import Load, Mode, Scenario
from loadtest.soak import SoakPlan, soak
from loadtest.tables import remarks

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SMALL = Scenario(services=6, label_sets=60, batch=10, idle_rules=3, access_log=True)
SHORT = Load(seconds=0.3, warmup_s=0.1, repetitions=1, connections=1, in_flight=2)


def said(text: str) -> None:
    assert text


@pytest.mark.parametrize("mode", list(Mode))
def test_reports_are_measured(mode: Mode) -> None:
    (found,) = all_cases()["report"].measure(mode, SMALL, SHORT, said)
    metrics = found.windows[0].metrics()
    assert metrics["throughput"] > 0
    assert metrics["p50"] <= metrics["p99.9"]
    assert metrics["rss_mib"] > 5
    assert metrics["errors"] == 0
    if mode not in (Mode.ECHO, Mode.PARSE):
        assert found.notes["series"] == 60
    if mode is Mode.WIRE:
        assert found.notes["served"] == found.notes["answered"] > 0


def test_quota_is_measured_in_an_open_loop_after_the_closed_one() -> None:
    load = Load(seconds=0.3, warmup_s=0.1, repetitions=1, processes=2, connections=1, in_flight=1, then_share=0.3)
    closed, opened = all_cases()["quota"].measure(Mode.WIRE, SMALL, load, said)
    assert opened.load["rate"] == pytest.approx(0.3 * closed.windows[0].metrics()["throughput"])
    assert opened.windows[0].calls > 0
    assert not any("counted" in remark or "failed" in remark for remark in remarks(opened))


@pytest.mark.parametrize("mode", [Mode.INPROCESS, Mode.DISPATCHER])
def test_quota_is_measured_without_a_transport(mode: Mode) -> None:
    (found,) = all_cases()["quota"].measure(mode, SMALL, SHORT, said)
    assert found.windows[0].units > 0


def test_a_run_writes_results_and_a_page_that_compare_and_report_read(tmp_path: Path) -> None:
    out, html = tmp_path / "results.json", tmp_path / "report.html"
    run = "run report --seconds 0.2 --warmup 0.1 --repetitions 1 --services 6 --label-sets 60 --batch 10"
    runner = CliRunner()
    answer = runner.invoke(main, [*run.split(), "--no-floor", "--out", str(out), "--html", str(html)])
    assert answer.exit_code == 0, answer.output
    assert json.loads(out.read_text())["measurements"][0]["summary"]["us_cpu"]["median"] > 0
    assert "<svg" in html.read_text()
    assert runner.invoke(main, ["compare", str(out), str(out)]).exit_code == 0
    assert "report wire" in runner.invoke(main, ["report", str(out)]).output


def test_a_soak_reads_memory_and_series() -> None:
    found = soak(SoakPlan(Scenario(services=6, label_sets=60, batch=10, repeats=0.0), 0.5, 3), said)
    assert [reading.series for reading in found.readings] == [0, None, 60]
    assert found.readings[-1].records > found.readings[1].records > 0
    assert json.loads(found.to_json())["readings"]
