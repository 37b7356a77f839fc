"""Worker processes: started, linked, restarted when they fall, ended. What they say goes to a `Boss`."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Final, Protocol

import structlog

from mixer.server.workers.link import Link, Message

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.workers")

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
STEADY_S: Final = 10.0
"""A worker that served for so long is restarted without suspicion."""


class Process:
    """A worker process that runs.

    Attributes:
        revision: Of the configuration that it serves, 0 before the first.
        heard: When it last sent a reading of its metrics, on the monotonic clock.
        errors: Handlers that could not be built there, and why.
    """

    def __init__(self, name: str, link: Link, process: asyncio.subprocess.Process) -> None:
        self.name: Final = name
        self.link: Final = link
        self.process: Final = process
        self.serving = False
        self.said_bye = False
        self.revision = 0
        self.errors: dict[str, str] = {}
        self.heard = monotonic()


class Boss(Protocol):
    """Who hears of workers."""

    def started(self, process: Process) -> None:
        """A worker is there; it expects options and configuration."""
        ...

    def heard(self, process: Process, message: Message) -> None:
        """A worker says something."""
        ...

    def ended(self, process: Process, code: int, restart_in_s: float | None) -> None:
        """A worker is gone; None: for good."""
        ...


class Slot:
    """Keeps one worker running. A worker that falls again and again is restarted ever more slowly."""

    def __init__(self, index: int, command: Sequence[str], boss: Boss) -> None:
        self._index = index
        self._command = command
        self._boss = boss
        self._stopping = asyncio.Event()
        self._generation = 0
        self._task: asyncio.Task[None] | None = None
        self.now: Process | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=f"worker {self._index}")

    async def stop(self, patience_s: float) -> None:
        """Let the worker drain; one that takes longer than its patience allows is killed."""
        self._stopping.set()
        process = self.now
        if process is not None:
            process.link.send("drain")
        if self._task is None:
            return
        done, _ = await asyncio.wait((self._task,), timeout=patience_s)
        if not done and self.now is not None:
            log.error("worker_killed", worker=self.now.name, reason="it did not end in time")
            with suppress(ProcessLookupError):
                self.now.process.kill()
        await self._task

    async def _keep_running(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            started = monotonic()
            process = await self._spawn()
            try:
                await self._follow(process)
            finally:
                self.now = None
                await process.link.close()
                code = await process.process.wait()
                lasted = monotonic() - started
                steady = process.serving and lasted > STEADY_S
                pause = FIRST_PAUSE_S if steady or not pause else min(2 * pause, LONGEST_PAUSE_S)
                self._boss.ended(process, code, None if self._stopping.is_set() else pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _spawn(self) -> Process:
        self._generation += 1
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                "--link",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
            )
        finally:
            theirs.close()
        self.now = Process(f"{self._index}.{self._generation}", await Link.open(ours), process)
        return self.now

    async def _follow(self, process: Process) -> None:
        self._boss.started(process)
        if self._stopping.is_set():
            process.link.send("drain")
        while (message := await process.link.receive()) is not None:
            self._boss.heard(process, message)


def reserve_port(host: str, port: int) -> tuple[socket.socket, int]:
    """Keep a port for workers to share, without listening; close the socket when they are gone.

    Raises:
        OSError: The port is taken, also by somebody who would share it.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        _reuse(alone, "SO_REUSEADDR")
        alone.bind(address)
        bound: int = alone.getsockname()[1]
        if not port:
            address = (address[0], bound, *address[2:])
    shared = socket.socket(family, socket.SOCK_STREAM)
    _reuse(shared, "SO_REUSEADDR")
    _reuse(shared, "SO_REUSEPORT")
    shared.bind(address)
    return shared, bound


def _reuse(sock: socket.socket, option: str) -> None:
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
