"""A real Jaeger for tests: one process on free ports of 127.0.0.1 that keeps traces in memory.

::

    server = JaegerServer.start(program)    # a built all-in-one; waits until it answers
    server.otlp_grpc                        # "127.0.0.1:41234"
    server.otlp_http                        # "http://127.0.0.1:41235"
    server.zipkin                           # "http://127.0.0.1:41236/api/v2/spans"
    server.trace(trace_id, spans=8)         # waits for that many; name -> service, kind, parent, tags
    server.stop()                           # ends it, by its process id; safe twice
    server.restart()                        # on the same ports, empty

It is a context manager that stops itself. How to build the program: ``tests/adapters/otlp/test_otlp_jaeger.py``.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

ANSWERS_WITHIN_S = 20.0
_PORTS = (
    "query.http-server",
    "query.grpc-server",
    "collector.otlp.grpc",
    "collector.otlp.http",
    "collector.zipkin",
    "collector.http-server",
    "collector.grpc-server",
    "admin.http",
)


@dataclass(frozen=True)
class JaegerSpan:
    """A span as the query API gives it; ``parent_id`` is empty for a root."""

    span_id: str
    parent_id: str
    service: str
    operation: str
    tags: dict[str, Any]
    start_us: int
    duration_us: int


class JaegerServer:
    """A running Jaeger; make one with `start`."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, program: str) -> JaegerServer:
        """Run a server.

        Raises:
            RuntimeError: It did not come up; the message ends with its log.
        """
        server = cls(program)
        server.restart()
        return server

    @property
    def otlp_grpc(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self._ports['collector.otlp.grpc']}"

    @property
    def otlp_http(self) -> str:
        """A URL without a path."""
        return f"http://127.0.0.1:{self._ports['collector.otlp.http']}"

    @property
    def zipkin(self) -> str:
        """The URL to post spans to."""
        return f"http://127.0.0.1:{self._ports['collector.zipkin']}/api/v2/spans"

    @property
    def pages(self) -> str:
        """The URL of the query API."""
        return f"http://127.0.0.1:{self._ports['query.http-server']}"

    def restart(self) -> None:
        """Stop, and run again on the same ports, empty."""
        self.stop()
        flags = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in self._ports.items()]
        self._process = subprocess.Popen([self._program, *flags], stdout=self._log, stderr=self._log)
        end = time.monotonic() + ANSWERS_WITHIN_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                self.get("/api/services")
            except (URLError, OSError):
                time.sleep(0.05)
            else:
                return
        self.stop()
        self._log.seek(0)
        raise RuntimeError(f"Jaeger did not come up: {self._log.read().decode(errors='replace')[-2000:]}")

    def get(self, path: str) -> Any:
        """The data of an answer of the query API."""
        with urlopen(f"{self.pages}{path}", timeout=5) as page:
            return json.load(page)["data"]

    def services(self) -> set[str]:
        """Every service that has reported a span."""
        return set(self.get("/api/services") or ())

    def trace(self, trace_id: str, *, spans: int) -> dict[str, JaegerSpan]:
        """A trace, by span id, as soon as it has that many spans.

        Raises:
            AssertionError: It never had.
        """
        end = time.monotonic() + ANSWERS_WITHIN_S
        found: list[Any] = []
        while time.monotonic() < end:
            try:
                found = self.get(f"/api/traces/{trace_id}")
            except HTTPError as exc:  # 404: not yet
                exc.close()
            if found and len(found[0]["spans"]) >= spans:
                return _spans(found[0])
            time.sleep(0.05)
        raise AssertionError(f"no trace {trace_id} of {spans} spans: {found}")

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> JaegerServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()


def _spans(trace: Any) -> dict[str, JaegerSpan]:
    spans = {}
    for span in trace["spans"]:
        parents = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"]
        spans[span["spanID"]] = JaegerSpan(
            span_id=span["spanID"],
            parent_id=parents[0] if parents else "",
            service=trace["processes"][span["processID"]]["serviceName"],
            operation=span["operationName"],
            tags={tag["key"]: tag["value"] for tag in span["tags"]},
            start_us=span["startTime"],
            duration_us=span["duration"],
        )
    return spans


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
