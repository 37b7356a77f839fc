"""The port with the pages: one for each address, shared by the handlers that name it, kept over a reload.

A handler is built before its predecessor is closed, so a port belongs to neither. Source: spec adapters 4.13.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any, Final, cast

from aiohttp import web

from mixer.adapters.base import Clock
from mixer.adapters.servicegraph.formats import as_d3, as_dot, as_graph
from mixer.adapters.servicegraph.graph import LONGEST_NAME, Graph, Limits, Rate
from mixer.adapters.servicegraph.page import FORCE, INDEX, dot_page
from mixer.adapters.servicegraph.query import GraphQuery
from mixer.errors import AdapterError

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_CLOSE_S: Final = 0.5


class Site:
    """A graph and the server that shows it."""

    def __init__(self, graph: Graph, clock: Clock) -> None:
        self.graph: Final = graph
        self.port = 0
        self._clock = clock
        self._users = 0
        self._opening = asyncio.Lock()
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_CLOSE_S)

    @classmethod
    async def join(
        cls, shared: MutableMapping[str, Any], key: tuple[str, int, str], limits: Limits, clock: Clock
    ) -> Site:
        """The site of host, port and, when that is 0, handler; it is opened for the first who asks.

        Raises:
            AdapterError: The port cannot be opened.
        """
        sites = _sites(shared)
        site = sites.get(key)
        if site is None:
            site = sites[key] = cls(Graph(limits), clock)
        site._users += 1
        try:
            await site._open(*key[:2])
        except BaseException:
            await site.leave(shared, key)
            raise
        site.graph.configure(limits)
        return site

    async def leave(self, shared: MutableMapping[str, Any], key: tuple[str, int, str]) -> bool:
        """A handler needs it no more; whether it was the last one, which closes it."""
        self._users -= 1
        if self._users:
            return False
        del _sites(shared)[key]
        await self._runner.cleanup()
        return True

    async def _open(self, host: str, port: int) -> None:
        async with self._opening:
            if self.port:
                return
            if self._runner.server is None:
                await self._runner.setup()
            try:
                await web.TCPSite(self._runner, host, port).start()
            except OSError as exc:
                raise AdapterError(f"cannot serve the graph on {host}:{port}: {exc.strerror or exc}") from exc
            self.port = self._runner.addresses[0][1]

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/graph", self._graph_page(lambda r, s: web.json_response(as_graph(r, s), headers=_HEADERS)))
        app.router.add_get("/d3graph", self._graph_page(lambda r, s: web.json_response(as_d3(r, s), headers=_HEADERS)))
        app.router.add_get(
            "/dotgraph", self._graph_page(lambda r, s: web.Response(text=as_dot(r, s), headers=_HEADERS))
        )
        app.router.add_get("/dotviz", self._graph_page(lambda r, s: _html(dot_page(as_dot(r, s)))))
        app.router.add_route("*", "/node", self._add_node)
        for path, text in (("/", INDEX), ("/force/forcegraph.html", FORCE)):
            app.router.add_get(path, _fixed(text))
        return app

    def _graph_page(self, render: Callable[[list[Rate], list[str]], web.Response]) -> Callable[..., Any]:
        async def page(request: web.Request) -> web.Response:
            try:
                query = GraphQuery.parse(request.query, retention_s=self.graph.retention_s)
            except ValueError as exc:
                return web.Response(status=500, text=f"{exc}\n", headers=_HEADERS)
            rates = await self.graph.rates(query.horizon_s, self._clock.now() / 1e9, query.wants)
            if query.filter_empty:
                rates = [rate for rate in rates if rate.per_second > 0]
            return render(rates, list(self.graph.static_nodes))

        return page

    async def _add_node(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=501, text="only POST adds a node\n", headers=_HEADERS)
        name = request.query.get("name", "")
        if not name or len(name) > LONGEST_NAME:
            return web.Response(status=400, text=f"missing name, or longer than {LONGEST_NAME}\n", headers=_HEADERS)
        if not self.graph.add_static(name):
            return web.Response(status=507, text="too many nodes\n", headers=_HEADERS)
        return web.Response(headers=_HEADERS)


def _sites(shared: MutableMapping[str, Any]) -> dict[tuple[str, int, str], Site]:
    return cast("dict[tuple[str, int, str], Site]", shared.setdefault("sites", {}))


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)


def _fixed(text: str) -> Callable[..., Any]:
    async def page(_: web.Request) -> web.Response:
        return _html(text)

    return page
