"""What entries of requests and of connections have in common: where they come from, and the rows both tables share.

An entry is read when somebody asks: a metric wants a dozen of its fifty fields. `ABSENT` stands for what an entry
does not tell; numbers that are zero are not on the wire, so they are told.
Source: spec envoy 4.1 to 4.3, spec proxy 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration as WireDuration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp as WireTimestamp

from mixer.attributes import ABSENT, Absent, AttributeValue, Duration, Timestamp
from proxy.client.node import local_node
from proxy.envoy import flags
from proxy.envoy.correlation import HTTP_FILTER, TCP_FILTER, CheckRecord
from proxy.envoy.gen.accesslog_pb2 import AccessLogCommon, TLSProperties
from proxy.envoy.gen.core_pb2 import Address
from proxy.envoy.identity import metadata_map, namespace_of, principal
from proxy.envoy.log_record import record_of
from proxy.envoy.question import SERVICE_KEY
from proxy.envoy.values import ip_bytes, read_texts
from proxy.status import status_text

INBOUND: Final = "inbound"
OUTBOUND: Final = "outbound"

DESTINATION_UID_TAG: Final = "dest.uid"
"""The custom tag ``%UPSTREAM_METADATA(istio:uid)%``."""

_OWN_TAGS: Final = frozenset((DESTINATION_UID_TAG, flags.TAG, SERVICE_KEY))
_OWN_NAMESPACES: Final = frozenset((HTTP_FILTER, TCP_FILTER, "istio.mixer"))
_MAX_INT64: Final = (1 << 63) - 1
_SECOND: Final = 1_000_000_000

_EVER: Final = Timestamp(0)

_principal: Final = lru_cache(maxsize=4096)(principal)
_namespace_of: Final = lru_cache(maxsize=4096)(namespace_of)

_NOTHING: Final[Mapping[str, AttributeValue]] = {}
_NO_METADATA: Final[Mapping[str, Struct]] = {}

_RBAC: Final = "envoy.filters.http.rbac"
_RBAC_RESULT: Final = "shadow_engine_result"
_RBAC_POLICY: Final = "shadow_effective_policy_id"


@dataclass(frozen=True, slots=True)
class LogStream:
    """One stream of entries, as its first message names it.

    Attributes:
        node: Id of the Envoy.
        log_name: Of the logger's configuration. ``inbound`` and ``outbound`` at its beginning, alone or before an
            underscore, tell the direction of the listener.
        direction: `INBOUND`, `OUTBOUND`, or empty when the name does not tell.
        local: What the node's id tells about the workload next to the Envoy; counts where nobody else says more.
        since: When it began; what Envoy logged before went elsewhere, or nowhere.
        on_fault: Is told of each tag that cannot be read as an attribute.
    """

    node: str = ""
    log_name: str = ""
    direction: str = ""
    local: Mapping[str, AttributeValue] = field(default_factory=dict)
    since: Timestamp = _EVER
    on_fault: Callable[[str], None] = lambda fault: None


def log_stream(
    node: str,
    log_name: str,
    metadata: Mapping[str, object] = MappingProxyType({}),
    since: Timestamp = _EVER,
    on_fault: Callable[[str], None] = lambda fault: None,
) -> LogStream:
    """The stream of a node and a log name; the node's id or its metadata name the workload next to it."""
    word = log_name.partition("_")[0]
    direction = word if word in (INBOUND, OUTBOUND) else ""
    local: Mapping[str, AttributeValue] = {}
    if node.count("~") == 3 or "NODE_UID" in metadata:  # an Envoy need not be called as in a mesh
        workload = local_node(metadata, node)
        local = workload.attributes(outbound=direction == OUTBOUND) if workload.uid else {}
    return LogStream(node, log_name, direction, local, since, on_fault)


class LogEntry:
    """An entry of either kind; the subclass has the rest of its fields.

    Attributes:
        metadata: What filters left, by filter.
        record: What the check left in the entry; None when no check of ours ran.
        service: Key of the configuration that applies: that of the check, that of the tag ``service_config``, or
            the name of the log.
    """

    __slots__ = ("common", "metadata", "record", "service", "stream")

    def __init__(self, stream: LogStream, common: AccessLogCommon) -> None:
        self.stream = stream
        self.common = common
        self.metadata: Mapping[str, Struct] = _NO_METADATA
        self.record: CheckRecord | None = None
        self.service = ""
        if common.HasField("metadata"):
            self.metadata = metadata = common.metadata.filter_metadata
            self.record = record = record_of(metadata)
            if record is not None:
                self.service = record.service
        if not self.service:
            self.service = common.custom_tags.get(SERVICE_KEY) or stream.log_name

    def told(self) -> Mapping[str, AttributeValue]:
        """Attributes that are there as such: those that the check kept, over those of custom tags and of filters."""
        record = self.record
        checked: Mapping[str, AttributeValue] = _NOTHING if record is None else record.attributes
        tags = self.common.custom_tags
        named = [(name, tags[name]) for name in tags if "." in name and name not in _OWN_TAGS]
        if named:
            values, faults = _read_tags(tuple(named))
            checked = {**values, **checked}
            for fault in faults:
                self.stream.on_fault(fault)
        metadata = self.metadata
        if len(metadata) > (record is not None):
            left = {name: metadata_map(metadata[name]) for name in metadata if name not in _OWN_NAMESPACES}
            checked = {**{name: texts for name, texts in left.items() if texts}, **checked}
        return checked


Read = Callable[[Any], AttributeValue | Absent]
"""Fetches an attribute from an entry."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: where in the entry an attribute is, in words, and what fetches it."""

    field: str
    read: Read


@lru_cache(maxsize=1024)  # a route says the same each time
def _read_tags(tags: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, AttributeValue], tuple[str, ...]]:
    return read_texts(sorted(tags))


# Values


def count(value: int) -> int:
    """A number that attributes can hold, of one with 64 bits and no sign."""
    return value if value <= _MAX_INT64 else _MAX_INT64


def timestamp_of(wire: WireTimestamp) -> Timestamp:
    """An instant."""
    return Timestamp(wire.seconds * _SECOND + wire.nanos)


def duration_of(wire: WireDuration) -> Duration:
    """A span of time."""
    return Duration(wire.seconds * _SECOND + wire.nanos)


def ip_of(address: Address) -> bytes | Absent:
    """The address bytes of a socket; ABSENT for pipes and the like."""
    text = address.socket_address.address
    if not text:
        return ABSENT
    try:
        return ip_bytes(text)
    except ValueError:
        return ABSENT


def port_of(address: Address) -> int | Absent:
    """The port of a socket; ABSENT when there is none."""
    return address.socket_address.port_value or ABSENT


# Rows of both tables


def _identity(certificate: TLSProperties.CertificateProperties) -> str:
    """The first URI of a certificate, without its scheme when it is SPIFFE's. Source: spec proxy 3.3."""
    for name in certificate.subject_alt_name:
        if name.uri:
            return _principal(name.uri)
    return ""


def _source_principal(entry: LogEntry) -> str | Absent:
    common = entry.common
    if not common.HasField("tls_properties"):
        return ABSENT
    return _identity(common.tls_properties.peer_certificate_properties) or ABSENT


def _source_namespace(entry: LogEntry) -> str | Absent:
    identity = _source_principal(entry)
    return ABSENT if identity is ABSENT else _namespace_of(identity) or ABSENT


def _destination_principal(entry: LogEntry) -> str | Absent:
    common = entry.common
    if not common.HasField("tls_properties"):
        return ABSENT
    return _identity(common.tls_properties.local_certificate_properties) or ABSENT


def _mtls(entry: LogEntry) -> bool:
    common = entry.common
    if not common.HasField("tls_properties"):
        return False
    peer = common.tls_properties.peer_certificate_properties
    return bool(peer.subject or peer.issuer or len(peer.subject_alt_name))


def _origin_ip(entry: LogEntry) -> bytes | Absent:
    # Not downstream_remote_address: that is whatever the client wrote into x-forwarded-for.
    return ip_of(entry.common.downstream_direct_remote_address)


CONNECTION_ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "origin.ip": Row("downstream_direct_remote_address", _origin_ip),
        "source.principal": Row("tls_properties: first URI of the peer's certificate", _source_principal),
        "source.user": Row("the same", _source_principal),
        "source.namespace": Row("the same, what follows /ns/", _source_namespace),
        "destination.principal": Row("tls_properties: first URI of the local certificate", _destination_principal),
        "connection.mtls": Row("tls_properties: the peer showed a certificate", _mtls),
        "connection.requested_server_name": Row(
            "tls_properties.tls_sni_hostname",
            lambda entry: entry.common.tls_properties.tls_sni_hostname or ABSENT,
        ),
        "context.reporter.kind": Row("the beginning of log_name", lambda entry: entry.stream.direction or ABSENT),
    }
)
"""What is derived from the connection, with or without a check."""


def _check_hit(entry: LogEntry) -> bool | Absent:
    record = entry.record
    return ABSENT if record is None or not record.checked else record.check_cache_hit


def _quota_hit(entry: LogEntry) -> bool | Absent:
    record = entry.record
    return ABSENT if record is None or not record.checked else record.quota_cache_hit


def _error_code(entry: LogEntry) -> int | Absent:
    record = entry.record
    return ABSENT if record is None or not record.code else record.code


def _error_message(entry: LogEntry) -> str | Absent:
    record = entry.record
    return ABSENT if record is None or not record.code else status_text(record.code, record.message)


def _rbac(key: str) -> Read:
    def read(entry: LogEntry) -> str | Absent:
        metadata = entry.metadata
        return metadata_map(metadata[_RBAC]).get(key) or ABSENT if _RBAC in metadata else ABSENT

    return read


VERDICT_ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "check.cache_hit": Row("metadata: the check's record", _check_hit),
        "quota.cache_hit": Row("metadata: the check's record", _quota_hit),
    }
)
"""What the check left, once it has answered."""

DENIAL_ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "check.error_code": Row("metadata: the check's record, unless OK", _error_code),
        "check.error_message": Row("metadata: the check's record, unless OK", _error_message),
    }
)
"""Of a denial; a connection has them at its end only."""

END_ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "context.proxy_error_code": Row(
            f"custom_tags[{flags.TAG}], else response_flags", lambda entry: flags.flags_text(entry.common)
        ),
        "destination.uid": Row(
            f"custom_tags[{DESTINATION_UID_TAG}]",
            lambda entry: entry.common.custom_tags.get(DESTINATION_UID_TAG) or ABSENT,
        ),
        "rbac.permissive.response_code": Row(f"metadata[{_RBAC}].{_RBAC_RESULT}", _rbac(_RBAC_RESULT)),
        "rbac.permissive.effective_policy_id": Row(f"metadata[{_RBAC}].{_RBAC_POLICY}", _rbac(_RBAC_POLICY)),
    }
)
"""What is known at the end, of requests and connections."""


def readers(*tables: Mapping[str, Row]) -> dict[str, Read]:
    """What fetches each attribute of some tables."""
    return {name: row.read for table in tables for name, row in table.items()}
