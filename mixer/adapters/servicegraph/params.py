"""What an operator writes to configure servicegraph, and what can be wrong with it. Source: spec adapters 4.13."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mixer.adapters.base import InstanceInfo, Params
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, Int32

_MOST_SLOTS: Final = 1000
_SECOND: Final = Duration.parse("1s")


class ServiceGraphParams(Params):
    """Params of the servicegraph adapter. Handlers with the same host and port share one graph, with the newest's params."""

    host: str = "127.0.0.1"
    """The interface that the pages are served on; default ``127.0.0.1``, ``0.0.0.0`` for all."""

    port: Int32 = 8088
    """The port that the pages are served on; default 8088, as the original's. 0 picks a free one, which the log tells."""

    retention: DurationField = Duration.parse("1h")
    """How far back a page can look, and how long an edge is remembered after its last call; default 1h."""

    resolution: DurationField = Duration.parse("15s")
    """Calls are counted in slots of this length; at least 1s, default 15s. The ends of a page's window are that blurred."""

    max_edges: Int32 = 2000
    """How many edges are kept at most; default 2000. Calls along others are dropped and counted until some are forgotten."""


def validate(params: ServiceGraphParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    if not params.host:
        yield FieldError(("host",), "must not be empty", "0.0.0.0 for all interfaces")
    if not 0 <= params.port <= 65_535:
        yield FieldError(("port",), f"{params.port} is out of range", "0 to 65535")
    if params.resolution < _SECOND:
        yield FieldError(("resolution",), f"{params.resolution} is too short", "at least 1s")
    elif params.retention < params.resolution:
        yield FieldError(("retention",), f"{params.retention} is shorter than resolution, {params.resolution}")
    elif params.retention > params.resolution * _MOST_SLOTS:
        yield FieldError(("retention",), f"more than {_MOST_SLOTS} slots of {params.resolution}", "a longer resolution")
    if params.max_edges <= 0:
        yield FieldError(("maxEdges",), "must be positive")
