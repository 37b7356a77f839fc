"""A mesh of real processes for one test: Mixer with a configuration, Envoys before services of the test's own loop."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from loadtest.envoy import EnvoyServer
from loadtest.servers import Server
from proxy.envoy.bootstrap import Sidecar

ROOT = Path(__file__).parents[3]
ATTRIBUTES = (ROOT / "config/mesh/attributes.yaml").read_text()
FREE = [part for name in ("", "monitoring-", "metrics-", "console-") for part in (f"--{name}port", "0")]


def objects(*found: dict[str, Any]) -> str:
    """Configuration objects as YAML; ``name`` moves to where it belongs."""
    return yaml.safe_dump_all(
        {
            "apiVersion": "config.istio.io/v1alpha2",
            "kind": each["kind"],
            "metadata": {"name": each["name"], "namespace": each.get("namespace", "istio-system")},
            "spec": each["spec"],
        }
        for each in found
    )


def logs(folder: Path, variables: dict[str, str], match: str = "") -> str:
    """Configuration that writes the given expressions of every record to ``records.jsonl`` of a folder."""
    rule: dict[str, Any] = {"actions": [{"handler": "file", "instances": ["record"]}]}
    if match:
        rule["match"] = match
    return objects(
        {
            "kind": "instance",
            "name": "record",
            "spec": {"compiledTemplate": "logentry", "params": {"severity": '"info"', "variables": variables}},
        },
        {
            "kind": "handler",
            "name": "file",
            "spec": {
                "compiledAdapter": "stdio",
                "params": {
                    "logStream": "FILE",
                    "outputPath": str(folder / "records.jsonl"),
                    "outputAsJson": True,
                },
            },
        },
        {"kind": "rule", "name": "records", "spec": rule},
    )


@dataclass
class Mesh:
    """What runs; ``async with`` ends all of it."""

    folder: Path
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    envoys: list[EnvoyServer] = field(default_factory=list)

    def mixer(self, *configs: str, flags: tuple[str, ...] = (), port: int = 0) -> Server:
        """Start ``mixs server`` on these objects, beside the mesh's attribute manifest."""
        folder = self.folder / "config"
        folder.mkdir(exist_ok=True)
        (folder / "attributes.yaml").write_text(ATTRIBUTES)
        for number, text in enumerate(configs):
            (folder / f"{number}.yaml").write_text(text)
        free = [str(port) if part == "0" and number == 1 else part for number, part in enumerate(FREE)]
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{folder}"]
        return self.stack.enter_context(Server([*command, *free, *flags], self.folder))

    def envoy(self, sidecar: Sidecar | None, **options: Any) -> EnvoyServer:
        """Start an Envoy."""
        folder = self.folder / f"envoy{len(self.envoys)}"
        self.envoys.append(self.stack.enter_context(EnvoyServer(sidecar, folder, **options)))
        return self.envoys[-1]

    def records(self) -> list[dict[str, Any]]:
        """What `logs` wrote so far."""
        path = self.folder / "records.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    async def wait_records(
        self, count: int, which: Callable[[dict[str, Any]], bool] = lambda record: True
    ) -> list[Any]:
        """Wait until so many records of a kind are there."""
        give_up = time.monotonic() + 20
        while True:
            found = [record for record in self.records() if which(record)]
            if len(found) >= count:
                return found
            assert time.monotonic() < give_up, f"{len(found)} of {count} records: {found}"
            await asyncio.sleep(0.05)

    async def __aenter__(self) -> Mesh:
        await self.stack.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self.stack.__aexit__(*failure)


async def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    """Wait for something that no event tells of."""
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up, what
        await asyncio.sleep(0.05)
