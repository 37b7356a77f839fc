"""Which limit an instance gets, and under which keys Redis counts it. All that the params decide is decided here, once.

Source: spec adapters 4.7.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mixer.adapters.redisquota.params import Algorithm, Quota, RedisQuotaParams
from mixer.adapters.redisquota.scripts import MAX_UNITS, Script, Scripts
from mixer.attributes import AttributeValue, Duration
from mixer.attributes.values import string_equals, stringify
from mixer.templates.quota import QuotaInstance

_REFUSALS_KEPT_US: Final = 10_000_000
_LONGEST_PLAIN: Final = 200
_PLAIN: Final = re.compile(r"[^%;=:&{}\x00-\x20\x7f-\U0010ffff]*")
_LETTERS: Final = {
    Algorithm.FIXED_WINDOW: "f",
    Algorithm.ROLLING_WINDOW: "r",
    Algorithm.TOKEN_BUCKET: "t",
    Algorithm.CONCURRENCY: "c",
}


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """One limit of one quota, ready to be asked; told apart by identity.

    Attributes:
        wanted: ``dimension -> text`` that an instance must have for it.
        max_amount: At least 0, at most `MAX_UNITS`.
        window: How long a unit is out.
        level_window: What a user is told of it: 0 for leases, which are no rate.
        has_charges: The script keeps a list of charges beside the counter.
        letter: What tells keys of different algorithms apart.
        keep: How long answers are remembered: grants, others (microseconds, as the script takes them).
        rest: Arguments of the script's own.
    """

    wanted: tuple[tuple[str, str], ...]
    max_amount: int
    window: Duration
    level_window: Duration
    script: Script
    has_charges: bool
    letter: str
    keep: tuple[int, int]
    rest: tuple[int, ...]

    @property
    def window_us(self) -> int:
        """The window in microseconds, rounded up."""
        return -(-int(self.window) // 1000)

    def fits(self, dimensions: Mapping[str, AttributeValue]) -> bool:
        """Whether this is the limit for an instance with these dimensions; one that is absent never fits."""
        return all(name in dimensions and string_equals(dimensions[name], value) for name, value in self.wanted)

    def keys(self, prefix: str, base: str, dedup_id: str) -> list[str]:
        """The keys that the script takes, all in one slot of a cluster; `base` holds no braces."""
        counter = f"{prefix}{{{base}}}:{self.letter}"
        keys = [counter, counter + ":list"] if self.has_charges else [counter]
        if dedup_id:
            keys.append(f"{counter}:id:{_short(_plain(dedup_id))}")
        return keys

    def arguments(self, amount: int, *, best_effort: bool, dedup: bool) -> list[int]:
        """The arguments that the script takes."""
        clamped = max(-MAX_UNITS, min(amount, 2 * MAX_UNITS - 1))
        keep = self.keep if dedup else (0, 0)
        return [self.max_amount, self.window_us, clamped, int(best_effort), *keep, *self.rest]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one quota: of the overrides, in order, then its own."""

    overrides: tuple[Limit, ...]
    own: Limit

    def of(self, dimensions: Mapping[str, AttributeValue]) -> Limit:
        """The limit for an instance with these dimensions."""
        for limit in self.overrides:
            if limit.fits(dimensions):
                return limit
        return self.own


def limits_by_name(params: RedisQuotaParams, scripts: Scripts) -> dict[str, Limits]:
    """The limits of each quota."""
    keep_us = -(-int(params.deduplication_duration) // 1000)
    keep = (keep_us, min(keep_us, _REFUSALS_KEPT_US))

    def limits(quota: Quota) -> Limits:
        algorithm = quota.rate_limit_algorithm
        leases = algorithm is Algorithm.CONCURRENCY
        has_charges = leases or algorithm is Algorithm.ROLLING_WINDOW
        apart_us = 0 if leases else -(-int(quota.bucket_duration) // 1000)

        def limit(max_amount: int, dimensions: Mapping[str, str]) -> Limit:
            return Limit(
                wanted=tuple(dimensions.items()),
                max_amount=max(0, min(max_amount, MAX_UNITS)),
                window=quota.valid_duration,
                level_window=Duration(0) if leases else quota.valid_duration,
                script=scripts.charges
                if has_charges
                else scripts.tokens
                if algorithm is Algorithm.TOKEN_BUCKET
                else scripts.fixed,
                has_charges=has_charges,
                letter=_LETTERS[algorithm],
                keep=keep,
                rest=(apart_us, int(leases)) if has_charges else (),
            )

        return Limits(
            tuple(limit(override.max_amount, override.dimensions) for override in quota.overrides),
            limit(quota.max_amount, {}),
        )

    return {quota.name: limits(quota) for quota in params.quotas}


def key_base(instance: QuotaInstance) -> str:
    """The identity of an instance's counter as a short text: ``name;k1=v1;k2:int=2``, by the names of its dimensions.

    Values that are no texts have their type beside their name. What would be ambiguous or is not ASCII is written in
    ``%`` and hexadecimal; what is long ends in a digest.
    """
    base = _plain(instance.name)
    dimensions = instance.dimensions
    if dimensions:
        for name in sorted(dimensions):
            value = dimensions[name]
            if type(value) is str:
                base += f";{_plain(name)}={_plain(value)}"
            else:
                kind = "map" if isinstance(value, Mapping) else type(value).__name__
                base += f";{_plain(name)}:{kind}={_text(value)}"
    return _short(base)


def _text(value: AttributeValue) -> str:
    if isinstance(value, Mapping):
        return "&".join(f"{_plain(k)}:{_plain(v)}" for k, v in sorted(value.items()))
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return repr(value)
    return _plain(str(int(value)) if isinstance(value, int) else stringify(value))


def _plain(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        c if _PLAIN.fullmatch(c) else "".join(f"%{b:02x}" for b in c.encode("utf-8", "surrogatepass")) for c in text
    )


def _short(text: str) -> str:
    if len(text) <= _LONGEST_PLAIN:
        return text
    return f"{text[:100]}%{hashlib.sha256(text.encode()).hexdigest()}"
