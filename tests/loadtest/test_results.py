from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.compare import compare, ratio_of, unmatched
from loadtest.histogram import Histogram
from loadtest.page import page_of
from loadtest.results import Measurement, Results, ResultsError, Spread, Window
from loadtest.scenario import Load, Scenario, to_json
from loadtest.tables import number, remarks, rows

positive = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=5)


def measurement(*cpu_s: float, case: str = "report", scenario: Scenario | None = None) -> Measurement:
    scenario, load = scenario or Scenario(), Load()
    found = Measurement(case, "wire", "record", to_json(scenario), to_json(load), scenario.text, load.text)
    histogram = Histogram.of([0.001] * 90 + [0.05] * 10).to_json()
    found.windows = [
        Window(2.0, 100, 10_000, cpu, latency={"p50": 0.001, "p99": 0.05}, histogram=histogram, rss_bytes=2**20)
        for cpu in cpu_s
    ]
    return found


def results(*measurements: Measurement) -> Results:
    environment = {
        "cpu": "some <CPU>", "cores": 2, "python": "CPython 3.11", "system": "Linux", "commit": "abc",
        "changed_files": [], "packages": {"grpcio": "1", "protobuf": "2"},
    }  # fmt: skip
    return Results(environment, "2026-01-01T00:00:00+00:00", "loadtest run report", list(measurements))


def test_metrics_of_a_window() -> None:
    metrics = measurement(0.5).windows[0].metrics()
    assert metrics["us_cpu"] == pytest.approx(50)
    assert metrics["per_cpu_s"] == pytest.approx(20_000)
    assert metrics["throughput"] == pytest.approx(5_000)
    assert metrics["p99"] == pytest.approx(50)


def test_a_window_without_answers_has_no_cost_for_each() -> None:
    assert "us_cpu" not in Window(1.0, 0, 0, 0.1, errors={"UNAVAILABLE": 3}).metrics()


def test_results_survive_a_file(tmp_path: Path) -> None:
    before = results(measurement(0.5, 0.6), measurement(0.1, case="check-cold"))
    before.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ResultsError):
        Results.load(path)


@given(before=positive, after=positive)
def test_ratios_enclose_those_of_all_pairs(before: list[float], after: list[float]) -> None:
    ratio = ratio_of(Spread.of(before), Spread.of(after))
    pairs = [a / b for a in after for b in before]
    assert ratio.low == pytest.approx(min(pairs))
    assert ratio.high == pytest.approx(max(pairs))
    assert ratio.low <= ratio.median <= ratio.high


def test_a_ratio_to_nothing_is_infinite_and_of_nothing_to_nothing_one() -> None:
    nothing, something = Spread(0, 0, 0), Spread(1, 1, 1)
    assert ratio_of(nothing, something).median == math.inf
    assert ratio_of(nothing, nothing).median == 1


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        pytest.param((0.5, 0.52), (0.25, 0.26), "better", id="half the cost"),
        pytest.param((0.25, 0.26), (0.5, 0.52), "worse", id="twice the cost"),
        pytest.param((0.5, 0.6), (0.45, 0.55), "", id="within the spread"),
    ],
)
def test_compare_judges_only_beyond_the_spread(
    before: tuple[float, ...], after: tuple[float, ...], verdict: str
) -> None:
    found = {c.metric: c for c in compare(results(measurement(*before)), results(measurement(*after)))}
    assert found["us_cpu"].verdict == verdict
    assert found["throughput"].verdict == ""
    assert found["p99"].ratio == Spread(1, 1, 1)


def test_a_verdict_is_doubtful_when_others_used_the_machine() -> None:
    after = measurement(0.25)
    after.windows[0].others_cpu_s = 1.0
    found = {c.metric: c for c in compare(results(measurement(0.5)), results(after))}
    assert found["us_cpu"].verdict == "better?"


def test_more_throughput_is_better() -> None:
    faster = measurement(0.5)
    faster.windows[0].units *= 2
    found = {c.metric: c for c in compare(results(measurement(0.5)), results(faster))}
    assert found["throughput"].verdict == "better"


def test_only_the_same_measurements_are_compared() -> None:
    many = Scenario(idle_rules=1000)
    before, after = results(measurement(0.5)), results(measurement(0.5, scenario=many))
    assert list(compare(before, after)) == []
    assert len(unmatched(before, after)) == 2


def test_servers_with_other_flags_are_compared() -> None:
    before = results(measurement(0.5))
    after = results(measurement(0.4, scenario=replace(Scenario(), server_flags=("--strict",))))
    assert {c.metric for c in compare(before, after)} >= {"us_cpu", "throughput"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.0123"), (1.234, "1.23"), (47.04, "47"), (356.2, "356"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_remarks_tell_of_what_disturbs() -> None:
    found = measurement(0.5)
    assert remarks(found) == []
    found.windows[0].others_cpu_s, found.windows[0].errors = 1.0, {"UNAVAILABLE": 2}
    found.notes = {"answered": 100, "served": 90}
    assert remarks(found) == [
        "the server counted 90 of 100 records",
        "failed with UNAVAILABLE",
        "others used up to 0.5 CPUs",
    ]


def test_the_page_shows_each_measurement_and_loads_nothing() -> None:
    run = results(measurement(0.5, 0.6), measurement(0.1, case="report-twice"))
    page = page_of(run)
    assert page.count("<svg") == 2
    assert "some &lt;CPU&gt;" in page
    assert all(line[0] in page for line in rows(run)[1])
    assert not any(mark in page for mark in ("src=", "<link", "<script", "@import"))
