"""Sampling: which of the requests that match a rule the rule acts upon. Source: spec runtime 4.9."""

from __future__ import annotations

import random
from collections.abc import Mapping

from mixer.adapters.base import Clock
from mixer.attributes import AttributeBag
from mixer.rules.specs import PercentDenominator, RandomSampling, RateLimitSampling, Sampling


class Sampler:
    """The sampling of one rule; counts go on as long as the object lives."""

    def __init__(self, sampling: Sampling, clock: Clock) -> None:
        self._random = sampling.random
        self._windows = _Windows(sampling.rate_limit, clock) if sampling.rate_limit is not None else None

    def selects(self, bag: AttributeBag) -> bool:
        """Whether the rule acts upon this request; chance and count must both say so."""
        if self._random is not None and not _drawn(self._random, bag):
            return False
        return self._windows is None or self._windows.take()


def _drawn(sampling: RandomSampling, bag: AttributeBag) -> bool:
    whole = 100 if sampling.percent_sampled.denominator is PercentDenominator.HUNDRED else 10_000
    threshold: float = sampling.percent_sampled.numerator
    if sampling.attribute_expression:
        value = bag.get(sampling.attribute_expression.strip())
        threshold = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    if threshold >= whole:
        return True
    draw = None if sampling.use_independent_randomness else _request_draw(bag, whole)
    return (random.randrange(whole) if draw is None else draw) < threshold


def _request_draw(bag: AttributeBag, whole: int) -> int | None:
    """The draw that every hop makes alike, from the request id; None without one."""
    headers = bag.get("request.headers")
    request_id = headers.get("x-request-id", "") if isinstance(headers, Mapping) else ""
    try:
        return int(str(request_id)[:8], 16) % whole
    except ValueError:
        return None


class _Windows:
    """So many of each period; after these, one of every ``sampling_rate``."""

    def __init__(self, sampling: RateLimitSampling, clock: Clock) -> None:
        self._sampling = sampling
        self._clock = clock
        self._period_s = sampling.sampling_duration.seconds if sampling.sampling_duration is not None else 0.0
        self._window = -1
        self._seen = 0

    def take(self) -> bool:
        window = int(self._clock.monotonic() / self._period_s) if self._period_s > 0 else 0
        if window != self._window:
            self._window, self._seen = window, 0
        self._seen += 1
        beyond = self._seen - self._sampling.max_unsampled_entries
        return beyond <= 0 or (self._sampling.sampling_rate > 0 and beyond % self._sampling.sampling_rate == 0)
