"""The pages for people: the DOT text to copy, and a drawing that needs nothing but this page."""

from __future__ import annotations

import html
from typing import Final

_STYLE: Final = (
    "body{font-family:sans-serif;margin:1.5em}svg{width:100%;height:80vh;border:1px solid #ccc}text{font-size:11px}"
)

INDEX: Final = f"""<!doctype html><meta charset=utf-8><title>Service graph</title><style>{_STYLE}</style>
<h1>Service graph</h1><ul>
<li><a href=force/forcegraph.html>drawing</a>
<li><a href=graph>JSON</a>
<li><a href=d3graph>JSON for D3</a>
<li><a href=dotgraph>DOT</a>, <a href=dotviz>the same on a page</a>
</ul><p>Parameters: time_horizon=5m, filter_empty=true, source_namespace, source_workload, destination_namespace,
destination_workload.</p>
"""


def dot_page(dot: str) -> str:
    """A page that shows DOT text."""
    return (
        f"<!doctype html><meta charset=utf-8><title>Service graph</title><style>{_STYLE}</style>"
        f"<p>For Graphviz: <code>dot -Tsvg</code>. <a href=force/forcegraph.html>Drawing</a></p>"
        f"<pre id=dot>{html.escape(dot)}</pre>\n"
    )


FORCE: Final = (
    f"<!doctype html><meta charset=utf-8><title>Service graph</title><style>{_STYLE}</style>"
    + """<p id=note>Loading</p>
<svg id=drawing viewBox="0 0 1000 600"><defs><marker id=tip viewBox="0 0 8 8" refX=16 refY=4 markerWidth=7 markerHeight=7
 orient=auto><path d="M0,0L8,4L0,8z" fill="#888"/></marker></defs></svg>
<script>
"use strict";
const svg = document.getElementById("drawing"), note = document.getElementById("note");
function shape(kind, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const name in attributes) made.setAttribute(name, attributes[name]);
  return (parent || svg).appendChild(made);
}
function settle(nodes, links) {
  nodes.forEach((node, i) => {
    const turn = i * 2.39996;  // the golden angle spreads them evenly
    node.x = 500 + 30 * Math.sqrt(i + 1) * Math.cos(turn);
    node.y = 300 + 30 * Math.sqrt(i + 1) * Math.sin(turn);
  });
  const rounds = nodes.length > 300 ? 60 : 300;
  for (let round = 0; round < rounds; round++) {
    const heat = 1 - round / rounds;
    for (const node of nodes) { node.fx = (500 - node.x) * 0.01; node.fy = (300 - node.y) * 0.015; }
    for (let i = 0; i < nodes.length; i++) for (let j = 0; j < i; j++) {
      const a = nodes[i], b = nodes[j], dx = a.x - b.x, dy = a.y - b.y, push = 20000 / (dx * dx + dy * dy + 50);
      const far = Math.sqrt(dx * dx + dy * dy) + 0.1;
      a.fx += dx / far * push; a.fy += dy / far * push; b.fx -= dx / far * push; b.fy -= dy / far * push;
    }
    for (const link of links) {
      const a = nodes[link.source], b = nodes[link.target], dx = b.x - a.x, dy = b.y - a.y;
      const far = Math.sqrt(dx * dx + dy * dy) + 0.1, pull = (far - 120) * 0.05;
      a.fx += dx / far * pull; a.fy += dy / far * pull; b.fx -= dx / far * pull; b.fy -= dy / far * pull;
    }
    for (const node of nodes) {
      node.x = Math.min(960, Math.max(20, node.x + Math.max(-20, Math.min(20, node.fx)) * heat));
      node.y = Math.min(580, Math.max(20, node.y + Math.max(-20, Math.min(20, node.fy)) * heat));
    }
  }
}
fetch("../d3graph" + location.search).then(async answer => {
  if (!answer.ok) throw new Error(await answer.text());
  const graph = await answer.json();
  settle(graph.nodes, graph.links);
  for (const link of graph.links) {
    const a = graph.nodes[link.source], b = graph.nodes[link.target];
    shape("line", {x1: a.x, y1: a.y, x2: b.x, y2: b.y, stroke: "#888", "marker-end": "url(#tip)"});
    const label = shape("text", {x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, fill: "#667"});
    label.textContent = Object.entries(link.labels).map(pair => pair.join(": ")).join(", ");
  }
  for (const node of graph.nodes) {
    shape("circle", {cx: node.x, cy: node.y, r: 7, fill: "#466bb0"});
    shape("text", {x: node.x + 10, y: node.y + 4}).textContent = node.name;
  }
  note.textContent = graph.nodes.length + " nodes, " + graph.links.length + " edges";
}).catch(error => { note.textContent = error.message; });
</script>
"""
)
"""The drawing. It takes its query parameters on to ``/d3graph``; names are set as texts, never as HTML."""
