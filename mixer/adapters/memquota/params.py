"""The params of memquota, their faults, and which limit a set of dimensions gets. Source: spec adapters 4.6."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from pydantic import Field

from mixer.adapters.base import InstanceInfo, Params
from mixer.attributes import AttributeValue, Duration
from mixer.attributes.values import string_equals
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, Int64
from mixer.templates import Variety


class Override(Params):
    """Another limit, for some values of the dimensions."""

    dimensions: dict[str, str] = Field(default_factory=dict)
    """Dimension -> the value it must have, as text; all must fit, none at all fits everything.

    A dimension that the instance lacks has the value "".
    """

    max_amount: Int64 = 0
    """Units that may be out at a time; 0 (the default) or less grants nothing."""

    valid_duration: DurationField = Duration(0)
    """How long a granted unit is out; 0 (the default, not the quota's) means until it is given back."""

    def fits(self, dimensions: Mapping[str, AttributeValue]) -> bool:
        """Whether this limit is the one for an instance with these dimensions."""
        return all(string_equals(dimensions.get(name), value) for name, value in self.dimensions.items())


class Quota(Params):
    """The limit of one quota instance."""

    name: str = ""
    """Full name of the instance, such as ``requestcount.instance.istio-system``; the last of a name wins."""

    max_amount: Int64 = 0
    """Units that may be out at a time for each set of dimensions; 0 (the default) or less grants nothing."""

    valid_duration: DurationField = Duration(0)
    """How long a granted unit is out (a rate limit); 0, the default, means until it is given back (an allocation).

    Units come back with a resolution of 100 ms, and after whole seconds: 500ms counts like 1s.
    """

    overrides: list[Override] = Field(default_factory=list)
    """Other limits for some values of the dimensions, in order: the first that fits replaces both fields above."""

    @property
    def limits(self) -> list[Limit]:
        """This one, then the overrides."""
        return [self, *self.overrides]

    def limit_for(self, dimensions: Mapping[str, AttributeValue]) -> Limit:
        """The limit for an instance with these dimensions."""
        for override in self.overrides:
            if override.fits(dimensions):
                return override
        return self


Limit: TypeAlias = Quota | Override
"""Both say ``max_amount`` and ``valid_duration``."""


class MemQuotaParams(Params):
    """Params of the memquota adapter."""

    quotas: list[Quota] = Field(default_factory=list)
    """One entry for each quota instance that rules send to the handler."""

    min_deduplication_duration: DurationField = Duration.parse("1s")
    """How long an answer is remembered for retries with the same deduplication id: this long at least, twice at most.

    Positive; default 1s.
    """


def validate(params: MemQuotaParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well, among them quota instances that have no limit."""
    if params.min_deduplication_duration <= 0:
        yield FieldError(("minDeduplicationDuration",), "must be positive", 'a duration such as "1s"')
    for index, quota in enumerate(params.quotas):
        limits: list[tuple[Limit, tuple[str | int, ...]]] = [(quota, ("quotas", index))]
        limits += [(o, ("quotas", index, "overrides", place)) for place, o in enumerate(quota.overrides)]
        for limit, path in limits:
            if limit.valid_duration < 0:
                yield FieldError((*path, "validDuration"), "must not be negative", "0 for a limit without expiry")
    known = {quota.name for quota in params.quotas}
    for instance in instances:
        if instance.template.variety is Variety.QUOTA and instance.name not in known:
            yield FieldError(("quotas",), f"did not find limit defined for quota {instance.name}")
