from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mixer.api.codes import Code
from mixer.attributes import AttributeValue, Duration, Timestamp
from proxy.client import PASS_THROUGH, LocalNode, SidecarClient, TcpClientConfig, TcpConnection, read_config
from tests.proxy.client.fakes import FakeMixer, answer, config, granted, until, values, verdict_of

PEER: dict[str, AttributeValue] = {"source.ip": b"\x7f\0\0\x01", "origin.ip": b"\x7f\0\0\x01", "connection.mtls": False}
LOCAL: dict[str, AttributeValue] = {"destination.ip": b"\x0a\0\0\x01", "destination.port": 5432}


class Time:
    def __init__(self) -> None:
        self.now_s = 50.0

    def monotonic_ns(self) -> int:
        return int(self.now_s * 1e9)

    def wall_ns(self) -> int:
        return int((1_000_000 + self.now_s) * 1e9)


class Bench:
    def __init__(self, **tcp: Any) -> None:
        self.mixer = FakeMixer(reply=answer({("connection.mtls", ""): 2}))
        self.time = Time()
        found, problems = read_config(TcpClientConfig, {"transport": PASS_THROUGH.model_dump(), **tcp})
        assert found is not None, problems
        self.client = SidecarClient(self.mixer, config(), found, node=LocalNode("kubernetes://db.ns", "ns"))
        self.interval_s = found.report_interval_s
        self.connections: list[TcpConnection] = []

    def accept(self, interval_s: float | None = None) -> TcpConnection:
        self.connections.append(
            TcpConnection(
                self.client,
                f"uuid-{len(self.connections)}",
                local=LOCAL,
                report_interval_s=interval_s or self.interval_s,
                monotonic_ns=self.time.monotonic_ns,
                wall_ns=self.time.wall_ns,
            )
        )
        return self.connections[-1]

    @property
    def records(self) -> list[dict[str, AttributeValue]]:
        return [values(bag) for batch in self.mixer.reports for bag in batch]


@pytest.fixture
async def close_all() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        for connection in bench.connections:
            connection.close()
            await connection.wait_reported()
        await bench.client.aclose(1.0)
    assert len(asyncio.all_tasks()) == 1


@pytest.fixture
def bench(close_all: list[Bench]) -> Bench:
    close_all.append(Bench())
    return close_all[-1]


def bytes_of(record: dict[str, AttributeValue]) -> tuple[Any, ...]:
    return tuple(
        record[f"connection.{name}"]
        for name in ("received.bytes", "sent.bytes", "received.bytes_total", "sent.bytes_total")
    )


async def test_allowed_connection_is_checked_once_and_reported_at_both_ends(bench: Bench) -> None:
    """Scenario 36."""
    connection = bench.accept()
    assert (await verdict_of(connection.check(PEER))).ok
    connection.opened()
    connection.count(received=5, sent=7)
    connection.upstream({"destination.ip": b"\x0a\0\0\x02", "destination.uid": "kubernetes://up.ns"})
    bench.time.now_s += 1.5
    connection.close()
    connection.close()
    await connection.wait_reported()
    assert values(bench.mixer.calls[0].bag) == {
        **PEER,
        "context.protocol": "tcp",
        "context.time": Timestamp(1_000_050 * 10**9),
        "context.reporter.uid": "kubernetes://db.ns",
        "destination.uid": "kubernetes://db.ns",
        "destination.namespace": "ns",
        "connection.id": "uuid-0",
    }
    opened, closed = bench.records
    assert (opened["connection.event"], closed["connection.event"]) == ("open", "close")
    assert "connection.duration" not in opened
    assert closed["connection.duration"] == Duration.parse("1.5s")
    assert closed["context.time"] == Timestamp(int(1_000_051.5 * 10**9))
    assert (opened["destination.ip"], closed["destination.ip"]) == (b"\x0a\0\0\x01", b"\x0a\0\0\x02")
    assert closed["destination.uid"] == "kubernetes://up.ns"
    assert closed["destination.port"] == 5432
    assert {r["check.cache_hit"] for r in (opened, closed)} == {False}
    assert bytes_of(opened) == (0, 0, 0, 0)
    assert bytes_of(closed) == (5, 7, 5, 7)


async def test_denied_connection_has_one_record_with_the_reason(bench: Bench) -> None:
    """Scenario 37."""
    bench.mixer.reply = answer(code=Code.UNAUTHENTICATED)
    connection = bench.accept()
    assert not (await verdict_of(connection.check(PEER))).ok
    connection.count(received=4)
    connection.close()
    await connection.wait_reported()
    (record,) = bench.records
    assert record["connection.event"] == "close"
    assert (record["check.error_code"], record["check.error_message"]) == (16, "UNAUTHENTICATED")
    assert record["connection.sent.bytes"] == 0
    assert record["destination.ip"] == LOCAL["destination.ip"]


async def test_base_of_the_deltas_moves_at_continue_only(bench: Bench) -> None:
    """Scenario 38: both ``open`` and the first ``continue`` contain what came before ``open``."""
    connection = bench.accept(interval_s=0.02)
    await verdict_of(connection.check(PEER))
    connection.count(received=191, sent=191)
    connection.opened()
    await until(lambda: len(bench.mixer.reports) >= 2)
    connection.close()
    await connection.wait_reported()
    assert [r["connection.event"] for r in bench.records] == ["open", "continue", "close"]
    assert [bytes_of(r) for r in bench.records] == [(191, 191, 191, 191), (191, 191, 191, 191), (0, 0, 191, 191)]
    await asyncio.sleep(0.04)
    assert len(bench.mixer.reports) == 3


async def test_unchecked_connection_says_nothing_of_a_check(close_all: list[Bench]) -> None:
    """Scenario 39."""
    bench = Bench(disable_check_calls=True)
    close_all.append(bench)
    connection = bench.accept()
    assert (await verdict_of(connection.check(PEER))).ok
    connection.opened()
    connection.close()
    await connection.wait_reported()
    assert not bench.mixer.calls
    assert [r["connection.event"] for r in bench.records] == ["open", "close"]
    assert not any(name.startswith(("check.", "quota.")) for r in bench.records for name in r)


async def test_connection_without_data_is_reported_once_and_never_checked(bench: Bench) -> None:
    connection = bench.accept()
    connection.close(PEER)
    await connection.wait_reported()
    assert not bench.mixer.calls
    (record,) = bench.records
    assert (record["connection.event"], record["source.ip"]) == ("close", PEER["source.ip"])
    assert "check.cache_hit" not in record


async def test_filter_metadata_is_told_once(bench: Bench) -> None:
    connection = bench.accept()
    await verdict_of(connection.check(PEER))
    connection.opened()
    connection.filter_metadata({"envoy.filters.network.mongo_proxy": {"db": "insert"}})
    connection.close()
    await connection.wait_reported()
    assert [r.get("envoy.filters.network.mongo_proxy") for r in bench.records] == [None, {"db": "insert"}]


async def test_static_address_is_not_replaced(close_all: list[Bench]) -> None:
    bench = Bench(mixer_attributes={"destination.port": 1})
    close_all.append(bench)
    connection = bench.accept()
    connection.close(PEER)
    await connection.wait_reported()
    assert bench.records[0]["destination.port"] == 1


async def test_connection_is_charged_once_and_counted_apart(close_all: list[Bench]) -> None:
    quotas = {"rules": [{"quotas": [{"quota": "connections", "charge": 1}]}]}
    bench = Bench(connection_quota_spec=quotas)
    close_all.append(bench)
    bench.mixer.reply = answer(quotas={"connections": granted(0)})
    verdict = await verdict_of(bench.accept().check(PEER))
    assert verdict.code == Code.RESOURCE_EXHAUSTED
    assert bench.client.counters(tcp=True).quota_calls == 1
    assert bench.client.counters().check_calls == 0


async def test_nothing_happens_without_configuration_for_connections() -> None:
    mixer = FakeMixer()
    client = SidecarClient(mixer, config())
    connection = TcpConnection(client, "x", local=LOCAL)
    assert not (await verdict_of(connection.check(PEER))).checked
    connection.opened()
    connection.close()
    await client.aclose(1.0)
    assert not mixer.calls
    assert not mixer.reports
