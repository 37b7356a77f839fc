"""``mixs validate``: every problem of a configuration, without running any of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from mixer.adapters.loading import AdapterLoadError, load_adapters
from mixer.cli.logs import set_up_logging
from mixer.errors import StoreError
from mixer.rules.build import SnapshotBuilder
from mixer.rules.snapshot import Snapshot
from mixer.server.pages import problem_as_data
from mixer.store import Problem, Resource, ResourceKey, StoreContents
from mixer.store.file import FileStore
from proxy.client import SpecIndex


async def load_paths(paths: Sequence[Path]) -> StoreContents:
    """The contents of several folders and files together; a resource of a later path wins.

    Raises:
        StoreError: A path cannot be read at all.
    """
    resources: dict[ResourceKey, Resource] = {}
    problems: list[Problem] = []
    for path in paths:
        contents = await FileStore(path).load()
        resources.update(contents.resources)
        problems += contents.problems
    return StoreContents(resources, tuple(problems))


@click.command("validate", short_help="Report every problem of a configuration.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one object with the problems, for machines.",
)
@click.option(
    "--config-default-namespace",
    "--configDefaultNamespace",
    "default_namespace",
    default="istio-system",
    show_default=True,
)
def validate_command(paths: tuple[Path, ...], output: str, default_namespace: str) -> None:
    """Report every problem of the configuration in PATH... (folders or files, taken together).

    Everything is decoded, resolved, type checked and compiled as the server does it; nothing is connected to.
    Exit status: 0 when there is no problem, 1 when there is, 2 for misuse.
    """
    set_up_logging("none")
    try:
        contents = asyncio.run(load_paths(paths))
        snapshot = SnapshotBuilder(load_adapters(), default_namespace=default_namespace).build(contents)
        _, of_specs = SpecIndex.build(contents.resources.values())  # what the proxy side reads of the same store
        snapshot = replace(snapshot, problems=(*snapshot.problems, *of_specs))
    except (StoreError, AdapterLoadError) as exc:
        raise click.UsageError(str(exc)) from exc
    if output == "json":
        click.echo(json.dumps(_as_data(snapshot), indent=2))
    else:
        _print(snapshot)
    sys.exit(1 if snapshot.problems else 0)


def _as_data(snapshot: Snapshot) -> dict[str, object]:
    problems = [problem_as_data(problem) for problem in snapshot.problems]
    return {"valid": not problems, "counts": dict(snapshot.counts), "problems": problems}


def _print(snapshot: Snapshot) -> None:
    for problem in sorted(snapshot.problems, key=lambda p: p.origin):
        click.echo(str(problem))
    counts = ", ".join(f"{count} {kind}s" for kind, count in snapshot.counts.items() if count)
    console = Console(stderr=True, highlight=False)
    if snapshot.problems:
        console.print(f"[bold red]{len(snapshot.problems)} problem(s)[/] in {counts or 'no resources'}")
    else:
        console.print(f"[green]no problems[/] in {counts or 'no resources of a kind that Mixer knows'}")
