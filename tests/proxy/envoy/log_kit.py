"""What tests of Envoy's logs share: recorded messages, entries to change, and a client that remembers."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from pathlib import Path

from mixer.attributes import ABSENT, AttributeBag, AttributeValue
from proxy.client.bags import LayeredBag
from proxy.envoy.access_log import AccessLog, AccessLogMetrics
from proxy.envoy.correlation import HTTP_FILTER, TCP_FILTER, CheckRecord, write_record
from proxy.envoy.gen.accesslog_pb2 import (
    AccessLogType,
    DownstreamEnd,
    HTTPAccessLogEntry,
    StreamAccessLogsMessage,
    TCPAccessLogEntry,
)
from proxy.envoy.gen.core_pb2 import Address, RequestMethod
from proxy.envoy.log_connections import DEFAULT_LIMITS, ConnectionLimits

RECORDED = Path(__file__).parent / "recorded"
NODE = "sidecar~10.0.0.1~reviews-1.ns2~cluster.local"
START_S = 1_795_398_129


def recorded(stream: str) -> list[bytes]:
    """The messages of a stream of a real Envoy 1.40."""
    lines = map(json.loads, (RECORDED / "access_log.jsonl").read_text().splitlines())
    return [b64decode(line["data"]) for line in lines if line["stream"] == stream]


def recorded_spans() -> list[bytes]:
    """Exports of a real Envoy 1.40."""
    return [b64decode(json.loads(line)["data"]) for line in (RECORDED / "spans.jsonl").read_text().splitlines()]


def put(address: Address, ip: str, port: int) -> None:
    address.socket_address.address, address.socket_address.port_value = ip, port


def http_entry(record: CheckRecord | None = None, path: str = "/a/b?x=1", **tags: str) -> HTTPAccessLogEntry:
    """An ordinary GET that was answered 200."""
    entry = HTTPAccessLogEntry()
    common = entry.common_properties
    put(common.downstream_remote_address, "8.8.8.8", 0)
    put(common.downstream_direct_remote_address, "10.0.0.9", 40_000)
    put(common.downstream_local_address, "10.0.0.1", 15_006)
    put(common.upstream_remote_address, "127.0.0.1", 8080)
    common.start_time.seconds, common.start_time.nanos = START_S, 500_000_000
    common.duration.nanos = 7_000_000
    common.stream_id = "263c35d9-29e4-9fcd-96b6-d44c44568d2b"
    common.access_log_type = DownstreamEnd
    for name, value in tags.items():
        common.custom_tags[name] = value
    if record is not None:
        write_record(record, common.metadata.filter_metadata[HTTP_FILTER])
    request, response = entry.request, entry.response
    request.request_method, request.scheme = RequestMethod.GET, "http"
    request.authority, request.path, request.user_agent = "reviews:9080", path, "curl/7"
    request.request_headers_bytes, request.request_headers["x-user"] = 340, "bob"
    response.response_code.value, response.response_headers_bytes, response.response_body_bytes = 200, 121, 5
    response.response_headers[":status"] = "200"
    return entry


def tcp_entry(
    kind: AccessLogType.ValueType,
    stream_id: str = "c1",
    received: int = 0,
    sent: int = 0,
    *,
    record: CheckRecord | None = None,
    denied: bool = False,
) -> TCPAccessLogEntry:
    """An event of a connection."""
    entry = TCPAccessLogEntry()
    common = entry.common_properties
    put(common.downstream_direct_remote_address, "10.0.0.9", 40_000)
    put(common.downstream_local_address, "10.0.0.1", 15_006)
    common.start_time.seconds = START_S
    common.stream_id, common.access_log_type = stream_id, kind
    common.custom_tags["flags"] = "UAEX" if denied else "-"
    entry.connection_properties.received_bytes, entry.connection_properties.sent_bytes = received, sent
    if record is not None:
        write_record(record, common.metadata.filter_metadata[TCP_FILTER])
    return entry


def message(
    entries: Iterable[HTTPAccessLogEntry | TCPAccessLogEntry], log_name: str = "", node: str = NODE
) -> StreamAccessLogsMessage:
    """A message; one with a log name is the first of its stream."""
    found = StreamAccessLogsMessage()
    if log_name:
        found.identifier.node.id, found.identifier.log_name = node, log_name
    for entry in entries:
        if isinstance(entry, HTTPAccessLogEntry):
            found.http_logs.log_entry.append(entry)
        else:
            found.tcp_logs.log_entry.append(entry)
    return found


class FakeClient:
    """Composes static attributes by service under what is derived, and remembers the records it gets."""

    def __init__(self, statics: dict[str, dict[str, AttributeValue]] | None = None) -> None:
        self.statics = statics or {}
        self.forwarded: list[str] = []
        self.calls: list[tuple[str, bool, list[AttributeBag]]] = []
        self.back_pressure: Awaitable[None] | None = None

    def compose(
        self, derived: AttributeBag, *, service: str = "", forwarded: str = "", tcp: bool = False
    ) -> AttributeBag:
        self.forwarded.append(forwarded)
        return LayeredBag({}, derived, self.statics.get(service, {}))

    def report(
        self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
    ) -> Awaitable[None] | None:
        self.calls.append((service, tcp, list(records)))
        return self.back_pressure

    @property
    def bags(self) -> list[AttributeBag]:
        return [bag for _, _, records in self.calls for bag in records]

    @property
    def records(self) -> list[dict[str, AttributeValue]]:
        return [read(bag) for bag in self.bags]

    async def check(self, *args: object, **kwargs: object) -> object:
        raise NotImplementedError

    take = check

    def forward(self, *, service: str = "") -> str:
        return ""


def read(bag: AttributeBag) -> dict[str, AttributeValue]:
    """All attributes; every way to read one gives the same."""
    found: dict[str, AttributeValue] = {}
    for name in bag.names():
        value = bag.get(name)
        assert value is not ABSENT
        assert bag.lookup(name, ABSENT) == value == bag.peek(name)
        found[name] = value
    return found


async def stream_of(messages: Iterable[bytes | StreamAccessLogsMessage]) -> AsyncIterator[bytes]:
    for each in messages:
        yield each if isinstance(each, bytes) else each.SerializeToString()


async def logged(
    *messages: bytes | StreamAccessLogsMessage,
    client: FakeClient | None = None,
    metrics: AccessLogMetrics | None = None,
    limits: ConnectionLimits = DEFAULT_LIMITS,
) -> list[dict[str, AttributeValue]]:
    """The records that a stream of messages gives."""
    client = client or FakeClient()
    service = AccessLog(client, metrics or AccessLogMetrics(), limits=limits)  # type: ignore[arg-type]
    assert [answer async for answer in service.stream_access_logs(stream_of(messages))] == [b""]
    return client.records


def sample(metrics: AccessLogMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0
