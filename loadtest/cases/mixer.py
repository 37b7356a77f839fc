"""The API of Mixer itself: Report, Check and quota."""

from __future__ import annotations

from functools import partial
from typing import Final

from loadtest import encoded
from loadtest.cases.base import MixerCase

_COLD: Final = 10_000
_DISTINCT: Final = 20
_QUOTAS: Final = 10_000

CASES: Final = (
    MixerCase("report", "Reports of whole batches, as sidecars send them", encoded.reports),
    MixerCase(
        "check-cold",
        f"Checks that nothing can answer from memory: {_COLD:,} requests with ids, paths and headers of their own",
        partial(encoded.checks, count=_COLD),
        policy=True,
    ),
    MixerCase(
        "check-repeated",
        f"Checks of the same {_DISTINCT} requests over and over",
        partial(encoded.repeated_checks, distinct=_DISTINCT, count=_DISTINCT),
        policy=True,
    ),
    MixerCase(
        "quota",
        "Checks that each take one unit of a quota, with a deduplication id of their own",
        partial(encoded.quota_checks, count=_QUOTAS),
        policy=True,
    ),
)
