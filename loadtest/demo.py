"""``make demo``: a real server on the mesh configuration and the samples, BookInfo's traffic, and what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import grpc.aio
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.bookinfo import Hop, mongodb_connection, visits
from mixer.adapters.base import Code
from mixer.api import messages
from mixer.api.encode import encode_check, encode_report
from mixer.api.service import MixerStub, awaitable
from mixer.attributes import AttributeValue
from mixer.cli.ports import read_ready_line
from mixer.runtime.results import http_status

CONFIG = Path(__file__).resolve().parent.parent / "config"
BATCH = 100
START_TIMEOUT_S = 30.0


class Server:
    """``mixs server`` in a process of its own; its output goes to files."""

    def __init__(self, folder: Path, *, keep: bool) -> None:
        self.log, self.output = folder / "mixs.log", folder / "mixs.out"
        ports = [] if keep else ["--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0"]
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{CONFIG}", *ports]
        with self.output.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, start_new_session=keep)
        self.ports = self._wait_ready()

    def _wait_ready(self) -> dict[str, int]:
        give_up = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up:
            with self.output.open(encoding="utf-8") as lines:
                ports = read_ready_line(lines.readline())
            if ports is not None:
                return ports
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise click.ClickException(f"the server did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """SIGTERM, and wait until it has drained."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()


class Sidecars:
    """All the sidecars of BookInfo in one: a Check for each hop, reports in batches."""

    def __init__(self, stub: MixerStub) -> None:
        self._stub = stub
        self._records: list[dict[str, AttributeValue]] = []
        self.checks: Counter[tuple[str, str]] = Counter()
        self.quotas: Counter[tuple[str, str]] = Counter()
        self.reported = 0

    async def serve(self, hop: Hop) -> None:
        """One hop and all that follow from it; a denied request goes no further."""
        quotas = {hop.quota: messages.QuotaParams(amount=1)} if hop.quota else None
        request = encode_check(hop.check_attributes(), quotas=quotas, deduplication_id=f"{hop.request_id}/{hop.path}")
        response: messages.CheckResponse = await awaitable(self._stub.Check(request))
        status = response.precondition.status
        code, message = status.code, status.message
        if hop.quota and code == Code.OK:
            granted = response.quotas[hop.quota].granted_amount
            self.quotas[hop.user, "granted" if granted else "exhausted"] += 1
            if not granted:
                code, message = Code.RESOURCE_EXHAUSTED, f"Quota is exhausted for: {hop.quota}"
        self.checks[hop.destination.app, Code(code).name if not message else f"{Code(code).name} {message}"] += 1
        if code == Code.OK:
            await asyncio.gather(*(self.serve(following) for following in hop.then))
        else:
            hop.code, hop.error, hop.flags = http_status(code), message, "UAEX"
        await self.report([hop.report_attributes("outbound"), hop.report_attributes("inbound")])

    async def report(self, records: Sequence[dict[str, AttributeValue]]) -> None:
        """Send records, a batch at a time."""
        self._records += records
        while len(self._records) >= BATCH:
            batch, self._records = self._records[:BATCH], self._records[BATCH:]
            await self._send(batch)

    async def flush(self) -> None:
        """Send what is left."""
        batch, self._records = self._records, []
        if batch:
            await self._send(batch)

    async def _send(self, batch: list[dict[str, AttributeValue]]) -> None:
        await awaitable(self._stub.Report(encode_report(batch)))
        self.reported += len(batch)


async def play(port: int, count: int, seed: int, console: Console) -> Sidecars:
    """Play visits and MongoDB connections against a server."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        sidecars = Sidecars(MixerStub(channel))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("visits to the product page", total=count)
            for page in visits(count, seed):
                await sidecars.serve(page)
                progress.advance(task)
            task = progress.add_task("connections to mongodb     ", total=count // 10)
            for number in range(count // 10):
                await sidecars.report(mongodb_connection(number))
                progress.advance(task)
            await sidecars.flush()
        return sidecars


def show(server: Server, sidecars: Sidecars, console: Console) -> None:
    """What an operator wants to see."""
    scrape = f"http://127.0.0.1:{server.ports['metrics-port']}/metrics"
    with urlopen(scrape) as page:  # the address is ours
        families = {f.name: f for f in text_string_to_metric_families(page.read().decode())}
    requests = Table("reporter", "source", "destination", "code", "requests", title="istio_requests_total")
    total = 0.0
    for sample in _samples(families, "istio_requests_total"):
        label = sample.labels
        total += sample.value
        requests.add_row(
            label["reporter"],
            label["source_workload"],
            label["destination_workload"],
            label["response_code"],
            f"{sample.value:.0f}",
        )
    console.print(requests)
    tcp = Table("reporter", "sent bytes", title="istio_tcp_sent_bytes_total, ratings to mongodb")
    for sample in _samples(families, "istio_tcp_sent_bytes_total"):
        tcp.add_row(sample.labels["reporter"], f"{sample.value:.0f}")
    console.print(tcp)
    verdicts = Table("service", "verdict", "checks", title="Checks")
    for (app, verdict), times in sorted(sidecars.checks.items()):
        verdicts.add_row(app, f"[{'green' if verdict == 'OK' else 'red'}]{verdict}", str(times))
    console.print(verdicts)
    quotas = Table("user", "granted", "exhausted", title="Quota: 20 visits in 10 s for each user, 2 for tester")
    for user in ("tester", "jason", "mallory", "anonymous"):
        quotas.add_row(user, *(str(sidecars.quotas[user, outcome]) for outcome in ("granted", "exhausted")))
    others = [
        sum(n for (u, o), n in sidecars.quotas.items() if o == outcome and u.startswith("reader"))
        for outcome in ("granted", "exhausted")
    ]
    quotas.add_row("20 other readers", *map(str, others))
    console.print(quotas)
    lines = [line for line in server.output.read_text().splitlines() if line.startswith("{")]
    console.print(f"\n[bold]{len(lines)} access log lines[/] in {server.output}; the last:")
    if lines:
        console.print_json(json.dumps({k: v for k, v in json.loads(lines[-1]).items() if v not in ("", 0, "0.0.0.0")}))
    console.print(
        f"\n[bold]{sidecars.reported}[/] records reported, [bold]{sum(sidecars.checks.values())}[/] checks, "
        f"[bold]{total:.0f}[/] requests counted."
    )
    http_records = sum(1 for line in lines if '"instance":"accesslog.' in line)
    if total != http_records:
        raise click.ClickException(f"{total:.0f} requests counted, {http_records} in the access log")


def _samples(families: dict[str, Any], name: str) -> list[Any]:
    """The samples of a counter; the parser files ``x_total`` under ``x``."""
    family = families.get(name.removesuffix("_total")) or families.get(name)
    return (
        sorted((s for s in family.samples if s.name == name), key=lambda s: sorted(s.labels.items())) if family else []
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--visits", "count", default=300, show_default=True, type=click.IntRange(1), help="Visits to the product page."
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same traffic.")
@click.option("--keep", is_flag=True, help="Leave the server running, on its default ports.")
def main(count: int, seed: int, keep: bool) -> None:
    """Run Mixer on config/ and play BookInfo's traffic through its gRPC API."""
    console = Console(width=max(100, Console().width))
    folder = Path(tempfile.mkdtemp(prefix="mixer-demo-"))
    server = Server(folder, keep=keep)
    console.print(f"mixs serves gRPC on 127.0.0.1:{server.ports['port']} with the configuration in {CONFIG.name}/")
    done = False
    try:
        sidecars = asyncio.run(play(server.ports["port"], count, seed, console))
        show(server, sidecars, console)
        done = True
    finally:
        if not (keep and done):
            server.stop()
    ports = server.ports
    where = {
        "metrics to scrape": f"http://127.0.0.1:{ports['metrics-port']}/metrics",
        "Mixer's own metrics": f"http://127.0.0.1:{ports['monitoring-port']}/metrics",
        "console": f"http://127.0.0.1:{ports['console-port']}/",
    }
    if keep:
        for what, address in where.items():
            console.print(f"  {what:20} {address}")
        console.print(f"  stop it with         kill {server.process.pid}")
    else:
        console.print(
            "The server has stopped; [bold]make demo KEEP=1[/] leaves it running, to be scraped and looked at."
        )
        for path in (server.output, server.log):
            path.unlink()
        os.rmdir(folder)


if __name__ == "__main__":
    main()
