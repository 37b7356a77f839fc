from __future__ import annotations

import pytest

from loadtest.added import WITHOUT, added
from loadtest.page import page_of
from loadtest.results import Measurement, Results, Window
from loadtest.tables import added_rows

ABOUT = {
    "cpu": "some", "cores": 2, "python": "CPython 3.11", "system": "Linux", "commit": "abc",
    "changed_files": [], "packages": {"grpcio": "1", "protobuf": "2"},
}  # fmt: skip


def measurement(case: str, *latencies: tuple[float, float], connections: int = 1, cpu_s: float = 0.0) -> Measurement:
    windows = [Window(1.0, 1000, 1000, cpu_s, latency={"p50": p50, "p99": p99}) for p50, p99 in latencies]
    setting = {"connections": connections}
    return Measurement(case, "wire", "request", setting, {"seconds": 1}, f"{connections} connections", "", windows)


def results(*measurements: Measurement) -> Results:
    return Results(ABOUT, "2026-01-01T00:00:00+00:00", "loadtest run --suite envoy", list(measurements))


def test_added_is_the_difference_within_each_repetition() -> None:
    with_it = measurement("x", (0.003, 0.02), (0.005, 0.03), cpu_s=0.1)
    without = measurement("x" + WITHOUT, (0.001, 0.01), (0.002, 0.01))

    (pair,) = added(results(with_it, without))

    assert (pair.p50_ms.low, pair.p50_ms.high) == pytest.approx((2, 3))
    assert (pair.p99_ms.low, pair.p99_ms.high) == pytest.approx((10, 20))
    assert (pair.without_p50_ms.median, pair.without_p99_ms.median) == pytest.approx((1.5, 10))
    assert pair.us_cpu is not None
    assert pair.us_cpu.median == pytest.approx(100)


def test_pairs_are_of_the_same_load() -> None:
    one, many = measurement("x", (0.002, 0.02)), measurement("x", (0.008, 0.08), connections=16)
    floors = (
        measurement("x" + WITHOUT, (0.001, 0.01)),
        measurement("x" + WITHOUT, (0.004, 0.04), connections=16),
    )

    found = added(results(one, many, *floors))

    assert [pair.scenario for pair in found] == ["1 connections", "16 connections"]
    assert [pair.p50_ms.median for pair in found] == pytest.approx([1, 4])


def test_a_run_without_pairs_adds_nothing() -> None:
    run = results(measurement("x", (0.001, 0.01), cpu_s=0.1))
    assert added(run) == []
    assert "What is added" not in page_of(run)


def test_table_and_page_show_what_is_added() -> None:
    run = results(measurement("x", (0.0035, 0.02), cpu_s=0.05), measurement("x" + WITHOUT, (0.001, 0.01)))

    headings, (line,) = added_rows(added(run))

    shown = dict(zip(headings, line, strict=False))
    assert shown["us CPU / unit"] == "50"
    assert [line[place] for place, heading in enumerate(headings) if heading == "added"] == ["2.5", "10"]
    assert "What is added" in page_of(run)
