"""A page about a run: its table and plots, in one file that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from string import Template

from loadtest.added import added
from loadtest.histogram import Histogram
from loadtest.results import Measurement, Results
from loadtest.tables import added_rows, number, rows

_COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Mixer: load test</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #1f2937; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e5e7eb; text-align: right; vertical-align: top; }
th:nth-child(-n+3), td:nth-child(-n+3), th:last-child, td:last-child { text-align: left; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #374151; }
.scroll { overflow-x: auto; } code { background: #f3f4f6; padding: 0 .25rem; }
</style>
<h1>Load test</h1>
<p>$about<br><code>$command</code></p>
<h2>Figures</h2>
<p>The median of the repetitions, with the least and the most of them in brackets.</p>
<div class="scroll"><table>$table</table></div>
$plots
</html>
""")


def page_of(results: Results) -> str:
    """The whole page."""
    about = results.environment
    text = (
        f"{results.started}: {about['cores']} cores of {about['cpu']}, {about['system']}, {about['python']}, "
        f"grpcio {about['packages']['grpcio']}, protobuf {about['packages']['protobuf']}, "
        f"commit {about['commit'] or 'unknown'}{' with changes' if about['changed_files'] else ''}"
    )
    headings, lines = rows(results)
    table = _table(headings, lines)
    plots = []
    if pairs := added(results):
        plots.append(f'<h2>What is added</h2><div class="scroll"><table>{_table(*added_rows(pairs))}</table></div>')
    for unit in sorted({m.unit for m in results}):
        of_unit = [m for m in results if m.unit == unit]
        plots.append(f"<h2>CPU for each {escape(unit)}, microseconds</h2>{cpu_bars(of_unit)}")
        if waited := [m for m in of_unit if m.load]:
            plots.append(f"<h2>Latency of calls with {escape(unit)}s</h2>{latency_plot(waited)}")
    return _PAGE.substitute(about=escape(text), command=escape(results.command), table=table, plots="\n".join(plots))


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return _line("th", headings) + "".join(_line("td", line) for line in lines)


def _line(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>\n"


def _name(measurement: Measurement) -> str:
    return f"{measurement.title}: {measurement.scenario_text}"


def cpu_bars(measurements: Sequence[Measurement]) -> str:
    """A bar for each measurement; the thin line is the spread over the repetitions."""
    spreads = [(m, s) for m in measurements if (s := m.spread("us_cpu")) is not None]
    if not spreads:
        return ""
    left, width, step = 470, 560, 24
    scale = width / max(spread.high for _, spread in spreads)
    parts = []
    for place, (measurement, spread) in enumerate(spreads):
        y = place * step
        parts.append(
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(_name(measurement))}</text>'
            f'<rect x="{left}" y="{y + 4}" width="{spread.median * scale:.1f}" height="16" fill="{_COLOURS[0]}"/>'
            f'<path d="M{left + spread.low * scale:.1f} {y + 12}H{left + spread.high * scale:.1f}" stroke="#111"/>'
            f'<text x="{left + spread.high * scale + 6:.1f}" y="{y + 16}">{number(spread.median)}</text>'
        )
    return _svg(left + width + 70, len(spreads) * step + 8, parts)


def latency_plot(measurements: Sequence[Measurement]) -> str:
    """Latency over quantile, both on logarithmic axes, all repetitions together."""
    curves = []
    for measurement in measurements:
        merged = Histogram()
        for window in measurement.windows:
            merged.merge(Histogram.from_json(window.histogram))
        if len(merged):
            curves.append((measurement, merged.curve()))
    if not curves:
        return ""
    left, top, width, height = 70, 10, 640, 320
    lowest = math.floor(math.log10(min(points[0][0] for _, points in curves)))
    highest = math.ceil(math.log10(max(points[-1][0] for _, points in curves)))
    nines = 4.0

    def x(share: float) -> float:
        return left + width * min(-math.log10(max(1 - share, 10**-nines)), nines) / nines

    def y(seconds: float) -> float:
        return top + height * (highest - math.log10(seconds)) / max(highest - lowest, 1)

    parts = []
    for share, label in ((0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")):
        parts.append(
            f'<path d="M{x(share):.1f} {top}V{top + height}" stroke="#e5e7eb"/>'
            f'<text x="{x(share):.1f}" y="{top + height + 18}" text-anchor="middle">{label}</text>'
        )
    parts += (
        f'<path d="M{left} {y(10.0**power):.1f}H{left + width}" stroke="#e5e7eb"/>'
        f'<text x="{left - 6}" y="{y(10.0**power) + 4:.1f}" text-anchor="end">{_seconds(power)}</text>'
        for power in range(lowest, highest + 1)
    )
    for place, (measurement, points) in enumerate(curves):
        colour = _COLOURS[place % len(_COLOURS)]
        dash = ' stroke-dasharray="6 3"' if place >= len(_COLOURS) else ""
        path = "L".join(f"{x(share):.1f} {y(seconds):.1f}" for seconds, share in points)
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>'
            f'<path d="M{left + width + 20} {top + 10 + 20 * place}h24" stroke="{colour}" stroke-width="3"{dash}/>'
            f'<text x="{left + width + 50}" y="{top + 14 + 20 * place}">{escape(_name(measurement))}</text>'
        )
    return _svg(left + width + 560, max(top + height + 30, top + 20 * len(curves) + 20), parts)


def _seconds(power: int) -> str:
    return f"{10 ** (power + 3):g} ms" if power < 0 else f"{10**power:g} s"


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">'
        f"{''.join(parts)}</svg>"
    )
