"""Response flags: why Envoy ended a request or connection, as the short names that dashboards know.

Source: spec envoy 4.4.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from proxy.envoy.gen.accesslog_pb2 import AccessLogCommon, ResponseFlags

NONE: Final = "-"
"""``context.proxy_error_code`` of what went well."""

DENIED: Final = "UAEX"
"""External authorization denied, failed, or answered in the service's place."""

SHORT: Final = MappingProxyType(
    {
        "failed_local_healthcheck": "LH",
        "no_healthy_upstream": "UH",
        "upstream_request_timeout": "UT",
        "local_reset": "LR",
        "upstream_remote_reset": "UR",
        "upstream_connection_failure": "UF",
        "upstream_connection_termination": "UC",
        "upstream_overflow": "UO",
        "no_route_found": "NR",
        "delay_injected": "DI",
        "fault_injected": "FI",
        "rate_limited": "RL",
        "unauthorized_details": DENIED,
        "rate_limit_service_error": "RLSE",
        "downstream_connection_termination": "DC",
        "upstream_retry_limit_exceeded": "URX",
        "stream_idle_timeout": "SI",
        "invalid_envoy_request_headers": "IH",
        "downstream_protocol_error": "DPE",
        "upstream_max_stream_duration_reached": "UMSDR",
        "response_from_cache_filter": "RFCF",
        "no_filter_config_found": "NFCF",
        "duration_timeout": "DT",
        "upstream_protocol_error": "UPE",
        "no_cluster_found": "NC",
        "overload_manager": "OM",
        "dns_resolution_failure": "DF",
        "downstream_remote_reset": "DR",
    }
)
"""By field of ``ResponseFlags``, in the order in which they are told."""

TAG: Final = "flags"
"""The custom tag ``%RESPONSE_FLAGS%``: exact, and it knows flags that this table does not."""

_BY_NUMBER: Final = {ResponseFlags.DESCRIPTOR.fields_by_name[name].number: short for name, short in SHORT.items()}


def flags_text(common: AccessLogCommon) -> str:
    """``context.proxy_error_code`` of an entry: the tag, or else its flags joined by commas; `NONE` for none."""
    told = common.custom_tags.get(TAG)
    if told:
        return told
    if not common.HasField("response_flags"):
        return NONE
    # ListFields has those that are set, by number, which is the order of the table.
    return ",".join(_BY_NUMBER[field.number] for field, _ in common.response_flags.ListFields()) or NONE


def is_denied(common: AccessLogCommon) -> bool:
    """Whether external authorization ended the request or connection."""
    return DENIED in flags_text(common).split(",")
