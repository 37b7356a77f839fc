"""servicegraph: who calls whom, and how often, as JSON, DOT and a page to look at. Source: spec adapters 4.13.

The original is a program of its own that asks Prometheus; this adapter takes instances of `edge` and answers the same
queries from what it has seen. Read in this order: `params` (what an operator writes), `graph` (edges and their windows),
`query` (what a page is asked for), `formats` and `page` (how it answers), `site` (the port), `handler` (puts them
together).

It listens on a port of its own, as the original does, so links and dashboards made for that one go on working. With
several workers it runs in their owner: there is one graph and one port.
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.servicegraph.handler import ServiceGraphHandler, build
from mixer.adapters.servicegraph.params import ServiceGraphParams, validate
from mixer.templates import EDGE

INFO: Final = AdapterInfo(
    name="servicegraph",
    templates=(EDGE,),
    params=ServiceGraphParams,
    build=build,
    validate=validate,
    description="Shows which workloads call each other, and how often, as a graph.",
    shared=lambda params: True,
)

__all__ = ["INFO", "ServiceGraphHandler", "ServiceGraphParams", "build"]
