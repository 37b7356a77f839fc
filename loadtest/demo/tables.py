"""What the demo shows on the terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.demo.books import REFUSED, REQUESTS, Agreement, Books, longest_trace
from loadtest.demo.machine import Machine
from loadtest.demo.visitors import Diary, Exchange
from loadtest.demo.workloads import GATEWAY, HTTP_WORKLOADS, MONGODB, RATINGS
from loadtest.servers import sum_of

_MEGABYTE = 1 << 20
_GROUPS = ("tester", "jason", "mallory", "anonymous")


def show_outcome(console: Console, machine: Machine, books: Books, diary: Diary) -> None:
    """Everything but the agreements."""
    console.print(_requests(books))
    console.print(_connections(books))
    console.print(_visits(diary))
    console.print(_refusals(books))
    for exchange in diary.exchanges:
        _show_exchange(console, exchange)
    _show_trace(console, longest_trace(books.hops))
    _show_caches(console, books)
    used = ", ".join(f"{name} {size // _MEGABYTE} MB" for name, size in machine.memory().items())
    console.print(f"\nMemory: {used} ({len(machine.envoys)} of them).")


def _requests(books: Books) -> Table:
    table = Table(
        "reporter", "source", "destination", "code", "flags", "requests", title=f"{REQUESTS}, as a scrape shows it"
    )
    names = ("reporter", "source_workload", "destination_workload", "response_code", "response_flags")
    counted: Counter[tuple[str, ...]] = Counter()
    for sample in books.metrics.get(REQUESTS, ()):
        counted[tuple(sample.labels[name] for name in names)] += round(sample.value)
    for labels, requests in sorted(counted.items()):
        style = "red" if int(labels[3]) in REFUSED else ""
        table.add_row(*map(escape, labels), str(requests), style=style)
    return table


def _connections(books: Books) -> Table:
    title = f"{RATINGS} to {MONGODB}, connections of TCP"
    table = Table("reporter", "opened", "closed", "bytes to", "bytes from", title=title)
    for reporter in ("source", "destination"):
        names = ("connections_opened", "connections_closed", "received_bytes", "sent_bytes")
        table.add_row(reporter, *(str(books.total(f"istio_tcp_{n}_total", reporter=reporter)) for n in names))
    return table


def _visits(diary: Diary) -> Table:
    title = "Visits: 20 in 10 s for each user, 2 for tester"
    table = Table("user", "200", "429", title=title)
    groups: Counter[tuple[str, int]] = Counter()
    for (user, status), times in diary.outcomes.items():
        groups[user if user in _GROUPS else "20 other readers", status] += times
    for user in (*_GROUPS, "20 other readers"):
        table.add_row(user, str(groups[user, 200]), str(groups[user, 429]))
    return table


def _refusals(books: Books) -> Table:
    table = Table("destination", "code", "refusal", "requests", title="Refused, as the access log has it")
    said = ((str(hop["destination"]), str(hop["code"]), str(hop["refusal"])) for hop in books.hops if hop["refusal"])
    for refusal, times in sorted(Counter(said).items()):
        table.add_row(*map(escape, refusal), str(times))
    return table


def _show_exchange(console: Console, exchange: Exchange) -> None:
    console.print(f"\n[bold]{escape(exchange.title)}[/]")
    for line in exchange.request:
        console.print(f"  > {line}", style="dim", highlight=False, markup=False)
    for line in (*exchange.answer, "", exchange.body):
        console.print(f"  < {line}", style="red" if line == exchange.answer[0] else "", highlight=False, markup=False)


def _show_trace(console: Console, hops: Sequence[Mapping[str, Any]]) -> None:
    if not hops:
        return
    started = datetime.fromisoformat(hops[0]["time"])
    names = ("reporter", "source", "destination", "path", "code", "spanId")
    title = f"One visit in the access log: every line has the trace id {hops[0]['traceId']}"
    table = Table("ms", *names, title=title)
    for hop in hops:
        offset = (datetime.fromisoformat(hop["time"]) - started).total_seconds() * 1000
        table.add_row(f"{offset:.1f}", *(escape(str(hop[name])) for name in names))
    console.print()
    console.print(table)
    console.print("The last of these lines, as it stands in the log:")
    console.print(json.dumps(hops[-1], separators=(",", ":")), highlight=False, markup=False, soft_wrap=True)


def _show_caches(console: Console, books: Books) -> None:
    def of(name: str) -> int:
        return round(sum_of(books.proxy, f"mixer_proxy_{name}_total"))

    checks, hits = of("check_calls"), of("check_cache_hits")
    console.print(
        f"\nmixproxy answered [bold]{checks}[/] checks, [bold]{hits}[/] ({100 * hits / max(checks, 1):.0f} %) of them from "
        f"its cache. It asked Mixer [bold]{of('remote_calls')}[/] times: {of('quota_calls')} visits were charged to a "
        "quota, which is never cached here."
    )


def show_agreements(console: Console, found: Sequence[Agreement]) -> None:
    """Which numbers agree."""
    table = Table("", "what", "who says how much", title="Numbers that must agree")
    for agreement in found:
        sides = ", ".join(f"{who} {value}" for who, value in agreement.sides)
        mark = "[green]yes[/]" if agreement.holds else "[bold red]NO[/]"
        table.add_row(mark, escape(agreement.what), escape(sides))
    console.print(table)


def show_places(console: Console, machine: Machine) -> None:
    """Where to look, and what to try."""
    plan, mixs, mixproxy = machine.plan, machine.programs["mixs"], machine.programs["mixproxy"]

    def page(port: int, path: str = "/") -> str:
        return f"http://127.0.0.1:{port}{path}"

    table = Table("what", "where", title="Where to look", show_header=False)
    table.add_row("the product page", page(plan.ports[GATEWAY].outbound, "/productpage"))
    table.add_row("metrics of the mesh", page(mixs.ports["metrics-port"], "/metrics"))
    table.add_row("Mixer's console", page(mixs.ports["console-port"]))
    table.add_row("Mixer's own metrics", page(mixs.ports["monitoring-port"], "/metrics"))
    table.add_row("mixproxy's metrics", page(mixproxy.ports["monitoring-port"], "/metrics"))
    table.add_row("access log", str(mixs.output))
    table.add_row("configuration, followed", str(machine.folder / "config"))
    for name in (GATEWAY, *HTTP_WORKLOADS, MONGODB):
        table.add_row(f"Envoy of {name}", page(plan.ports[name].admin))
    console.print(table)
    details = page(plan.ports["reviews-v3"].outbound, "/details/0")
    console.print(f"Ask as reviews-v3 would:  curl -i -H 'host: details:9080' {details}", highlight=False)
