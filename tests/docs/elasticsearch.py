"""Stands in for Elasticsearch where there is none: composable index templates, ``_bulk``, ``_count`` and ``_search``.

``python -m tests.docs.elasticsearch PORT``. Documents must have the types of the template to the letter (the real one
would make a number of ``"12"``), and searches are terms ``field:value``, ``field:>=value`` and the like, joined by
``AND`` and ``NOT``. That both agree is seen by following the page with the real one: see `tests.docs.transcript`.
"""

from __future__ import annotations

import json
import operator
import re
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from aiohttp import web

_TERM = re.compile(r"([\w@.]+):(>=|<=|>|<)?(\S+)")
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_LIMITS = {"short": 1 << 15, "integer": 1 << 31, "long": 1 << 63}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")

_dumps = partial(json.dumps, separators=(",", ":"))

Mappings = Mapping[str, Mapping[str, Any]]


def misfits(source: Mapping[str, Any], properties: Mappings) -> list[str]:
    """The fields of a document that have no type in the template, or whose value has another."""
    return [name for name, value in source.items() if not _fits(value, properties.get(name, {}).get("type", ""))]


def _fits(value: object, kind: str) -> bool:
    if kind in _LIMITS:
        return type(value) is int and -_LIMITS[kind] <= value < _LIMITS[kind]
    if kind == "date_nanos":
        return isinstance(value, str) and _TIME.fullmatch(value) is not None
    return kind == "keyword" and isinstance(value, str)


def found(query: str, source: Mapping[str, Any]) -> bool:
    """Whether a document is one that a query looks for.

    Raises:
        ValueError: The query is of no known form.
    """
    for part in query.split(" AND "):
        wanted = not part.startswith("NOT ")
        term = _TERM.fullmatch(part.removeprefix("NOT "))
        if term is None:
            raise ValueError(f"{part!r} is no term")
        if _term(source.get(term[1]), term[2], term[3].strip('"')) is not wanted:
            return False
    return True


def _term(value: object, comparison: str | None, text: str) -> bool:
    if value is None:
        return False
    if comparison is not None:
        assert isinstance(value, int)
        return bool(_COMPARE[comparison](value, int(text)))
    return fnmatchcase(str(value), text)


class Elasticsearch:
    """Keeps documents by index and id."""

    def __init__(self) -> None:
        self._templates: dict[str, Any] = {}
        self._documents: dict[tuple[str, str], dict[str, Any]] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_put("/_index_template/{name}", self.template)
        app.router.add_post("/_bulk", self.bulk)
        app.router.add_get("/{index}/_count", self.count)
        app.router.add_get("/{index}/_search", self.search)
        return app

    async def template(self, request: web.Request) -> web.Response:
        self._templates[request.match_info["name"]] = await request.json()
        return web.json_response({"acknowledged": True})

    async def bulk(self, request: web.Request) -> web.Response:
        lines = [json.loads(line) for line in (await request.text()).splitlines()]
        wrong = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            where = action["index"]
            wrong += misfits(source, self._properties(where["_index"]))
            self._documents[where["_index"], where["_id"]] = source
        return web.json_response({"errors": bool(wrong), "items": wrong})

    def _properties(self, index: str) -> Mappings:
        for template in self._templates.values():
            if any(fnmatchcase(index, pattern) for pattern in template["index_patterns"]):
                return template["template"]["mappings"]["properties"]  # type: ignore[no-any-return]
        return {}

    def _hits(self, request: web.Request) -> list[dict[str, Any]]:
        pattern, query = request.match_info["index"], request.query["q"]
        return [s for (index, _), s in self._documents.items() if fnmatchcase(index, pattern) and found(query, s)]

    async def count(self, request: web.Request) -> web.Response:
        assert request.query["filter_path"] == "count"
        return web.json_response({"count": len(self._hits(request))}, dumps=_dumps)

    async def search(self, request: web.Request) -> web.Response:
        what, _, only = request.query["filter_path"].partition("._source")
        assert what == "hits.hits"
        sources = [
            {name: value for name, value in source.items() if only in ("", f".{name}")}
            for source in self._hits(request)
        ]
        return web.json_response({"hits": {"hits": [{"_source": source} for source in sources]}}, dumps=_dumps)


if __name__ == "__main__":
    web.run_app(Elasticsearch().app(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
