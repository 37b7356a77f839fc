"""``loadtest``: measure Mixer, compare two runs, soak it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtest.added import added
from loadtest.cases import all_cases
from loadtest.clients import ClientError
from loadtest.compare import compare, unmatched
from loadtest.osinfo import environment
from loadtest.page import page_of
from loadtest.results import Results, ResultsError
from loadtest.scenario import FLOORS, Load, Mode, Scenario
from loadtest.servers import ServerError
from loadtest.soak import SoakPlan, soak
from loadtest.suites import SUITES, Job, jobs
from loadtest.tables import added_rows, comparison_rows, rows, table_of
from loadtest.wire import WrongAnswerError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}
# In click's texts, the control character keeps the lines that follow it apart.
EXAMPLES = """\b
Try:  loadtest cases
      loadtest run report --seconds 5
      loadtest run report check-cold --mode wire --mode inprocess --then-share 0.5
      loadtest run report --label-sets 12000 --idle-rules 1000 --access-log
      loadtest run --suite standard --out after.json --html after.html
      loadtest compare before.json after.json
      loadtest soak --seconds 60
"""
MODES = """\b
Modes, each with the next one inside:
  wire        mixs server in a process of its own, over gRPC
  inprocess   the service called with bytes: no transport
  dispatcher  the dispatcher called with decoded attributes: no codec
"""
FAILURES = (ServerError, ClientError, WrongAnswerError, ResultsError, ValueError)

console = Console(stderr=True)


@click.group(context_settings=CONTEXT, epilog=EXAMPLES)
def main() -> None:
    """Measure what Mixer costs and how fast it answers.

    A run starts its own server on this machine, with the mesh's configuration, sends requests that were encoded
    beforehand, and reads the server's CPU time and memory from the operating system. Figures of two runs
    compare only if both ran on the same, otherwise idle machine; each run therefore brings floors along (a server
    that does nothing, parsing alone) to be compared with.
    """


@main.command("cases")
def cases_command() -> None:
    """List what can be measured."""
    lines = [[case.name, case.summary, ", ".join(case.modes)] for case in all_cases().values()]
    Console().print(table_of(["case", "what it is", "modes"], lines, left=3))


def _scenario_options(command: Any) -> Any:
    plain = Scenario()
    for option in (
        click.option("--services", default=plain.services, type=click.IntRange(2), help="Services of the mesh."),
        click.option("--versions", default=plain.versions, type=click.IntRange(1), help="Workloads of each service."),
        click.option(
            "--label-sets",
            default=plain.label_sets,
            type=click.IntRange(1),
            help="Distinct sets of metric labels in the traffic: the number of series of each metric.",
        ),
        click.option(
            "--repeats",
            default=plain.repeats,
            type=click.FloatRange(0, 0.99),
            help="Share of records about one of the busiest tenth of the label sets of their proxy.",
        ),
        click.option("--header-bytes", default=plain.header_bytes, help="Text in the two header maps of a request."),
        click.option("--tcp-share", default=plain.tcp_share, help="Share of label sets about TCP connections."),
        click.option("--grpc-share", default=plain.grpc_share, help="Share of label sets about gRPC."),
        click.option("--batch", default=plain.batch, type=click.IntRange(1), help="Records in a Report."),
        click.option(
            "--idle-rules", default=plain.idle_rules, type=click.IntRange(0), help="Rules whose match never holds."
        ),
        click.option("--access-log/--no-access-log", default=False, help="The mesh's access log, to /dev/null."),
        click.option("--seed", default=plain.seed, help="The same seed gives the same requests."),
        click.option(
            "--server-flag", "server_flags", multiple=True, help="One more flag for mixs server, as in --flag=value."
        ),
    ):
        command = option(command)
    return command


def _load_options(command: Any) -> Any:
    plain = Load()
    for option in (
        click.option("--seconds", default=plain.seconds, type=click.FloatRange(0.1), help="Length of a window."),
        click.option("--warmup", "warmup_s", default=plain.warmup_s, help="Seconds of sending before each window."),
        click.option(
            "--repetitions", default=plain.repetitions, type=click.IntRange(1), help="Windows of each measurement."
        ),
        click.option("--processes", default=plain.processes, type=click.IntRange(1), help="Client processes."),
        click.option("--connections", default=plain.connections, type=click.IntRange(1), help="Of each process."),
        click.option("--in-flight", default=plain.in_flight, type=click.IntRange(1), help="Calls on a connection."),
        click.option(
            "--rate",
            default=plain.rate,
            type=click.FloatRange(0),
            help="Calls a second, sent in time whatever the server does (open loop); 0 waits for answers.",
        ),
        click.option("--poisson/--constant", default=plain.poisson, help="How an open loop spaces its calls."),
        click.option(
            "--then-share",
            default=plain.then_share,
            type=click.FloatRange(0, 2),
            help="After a closed loop also an open one at this share of its throughput, such as 0.5.",
        ),
    ):
        command = option(command)
    return command


@main.command("run", epilog=MODES)
@click.argument("cases", nargs=-1, metavar="[CASE]...")
@click.option(
    "--mode",
    "modes",
    multiple=True,
    type=click.Choice([mode.value for mode in Mode if mode not in FLOORS]),
    help="How much of Mixer; may be given several times. Default: wire.",
)
@click.option("--floor/--no-floor", default=True, help="Measure what the transport and parsing alone cost, too.")
@click.option("--suite", type=click.Choice(sorted(SUITES)), help="A list of measurements instead of CASEs.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write results as JSON.")
@click.option("--html", "html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots.")
@_scenario_options
@_load_options
def run_command(
    cases: Sequence[str],
    modes: Sequence[str],
    floor: bool,
    suite: str | None,
    out: Path | None,
    html: Path | None,
    **flags: Any,
) -> None:
    """Measure CASEs; `loadtest cases` lists them.

    A closed loop finds what the server can do at most; its latencies are those of a server that is always busy.
    Latencies that a user would see come from an open loop at a lower rate: --rate, or --then-share.
    """
    known = all_cases()
    if unknown := [name for name in cases if name not in known]:
        raise click.BadParameter(f"no case {unknown[0]!r}; there are: {', '.join(known)}")
    if bool(cases) == bool(suite):
        raise click.UsageError("give CASEs, or --suite")
    scenario = Scenario(**{name: flags[name] for name in Scenario.__dataclass_fields__})
    load = Load(**{name: flags[name] for name in Load.__dataclass_fields__})
    if suite:
        todo = list(SUITES[suite](known, scenario, load))
    else:
        wanted = [*(Mode(mode) for mode in modes or ("wire",)), *(FLOORS if floor else ())]
        todo = list(jobs([known[name] for name in cases], wanted, scenario, load))
    results = Results(environment(), datetime.now(UTC).isoformat(timespec="seconds"), shlex.join(sys.argv))
    try:
        _run(todo, results, out)
    except FAILURES as exc:
        raise click.ClickException(str(exc)) from exc
    _show(results)
    if html:
        html.write_text(page_of(results))


def _run(todo: Sequence[Job], results: Results, out: Path | None) -> None:
    """Measure everything; what there is so far is saved after each measurement."""
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=sum(job.seconds for job in todo))
        for job in todo:
            results.measurements += job.case.measure(
                job.mode, job.scenario, job.load, lambda text: progress.update(bar, description=text)
            )
            progress.advance(bar, job.seconds)
            if out:
                results.save(out)


def _show(results: Results) -> None:
    about = results.environment
    output = Console(width=None if sys.stdout.isatty() else 220)
    output.print(
        f"{about['cores']} cores of {about['cpu']}, {about['python']}, grpcio {about['packages']['grpcio']}, "
        f"commit {about['commit'] or 'unknown'}{' with changes' if about['changed_files'] else ''}",
        highlight=False,
    )
    output.print(table_of(*rows(results), left=3), highlight=False)
    if pairs := added(results):
        output.print(table_of(*added_rows(pairs), title="What is added"), highlight=False)


@main.command("report")
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--html", "html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots.")
def report_command(results: Path, html: Path | None) -> None:
    """Show the results of an earlier run."""
    try:
        loaded = Results.load(results)
    except ResultsError as exc:
        raise click.ClickException(str(exc)) from exc
    _show(loaded)
    if html:
        html.write_text(page_of(loaded))


@main.command("compare")
@click.argument("before", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def compare_command(before: Path, after: Path) -> None:
    """Ratios AFTER / BEFORE of what both runs measured.

    The ratio is that of the medians, with the least and the most that the repetitions allow. A figure is called
    better or worse only when even those agree, with a question mark where something else used the machine.
    """
    try:
        old, new = Results.load(before), Results.load(after)
    except ResultsError as exc:
        raise click.ClickException(str(exc)) from exc
    for name in ("cpu", "cores", "python"):
        if old.environment[name] != new.environment[name]:
            console.print(f"[yellow]different {name}: {old.environment[name]} and {new.environment[name]}")
    output = Console(width=None if sys.stdout.isatty() else 200)
    output.print(table_of(*comparison_rows(list(compare(old, new)))), highlight=False)
    for text in unmatched(old, new):
        output.print(f"in one run only: {text}", highlight=False)


@main.command("soak")
@click.option("--seconds", default=60.0, type=click.FloatRange(1), help="How long.")
@click.option("--label-sets", default=100_000, type=click.IntRange(1), help="Label sets that occur in this time.")
@click.option("--services", default=400, type=click.IntRange(2), help="Services of the mesh.")
@click.option("--samples", default=20, type=click.IntRange(3), help="Readings of memory and series.")
@click.option("--scrape/--no-scrape", default=False, help="Count series at each reading, not only at both ends.")
@click.option("--seed", default=1, help="The same seed gives the same requests.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the readings as JSON.")
def soak_command(
    seconds: float, label_sets: int, services: int, samples: int, scrape: bool, seed: int, out: Path | None
) -> None:
    """Compress the churn of days into minutes: new label sets all the time, while memory and series are read.

    Prints how memory grows with time and with label sets.
    """
    scenario = Scenario(services=services, label_sets=label_sets, repeats=0.0, seed=seed)
    plan = SoakPlan(scenario, seconds, samples, scrape)
    try:
        with console.status("starting") as status:
            found = soak(plan, lambda text: status.update(text))
    except FAILURES as exc:
        raise click.ClickException(str(exc)) from exc
    lines = [
        [
            f"{r.at_s:.1f}",
            f"{r.records:,}",
            f"{r.rss_bytes / 2**20:.1f}",
            "" if r.series is None else f"{r.series:,}",
            "",
        ]
        for r in found.readings
    ]
    table = table_of(["seconds", "records", "RSS MiB", "label sets", ""], lines, left=0)
    Console().print(table, highlight=False)
    Console().print(found.text, highlight=False)
    if out:
        out.write_text(found.to_json())


if __name__ == "__main__":
    main()
