"""What an operator writes to configure the redisquota adapter, and what can be wrong with it. Source: spec adapters 4.7.

Fields that the original has mean what they mean there; all others are ours and off, or harmless, by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from mixer.adapters.base import InstanceInfo, Params
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, Int32, Int64, ProtoEnum, enum_field
from mixer.templates import Variety

DEFAULT_CONNECTIONS: Final = 2
_MAX_TIMEOUT: Final = Duration.parse("10s")


class Algorithm(ProtoEnum):
    """How units come back."""

    FIXED_WINDOW = 0
    ROLLING_WINDOW = 1
    TOKEN_BUCKET = 2
    CONCURRENCY = 3


class FailurePolicy(ProtoEnum):
    """What a decision is that Redis did not make."""

    UNAVAILABLE = 0
    OPEN = 1
    LOCAL = 2
    CLOSED = 3


class Mode(ProtoEnum):
    """What the addresses are."""

    STANDALONE = 0
    SENTINEL = 1
    CLUSTER = 2


class Override(Params):
    """Another limit, for some values of the dimensions."""

    dimensions: dict[str, str] = Field(default_factory=dict)
    """Dimension -> the value it must have, as text; all must be there and fit. At least one."""

    max_amount: Int64 = 0
    """Units to be had in a window; positive."""


class Quota(Params):
    """The limit of one quota instance."""

    name: str = ""
    """Full name of the instance, such as ``requestcount.instance.istio-system``; the last of a name wins."""

    max_amount: Int64 = 0
    """Units to be had in a window for each set of dimensions; 0 (the default) or less grants nothing."""

    valid_duration: DurationField = Duration(0)
    """The window; with CONCURRENCY the lease: how long a unit is held when nobody gives it back. Positive."""

    bucket_duration: DurationField = Duration(0)
    """With ROLLING_WINDOW: charges this close together count as one, so units may return that much early.

    Positive and shorter than the window; other algorithms have no use for it.
    """

    rate_limit_algorithm: enum_field(Algorithm) = Algorithm.FIXED_WINDOW  # type: ignore[valid-type]
    """FIXED_WINDOW (the default): all units come back at once, a window after the first was taken. ROLLING_WINDOW:
    each comes back a window after it was taken. TOKEN_BUCKET: they come back one by one, evenly over
    the window. CONCURRENCY: when given back with a negative amount, or when the lease ends.
    """

    overrides: list[Override] = Field(default_factory=list)
    """Other limits for some values of the dimensions, in order: the first that fits replaces ``maxAmount``."""


class Tls(Params):
    """TLS to Redis (and to Sentinels); ``tls: {}`` checks the server against the system's authorities."""

    ca_file: str = ""
    """PEM file with the authorities to trust; empty, the default: the system's."""

    cert_file: str = ""
    """PEM file with the certificate to show; empty, the default: none."""

    key_file: str = ""
    """PEM file with the key of the certificate."""

    insecure_skip_verify: bool = False
    """Believe any certificate; default false."""


class RedisQuotaParams(Params):
    """Params of the redisquota adapter."""

    redis_server_url: str = ""
    """Where Redis listens, ``host:port``. For SENTINEL and CLUSTER any number of them, separated by commas."""

    connection_pool_size: Int64 = 0
    """Connections for each process (with CLUSTER: and node) at most; 0, the default: 2.

    What is asked at the same time shares a round trip, so few are enough.
    """

    quotas: list[Quota] = Field(default_factory=list)
    """One entry for each quota instance that rules send to the handler; at least one."""

    mode: enum_field(Mode) = Mode.STANDALONE  # type: ignore[valid-type]
    """STANDALONE (the default), SENTINEL or CLUSTER."""

    sentinel_master: str = "mymaster"
    """With SENTINEL: the name of the master; default ``mymaster``."""

    sentinel_username: str = ""
    """With SENTINEL: the user at the Sentinels; empty, the default: Redis's default user."""

    sentinel_password: SecretStr = SecretStr("")
    """With SENTINEL: the password at the Sentinels; empty, the default: none."""

    database: Int32 = 0
    """The number of the database; default 0, which is the only one of a cluster."""

    username: str = ""
    """The ACL user; empty, the default: Redis's default user."""

    password: SecretStr = SecretStr("")
    """The user's password; empty, the default: none."""

    password_file: str = ""
    """A file with the password, read for each new connection, so that it may change; in place of ``password``."""

    tls: Tls | None = None
    """TLS settings; absent, the default: no TLS."""

    key_prefix: str = "mixer:quota:"
    """What all keys begin with; default ``mixer:quota:``. Handlers with the same prefix and quotas share counters."""

    request_timeout: DurationField = Duration.parse("50ms")
    """How long a decision may wait for Redis before the failure policy makes it; default 50ms, at most 10s."""

    failure_policy: enum_field(FailurePolicy) = FailurePolicy.UNAVAILABLE  # type: ignore[valid-type]
    """What happens when Redis does not decide. UNAVAILABLE (the default): the quota says so, and proxies let the request
    pass, as the original had it. CLOSED: the quota is refused as if it were exhausted. OPEN: all is granted, for a second
    at most. LOCAL: this process counts by itself, in a rolling window, until Redis is back.
    """

    deduplication_duration: DurationField = Duration.parse("300s")
    """How long a grant is remembered, so that a retry is not charged again: this long, or as long as the grant holds if that
    is shorter; default 5 minutes. Refusals and what was given back: at most 10 seconds of it. 0 remembers nothing.
    """

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses as host and port.

        Raises:
            ValueError: One is not of that form.
        """
        return [split_address(part.strip()) for part in self.redis_server_url.split(",")]


def split_address(address: str) -> tuple[str, int]:
    """The host and the port of ``host:port``; IPv6 addresses stand in brackets.

    Raises:
        ValueError: The text is not of that form.
    """
    parts = urlsplit(f"//{address}")
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("has more than host and port")
    host, port = parts.hostname, parts.port
    if not host or not port:
        raise ValueError("lacks a host or a port")
    return host, port


def validate(params: RedisQuotaParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well; unlike the original, nothing is asked of Redis for it."""
    yield from _quota_faults(params, instances)
    yield from _address_faults(params)
    yield from _connection_faults(params)


def _quota_faults(params: RedisQuotaParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    if not params.quotas:
        yield FieldError(("quotas",), "quota should not be empty", "at least one quota")
    for index, quota in enumerate(params.quotas):
        path = ("quotas", index)
        if not quota.name:
            yield FieldError((*path, "name"), "quotas.name should not be empty", "the full name of a quota instance")
            continue
        rolling = quota.rate_limit_algorithm is Algorithm.ROLLING_WINDOW
        if quota.valid_duration <= 0:
            yield FieldError((*path, "validDuration"), "quotas.valid_duration must be positive", "such as 1s")
        elif quota.valid_duration < 1000:
            yield FieldError((*path, "validDuration"), "shorter than Redis can measure", "1us or longer")
        elif rolling and quota.bucket_duration <= 0:
            what = "quotas.bucket_duration must be positive for ROLLING_WINDOW"
            yield FieldError((*path, "bucketDuration"), what, "such as 500ms")
        elif rolling and quota.bucket_duration >= quota.valid_duration:
            what = "quotas.bucket_duration must be shorter than quotas.valid_duration"
            yield FieldError((*path, "bucketDuration"), what, f"less than {quota.valid_duration}")
        for place, override in enumerate(quota.overrides):
            below = (*path, "overrides", place)
            if override.max_amount <= 0:
                yield FieldError((*below, "maxAmount"), "quotas.overrides.max_amount must be > 0")
            elif not override.dimensions:
                yield FieldError((*below, "dimensions"), "quotas.overrides.dimensions is empty", "at least one")
    known = {quota.name for quota in params.quotas}
    for instance in instances:
        if params.quotas and instance.template.variety is Variety.QUOTA and instance.name not in known:
            yield FieldError(("quotas",), f"did not find limit defined for quota {instance.name}")


def _address_faults(params: RedisQuotaParams) -> Iterator[FieldError]:
    field = ("redisServerUrl",)
    if not params.redis_server_url:
        yield FieldError(field, "redis_server_url should not be empty", "host:port")
        return
    for part in params.redis_server_url.split(","):
        try:
            split_address(part.strip())
        except ValueError:  # its text may hold a password
            yield FieldError(
                field, "is not an address; credentials, databases and TLS have fields of their own", "host:port"
            )
            return
    if params.mode is Mode.STANDALONE and "," in params.redis_server_url:
        yield FieldError(field, "several addresses need a mode", "one host:port, or mode SENTINEL or CLUSTER")


def _connection_faults(params: RedisQuotaParams) -> Iterator[FieldError]:
    if params.connection_pool_size < 0:
        what = f"connection_pool_size of {params.connection_pool_size} is invalid, must be > 0"
        yield FieldError(("connectionPoolSize",), what, "0 for the default")
    elif params.connection_pool_size > 1000:
        yield FieldError(("connectionPoolSize",), "is out of range", "1000 at most")
    if not 0 < params.request_timeout <= _MAX_TIMEOUT:
        yield FieldError(("requestTimeout",), "is out of range", "more than 0, at most 10s")
    if params.deduplication_duration < 0:
        yield FieldError(("deduplicationDuration",), "must not be negative", "0 to remember nothing")
    if params.database < 0 or (params.database and params.mode is Mode.CLUSTER):
        yield FieldError(("database",), "there is no such database", "0 for a cluster, otherwise 0 or more")
    if "{" in params.key_prefix or "}" in params.key_prefix:
        yield FieldError(("keyPrefix",), "braces choose the node of a cluster", "a text without braces")
    if params.mode is Mode.SENTINEL and not params.sentinel_master:
        yield FieldError(("sentinelMaster",), "should not be empty", "the name that the Sentinels have for the master")
    if params.password.get_secret_value() and params.password_file:
        yield FieldError(("passwordFile",), "stands beside a password", "one of the two")
    if params.username and not (params.password.get_secret_value() or params.password_file):
        yield FieldError(("username",), "has no password", "password or passwordFile")
    if params.tls is not None and bool(params.tls.cert_file) != bool(params.tls.key_file):
        yield FieldError(("tls", "certFile"), "a certificate and its key go together", "both or neither")
