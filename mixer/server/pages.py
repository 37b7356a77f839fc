"""The HTTP pages: Mixer's own state, what the metrics handlers expose, and the console for the curious.

Source: spec runtime 7.3 and 7.6.
"""

from __future__ import annotations

import html
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from mixer import __version__
from mixer.rules.snapshot import Snapshot
from mixer.runtime.controller import Controller
from mixer.server.scrape import Refresh, Scraped, is_fresh, metrics_page
from mixer.store import Problem


@dataclass(slots=True)
class State:
    """What the pages tell.

    Attributes:
        draining: Set once the server takes leave.
        serving: Whether there is anybody who serves requests.
        workers: The processes that do, as plain data; none when it is this one.
    """

    controller: Controller
    arguments: Mapping[str, Any] = field(default_factory=dict)
    draining: bool = False
    serving: Callable[[], bool] = lambda: True
    workers: Callable[[], list[dict[str, Any]]] = list

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self.why_not_ready

    @property
    def why_not_ready(self) -> str:
        """What stands against it, empty when nothing does."""
        if self.draining:
            return "draining"
        if not self.controller.ready.is_set():
            return "no configuration has been loaded yet"
        return "" if self.serving() else "no worker serves"


class Pages:
    """HTTP servers on one interface."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._runners: list[web.AppRunner] = []

    async def serve(self, port: int, app: web.Application) -> int:
        """Serve an application; returns the port, which is the one asked for unless that was 0.

        Raises:
            OSError: The port is taken.
        """
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, self._host, port).start()
        bound: int = runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Close them all."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()


class Readiness(Protocol):
    """What ``/readyz`` asks."""

    @property
    def why_not_ready(self) -> str:
        """What stands against requests being sent here, empty when nothing does."""
        ...


def monitoring_app(state: Readiness, registry: Scraped, refresh: Refresh = is_fresh) -> web.Application:
    """``/metrics`` of Mixer itself, ``/healthz``, ``/readyz`` and ``/version``."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = state.why_not_ready
        return web.Response(status=503, text=f"{reason}\n") if reason else web.Response(text="ok\n")

    async def version(_: web.Request) -> web.Response:
        return web.Response(text=f"{__version__}\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics_page(registry, refresh))
    for path, page in (("healthz", healthz), ("readyz", readyz), ("healthz/live", healthz), ("healthz/ready", readyz)):
        app.router.add_get(f"/{path}", page)
    app.router.add_get("/version", version)
    return app


def scrape_app(registry: Scraped, refresh: Refresh = is_fresh) -> web.Application:
    """``/metrics`` of the metrics handlers."""
    app = web.Application()
    app.router.add_get("/metrics", metrics_page(registry, refresh))
    return app


def console_app(state: State) -> web.Application:
    """``/``: the configuration that serves and what is wrong with it; ``/config`` is the same as JSON."""

    async def config(_: web.Request) -> web.Response:
        return web.json_response(describe(state))

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=_render(describe(state)), content_type="text/html")

    app = web.Application()
    app.router.add_get("/config", config)
    app.router.add_get("/", index)
    return app


def describe(state: State) -> dict[str, Any]:
    """Everything that the console shows, as plain data; secrets never reach it."""
    controller = state.controller
    snapshot: Snapshot = controller.snapshot
    return {
        "version": __version__,
        "python": platform.python_version(),
        "ready": state.ready,
        "arguments": {key: str(value) for key, value in state.arguments.items()},
        "revision": snapshot.revision,
        "refused_revision": controller.latest.revision if controller.latest is not snapshot else None,
        "workers": state.workers(),
        "handlers": [
            {
                "name": live.name,
                "adapter": live.config.info.name,
                "state": "absent" if live.error else "running",
                "error": live.error,
                "instances": [info.name for info in live.config.instances],
            }
            for _, live in sorted(controller.dispatcher.binding.live.items())
        ],
        "rules": [
            {
                "name": str(rule.key),
                "match": rule.match.source if rule.match is not None else "",
                "actions": [{"handler": a.handler, "instances": [i.name for i in a.instances]} for a in rule.actions],
                "stale": rule.key in snapshot.stale,
            }
            for rule in snapshot.rules
        ],
        "problems": [problem_as_data(problem) for problem in controller.latest.problems],
    }


def problem_as_data(problem: Problem) -> dict[str, Any]:
    """A problem as plain data, for JSON."""
    return {
        "file": problem.origin.file,
        "line": problem.origin.line,
        "document": problem.origin.document,
        "object": str(problem.resource) if problem.resource else "",
        "kind": problem.resource.kind if problem.resource else "",
        "namespace": problem.resource.namespace if problem.resource else "",
        "name": problem.resource.name if problem.resource else "",
        "field": problem.field,
        "message": problem.message,
        "expected": problem.expected,
        "severity": problem.severity.value,
    }


def _table(title: str, heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{body}</table>"


def _render(data: Mapping[str, Any]) -> str:
    style = (
        "body{font-family:sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ccc}"
    )
    problems = [
        (p["severity"], f"{p['file']}:{p['line']}", p["object"], p["field"], p["message"]) for p in data["problems"]
    ]
    handlers = [(h["name"], h["adapter"], h["state"], ", ".join(h["instances"]), h["error"]) for h in data["handlers"]]
    rules = [
        (
            r["name"],
            r["match"] or "always",
            "; ".join(f"{a['handler']} <- {', '.join(a['instances'])}" for a in r["actions"]),
            "last good version" if r["stale"] else "",
        )
        for r in data["rules"]
    ]
    workers = [
        (
            w["worker"],
            w["pid"],
            w["serving"],
            w["revision"],
            "; ".join(f"{n}: {e}" for n, e in w["handler_errors"].items()),
        )
        for w in data["workers"]
    ]
    return (
        f"<!doctype html><meta charset=utf-8><title>Mixer</title><style>{style}</style>"
        f"<h1>Mixer {html.escape(data['version'])}</h1>"
        f"<p>revision {data['revision']}, {'ready' if data['ready'] else 'not ready'}; <a href=config>as JSON</a></p>"
        + _table("Problems", ("severity", "place", "object", "field", "message"), problems)
        + _table("Rules", ("rule", "match", "actions", ""), rules)
        + _table("Handlers", ("handler", "adapter", "state", "instances", "error"), handlers)
        + (_table("Workers", ("worker", "pid", "serves", "revision", "handler errors"), workers) if workers else "")
        + _table("Arguments", ("name", "value"), sorted(data["arguments"].items()))
    )
