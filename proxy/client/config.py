"""What configures a sidecar client: the messages of ``istio.mixer.v1.config.client``, read from plain data.

Field names are those of the API, in snake case or in camel case. Zeros mean what they mean there (a batch of 0 is one
of 100); the properties of `Transport` and `NetworkFailPolicy` give the values in force.

Source: spec proxy 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from mixer.attributes import Duration
from mixer.store import Problem, format_path
from mixer.store.protojson import DurationField, ProtoEnum, ProtoModel, Uint32, decode, enum_field
from proxy.client.apispec import HTTPAPISpec
from proxy.client.quotaspec import QuotaSpec
from proxy.client.values import NOTHING, AttributesField

_SECOND: Final = Duration(10**9)
_DAY_S: Final = 86_400.0
_MS: Final = 10**6


class FailPolicy(ProtoEnum):
    """What happens to a request when Mixer gives no answer."""

    FAIL_OPEN = 0
    FAIL_CLOSE = 1


class NetworkFailPolicy(ProtoModel):
    """What a failed Check costs, after how many attempts. The attempts are made by `RemoteMixer`."""

    policy: enum_field(FailPolicy) = FailPolicy.FAIL_OPEN  # type: ignore[valid-type]
    max_retry: Uint32 = 0
    base_retry_wait: DurationField = Duration(80 * _MS)
    max_retry_wait: DurationField = _SECOND

    @property
    def fails_open(self) -> bool:
        """Whether a request passes when Mixer gave no answer."""
        return bool(self.policy == FailPolicy.FAIL_OPEN)


class Transport(ProtoModel):
    """Caches, batches, and what a failure costs.

    ``check_cluster``, ``report_cluster``, ``stats_update_interval`` and ``attributes_for_mixer_proxy`` are accepted
    and mean nothing here: addresses are given to `RemoteMixer`, and counters are read when they are scraped.
    ``check_timeout`` and ``report_timeout`` are ours; the reference has 5 s for both.
    """

    disable_check_cache: bool = False
    disable_quota_cache: bool = False
    disable_report_batch: bool = False
    network_fail_policy: NetworkFailPolicy = NetworkFailPolicy()
    stats_update_interval: DurationField | None = None
    check_cluster: str = "mixer_server"
    report_cluster: str = "mixer_server"
    attributes_for_mixer_proxy: AttributesField = NOTHING
    report_batch_max_entries: Uint32 = 0
    report_batch_max_time: DurationField = Duration(0)
    check_timeout: DurationField = Duration(5 * _SECOND)
    report_timeout: DurationField = Duration(5 * _SECOND)

    @property
    def batch_entries(self) -> int:
        """A batch is sent at so many records."""
        return 1 if self.disable_report_batch else self.report_batch_max_entries or 100

    @property
    def batch_time_s(self) -> float:
        """A batch is sent so long after its first record."""
        return min(self.report_batch_max_time.seconds, _DAY_S) if self.report_batch_max_time > 0 else 1.0

    @property
    def check_timeout_s(self) -> float:
        """A Check may take so long, attempts included."""
        return self.check_timeout.seconds if self.check_timeout > 0 else 5.0

    @property
    def report_timeout_s(self) -> float:
        """A Report of a batch may take so long."""
        return self.report_timeout.seconds if self.report_timeout > 0 else 5.0


PASS_THROUGH: Final = Transport(disable_check_cache=True, disable_quota_cache=True, disable_report_batch=True)
"""For a Mixer in the same process: asking it costs less than remembering what it said."""


class ServiceConfig(ProtoModel):
    """What holds for the requests of one service or route."""

    disable_check_calls: bool = False
    disable_report_calls: bool = False
    mixer_attributes: AttributesField = NOTHING
    http_api_spec: list[HTTPAPISpec] = []
    quota_spec: list[QuotaSpec] = []
    network_fail_policy: NetworkFailPolicy | None = None
    forward_attributes: AttributesField = NOTHING


class HttpClientConfig(ProtoModel):
    """A client for HTTP requests."""

    transport: Transport = Transport()
    service_configs: dict[str, ServiceConfig] = {}
    default_destination_service: str = ""
    mixer_attributes: AttributesField = NOTHING
    forward_attributes: AttributesField = NOTHING
    ignore_forwarded_attributes: bool = False


def for_all_services(service: ServiceConfig, transport: Transport) -> HttpClientConfig:
    """One configuration for the requests of whatever service."""
    return HttpClientConfig(transport=transport, service_configs={"": service})


class TcpClientConfig(ProtoModel):
    """A client for connections."""

    transport: Transport = Transport()
    mixer_attributes: AttributesField = NOTHING
    disable_check_calls: bool = False
    disable_report_calls: bool = False
    connection_quota_spec: QuotaSpec | None = None
    report_interval: DurationField | None = None

    @property
    def report_interval_s(self) -> float:
        """Between two ``continue`` records: 10 s by default, never below 1 s."""
        if self.report_interval is None or self.report_interval <= 0:
            return 10.0
        return max(1.0, self.report_interval.seconds)


Config = TypeVar("Config", bound=ProtoModel)


def read_config(
    model: type[Config], data: Any, *, under: Sequence[str | int] = ()
) -> tuple[Config | None, list[Problem]]:
    """Configuration from plain data (as YAML or JSON give it); every fault is reported, not only the first.

    Args:
        model: One of the messages of this module.
        data: The plain data; None is an empty mapping.
        under: Where the data stands in its file, for the paths of problems.

    Returns:
        The configuration and no problems, or None and at least one.
    """
    found, errors = decode(model, data)
    return found, [
        Problem(fault.message, field=format_path((*under, *fault.path)), expected=fault.expected) for fault in errors
    ]
