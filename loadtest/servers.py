"""Servers under measurement, each a process of its own that this one starts, reads and ends."""

from __future__ import annotations

import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from loadtest.leash import on_leash
from loadtest.meshconfig import write_config
from loadtest.osinfo import Usage, tree_usage
from loadtest.scenario import Scenario
from mixer.cli.ports import read_ready_line

_START_S = 60.0
_STOP_S = 15.0


class ServerError(Exception):
    """A server that did not start, or did not end as it should; says what it told."""


class Server:
    """A process that prints a ready line; ``ports`` are those of the line. Use it as a context manager."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._log = folder / "stderr.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(on_leash(command), stdout=subprocess.PIPE, stderr=log)
        self.ports: dict[str, int] = {}
        try:
            self.ports = self._wait_ready()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _wait_ready(self) -> dict[str, int]:
        assert self._process.stdout is not None
        give_up = time.monotonic() + _START_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while selector.select(max(give_up - time.monotonic(), 0)):
                line = self._process.stdout.readline().decode()
                if not line:
                    break
                if ports := read_ready_line(line):
                    return ports
        raise ServerError(f"the server did not get ready:\n{self._log.read_text()[-4000:]}")

    @property
    def target(self) -> str:
        """Where its gRPC API is."""
        return f"127.0.0.1:{self.ports['port']}"

    def usage(self) -> Usage:
        """CPU and memory of the whole process tree so far."""
        return tree_usage(self._process.pid)

    def page(self, port: str, path: str) -> str:
        """A page that it serves over HTTP."""
        with urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=60) as answer:
            return bytes(answer.read()).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if code and kind is None:
            raise ServerError(f"the server ended with {code}:\n{self._log.read_text()[-4000:]}")


class MixerServer(Server):
    """``mixs server`` on free ports, with a configuration made for a scenario."""

    def __init__(self, scenario: Scenario, *, policy: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loadtest-")
        config = Path(self._folder.name) / "config"
        config.mkdir()
        write_config(scenario, config, policy=policy)
        free = [part for name in ("", "monitoring-", "metrics-", "console-") for part in (f"--{name}port", "0")]
        super().__init__(
            [
                sys.executable,
                "-m",
                "mixer.cli.mixs",
                "server",
                "--config-store",
                f"fs://{config}",
                *free,
                *scenario.server_flags,
            ],
            Path(self._folder.name),
        )
        if problems := self.counted("mixer_config_problems"):
            self.__exit__(None, None, None)
            raise ServerError(f"the configuration has {problems:g} problems, so figures would mean little")

    def counted(self, name: str) -> float:
        """The sum of one of Mixer's own counters."""
        return sum_of(self.page("monitoring-port", "/metrics"), name)

    def requests_counted(self) -> float:
        """How many requests the mesh's metrics tell of."""
        return sum_of(self.page("metrics-port", "/metrics"), "istio_requests_total")

    def series(self) -> int:
        """How many series of the mesh's counters of requests and connections a scrape shows."""
        return series_in(self.page("metrics-port", "/metrics"))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, exc, trace)
        finally:
            self._folder.cleanup()


class EchoServer(Server):
    """The floor: the same transport around a handler that does nothing."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
            super().__init__([sys.executable, "-m", "loadtest.echo"], Path(folder))


def sum_of(page: str, name: str) -> float:
    """The sum of a metric's samples on a page of metrics."""
    lines = (line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def series_in(page: str) -> int:
    """How many label sets of requests and of TCP connections a page of metrics shows."""
    names = ("istio_requests_total{", "istio_tcp_sent_bytes_total{")
    return sum(line.startswith(names) for line in page.splitlines())
