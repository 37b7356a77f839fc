"""The graph as JSON, as DOT, and as JSON in the form of D3's force layout. Source: spec adapters 4.13."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mixer.adapters.servicegraph.graph import Rate

_ID_SIGNS: Final = re.compile(r"[/. ]")
_DOT_SIGNS: Final = re.compile(r'(["\\])')


def nodes_of(rates: Iterable[Rate], static: Iterable[str]) -> list[str]:
    """All nodes, each once: those of edges as they come, then the static ones."""
    names = [str(end) for rate in rates for end in (rate.edge.source, rate.edge.destination)]
    return list(dict.fromkeys([*names, *static]))


def as_graph(rates: Sequence[Rate], static: Iterable[str]) -> dict[str, Any]:
    """``{"nodes": {name: {}}, "edges": [{"source", "target", "labels"}]}``."""
    edges = [
        {"source": str(rate.edge.source), "target": str(rate.edge.destination), "labels": _labels(rate)}
        for rate in rates
    ]
    return {"nodes": {name: {} for name in nodes_of(rates, static)}, "edges": edges}


def as_d3(rates: Sequence[Rate], static: Iterable[str]) -> dict[str, Any]:
    """``{"nodes": [{"name"}], "links": [{"source", "target", "labels"}]}``; ends are positions in the nodes."""
    nodes = nodes_of(rates, static)
    position = {name: index for index, name in enumerate(nodes)}
    links = [
        {
            "source": position[str(rate.edge.source)],
            "target": position[str(rate.edge.destination)],
            "labels": _labels(rate),
        }
        for rate in rates
    ]
    return {"nodes": [{"name": name} for name in nodes], "links": links}


def as_dot(rates: Sequence[Rate], static: Iterable[str]) -> str:
    """A digraph for Graphviz."""
    lines = ["digraph istio_servicegraph {"]
    lines += [f"{_id(name)} [label={_quoted(name)}];" for name in nodes_of(rates, static)]
    for rate in rates:
        label = ", ".join(f"{name}: {value}" for name, value in _labels(rate).items())
        lines.append(f"{_id(str(rate.edge.source))} -> {_id(str(rate.edge.destination))} [label={_quoted(label)}];")
    return "\n".join([*lines, "}", ""])


def _labels(rate: Rate) -> dict[str, str]:
    return {rate.edge.unit: f"{rate.per_second:.6f}"}


def _id(name: str) -> str:
    return _quoted(_ID_SIGNS.sub("_", name))


def _quoted(text: str) -> str:
    escaped = _DOT_SIGNS.sub(r"\\\1", text).replace("\r", " ").replace("\n", " ")
    return f'"{escaped}"'
