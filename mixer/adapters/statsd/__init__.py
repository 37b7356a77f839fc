"""statsd and dogstatsd: metrics as StatsD lines, over UDP or a Unix datagram socket. Source: spec adapters 4.12 and 5.

Read in this order: `params` (what an operator writes, and its faults), `nametemplate` (names made of dimensions), `lines`
(an instance as a line), `packets` (lines as datagrams), `socket` (the datagrams leave), `ledger` (what became of every
instance), `handler` (puts them together).

The encoding and the socket are ours: ``statsd`` and ``datadog`` look names up and send with blocking calls, and
``aiodogstatsd`` is no longer kept; none of them batches within a datagram's size *and* tells what it had to drop.
What is left of a client without those is a line of text and ``send`` on a socket that does not block.
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.statsd.handler import StatsdHandler, build_dogstatsd, build_statsd
from mixer.adapters.statsd.params import DogstatsdParams, StatsdParams, validate_dogstatsd, validate_statsd
from mixer.templates import METRIC

INFO: Final = AdapterInfo(
    name="statsd",
    templates=(METRIC,),
    params=StatsdParams,
    build=build_statsd,
    validate=validate_statsd,
    description="Sends counters, gauges and timers to a StatsD server, many to a datagram.",
)

DOGSTATSD: Final = AdapterInfo(
    name="dogstatsd",
    templates=(METRIC,),
    params=DogstatsdParams,
    build=build_dogstatsd,
    validate=validate_dogstatsd,
    description="Sends metrics with tags to a Datadog agent, many to a datagram.",
)

__all__ = ["DOGSTATSD", "INFO", "DogstatsdParams", "StatsdHandler", "StatsdParams"]
