"""The demo without Envoy: a real Mixer, BookInfo's traffic as sidecars would have told it, and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import grpc.aio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.bookinfo import Hop, mongodb_connection, visits
from loadtest.demo.books import Sample, read_metrics
from loadtest.demo.configuration import write_policies
from loadtest.demo.programs import DemoError, Program, wait_for_ctrl_c
from mixer.adapters.base import Code
from mixer.api import messages
from mixer.api.encode import encode_check, encode_report
from mixer.api.service import MixerStub, awaitable
from mixer.attributes import AttributeValue
from mixer.runtime.results import http_status

BATCH = 100


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


def show(server: Program, sidecars: Sidecars, console: Console) -> None:
    """What an operator wants to see."""
    metrics = read_metrics(server.page("metrics-port", "/metrics"))
    requests = Table("reporter", "source", "destination", "code", "requests", title="istio_requests_total")
    total = 0.0
    for sample in _samples(metrics, "istio_requests_total"):
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
    for sample in _samples(metrics, "istio_tcp_sent_bytes_total"):
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
        raise DemoError(f"{total:.0f} requests counted, {http_records} in the access log")


def _samples(metrics: Mapping[str, Sequence[Sample]], name: str) -> list[Sample]:
    return sorted(metrics.get(name, ()), key=lambda sample: sorted(sample.labels.items()))


def play_recorded(console: Console, folder: Path, count: int, seed: int, *, keep: bool) -> None:
    """Run Mixer, play the traffic to it, and show what came of it; Mixer has ended when this returns.

    Raises:
        DemoError: Mixer does not run, or its numbers differ.
    """
    ports = [] if keep else ["--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0"]
    store = f"fs://{write_policies(folder)}"
    server = Program("mixs", ["mixer.cli.mixs", "server", "--config-store", store, *ports], folder)
    try:
        console.print(f"mixs serves gRPC on 127.0.0.1:{server.ports['port']}")
        try:
            sidecars = asyncio.run(play(server.ports["port"], count, seed, console))
        except grpc.RpcError as exc:
            raise DemoError(server.why_ended() or f"Mixer answered {exc}") from exc
        show(server, sidecars, console)
        if keep:
            _keep(server, console)
    finally:
        server.stop()
    if not keep:
        console.print("Mixer has ended; [bold]make demo KEEP=1[/] leaves it running until Ctrl-C.")


def _keep(server: Program, console: Console) -> None:
    for what, port, path in (
        ("metrics of the mesh", "metrics-port", "/metrics"),
        ("Mixer's own metrics", "monitoring-port", "/metrics"),
        ("console", "console-port", "/"),
    ):
        console.print(f"  {what:20} http://127.0.0.1:{server.ports[port]}{path}")
    console.print("Ctrl-C ends it.")
    wait_for_ctrl_c(server.why_ended)
