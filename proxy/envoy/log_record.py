"""The check's record in a log entry, read the quick way: what checks leave repeats, so equal ones are read once.

`proxy.envoy.correlation` says what a record is; whatever has another form than usual is left to it. The id of a
record is not read: it is new each time, and a report has no use for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct

from proxy.envoy.correlation import HTTP_FILTER, KEY, TCP_FILTER, CheckRecord, read_attributes, read_record

KEPT: Final = 4096
"""Distinct records that are kept ready."""


def record_of(metadata: Mapping[str, Struct]) -> CheckRecord | None:
    """As `proxy.envoy.correlation.read_record`, without the id."""
    if HTTP_FILTER in metadata:
        fields = metadata[HTTP_FILTER].fields
    elif TCP_FILTER in metadata:
        fields = metadata[TCP_FILTER].fields
    else:
        return None
    if KEY not in fields:
        return read_record(metadata)
    told: Any = fields[KEY].struct_value.fields
    # A value of another kind than expected reads as the default, as it should.
    return _record(
        told["service"].string_value if "service" in told else "",
        told["forwarded"].string_value if "forwarded" in told else "",
        told["attrs"].string_value if "attrs" in told else "",
        "cache_hit" in told and told["cache_hit"].bool_value,
        "quota_cache_hit" in told and told["quota_cache_hit"].bool_value,
        told["code"].number_value if "code" in told else 0.0,
        told["message"].string_value if "message" in told else "",
        told["direct"].number_value if "direct" in told else 0.0,
        "checked" in told and told["checked"].WhichOneof("kind") == "bool_value" and not told["checked"].bool_value,
        "failed" in told and told["failed"].bool_value,
        "cut" in told and told["cut"].bool_value,
    )


@lru_cache(maxsize=KEPT)
def _record(
    service: str,
    forwarded: str,
    attributes: str,
    check_cache_hit: bool,
    quota_cache_hit: bool,
    code: float,
    message: str,
    direct: float,
    unchecked: bool,
    failed: bool,
    cut: bool,
) -> CheckRecord:
    return CheckRecord(
        service=service,
        forwarded=forwarded,
        attributes=read_attributes(attributes),
        check_cache_hit=check_cache_hit,
        quota_cache_hit=quota_cache_hit,
        code=_number(code),
        message=message,
        direct=_number(direct),
        checked=not unchecked,
        failed=failed,
        cut=cut,
    )


def _number(value: float) -> int:
    return int(value) if abs(value) < 1 << 31 else 0
