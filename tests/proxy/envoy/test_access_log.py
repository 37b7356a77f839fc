"""The access log service: streams in, records out, and nothing lost without a count. Source: spec envoy 4."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence

import grpc
import pytest
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.rpc import Methods
from mixer.attributes import AttributeBag
from mixer.server.transport import TransportKind, new_transport
from proxy.envoy.access_log import MALFORMED, NOT_MAPPED, NOT_TAKEN, AccessLog, AccessLogMetrics
from proxy.envoy.correlation import CheckRecord
from proxy.envoy.gen.accesslog_pb2 import (
    DownstreamPeriodic,
    DownstreamStart,
    NotSet,
    StreamAccessLogsMessage,
    TcpConnectionEnd,
    TcpUpstreamConnected,
)
from proxy.envoy.log_connections import OTHER_TYPE, ConnectionLimits
from proxy.envoy.paths import STREAM_ACCESS_LOGS
from tests.proxy.envoy.log_kit import (
    FakeClient,
    http_entry,
    logged,
    message,
    read,
    recorded,
    sample,
    stream_of,
    tcp_entry,
)

DROPPED = "mixer_access_log_dropped_total"
BROKEN_TEXT = b"\xff\xfe"


def service_of(
    client: FakeClient, metrics: AccessLogMetrics | None = None, limits: ConnectionLimits | None = None
) -> AccessLog:
    return AccessLog(client, metrics or AccessLogMetrics(), limits=limits or ConnectionLimits())  # type: ignore[arg-type]


async def drained(service: AccessLog, requests: AsyncIterator[bytes]) -> None:
    async for _ in service.stream_access_logs(requests):
        pass


async def test_a_hundred_requests_in_four_messages_give_a_hundred_records_in_their_order() -> None:
    client, metrics = FakeClient(), AccessLogMetrics()
    entries = [http_entry(path=f"/{number}") for number in range(100)]
    messages = [message(entries[at : at + 29], "inbound_http" if at == 0 else "") for at in range(0, 100, 29)]

    found = await logged(*messages, client=client, metrics=metrics)

    assert [record["request.path"] for record in found] == [f"/{number}" for number in range(100)]
    assert len(client.calls) == 4
    assert {record["context.reporter.kind"] for record in found} == {"inbound"}  # the name holds for the stream
    assert sample(metrics, "mixer_access_log_entries_total", kind="http") == 100
    assert sample(metrics, "mixer_access_log_records_total", kind="http") == 100


async def test_records_of_a_service_keep_their_order() -> None:
    client = FakeClient()
    entries = [http_entry(CheckRecord(service="ab"[number % 2]), path=f"/{number}") for number in range(6)]

    await logged(message(entries, "inbound_http"), client=client)

    told = [(service, [bag.get("request.path") for bag in bags]) for service, _, bags in client.calls]
    assert told == [("a", ["/0", "/2", "/4"]), ("b", ["/1", "/3", "/5"])]


async def test_entries_that_are_no_end_are_no_records() -> None:
    metrics = AccessLogMetrics()
    entries = [http_entry() for _ in range(4)]
    for entry, kind in zip(entries, (DownstreamStart, DownstreamPeriodic, NotSet), strict=False):
        entry.common_properties.access_log_type = kind

    assert len(await logged(message(entries, "inbound_http"), metrics=metrics)) == 1
    assert sample(metrics, DROPPED, reason=OTHER_TYPE) == 3


async def test_streams_keep_their_own_names() -> None:
    client = FakeClient()
    service = service_of(client)
    first, second = asyncio.Queue[bytes | None](), asyncio.Queue[bytes | None]()

    async def of(queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        while (data := await queue.get()) is not None:
            yield data

    tasks = [asyncio.create_task(drained(service, of(queue))) for queue in (first, second)]
    for queue, name in ((first, "inbound_http"), (second, "outbound_http")):
        queue.put_nowait(message([], name).SerializeToString())
    for queue in (first, second, first):
        queue.put_nowait(message([http_entry()]).SerializeToString())
        await asyncio.sleep(0.01)
    first.put_nowait(None)
    second.put_nowait(None)
    await asyncio.gather(*tasks)

    assert [bag.get("context.reporter.kind") for bag in client.bags] == ["inbound", "outbound", "inbound"]


async def test_a_first_message_of_sixty_kilobytes_is_an_ordinary_one() -> None:
    first = message([http_entry()], "inbound_http")
    first.identifier.node.metadata.update({f"extension{n}": {"version": "1" * 80} for n in range(493)})

    (found,) = await logged(first)

    assert first.ByteSize() > 50_000
    assert found["context.reporter.uid"] == "kubernetes://reviews-1.ns2"


async def test_the_node_may_be_named_by_its_metadata_or_by_nothing() -> None:
    named, nameless = message([http_entry()], "inbound_http", "n1"), message([http_entry()], "inbound_http", "n1")
    named.identifier.node.metadata.update({"NODE_UID": "kubernetes://a.b", "NODE_NAMESPACE": "b"})

    first, second = await logged(named, nameless)

    assert first["destination.uid"] == "kubernetes://a.b"
    assert "destination.uid" not in second


# What is wrong


async def test_a_malformed_message_is_counted_and_the_stream_goes_on() -> None:
    metrics = AccessLogMetrics()

    found = await logged(b"\xff\xff\xff", message([http_entry()], "inbound_http"), b"\x0a", metrics=metrics)

    assert len(found) == 1
    assert sample(metrics, "mixer_access_log_malformed_messages_total") == 2


@pytest.mark.parametrize("log_name", ["inbound_http", ""])
async def test_a_text_that_is_none_is_made_one_and_costs_nothing(log_name: str) -> None:
    metrics = AccessLogMetrics()
    whole = message([http_entry(path=path) for path in ("/1", "/@@", "/3")], log_name).SerializeToString()

    found = await logged(whole.replace(b"/@@", b"/" + BROKEN_TEXT), metrics=metrics)

    assert [record["request.path"] for record in found] == ["/1", f"/{BROKEN_TEXT.decode(errors='replace')}", "/3"]
    assert [record.get("context.reporter.kind") for record in found] == [log_name.partition("_")[0] or None] * 3
    assert sample(metrics, DROPPED, reason=MALFORMED) == 0
    assert sample(metrics, "mixer_access_log_entries_total", kind="http") == 3


async def test_a_text_that_is_none_costs_no_connection_event() -> None:
    metrics = AccessLogMetrics()
    entries = [tcp_entry(TcpConnectionEnd, name, 5) for name in ("c1", "@@", "c3")]
    whole = message(entries, "inbound_tcp").SerializeToString()

    found = await logged(whole.replace(b"@@", BROKEN_TEXT), metrics=metrics)

    assert [record["connection.id"] for record in found] == ["c1", BROKEN_TEXT.decode(errors="replace"), "c3"]
    assert sample(metrics, DROPPED, reason=MALFORMED) == 0


async def test_an_entry_that_is_no_entry_costs_only_itself() -> None:
    metrics = AccessLogMetrics()
    whole = message([http_entry(path=path) for path in ("/1", "/2")], "x")
    broken = b"\x0a\x01\xff"  # common_properties that end too early
    logs = whole.http_logs.SerializeToString() + b"\x0a" + bytes((len(broken),)) + broken
    data = StreamAccessLogsMessage(identifier=whole.identifier).SerializeToString()
    data += b"\x12" + bytes((len(logs) & 127 | 128, len(logs) >> 7)) + logs

    found = await logged(data, metrics=metrics)

    assert [record["request.path"] for record in found] == ["/1", "/2"]
    assert sample(metrics, DROPPED, reason=MALFORMED) == 1


async def test_an_identifier_that_cannot_be_read_costs_only_itself() -> None:
    whole = message([http_entry()], "@@").SerializeToString()

    (found,) = await logged(whole.replace(b"@@", BROKEN_TEXT))

    assert "context.reporter.kind" not in found


async def test_an_entry_that_cannot_be_mapped_costs_no_other() -> None:
    class Picky(FakeClient):
        def compose(
            self, derived: AttributeBag, *, service: str = "", forwarded: str = "", tcp: bool = False
        ) -> AttributeBag:
            if service == "bad":
                raise RuntimeError("no")
            return super().compose(derived, service=service, forwarded=forwarded, tcp=tcp)

    metrics = AccessLogMetrics()
    bad = CheckRecord(service="bad")
    requests = [http_entry(), http_entry(bad), http_entry()]
    connections = [tcp_entry(TcpConnectionEnd, "a", record=bad), tcp_entry(TcpConnectionEnd, "b")]

    found = await logged(message(requests, "x"), message(connections), client=Picky(), metrics=metrics)

    assert len(found) == 3
    assert sample(metrics, DROPPED, reason=NOT_MAPPED) == 2


async def test_a_client_that_breaks_its_word_costs_its_records_and_not_the_stream() -> None:
    class Broken(FakeClient):
        def report(
            self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
        ) -> Awaitable[None] | None:
            if not self.calls:
                super().report(records)
                raise RuntimeError("no")
            return super().report(records, service=service, tcp=tcp)

    client, metrics = Broken(), AccessLogMetrics()

    await logged(message([http_entry()] * 2, "x"), message([http_entry()] * 3), client=client, metrics=metrics)

    assert sample(metrics, DROPPED, reason=NOT_TAKEN) == 2
    assert sample(metrics, "mixer_access_log_records_total", kind="http") == 3


async def test_tags_that_are_no_attributes_are_counted() -> None:
    metrics = AccessLogMetrics()

    (found,) = await logged(message([http_entry(**{"a.b:int64": "five", "c.d": "e"})], "x"), metrics=metrics)

    assert found["c.d"] == "e"
    assert sample(metrics, "mixer_access_log_faulty_tags_total") == 1


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from(recorded("inbound_http") + recorded("inbound_tcp")), max_size=4),
    st.data(),
)
def test_any_bytes_are_taken(messages: list[bytes], data: st.DataObject) -> None:
    async def take() -> None:
        client = FakeClient()
        service = service_of(client)
        await drained(service, stream_of(messages))
        for bag in client.bags:
            read(bag)

    for number, each in enumerate(messages):
        if each and data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(each) - 1))
            messages[number] = each[:at] + data.draw(st.binary(max_size=3)) + each[at + data.draw(st.integers(0, 3)) :]
    asyncio.run(take())


# Time and back-pressure


async def test_a_report_that_waits_holds_back_the_stream() -> None:
    client = FakeClient()
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    client.back_pressure = gate
    asked: list[int] = []

    async def messages() -> AsyncIterator[bytes]:
        for number in range(3):
            asked.append(number)
            yield message([http_entry()], "x").SerializeToString()

    task = asyncio.create_task(drained(service_of(client), messages()))
    for _ in range(20):
        await asyncio.sleep(0)

    assert asked == [0]
    gate.set_result(None)
    await task
    assert asked == [0, 1, 2]


async def test_an_opening_is_told_while_its_stream_is_silent() -> None:
    told = asyncio.Event()

    class Telling(FakeClient):
        def report(
            self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
        ) -> Awaitable[None] | None:
            told.set()
            return super().report(records, service=service, tcp=tcp)

    client, metrics = Telling(), AccessLogMetrics()
    silence = asyncio.Event()

    async def messages() -> AsyncIterator[bytes]:
        yield message([tcp_entry(TcpUpstreamConnected)], "inbound_tcp").SerializeToString()
        await silence.wait()

    service = service_of(client, metrics, ConnectionLimits(hold_s=0.01))
    task = asyncio.create_task(drained(service, messages()))
    async with asyncio.timeout(5):
        await told.wait()

    assert [bag.get("connection.event") for bag in client.bags] == ["open"]
    assert sample(metrics, "mixer_access_log_streams") == 1
    silence.set()
    await task
    assert sample(metrics, "mixer_access_log_streams") == 0
    assert sample(metrics, "mixer_access_log_connections") == 1


@pytest.mark.parametrize("hold_s", [60.0, 0.0], ids=["while it waits", "while it is reported"])
async def test_a_stream_that_is_cut_off_with_an_opening_leaves_no_task(hold_s: float) -> None:
    async def messages() -> AsyncIterator[bytes]:
        yield message([tcp_entry(TcpUpstreamConnected)], "inbound_tcp").SerializeToString()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    client, metrics = FakeClient(), AccessLogMetrics()
    client.back_pressure = asyncio.get_running_loop().create_future()
    service = service_of(client, metrics, ConnectionLimits(hold_s=hold_s))
    task = asyncio.create_task(drained(service, messages()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert asyncio.all_tasks() == before
    assert sample(metrics, "mixer_access_log_streams") == 0


@pytest.mark.parametrize("kind", TransportKind)
async def test_the_service_is_a_method_of_every_transport(kind: TransportKind) -> None:
    client = FakeClient()
    transport = new_transport(kind, Methods() | service_of(client).methods)
    port = await transport.bind("127.0.0.1:0")
    await transport.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.stream_unary(STREAM_ACCESS_LOGS)(stream_of(recorded("inbound_http")), timeout=5)
            assert await call == b""
            broken = channel.stream_unary(STREAM_ACCESS_LOGS)()
            await broken.write(StreamAccessLogsMessage().SerializeToString())
            broken.cancel()
            with pytest.raises((asyncio.CancelledError, grpc.RpcError)):
                await broken
    finally:
        await transport.stop(0.5)

    assert len(client.bags) == 15
