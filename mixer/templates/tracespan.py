"""tracespan: one span of a distributed trace. Source: spec adapters 2.9."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixer.attributes import AttributeValue, Timestamp, ValueType
from mixer.attributes.values import ZERO_TIME
from mixer.templates.base import Field, Template, Variety


@dataclass(slots=True)
class TraceSpanInstance:
    """One span; ids are hexadecimal text, an empty parent means a root, empty address bytes mean unknown."""

    name: str
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    span_name: str = ""
    start_time: Timestamp = ZERO_TIME
    end_time: Timestamp = ZERO_TIME
    span_tags: Mapping[str, AttributeValue] = field(default_factory=dict)
    http_status_code: int = 0
    client_span: bool = False
    rewrite_client_span_id: bool = False
    source_name: str = ""
    source_ip: bytes = b""
    destination_name: str = ""
    destination_ip: bytes = b""
    request_size: int = 0
    request_total_size: int = 0
    response_size: int = 0
    response_total_size: int = 0
    api_protocol: str = ""


TRACESPAN = Template(
    name="tracespan",
    variety=Variety.REPORT,
    instance_type=TraceSpanInstance,
    fields=(
        Field("trace_id", ValueType.STRING),
        Field("span_id", ValueType.STRING),
        Field("parent_span_id", ValueType.STRING),
        Field("span_name", ValueType.STRING),
        Field("start_time", ValueType.TIMESTAMP),
        Field("end_time", ValueType.TIMESTAMP),
        Field("span_tags", is_map=True),
        Field("http_status_code", ValueType.INT64),
        Field("client_span", ValueType.BOOL),
        Field("rewrite_client_span_id", ValueType.BOOL),
        Field("source_name", ValueType.STRING),
        Field("source_ip", ValueType.IP_ADDRESS),
        Field("destination_name", ValueType.STRING),
        Field("destination_ip", ValueType.IP_ADDRESS),
        Field("request_size", ValueType.INT64),
        Field("request_total_size", ValueType.INT64),
        Field("response_size", ValueType.INT64),
        Field("response_total_size", ValueType.INT64),
        Field("api_protocol", ValueType.STRING),
    ),
)
