"""From a metric's params to its definition: the exposed name, the labels, the bounds; and what can be wrong.

Source: spec adapters 4.1, "Names" and "Buckets".
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mixer.adapters.prometheus.params import Buckets, MetricInfo, MetricKind
from mixer.store.problem import FieldError

DEFAULT_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MAX_BOUNDS: Final = 10_000
"""More bounds than this are a slip of the pen that would cost the process its memory."""

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_SANITISE: Final = str.maketrans({"/": "_", ".": "_", " ": "_", "-": None})


def sanitise(name: str) -> str:
    """A name with the characters replaced that Kubernetes loves and Prometheus forbids; others are kept."""
    return name.removeprefix("/").translate(_SANITISE)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a metric is, apart from its values.

    Attributes:
        name: The exposed name.
        labels: Label names in the order of the configuration, which is also that of label values in keys.
        bounds: Rising finite upper bounds of a distribution; the bucket up to infinity is implied.
    """

    name: str
    help: str
    kind: MetricKind
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    def agrees_with(self, other: Definition) -> bool:
        """Whether both can share series; the order of labels does not matter."""
        return not self.differences(other)

    def differences(self, other: Definition) -> list[str]:
        """In what two definitions of a name disagree, in words."""
        return [
            word
            for word, mine, theirs in (
                ("kind", self.kind, other.kind),
                ("labels", sorted(self.labels), sorted(other.labels)),
                ("description", self.help, other.help),
                ("buckets", self.bounds, other.bounds),
            )
            if mine != theirs
        ]

    @property
    def sample_names(self) -> frozenset[str]:
        """The names under which samples appear."""
        suffixes = ("", "_bucket", "_sum", "_count") if self.kind is MetricKind.DISTRIBUTION else ("",)
        return frozenset(self.name + suffix for suffix in suffixes)


def define(info: MetricInfo) -> Definition:
    """The definition that params describe; of use only if `definition_faults` finds nothing."""
    return Definition(
        name=_exposed_name(info),
        help=info.description or info.name or info.instance_name,
        kind=info.kind,
        labels=tuple(map(sanitise, info.label_names)),
        bounds=_bounds(info.buckets) if info.kind is MetricKind.DISTRIBUTION else (),
    )


def with_labels(info: MetricInfo, dimensions: Collection[str]) -> MetricInfo:
    """The metric with labels: those of its own, or else the dimensions of the instance that feeds it, sorted."""
    return info if info.label_names or not dimensions else info.model_copy(update={"label_names": sorted(dimensions)})


def definition_faults(info: MetricInfo) -> Iterator[FieldError]:
    """Everything that is wrong with one metric by itself; paths start at the metric."""
    yield from _name_faults(info)
    if info.kind is MetricKind.UNSPECIFIED:
        yield FieldError(("kind",), "a metric needs a kind", "GAUGE, COUNTER or DISTRIBUTION")
    yield from _label_faults(info)
    if info.kind is MetricKind.DISTRIBUTION and info.buckets is not None:
        for fault in _bucket_faults(info.buckets):
            yield fault.below("buckets")


def _exposed_name(info: MetricInfo) -> str:
    return "_".join(filter(None, (sanitise(info.namespace or "istio"), sanitise(info.name or info.instance_name))))


def _name_faults(info: MetricInfo) -> Iterator[FieldError]:
    namespace, name = sanitise(info.namespace or "istio"), sanitise(info.name or info.instance_name)
    legal = "letters, digits, _ and :"
    if not info.name and not info.instance_name:
        yield FieldError(("name",), "a metric needs a name or an instanceName")
    elif namespace and not _METRIC_NAME.fullmatch(namespace):
        yield FieldError(("namespace",), f'"{namespace}" cannot begin a metric name', legal)
    elif not name or not _METRIC_NAME.fullmatch(_exposed_name(info)):
        field = "name" if info.name else "instanceName"
        yield FieldError((field,), f'"{_exposed_name(info)}" is not a legal metric name', legal)


def _label_faults(info: MetricInfo) -> Iterator[FieldError]:
    seen: dict[str, str] = {}
    for index, given in enumerate(info.label_names):
        path = ("labelNames", index)
        label = sanitise(given)
        if not _LABEL_NAME.fullmatch(label):
            yield FieldError(path, f'"{label}" is not a legal label name', "letters, digits and _, no leading __")
        elif label == "le" and info.kind is MetricKind.DISTRIBUTION:
            yield FieldError(path, 'a distribution has a label "le" of its own', "another name")
        elif label in seen:
            yield FieldError(path, f'"{given}" and "{seen[label]}" both become the label "{label}"')
        seen.setdefault(label, given)


def _bounds(buckets: Buckets | None) -> tuple[float, ...]:
    """The bounds, accumulated as the original accumulates them, so that the last bit is its last bit."""
    if buckets is None:
        return DEFAULT_BOUNDS
    if (linear := buckets.linear_buckets) is not None:
        return tuple(_accumulate(linear.offset, linear.num_finite_buckets, lambda bound: bound + linear.width))
    if (growing := buckets.exponential_buckets) is not None:
        steps, factor = growing.num_finite_buckets, growing.growth_factor
        return tuple(_accumulate(growing.scale, steps, lambda bound: bound * factor))
    if (explicit := buckets.explicit_buckets) is None or not explicit.bounds:
        return DEFAULT_BOUNDS
    return tuple(explicit.bounds[:-1] if explicit.bounds[-1] == math.inf else explicit.bounds)


def _accumulate(first: float, steps: int, following: Callable[[float], float]) -> Iterator[float]:
    return itertools.accumulate(range(min(steps, MAX_BOUNDS)), lambda bound, _: following(bound), initial=first)


def _bucket_faults(buckets: Buckets) -> Iterator[FieldError]:
    given = [
        name
        for name, value in (
            ("linearBuckets", buckets.linear_buckets),
            ("exponentialBuckets", buckets.exponential_buckets),
            ("explicitBuckets", buckets.explicit_buckets),
        )
        if value is not None
    ]
    if len(given) > 1:
        yield FieldError((), f"{', '.join(given)} exclude each other", "one of them")
        return
    faults: list[FieldError] = []
    if (linear := buckets.linear_buckets) is not None:
        faults += _count_faults(linear.num_finite_buckets)
        if not 0 < linear.width < math.inf:
            faults.append(FieldError(("width",), f"{linear.width} is not a distance", "a number above 0"))
    elif (growing := buckets.exponential_buckets) is not None:
        faults += _count_faults(growing.num_finite_buckets)
        if not 0 < growing.scale < math.inf:
            faults.append(FieldError(("scale",), f"{growing.scale} cannot grow", "a number above 0"))
        if not 1 < growing.growth_factor < math.inf:
            faults.append(FieldError(("growthFactor",), f"{growing.growth_factor} is no growth", "a number above 1"))
    elif (explicit := buckets.explicit_buckets) is not None and len(explicit.bounds) > MAX_BOUNDS:
        faults.append(FieldError(("bounds",), f"{len(explicit.bounds)} are too many", f"at most {MAX_BOUNDS}"))
    if not faults and (message := _order_fault(_bounds(buckets))):
        faults.append(FieldError(("bounds",) if given == ["explicitBuckets"] else (), message, "rising finite bounds"))
    for fault in faults:
        yield fault.below(*given)


def _count_faults(count: int) -> list[FieldError]:
    if 1 <= count < MAX_BOUNDS:
        return []
    return [FieldError(("numFiniteBuckets",), f"{count} is out of range", f"1 to {MAX_BOUNDS - 1}")]


def _order_fault(bounds: Sequence[float]) -> str:
    for bound in bounds:
        if not math.isfinite(bound):
            return f"the bound {bound} is not finite"
    for low, high in itertools.pairwise(bounds):
        if low >= high:
            return f"the bound {high} does not exceed {low} before it"
    return ""
