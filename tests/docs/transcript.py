"""Runs what a page says, so that pages cannot rot. The convention, invisible once a page is rendered:

* A fence ``yaml PATH`` (or ``python PATH``, ``toml PATH``) is a file that the reader saves; without a path it is a
  mere illustration.
* A fence ``console`` is typed into a terminal: lines that start with ``$ `` are commands (a trailing backslash
  goes on in the next line), what follows is their whole output. ``...`` stands for any text, on a line of its own
  for any lines. A command without output must succeed.
* ``mixs server`` stays running to the end of the page; the output shown is what it prints when it is ready. So does
  a program whose command ends in ``&``. When output is shown, it is the one line that it prints when it is ready;
  when none is, it is ready when somebody listens on the ports that its command, or its configuration, names.
* ``kill %NAME`` ends the last such program whose command begins so.
* ``export NAME=VALUE`` holds for the commands after it.
* A fence ``text server`` is lines that the server's terminal shows by then, in this order.

The pages speak of the default ports; here every port is a free one, and both directions are translated, in the files of
``config`` too. A file that is saved in ``my-mesh`` while the server runs is waited for until the server has taken it
in.

A page that speaks of Elasticsearch's port finds one there: a stand-in, or the real one whose port is in
``MIXER_ELASTICSEARCH`` (its indices ``mixer-*`` must be gone). The program ``fluentd`` is a stand-in, too, unless
``MIXER_FLUENTD`` is the path of the real one.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple
from urllib.request import urlopen

from mixer.cli.ports import read_ready_line

ROOT = Path(__file__).parents[2]
DEFAULT_PORTS = {"port": 9091, "monitoring-port": 15014, "metrics-port": 42422, "console-port": 9876}
ELASTICSEARCH_PORT, FLUENTD_PORT = 9200, 24224
ADAPTER_PORT, MIXPROXY_PORT, MIXPROXY_MONITORING_PORT, ENVOY_PORT, ENVOY_ADMIN_PORT = 9070, 9092, 15090, 15006, 15000
OTHER_PORTS = (
    *(ADAPTER_PORT, MIXPROXY_PORT, MIXPROXY_MONITORING_PORT, ENVOY_PORT, ENVOY_ADMIN_PORT),
    *(ELASTICSEARCH_PORT, FLUENTD_PORT, 6379, 8000, 9080, 9093),
    *(9191, 15114, 42522, 9976),  # of a second Mixer
)
"""Ports of programs beside ``mixs server``; a page that speaks of one has a free one for it."""
IMPLIED_PORTS = {"envoy": ENVOY_PORT, "fluentd": FLUENTD_PORT}
"""Where programs listen that have it from a file."""
PATIENCE_S = 30.0
SAVED = ("yaml", "python", "toml")

_EXPORT = re.compile(r"export ([A-Z]+)=\S.*")
_KILL = re.compile(r"kill %(\S+)")
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
    """A port that nobody listens on now, and that the system gives to nobody who asks for just any."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            except OSError:
                continue
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

    def logged(self) -> str:
        """The end of its log."""
        return Path(self._errors.name).read_text()[-2000:]

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


class Job:
    """A program that a page leaves running beside the server."""

    def __init__(self, command: str, text: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.command, self._asked = command, False
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {text}"],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},  # a terminal has lines as they come
        )

    def first_line(self) -> str:
        """What it prints when it is ready."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def wait_listening(self, ports: list[int]) -> None:
        """Until connections to each of these ports are taken."""
        end = time.monotonic() + PATIENCE_S
        for port in ports:
            while self._process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < end, f"{self.command}: nobody listens on {port}"
                    time.sleep(0.05)
        assert self._process.poll() is None, f"{self.command} ended: {self._complaint()}"

    def ask_to_end(self) -> None:
        """Once: a second request may come when nobody handles it any more, and would end the process at once."""
        if not self._asked and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._asked = True

    def end(self) -> None:
        """End it; it must do so as it promises to, and some promise nothing."""
        self.ask_to_end()
        self._process.communicate(timeout=PATIENCE_S)
        promised = (0, -signal.SIGTERM) if re.search(r" -m http.server |\buvicorn ", self.command) else (0,)
        assert self._process.returncode in promised, f"{self.command} ended so: {self._complaint()}"
        self._errors.close()

    def _complaint(self) -> str:
        self._errors.seek(0)
        return f"{self._process.returncode}\n{self._errors.read()[-2000:]}"


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
        self._jobs: list[Job] = []
        self._ports: dict[int, int] = {}

    def follow(self, page: str) -> None:
        """Do all of a page, comparing each output with what the page shows."""
        self._ports = {port: free_port() for port in OTHER_PORTS if re.search(rf"\b{port}\b", page)}
        if ELASTICSEARCH_PORT in self._ports:
            self._stand_in()
        self._copy_config()
        for block in blocks(page):
            if block.language in SAVED and block.info:
                self._save(block)
            elif block.language == "console":
                for command in commands(block.text):
                    self._run(command, block.line)
            elif (block.language, block.info) == ("text", "server"):
                self._look(block)

    def _copy_config(self) -> None:
        shutil.copytree(ROOT / "config", self._folder / "config", ignore=shutil.ignore_patterns("__pycache__"))
        for path in (self._folder / "config" / "samples").rglob("*"):
            if path.suffix in (".yaml", ".conf"):
                path.write_text(self._translated(path.read_text()))

    def _stand_in(self) -> None:
        programs = self._folder / "programs"
        programs.mkdir()
        fluentd = programs / "fluentd"
        stand_in = f"env PYTHONPATH={ROOT} {sys.executable} -m tests.docs.fluentd"
        fluentd.write_text(f'#!/bin/sh\nexec {os.environ.get("MIXER_FLUENTD", stand_in)} "$@"\n')
        fluentd.chmod(0o755)
        self._environment["PATH"] = f"{programs}{os.pathsep}{self._environment['PATH']}"
        if real := os.environ.get("MIXER_ELASTICSEARCH"):
            self._ports[ELASTICSEARCH_PORT] = int(real)
            return
        port = self._ports[ELASTICSEARCH_PORT]
        program = f"{sys.executable} -m tests.docs.elasticsearch {port}"
        self._jobs.append(Job("elasticsearch", program, ROOT, self._environment))
        self._jobs[-1].wait_listening([port])

    def _save(self, block: Block) -> None:
        path = self._folder / block.info
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._folder / "being-written"  # then moved, so that the server never reads half of it
        whole.write_text(self._translated(block.text))
        if self._server is None or not block.info.startswith("my-mesh/"):
            whole.replace(path)
            return
        before = self._server.state()
        whole.replace(path)
        self._server.wait_changed(before)

    def _translated(self, text: str) -> str:
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text

    def _as_typed(self, text: str) -> str:
        """A command of the page with the ports of this run."""
        text = self._translated(self._server.translated(text) if self._server else text)
        return f"{text} {' '.join(self._left_out(text))}".rstrip()

    def _left_out(self, text: str) -> Iterator[str]:
        """Flags for ports that a command leaves to their defaults."""
        if text.startswith("mixproxy run") and self._server is not None:
            if "--mixer" not in text:
                yield f"--mixer 127.0.0.1:{self._server.ports['port']}"
            yield f"--port {self._ports[MIXPROXY_PORT]} --monitoring-port {self._ports[MIXPROXY_MONITORING_PORT]}"
        elif text.startswith("mixproxy envoy-config"):
            yield f"--listen 127.0.0.1:{self._ports[ENVOY_PORT]} --admin 127.0.0.1:{self._ports[ENVOY_ADMIN_PORT]}"
            if "--mixer " not in text:
                yield f"--mixer 127.0.0.1:{self._ports[MIXPROXY_PORT]}"
        elif text.startswith("envoy "):
            yield "--disable-hot-restart --concurrency 1"  # any number of them on one machine

    def _as_in_page(self, text: str) -> str:
        """What was printed, with the ports that the page speaks of."""
        for port, free in self._ports.items():
            text = re.sub(rf"\b{free}\b", str(port), text)
        return self._server.as_in_page(text) if self._server else text

    def _run(self, command: Command, line: int) -> None:
        if command.text.endswith(" &"):
            self._start(command, line)
            return
        if command.text.startswith("mixs server"):
            assert self._server is None, "a page starts one server; others end in &"
            self._server = Server(self._translated(command.text), self._folder, self._environment)
            self._compare(command, self._as_in_page(self._server.shown()), line)
            return
        if found := _EXPORT.fullmatch(command.text):
            self._environment[found[1]] = self._shell(f'{command.text}; printf %s "${found[1]}"').stdout
            return
        if found := _KILL.fullmatch(command.text):
            job = next(job for job in reversed(self._jobs) if job.command.startswith(found[1]))
            self._jobs.remove(job)
            job.end()
            return
        done = self._shell(self._as_typed(command.text))
        if not command.output:
            shown = self._as_in_page(done.stdout)
            assert done.returncode == 0, f"line {line}: {command.text} exited with {done.returncode}:\n{shown}"
        self._compare(command, self._as_in_page(done.stdout), line)

    def _shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S * 2,
            check=False,
            cwd=self._folder,
            env=self._environment,
        )

    def _start(self, command: Command, line: int) -> None:
        text = self._as_typed(command.text.removesuffix(" &"))
        if text.startswith("python my-mesh/"):  # an adapter
            text += f" --address 127.0.0.1:{self._ports[ADAPTER_PORT]}"
        job = Job(command.text, text, self._folder, self._environment)
        self._jobs.append(job)
        if command.output:
            self._compare(command, self._as_in_page(job.first_line()), line)
            return
        named = [free for free in self._ports.values() if re.search(rf"\b{free}\b", text)]
        job.wait_listening(named or [self._ports[IMPLIED_PORTS[text.split()[0]]]])

    def _compare(self, command: Command, shown: str, line: int) -> None:
        promised = "\n".join(command.output)
        assert matches(command.output, shown), (
            f"block at line {line}: {command.text}\n--- promised\n{promised}\n--- shown\n{shown}\n{self._logged()}"
        )

    def _logged(self) -> str:
        return f"--- logged by the server\n{self._server.logged()}" if self._server else ""

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
        for job in self._jobs:
            job.ask_to_end()
        if self._server is not None:
            assert self._server.stop() == 0
        for job in self._jobs:
            job.end()
