"""Processes that are killed, stopped, frozen and filled, and what stands for them towards Mixer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import redis

from loadtest.leash import on_leash
from mixer.cli.ports import read_ready_line
from tests.e2e.backends.configuration import ROOT
from tests.e2e.backends.relay import Relay
from tests.redis_server import RedisServer, free_port


class Program:
    """A process that prints a line when it is ready; none outlives the process that started it."""

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        self._command, self._log = on_leash([sys.executable, *command]), log
        self._environment = {**os.environ, **environment}
        self._popen: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Run it; its first line."""
        with self._log.open("ab") as errors:
            self._popen = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=self._environment
            )
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        assert line, self._log.read_text()[-4000:]
        return line

    def send(self, number: int) -> None:
        assert self._popen is not None
        self._popen.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20.0) -> int:
        """End it by a signal; its code. Safe twice."""
        if self._popen is None:
            return 0
        popen, self._popen = self._popen, None
        if popen.poll() is None:
            popen.send_signal(number)
        try:
            popen.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.communicate()
        return popen.returncode


class Mixs(Program):
    """``mixs server`` on free ports."""

    def __init__(self, config: Path, log: Path, *flags: str) -> None:
        ports = [part for name in ("", "monitoring-", "metrics-", "console-") for part in (f"--{name}port", "0")]
        command = ["-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{config}", *ports, *flags]
        super().__init__(command, log)
        self.ports: dict[str, int] = {}

    def start(self) -> str:
        line = super().start()
        ports = read_ready_line(line)
        assert ports is not None, line
        self.ports = ports
        return line

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.ports['port']}"

    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.ports['monitoring-port']}/metrics", timeout=10) as page:
            return str(page.read().decode())


class Backend:
    """A receiver behind a relay, if connections lead to it; every fault ends, and leaves it well."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.book = name, folder / f"{name}.book"
        self._full = Path(f"{self.book}.full")
        self.relay: Relay | None = None
        if name == "unix":
            self.address = self._own_address = str(folder / "unix.sock")
        elif name == "statsd":
            self.address = self._own_address = f"127.0.0.1:{free_port()}"
        else:
            port = free_port()
            self._own_address = f"127.0.0.1:{port}"
            self.relay = Relay(port)
        self._program = self._make_program(folder)

    def _make_program(self, folder: Path) -> Program:
        log = folder / f"{self.name}.log"
        if self.name == "guests":
            command = ["-m", "tests.e2e.backends.guests", "--address", self._own_address]
            return Program(command, log, BOOK=str(self.book))
        kind = "statsd" if self.name == "unix" else self.name
        return Program(["-m", "tests.e2e.backends.receivers", kind, self._own_address, str(self.book)], log)

    @property
    def faults(self) -> tuple[str, ...]:
        """What can be done to it."""
        return ("kill", "terminate", "freeze", "full", *(("cut", "mute", "hole") if self.relay is not None else ()))

    async def start(self) -> None:
        if self.relay is not None:
            await self.relay.listen()
            self.address = f"127.0.0.1:{self.relay.port}"
        await asyncio.to_thread(self._run)

    async def stop(self) -> None:
        await asyncio.to_thread(self._end, signal.SIGTERM)
        await self.relay_stop()

    async def relay_stop(self) -> None:
        """Let nothing through any more."""
        if self.relay is not None:
            await self.relay.__aexit__()

    def _run(self) -> None:
        self._program.start()

    def _end(self, number: int) -> None:
        self._program.stop(number)

    def _signal(self, number: int) -> None:
        self._program.send(number)

    async def _restart(self, number: int, chance: random.Random) -> None:
        deaf = self.relay is not None and chance.random() < 0.5  # else connections are accepted, and closed
        if deaf:
            assert self.relay is not None
            self.relay.deafen()
        await asyncio.to_thread(self._end, number)
        await asyncio.sleep(chance.uniform(0.0, 0.8))
        await asyncio.to_thread(self._run)
        if deaf:
            assert self.relay is not None
            await self.relay.listen()

    async def _fill(self, for_s: float) -> None:
        self._full.touch()
        await asyncio.sleep(for_s)
        self._full.unlink()

    async def suffer(self, fault: str, chance: random.Random) -> None:
        """One fault, from its beginning to its end."""
        relay = self.relay
        match fault:
            case "kill":
                await self._restart(signal.SIGKILL, chance)
            case "terminate":
                await self._restart(signal.SIGTERM, chance)
            case "freeze":
                self._signal(signal.SIGSTOP)
                await asyncio.sleep(chance.uniform(0.5, 2.0))
                self._signal(signal.SIGCONT)
            case "full":
                await self._fill(chance.uniform(0.5, 2.0))
            case "cut":
                assert relay is not None
                for _ in range(chance.randint(1, 5)):
                    relay.cut()
                    await asyncio.sleep(chance.uniform(0.02, 0.3))
            case "mute":
                assert relay is not None
                relay.mute()
                await asyncio.sleep(chance.uniform(0.2, 0.6))
                relay.cut()
            case "hole":
                assert relay is not None
                relay.bore()
                await asyncio.sleep(1.0)
            case _:
                raise ValueError(fault)

    def hit(self, number: int) -> None:
        """A signal to its process, which may be gone; one that is killed is gone afterwards."""
        if number == signal.SIGKILL:
            self._end(number)
            return
        with contextlib.suppress(ProcessLookupError):
            self._signal(number)

    def arrived(self) -> set[str]:
        """The distinct ids that it took."""
        return {i.partition("/")[0] for what, _, ids in self.entries() if what == "taken" for i in ids}

    def entries(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """The book: taken or refused, the delivery's id, the ids in it."""
        found = []
        for line in self.book.read_text().splitlines():
            with contextlib.suppress(ValueError):  # half a line was never acknowledged
                what, delivery, ids = json.loads(line)
                found.append((what, delivery, tuple(ids)))
        return found


class RedisBackend(Backend):
    """A real Redis; a full one has no memory left. ``generation`` counts how often it came back empty."""

    def __init__(self, folder: Path) -> None:
        super().__init__("redis", folder)
        self.generation = 0
        self.server: RedisServer | None = None

    def _make_program(self, folder: Path) -> Any:
        return None

    def _run(self) -> None:
        if self.server is None:
            self.server = RedisServer.start(port=int(self._own_address.rpartition(":")[2]))
        else:
            self.server.restart()
            self.generation += 1

    async def stop(self) -> None:
        await self.relay_stop()
        if self.server is not None:
            await asyncio.to_thread(self.server.__exit__)

    def _end(self, number: int) -> None:
        assert self.server is not None
        if number == signal.SIGTERM:
            with contextlib.suppress(redis.ConnectionError):
                self.server.command("SHUTDOWN", "NOSAVE")
        self.server.stop()

    def _signal(self, number: int) -> None:
        assert self.server is not None
        self.server.freeze() if number == signal.SIGSTOP else self.server.thaw()

    async def _fill(self, for_s: float) -> None:
        assert self.server is not None
        await asyncio.to_thread(self.server.command, "CONFIG", "SET", "maxmemory", 1)
        await asyncio.sleep(for_s)
        await asyncio.to_thread(self.server.command, "CONFIG", "SET", "maxmemory", 0)


def make_backend(name: str, folder: Path) -> Backend:
    return RedisBackend(folder) if name == "redis" else Backend(name, folder)
