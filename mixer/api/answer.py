"""A Check's answer as plain values: what a server gives, in process or on the wire, and what a proxy acts on.

Source: ``CheckResponse`` of the API, spec proxy 5 and 6.1.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mixer.api.codes import Code
from mixer.attributes import Condition, Duration

Referenced: TypeAlias = Mapping[tuple[str, str], Condition]
"""What an answer depended on: (attribute, map key or empty for the attribute as such) -> how."""


class HeaderKind(enum.IntEnum):
    """What to do with a header. Source: ``HeaderOperation.Operation``."""

    REPLACE = 0
    REMOVE = 1
    APPEND = 2


@dataclass(frozen=True, slots=True)
class AppliedHeader:
    """One header operation for the proxy to carry out; ``kind`` is a `HeaderKind` or its number."""

    name: str
    value: str
    kind: int


@dataclass(frozen=True, slots=True)
class RouteDirective:
    """What the proxy shall do besides letting pass or denying; ``direct_response_code`` 0 = do not answer directly."""

    request_headers: tuple[AppliedHeader, ...] = ()
    response_headers: tuple[AppliedHeader, ...] = ()
    direct_response_code: int = 0
    direct_response_body: str = ""


@dataclass(frozen=True, slots=True)
class QuotaLevel:
    """Where the counter behind a quota stands after an answer, as ``RateLimit-*`` headers tell it.

    Attributes:
        limit: Units there are in all.
        remaining: Units still to be had at this moment.
        reset: Until the next unit comes back; 0 when none is out, or when none comes back by itself.
        window: The time in which ``limit`` units are to be had; 0 when they do not come back by themselves.
    """

    limit: int
    remaining: int
    reset: Duration
    window: Duration


@dataclass(frozen=True, slots=True)
class QuotaAnswer:
    """The answer for one quota.

    Attributes:
        granted: Units; below what was asked only with best effort or on refusal.
        valid_duration: How long the grant holds; None when nothing was said.
        code: Not OK: the quota could not be asked for.
        referenced: What the answer depended on; None when that cannot be used as a cache key.
    """

    granted: int
    valid_duration: Duration | None = None
    code: int = Code.OK
    message: str = ""
    referenced: Referenced | None = None
    level: QuotaLevel | None = None


NO_QUOTAS: Final[Mapping[str, QuotaAnswer]] = {}


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """The answer to a Check.

    Attributes:
        code: Anything but OK denies.
        valid_duration: How long the answer may be reused; None without limit, 0 or less not at all.
        valid_use_count: How often it may be reused; negative without limit.
        referenced: What the answer depended on; None when that cannot be used as a cache key.
        directive: What else the proxy shall do.
        quotas: By name; a quota that was asked for and is missing here could not be decided.
    """

    code: int = Code.OK
    message: str = ""
    valid_duration: Duration | None = None
    valid_use_count: int = 0
    referenced: Referenced | None = None
    directive: RouteDirective | None = None
    quotas: Mapping[str, QuotaAnswer] = field(default_factory=dict)
