"""The protobuf messages of Mixer's API under short names."""

from __future__ import annotations

from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration as WireDuration
from google.protobuf.timestamp_pb2 import Timestamp as WireTimestamp
from google.rpc.status_pb2 import Status

from mixer.api.gen.mixer.v1.attributes_pb2 import Attributes, CompressedAttributes, StringMap
from mixer.api.gen.mixer.v1.mixer_pb2 import (
    DESCRIPTOR,
    CheckRequest,
    CheckResponse,
    HeaderOperation,
    ReferencedAttributes,
    ReportRequest,
    ReportResponse,
    RouteDirective,
)
from mixer.api.gen.policy.v1beta1.http_response_pb2 import DirectHttpResponse, HttpStatusCode
from mixer.api.gen.policy.v1beta1.value_type_pb2 import ValueType as WireValueType

QuotaParams: TypeAlias = CheckRequest.QuotaParams
PreconditionResult: TypeAlias = CheckResponse.PreconditionResult
QuotaResult: TypeAlias = CheckResponse.QuotaResult
QuotaLevel: TypeAlias = CheckResponse.QuotaLevel
AttributeMatch: TypeAlias = ReferencedAttributes.AttributeMatch

DELTA_ENCODING = ReportRequest.DELTA_ENCODING
INDEPENDENT_ENCODING = ReportRequest.INDEPENDENT_ENCODING

SERVICE_NAME = DESCRIPTOR.services_by_name["Mixer"].full_name
"""``istio.mixer.v1.Mixer``, for reflection and health."""

__all__ = [
    "DELTA_ENCODING",
    "INDEPENDENT_ENCODING",
    "SERVICE_NAME",
    "AttributeMatch",
    "Attributes",
    "CheckRequest",
    "CheckResponse",
    "CompressedAttributes",
    "DirectHttpResponse",
    "HeaderOperation",
    "HttpStatusCode",
    "PreconditionResult",
    "QuotaLevel",
    "QuotaParams",
    "QuotaResult",
    "ReferencedAttributes",
    "ReportRequest",
    "ReportResponse",
    "RouteDirective",
    "Status",
    "StringMap",
    "WireDuration",
    "WireTimestamp",
    "WireValueType",
]
