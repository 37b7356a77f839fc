"""Header operations: what of a directive can be sent, and what becomes of each header; and where quotas stand.

The rules are those of Envoy, where they were found by running it; other hosts keep to them. Source: spec envoy 5.1
and 5.2, spec proxy 11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mixer.api.answer import AppliedHeader, HeaderKind, QuotaAnswer, QuotaLevel

_NAME: Final = re.compile(r":?[!#$%&'*+\-.^_`|~0-9a-z]{1,256}")
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PSEUDO_VALUE: Final = re.compile(r"[\x21-\x7e\x80-\U0010ffff]+")

REQUEST_PSEUDO: Final = frozenset((":path", ":method", ":authority"))
FIXED: Final = frozenset(("host", "content-length", "transfer-encoding", "connection", "upgrade"))
"""Headers that frame the message."""


@dataclass(slots=True)
class Fate:
    """What becomes of one header.

    Attributes:
        name: In lower case.
        onto: Values come onto what the header has now; otherwise they take its place.
        values: To set or add; with none of them, and ``onto`` false, the header is removed.
        was_removed: It is removed first.
    """

    name: str
    onto: bool
    values: list[str] = field(default_factory=list)
    was_removed: bool = False


def clean_value(value: str) -> str:
    """A value without the characters that make Envoy refuse the whole answer; a blank stands in for each."""
    return _UNSENDABLE.sub(" ", value).strip() if _UNSENDABLE.search(value) else value


def fates(operations: Iterable[AppliedHeader], pseudo: frozenset[str] = frozenset()) -> tuple[list[Fate], list[str]]:
    """What operations, carried out in their order, do to each header; and what cannot be done, in words.

    Args:
        operations: Of a directive; names in any case.
        pseudo: The pseudo headers that can be set.
    """
    found: dict[str, Fate] = {}
    refused: list[str] = []
    for operation in operations:
        name = operation.name.lower()
        if not _NAME.fullmatch(name):
            refused.append("bad_name")
            continue
        if name[0] == ":" and not _pseudo_allowed(operation, name, pseudo):
            refused.append("pseudo_header")
            continue
        if name in FIXED and not _fixed_allowed(operation, name, request=bool(pseudo)):
            refused.append("fixed_header")
            continue
        fate = found.get(name)
        if operation.kind == HeaderKind.REMOVE:
            found[name] = Fate(name, False, was_removed=True)
        elif operation.kind == HeaderKind.REPLACE or name[0] == ":":
            found[name] = Fate(name, False, [clean_value(operation.value)], fate is not None and fate.was_removed)
        elif fate is None:
            found[name] = Fate(name, True, [clean_value(operation.value)])
        else:
            fate.values.append(clean_value(operation.value))
    return list(found.values()), refused


def _pseudo_allowed(operation: AppliedHeader, name: str, pseudo: frozenset[str]) -> bool:
    """Whether a pseudo header is set, to something that does not break the request."""
    return name in pseudo and operation.kind != HeaderKind.REMOVE and bool(_PSEUDO_VALUE.fullmatch(operation.value))


def _fixed_allowed(operation: AppliedHeader, name: str, *, request: bool) -> bool:
    """Whether a header that frames the message may be touched: a new host, or none of it in the response."""
    removes = operation.kind == HeaderKind.REMOVE
    return name == "host" and not removes if request else removes


# Where quotas stand


def quota_headers(quotas: Mapping[str, QuotaAnswer], *, denied: bool) -> Sequence[tuple[str, str]]:
    """``x-ratelimit-*`` of the tightest quota that tells where it stands, in the form of Envoy's own filter.

    The limit is followed by every quota with its window, as in ``10, 10;w=60;name="RequestCount"``. A denial says when
    to come back, too. Source: draft-polli-ratelimit-headers-03, as Envoy's ``DRAFT_VERSION_03`` writes it.
    """
    levels = [(name, answer.level) for name, answer in sorted(quotas.items()) if answer.level is not None]
    if not levels:
        return ()
    _, tightest = min(levels, key=lambda item: (item[1].remaining, -item[1].reset))
    policies = ", ".join(_policy(name, level) for name, level in levels)
    reset = seconds_up(int(tightest.reset))
    headers = [
        ("x-ratelimit-limit", f"{tightest.limit}, {policies}"),
        ("x-ratelimit-remaining", str(max(0, tightest.remaining))),
        ("x-ratelimit-reset", str(reset)),
    ]
    if denied and reset:
        headers.append(("retry-after", str(reset)))
    return headers


def _policy(name: str, level: QuotaLevel) -> str:
    window = f";w={seconds_up(int(level.window))}" if level.window > 0 else ""
    quoted = re.sub(r'["\\]|[^\x20-\x7e]', "_", name)
    return f'{level.limit}{window};name="{quoted}"'


def seconds_up(nanoseconds: int) -> int:
    """Whole seconds, rounded up; none below 0."""
    return max(0, -(-nanoseconds // 1_000_000_000))
