"""prometheus: keeps metrics in this process for a Prometheus server to fetch. Source: spec adapters 4.1.

The server owns the page; this adapter registers one collector in ``Env.scrape``. Read in this order:

* `params`: what an operator writes;
* `definitions`: the names, labels and bounds that follow from it, and `validation`: what can be wrong;
* `series`: the numbers of one metric, and `store`: all metrics of the process, which outlive handlers;
* `recording`: from an instance to its series, and `handler`: batches, errors, expiry;
* `exposition`: what a scrape sees, and `rendering`: the text of large pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixer.adapters.base import AdapterInfo, Env, InstanceInfo
from mixer.adapters.prometheus.handler import PrometheusHandler
from mixer.adapters.prometheus.params import PrometheusParams
from mixer.adapters.prometheus.validation import validate
from mixer.templates import METRIC


async def build(params: PrometheusParams, instances: Sequence[InstanceInfo], env: Env) -> PrometheusHandler:
    """A handler that goes on with what the process has counted so far."""
    return PrometheusHandler(params, instances, env)


INFO: Final = AdapterInfo(
    name="prometheus",
    templates=(METRIC,),
    params=PrometheusParams,
    build=build,
    validate=validate,
    description="Keeps counters, gauges and histograms for a Prometheus server to fetch.",
)

__all__ = ["INFO", "PrometheusHandler", "PrometheusParams", "build"]
