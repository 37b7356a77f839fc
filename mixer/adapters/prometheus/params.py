"""What an operator writes to configure the prometheus adapter. Source: spec adapters 4.1."""

from __future__ import annotations

from pydantic import Field

from mixer.adapters.base import Params
from mixer.attributes import Duration
from mixer.store.protojson import Double, DurationField, Int32, ProtoEnum, enum_field


class MetricKind(ProtoEnum):
    """What a metric does with the values that it gets."""

    UNSPECIFIED = 0
    GAUGE = 1
    COUNTER = 2
    DISTRIBUTION = 3


class LinearBuckets(Params):
    """Upper bounds at equal distances: ``offset``, ``offset + width``, and so on."""

    num_finite_buckets: Int32 = 0
    """How many steps to take from the offset, at least 1; there is one bound more than steps."""

    width: Double = 0.0
    """The distance between two bounds, above 0, in the unit of the values (seconds for durations)."""

    offset: Double = 0.0
    """The first bound; default 0."""


class ExponentialBuckets(Params):
    """Upper bounds in equal proportions: ``scale``, ``scale * growthFactor``, and so on."""

    num_finite_buckets: Int32 = 0
    """How often to multiply, at least 1; there is one bound more than multiplications."""

    growth_factor: Double = 0.0
    """The proportion of a bound to the one before, above 1."""

    scale: Double = 0.0
    """The first bound, above 0, in the unit of the values (seconds for durations)."""


class ExplicitBuckets(Params):
    """Upper bounds, one by one."""

    bounds: list[Double] = Field(default_factory=list)
    """Rising upper bounds, in the unit of the values; a last ``Infinity`` may be left out. Empty: the default ones."""


class Buckets(Params):
    """The upper bounds of a distribution, given in one of three ways; each bound belongs to its bucket."""

    linear_buckets: LinearBuckets | None = None
    """Bounds at equal distances."""

    exponential_buckets: ExponentialBuckets | None = None
    """Bounds in equal proportions."""

    explicit_buckets: ExplicitBuckets | None = None
    """Bounds as listed."""


class MetricInfo(Params):
    """One metric, and the instance that feeds it."""

    namespace: str = ""
    """First part of the exposed name; default "istio"."""

    name: str = ""
    """Second part of the exposed name, joined by "_"; default: ``instanceName``.

    In both parts "/", "." and " " become "_", a leading "/" and every "-" are dropped.
    """

    instance_name: str = ""
    """Full name of the metric instance to record, such as ``requestcount.instance.istio-system``."""

    description: str = ""
    """The help text; default: the name as it is configured."""

    kind: enum_field(MetricKind) = MetricKind.UNSPECIFIED  # type: ignore[valid-type]
    """COUNTER adds values up, GAUGE keeps the last one, DISTRIBUTION counts them by size. Required."""

    buckets: Buckets | None = None
    """Upper bounds of a DISTRIBUTION, other kinds ignore them; default .005 to 10, fit for seconds."""

    label_names: list[str] = Field(default_factory=list)
    """The labels: the dimensions of the instance, no more and no less, spelled alike once both are cleaned as names are.

    None given means just that: the dimensions of the instance, sorted.

    Changing the set of labels, the kind, the help text or the bounds of a metric starts it anew, alone; their order
    means nothing.
    """


class MetricsExpirationPolicy(Params):
    """When series that nothing updates any more are dropped."""

    metrics_expiry_duration: DurationField = Duration(0)
    """How long a series stays after its last update; above 0, required.

    Of handlers that share a metric the one that is most patient decides. A metric that left the configuration
    keeps the expiry that it had, as long as any handler with a policy runs.
    """

    expiry_check_interval_duration: DurationField = Duration(0)
    """How often to look for such series, so how late they may go; default (0) half of the expiry."""


class PrometheusParams(Params):
    """Params of the prometheus adapter."""

    metrics: list[MetricInfo] = Field(default_factory=list)
    """The metrics; may be empty.

    Handlers may define the same metric if they agree in all of it, and then share its series. A metric that is
    removed stays exposed until its series expire, it is defined anew, or the process ends.
    """

    metrics_expiration_policy: MetricsExpirationPolicy | None = None
    """When to drop series that nothing updates; default: never."""

    max_series_per_metric: Int32 = 50_000
    """How many sets of label values one metric keeps apart; default 50000, 0 for no limit.

    New sets beyond it are recorded in one series whose labels all say "overflow", and counted in
    ``mixer_prometheus_series_overflow_total``. Series that expire make room. Not in the original.
    """
