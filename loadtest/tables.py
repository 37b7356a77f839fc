"""Results as tables: the same rows for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from loadtest.added import Added
from loadtest.compare import Comparison
from loadtest.results import DISTURBING_CPUS, METRICS, Measurement, Results, Spread

_SHOWN = ("us_cpu", "per_cpu_s", "throughput", "p50", "p99", "p99.9", "peak_rss_mib", "errors")


def number(value: float) -> str:
    """Three digits that count, and no more."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread_text(spread: Spread | None) -> str:
    """The median, and how far from it the others are."""
    if spread is None:
        return ""
    text = number(spread.median)
    if spread.low == spread.high:
        return text
    return f"{text} [{number(spread.low)}..{number(spread.high)}]"


def rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line for each measurement."""
    headings = ["case", "scenario", "unit", *(METRICS[name] for name in _SHOWN), "remarks"]
    return headings, [_row(measurement) for measurement in results]


def _row(measurement: Measurement) -> list[str]:
    figures = [spread_text(measurement.spread(name)) for name in _SHOWN]
    return [
        measurement.title,
        measurement.scenario_text,
        measurement.unit,
        *figures,
        "; ".join(remarks(measurement)),
    ]


def remarks(measurement: Measurement) -> list[str]:
    """What casts doubt on a measurement."""
    found = []
    notes, windows = measurement.notes, measurement.windows
    if notes.get("served") != notes.get("answered"):
        found.append(f"the server counted {notes.get('served'):g} of {notes.get('answered'):g} {measurement.unit}s")
    errors = {code for window in windows for code in window.errors}
    if errors:
        found.append("failed with " + ", ".join(sorted(errors)))
    if measurement.others_cpus > DISTURBING_CPUS:
        found.append(f"others used up to {measurement.others_cpus:.1f} CPUs")
    if any(window.lag_p99_s > 0.1 * window.latency.get("p99", 0) > 0 for window in windows):
        found.append("the client sent late")
    return found


def table_of(headings: Sequence[str], lines: Sequence[Sequence[str]], title: str = "", left: int = 2) -> Table:
    """A table whose first columns are texts and whose others are figures."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        figure = left <= place < len(headings) - 1
        table.add_column(heading, justify="right" if figure else "left", overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def comparison_rows(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line for each figure that two runs have in common."""
    lines = [
        [c.title, c.scenario, METRICS[c.metric], number(c.before), number(c.after), c.ratio_text, c.verdict]
        for c in comparisons
    ]
    return ["case", "scenario", "figure", "before", "after", "ratio [least..most]", ""], lines


def added_rows(pairs: Sequence[Added]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line for each pair of measurements with and without."""
    headings = ["case", "scenario", "us CPU / unit", "p50 ms without", "added", "p99 ms without", "added"]
    headings += ["units / s without", "with"]
    lines = [
        [
            pair.title,
            pair.scenario,
            *map(
                spread_text,
                (
                    pair.us_cpu,
                    pair.without_p50_ms,
                    pair.p50_ms,
                    pair.without_p99_ms,
                    pair.p99_ms,
                    pair.without_units_per_s,
                    pair.units_per_s,
                ),
            ),
        ]
        for pair in pairs
    ]
    return [*headings, ""], [[*line, ""] for line in lines]
