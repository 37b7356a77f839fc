"""Runs what a page says, so that pages cannot rot. The convention, invisible once a page is rendered:

* A fence ``yaml PATH`` (or ``python PATH``, ``toml PATH``) is a file that the reader saves; without a path it is a
  mere illustration.
* A fence ``console`` is typed into a terminal: lines that start with ``$ `` are commands (a trailing backslash
  goes on in the next line), what follows is their whole output. ``...`` stands for any text, on a line of its own
  for any lines. A command without output must succeed.
* ``mixs server`` stays running to the end of the page; the output shown is what it prints when it is ready. So does
  a program whose command ends in ``&``, which prints one line when it is ready.
* ``export NAME=VALUE`` holds for the commands after it.
* A fence ``text server`` is lines that the server's terminal shows by then, in this order.

The pages speak of the default ports; here every port is a free one, and both directions are translated. A file that
is saved while the server runs is waited for until the server has taken it in.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple
from urllib.request import urlopen

from mixer.cli.ports import read_ready_line

ROOT = Path(__file__).parents[2]
DEFAULT_PORTS = {"port": 9091, "monitoring-port": 15014, "metrics-port": 42422, "console-port": 9876}
ADAPTER_PORT = 9070
PATIENCE_S = 30.0
SAVED = ("yaml", "python", "toml")

_EXPORT = re.compile(r"export ([A-Z]+)=(\S+)")
_FENCE = re.compile(r"^```([a-z]*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the rest of the info string, its text, and its line in the page."""

    language: str
    info: str
    text: str
    line: int


class Command(NamedTuple):
    """One command and the output that the page promises."""

    text: str
    output: list[str]


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page."""
    return [Block(m[1], m[2].strip(), m[3], page.count("\n", 0, m.start()) + 1) for m in _FENCE.finditer(page)]


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block."""
    lines = text.splitlines()
    while lines:
        command = lines.pop(0).removeprefix("$ ")
        while command.endswith("\\"):
            command = command[:-1] + lines.pop(0).strip()
        output = []
        while lines and not lines[0].startswith("$ "):
            output.append(lines.pop(0))
        yield Command(command, output)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def matches(expected: list[str], actual: str) -> bool:
    """Whether an output is what the page shows, with ``...`` for what may differ."""
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"[ ]*\n"
        for line in expected
    )
    return re.fullmatch(pattern, actual if actual.endswith("\n") or not actual else f"{actual}\n") is not None


class Server:
    """``mixs server`` as a page starts it, on free ports."""

    def __init__(self, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        free = " ".join(f"--{name} 0" for name in DEFAULT_PORTS)
        self._output = folder / "server-output"
        self._errors: IO[bytes] = (folder / "server-errors").open("wb")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command} {free}"],
                stdout=output,
                stderr=self._errors,
                cwd=folder,
                env=dict(environment),
            )
        self.ports = self._wait_ready()

    def _wait_ready(self) -> dict[str, int]:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            first = self._output.read_text().partition("\n")
            if first[1]:
                ports = read_ready_line(first[0])
                assert ports is not None, first[0]
                return ports
            time.sleep(0.05)
        raise AssertionError(f"mixs server did not start: {Path(self._errors.name).read_text()}")

    def translated(self, command: str) -> str:
        """A command of the page, to this server."""
        for name, port in DEFAULT_PORTS.items():
            command = re.sub(rf":{port}\b", f":{self.ports[name]}", command)
        return re.sub(r"\bmixc (check|report)\b", rf"mixc \1 -m 127.0.0.1:{self.ports['port']}", command)

    def as_in_page(self, text: str) -> str:
        """What was printed, with the ports that the page speaks of."""
        for name, port in DEFAULT_PORTS.items():
            text = re.sub(rf"\b{self.ports[name]}\b", str(port), text)
        return text

    def shown(self) -> str:
        """All that its terminal shows by now, log lines apart."""
        return self.as_in_page(self._output.read_text())

    def state(self) -> object:
        """What changes with each configuration that is taken in."""
        with urlopen(f"http://127.0.0.1:{self.ports['console-port']}/config") as page:
            config = json.load(page)
        return config["revision"], config["refused_revision"], config["problems"]

    def wait_changed(self, before: object) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.state() == before:
            assert time.monotonic() < end, "the server did not take in the change"
            time.sleep(0.05)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self._errors.close()


class Reader:
    """Does what a page says, in a folder that has the repository's ``config`` in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Server | None = None
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "110",
        }
        self._running: list[subprocess.Popen[str]] = []
        self._adapter_port = free_port()
        (folder / "config").symlink_to(ROOT / "config", target_is_directory=True)

    def follow(self, page: str) -> None:
        """Do all of a page, comparing each output with what the page shows."""
        for block in blocks(page):
            if block.language in SAVED and block.info:
                self._save(block)
            elif block.language == "console":
                for command in commands(block.text):
                    self._run(command, block.line)
            elif (block.language, block.info) == ("text", "server"):
                self._look(block)

    def _save(self, block: Block) -> None:
        path = self._folder / block.info
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._folder / "being-written"  # then moved, so that the server never reads half of it
        whole.write_text(self._translated(block.text))
        if self._server is None:
            whole.replace(path)
            return
        before = self._server.state()
        whole.replace(path)
        self._server.wait_changed(before)

    def _translated(self, text: str) -> str:
        return re.sub(rf"\b{ADAPTER_PORT}\b", str(self._adapter_port), text)

    def _run(self, command: Command, line: int) -> None:
        if command.text.startswith("mixs server"):
            assert self._server is None, "a page starts one server"
            self._server = Server(command.text, self._folder, self._environment)
            self._compare(command, self._server.shown(), line)
            return
        if command.text.endswith(" &"):
            self._start(command, line)
            return
        if found := _EXPORT.fullmatch(command.text):
            self._environment[found[1]] = found[2].replace("$PWD", str(self._folder))
            return
        text = self._translated(self._server.translated(command.text) if self._server else command.text)
        done = subprocess.run(
            ["bash", "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S * 2,
            check=False,
            cwd=self._folder,
            env=self._environment,
        )
        shown = self._server.as_in_page(done.stdout) if self._server else done.stdout
        shown = re.sub(rf"\b{self._adapter_port}\b", str(ADAPTER_PORT), shown)
        if not command.output:
            assert done.returncode == 0, f"line {line}: {command.text} exited with {done.returncode}:\n{shown}"
        self._compare(command, shown, line)

    def _start(self, command: Command, line: int) -> None:
        text = self._translated(command.text.removesuffix("&"))
        process = subprocess.Popen(
            ["bash", "-c", f"exec {text} --address 127.0.0.1:{self._adapter_port}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=self._environment,
        )
        self._running.append(process)
        assert process.stdout is not None
        shown = process.stdout.readline()
        self._compare(command, shown.replace(str(self._adapter_port), str(ADAPTER_PORT)), line)

    def _compare(self, command: Command, shown: str, line: int) -> None:
        promised = "\n".join(command.output)
        assert matches(command.output, shown), (
            f"block at line {line}: {command.text}\n--- promised\n{promised}\n--- shown\n{shown}"
        )

    def _look(self, block: Block) -> None:
        assert self._server is not None
        end = time.monotonic() + PATIENCE_S
        expected = ["...", *block.text.splitlines(), "..."]
        while not matches(expected, self._server.shown()):
            assert time.monotonic() < end, (
                f"line {block.line}:\n--- promised\n{block.text}--- shown\n{self._server.shown()}"
            )
            time.sleep(0.05)

    def close(self) -> None:
        """Stop what runs; the server, and what stands beside it, must end as they promise to."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        if self._server is not None:
            assert self._server.stop() == 0
        for process in self._running:
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0
