"""Everything that can be known to be wrong before a handler is built. Source: spec adapters 4.1.

Two rules are this project's: an instance feeds one metric at most (the original lets the last one win), and
dimensions that cannot match the labels are found here and not at the first report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from mixer.adapters.base import InstanceInfo
from mixer.adapters.prometheus.definitions import Definition, define, definition_faults, sanitise, with_labels
from mixer.adapters.prometheus.exposition import OWN_METRICS
from mixer.adapters.prometheus.params import MetricInfo, PrometheusParams
from mixer.store.problem import FieldError


def validate(params: PrometheusParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of the params, with the dimensions of the instances that are routed to the handler."""
    sound: list[tuple[int, MetricInfo, Definition]] = []
    dimensions = {i.name: keys for i in instances if isinstance(keys := i.types.get("dimensions"), Mapping)}
    for index, configured in enumerate(params.metrics):
        info = with_labels(configured, dimensions.get(configured.instance_name, ()))
        faults = list(definition_faults(info))
        yield from (fault.below("metrics", index) for fault in faults)
        if not faults:
            sound.append((index, info, define(info)))
    yield from _clashes(sound)
    for index, info, definition in sound:
        if info.instance_name in dimensions:
            message = dimension_fault(definition, dimensions[info.instance_name])
            if message:
                yield FieldError(("metrics", index, "labelNames"), f"instance {info.instance_name}: {message}")
    yield from _limit_faults(params)


def _limit_faults(params: PrometheusParams) -> Iterator[FieldError]:
    policy, at = params.metrics_expiration_policy, "metricsExpirationPolicy"
    if policy is not None and policy.metrics_expiry_duration <= 0:
        yield FieldError((at, "metricsExpiryDuration"), "must be positive", 'a duration such as "10m"')
    if policy is not None and policy.expiry_check_interval_duration < 0:
        yield FieldError((at, "expiryCheckIntervalDuration"), "must not be negative", "0 for half of the expiry")
    if params.max_series_per_metric < 0:
        yield FieldError(("maxSeriesPerMetric",), "must not be negative", "0 for no limit")


def _clashes(metrics: Sequence[tuple[int, MetricInfo, Definition]]) -> Iterator[FieldError]:
    """Metrics that get in each other's way; the first of a name is right, the later ones are at fault."""
    by_name: dict[str, Definition] = {}
    sample_owner = dict.fromkeys(OWN_METRICS, "Mixer itself")
    fed_by: dict[str, str] = {}
    for index, info, definition in metrics:
        path = ("metrics", index)
        known = by_name.setdefault(definition.name, definition)
        if differing := known.differences(definition):
            message = f"{definition.name} is defined before with other {' and '.join(differing)}"
            yield FieldError(path, message)
            continue
        for sample in sorted(definition.sample_names):
            owner = sample_owner.setdefault(sample, definition.name)
            if owner != definition.name:
                yield FieldError((*path, "name"), f"{definition.name} and {owner} both expose {sample}")
                break
        feeds = fed_by.setdefault(info.instance_name, definition.name) if info.instance_name else definition.name
        if feeds != definition.name:
            yield FieldError((*path, "instanceName"), f"{info.instance_name} feeds {feeds} already", "one metric each")


def dimension_fault(definition: Definition, dimensions: Collection[str]) -> str:
    """Why dimensions of these names cannot be the labels of a metric; empty if they can."""
    have = [sanitise(name) for name in dimensions]
    parts = [
        f"{words} {', '.join(names)}"
        for words, names in (
            ("no dimension for the labels", sorted(set(definition.labels) - set(have))),
            ("no label for the dimensions", sorted(set(have) - set(definition.labels))),
            ("more than one dimension for the labels", sorted({name for name in have if have.count(name) > 1})),
        )
        if names
    ]
    return f"{definition.name} has {'; '.join(parts)}" if parts else ""
