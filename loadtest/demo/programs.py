"""Programs of the demo: each a process of its own, with what it writes in files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from loadtest.leash import on_leash
from mixer.cli.ports import read_ready_line

START_S: Final = 30.0
STOP_S: Final = 15.0
_TAIL_LINES: Final = 25


class DemoError(Exception):
    """Something of the demo did not go as it must; the message says what, with the end of the log that tells why."""


def tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a file."""
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:]) if path.exists() else ""


def wait_for_ctrl_c(why_ended: Callable[[], str | None]) -> None:
    """Wait for Ctrl-C, and watch over what runs meanwhile.

    Raises:
        DemoError: It has ended by itself.
    """
    try:
        while not (ended := why_ended()):
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    raise DemoError(ended)


class Program:
    """A Python module that runs until it is stopped; serves when the constructor returns.

    On Linux it ends when this process does, however that one ends, because the thread that started it holds its
    leash: the thread must live as long as the program shall.

    Args:
        name: Of its files.
        arguments: ``-m`` is understood: module and arguments.
        folder: For ``NAME.out`` and ``NAME.log``.

    Raises:
        DemoError: It does not get ready.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.output, self.log = folder / f"{name}.out", folder / f"{name}.log"
        command = [sys.executable, "-m", *arguments]
        if sys.platform == "linux":
            command = on_leash(command)
        with self.output.open("wb") as out, self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=out, stderr=log)
        try:
            self.ports = self._wait_ready()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _wait_ready(self) -> dict[str, int]:
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up and self.why_ended() is None:
            with self.output.open(encoding="utf-8") as lines:
                if ports := read_ready_line(lines.readline()):
                    return ports
            time.sleep(0.03)
        raise DemoError(f"{self.name} did not start:\n{tail(self.log)}")

    def why_ended(self) -> str | None:
        """What there is to say of a program that has ended; None while it runs."""
        code = self._process.poll()
        return None if code is None else f"{self.name} has ended with {code}:\n{tail(self.log)}"

    def page(self, port: str, path: str) -> str:
        """A page that it serves over HTTP."""
        with urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10) as answer:
            return bytes(answer.read()).decode()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, and wait until it has drained; safe twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
