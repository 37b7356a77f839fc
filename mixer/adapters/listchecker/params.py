"""The params of listchecker and their faults. Source: spec adapters 4.5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from mixer.adapters.base import InstanceInfo, Params
from mixer.adapters.listchecker.entries import EntryType, ListSyntaxError, make_list
from mixer.adapters.listchecker.fetch import is_web_address
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, Int32, Int64, enum_field

_SECOND = Duration.parse("1s")


class ListCheckerParams(Params):
    """Params of the listchecker adapter."""

    provider_url: str = ""
    """Where to GET the list: an ``http`` or ``https`` URL. Empty, the default: the overrides are the list.

    The answer must have status 200; redirects are followed. For IP_ADDRESSES the body is YAML or JSON, a
    mapping whose ``whitelist`` holds addresses and CIDR blocks (also in a blacklist); otherwise each line
    is an entry as it stands, blanks included, and empty lines do not count.
    """

    refresh_interval: DurationField = Duration.parse("60s")
    """Time from fetch to fetch; at least 1s, default 60s."""

    ttl: DurationField = Duration.parse("300s")
    """How long a fetched list holds when no later fetch succeeds; at least ``refreshInterval``, default 300s.

    Afterwards, checks fail until a fetch succeeds.
    """

    caching_interval: DurationField = Duration.parse("300s")
    """How long a proxy may reuse an answer, also a denial; default 300s."""

    caching_use_count: Int32 = 10_000
    """How often a proxy may reuse an answer, also a denial; default 10000."""

    overrides: list[str] = Field(default_factory=list)
    """Entries besides those of the provider; they add to its list, they cannot take away from it."""

    entry_type: enum_field(EntryType) = EntryType.STRINGS  # type: ignore[valid-type]
    """What entries are: STRINGS (the default), CASE_INSENSITIVE_STRINGS, IP_ADDRESSES or REGEX.

    IP_ADDRESSES takes addresses and CIDR blocks; REGEX takes RE2 patterns that may match anywhere in a value.
    """

    blacklist: bool = False
    """Whether values in the list are denied (true) or values that are not (false, the default)."""

    fetch_timeout: DurationField = Duration.parse("5s")
    """Limit for one fetch as a whole, redirects included; positive, default 5s. Istio's adapter has none."""

    max_list_bytes: Int64 = 64 << 20
    """Limit for a fetched body, unpacked; positive, default 64 MiB. A larger one is a failed fetch.

    Istio's adapter has no limit.
    """


def validate(params: ListCheckerParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well; what concerns fetching only matters with a provider."""
    if params.caching_interval < 0:
        yield FieldError(("cachingInterval",), "must not be negative")
    if params.caching_use_count < 0:
        yield FieldError(("cachingUseCount",), "must not be negative")
    for index, entry in enumerate(params.overrides):
        try:
            make_list(params.entry_type, [entry])
        except ListSyntaxError as exc:
            yield FieldError(("overrides", index), str(exc))
    if params.provider_url:
        yield from _fetch_faults(params)


def _fetch_faults(params: ListCheckerParams) -> Iterator[FieldError]:
    if not is_web_address(params.provider_url):
        yield FieldError(("providerUrl",), "not a URL to fetch from", "http:// or https://, then a host")
    if params.refresh_interval < _SECOND:
        yield FieldError(("refreshInterval",), f"{params.refresh_interval} is too short", "at least 1s")
    if params.ttl < params.refresh_interval:
        yield FieldError(("ttl",), f"{params.ttl} is shorter than refreshInterval, {params.refresh_interval}")
    if params.fetch_timeout <= 0:
        yield FieldError(("fetchTimeout",), "must be positive")
    if params.max_list_bytes <= 0:
        yield FieldError(("maxListBytes",), "must be positive")
