"""The life of connections. Source: spec envoy 4.3 and 10 (14, 15, 22), spec proxy 4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.attributes import Duration, Timestamp
from proxy.envoy.access_log import AccessLog, AccessLogMetrics
from proxy.envoy.correlation import CheckRecord
from proxy.envoy.gen.accesslog_pb2 import NotSet, TcpConnectionEnd, TcpPeriodic, TcpUpstreamConnected
from proxy.envoy.log_connections import (
    DEFAULT_LIMITS,
    DENIED_OPEN,
    FORGOTTEN_OPEN,
    NOT_TRACKED,
    OTHER_TYPE,
    REPEATED_OPEN,
    ConnectionLimits,
    Connections,
)
from proxy.envoy.log_entry import log_stream
from proxy.envoy.log_tcp import CONNECTION, EVENT_ROWS, MERGES, Event, TcpEntry, connection_bag, event_bag
from proxy.envoy.recent import RecentChecks
from tests.proxy.envoy.log_kit import START_S, FakeClient, logged, message, recorded, sample, stream_of, tcp_entry

STREAM = log_stream("n", "inbound_tcp")
NOW = Timestamp(START_S * 10**9 + 10)
OPEN, CONTINUE, CLOSE = TcpUpstreamConnected, TcpPeriodic, TcpConnectionEnd
ALLOWED = CheckRecord(check_cache_hit=True, attributes={"source.principal": "p"})


class Table:
    """Connections with their drops in a list."""

    def __init__(self, limits: ConnectionLimits = DEFAULT_LIMITS) -> None:
        self.drops: list[str] = []
        self.resumed: list[None] = []
        self.recent = RecentChecks()
        self.connections = Connections(
            self.drops.append, lambda: self.resumed.append(None), limits, wall=lambda: NOW, recent=self.recent
        )

    def take(self, *entries: object, at: float = 0.0) -> list[tuple[str, int, int, int, int]]:
        events = [event for entry in entries for event in self.connections.take(STREAM, entry, at)]  # type: ignore[arg-type]
        return shown(events)

    def due(self, at: float) -> list[tuple[str, int, int, int, int]]:
        return shown(self.connections.due(at))


def shown(events: list[TcpEntry]) -> list[tuple[str, int, int, int, int]]:
    return [
        (str(e.event), e.traffic.received, e.traffic.sent, e.traffic.received_total, e.traffic.sent_total)
        for e in events
    ]


def test_a_short_connection_opens_and_closes() -> None:
    table = Table()

    assert table.take(tcp_entry(OPEN)) == []
    assert table.take(tcp_entry(CLOSE, received=5, sent=10, record=ALLOWED)) == [
        ("open", 0, 0, 0, 0),
        ("close", 5, 10, 5, 10),
    ]
    assert len(table.connections) == 0
    assert table.connections.next_due is None


def test_a_long_connection_continues_with_what_is_new() -> None:
    table = Table()

    assert table.take(
        tcp_entry(OPEN),
        tcp_entry(CONTINUE, received=100, sent=200),
        tcp_entry(CONTINUE, received=150, sent=300),
        tcp_entry(CONTINUE, received=191, sent=382),
        tcp_entry(CLOSE, received=200, sent=400),
    ) == [
        ("open", 0, 0, 0, 0),
        ("continue", 100, 200, 100, 200),
        ("continue", 50, 100, 150, 300),
        ("continue", 41, 82, 191, 382),
        ("close", 9, 18, 200, 400),
    ]


def test_a_denied_connection_only_closes() -> None:
    table = Table()

    events = table.take(tcp_entry(OPEN), tcp_entry(CLOSE, received=10, denied=True))

    assert events == [("close", 10, 0, 10, 0)]
    assert table.drops == [DENIED_OPEN]


def test_an_opening_waits_for_a_moment_only() -> None:
    table = Table()
    table.take(tcp_entry(OPEN, "a"), at=10.0)
    table.take(tcp_entry(OPEN, "b"), at=10.5)

    assert table.connections.next_due == 11.0
    assert table.due(10.9) == []
    assert table.due(11.0) == [("open", 0, 0, 0, 0)]
    assert table.connections.next_due == 11.5
    assert table.take(tcp_entry(CLOSE, "a", 1, 2), at=11.2) == [("close", 1, 2, 1, 2)]
    assert table.take(tcp_entry(CLOSE, "b", denied=True), at=11.2) == [("close", 0, 0, 0, 0)]
    assert table.connections.next_due is None
    assert table.due(99.0) == []


def test_an_opening_that_has_waited_says_what_its_check_knew() -> None:
    table = Table()
    table.recent.put("a", ALLOWED)
    table.take(tcp_entry(OPEN, "a"), tcp_entry(OPEN, "b"), at=10.0)

    known, unknown = table.connections.due(11.0)
    assert (known.record, unknown.record) == (ALLOWED, None)
    bag = event_bag(known, connection_bag(known))
    assert (bag.get("source.principal"), bag.get("check.cache_hit")) == ("p", True)
    assert len(table.recent) == 0


def test_an_opening_that_has_waited_is_dropped_when_its_check_denied() -> None:
    table = Table()
    table.take(tcp_entry(OPEN), at=10.0)
    table.recent.put("c1", CheckRecord(code=7))

    assert table.due(11.0) == []
    assert table.drops == [DENIED_OPEN]


def test_the_record_of_a_later_entry_wins_over_the_recent_check() -> None:
    table = Table()
    table.recent.put("c1", CheckRecord(attributes={"source.principal": "q"}))
    table.take(tcp_entry(OPEN))

    opened, _ = table.connections.take(STREAM, tcp_entry(CONTINUE, received=1, record=ALLOWED), 0.5)
    assert connection_bag(opened).get("source.principal") == "p"


def test_recent_checks_are_bounded() -> None:
    recent = RecentChecks(2)
    for name in "abca":
        recent.put(name, ALLOWED)

    assert [recent.take(name) for name in "abc"] == [ALLOWED, None, ALLOWED]
    assert recent.take("a") is None


def test_connections_do_not_mix() -> None:
    table = Table()

    table.take(
        tcp_entry(OPEN, "a"), tcp_entry(OPEN, "b"), tcp_entry(CONTINUE, "a", 10, 0), tcp_entry(CONTINUE, "b", 1, 0)
    )

    assert table.take(tcp_entry(CLOSE, "b", 3, 0), tcp_entry(CLOSE, "a", 11, 0)) == [
        ("close", 2, 0, 3, 0),
        ("close", 1, 0, 11, 0),
    ]
    assert Table().take(tcp_entry(CLOSE, "b", 3, 0)) == [("close", 3, 0, 3, 0)]


def test_what_was_never_opened_continues_and_closes() -> None:
    table = Table()

    assert table.take(tcp_entry(CONTINUE, received=7), tcp_entry(CLOSE, received=9)) == [
        ("continue", 7, 0, 7, 0),
        ("close", 2, 0, 9, 0),
    ]


def test_a_connection_that_is_older_than_its_stream_counts_from_where_it_was_found() -> None:
    table = Table()
    stream = log_stream("n", "inbound_tcp", since=Timestamp(START_S * 10**9 + 1))
    entries = [tcp_entry(CONTINUE, received=70), tcp_entry(CONTINUE, received=75), tcp_entry(CLOSE, received=79)]

    events = [event for entry in entries for event in table.connections.take(stream, entry, 0.0)]

    assert shown(events) == [("continue", 0, 0, 70, 0), ("continue", 5, 0, 75, 0), ("close", 4, 0, 79, 0)]
    assert len(table.resumed) == 1


def test_the_end_of_a_connection_that_is_older_than_its_stream_has_all_its_bytes() -> None:
    table = Table()
    stream = log_stream("n", "inbound_tcp", since=Timestamp(START_S * 10**9 + 1))

    assert shown(table.connections.take(stream, tcp_entry(CLOSE, received=79), 0.0)) == [("close", 79, 0, 79, 0)]


def test_totals_that_shrink_give_no_negative_bytes() -> None:
    table = Table()

    assert table.take(tcp_entry(CONTINUE, received=7), tcp_entry(CLOSE, received=2, sent=1)) == [
        ("continue", 7, 0, 7, 0),
        ("close", 0, 1, 2, 1),
    ]


def test_an_opening_that_comes_twice_counts_once() -> None:
    table = Table()

    table.take(tcp_entry(OPEN), tcp_entry(OPEN), tcp_entry(CONTINUE), tcp_entry(OPEN))

    assert table.drops == [REPEATED_OPEN, REPEATED_OPEN]


def test_other_types_are_dropped() -> None:
    table = Table()

    assert table.take(tcp_entry(NotSet)) == []
    assert table.drops == [OTHER_TYPE]


def test_of_connections_beyond_the_bound_only_the_end_is_told() -> None:
    table = Table(ConnectionLimits(connections=1))
    table.take(tcp_entry(OPEN, "a"))

    assert table.take(tcp_entry(OPEN, "b"), tcp_entry(CONTINUE, "b", 5, 0)) == []
    assert table.take(tcp_entry(CLOSE, "b", 9, 0)) == [("close", 9, 0, 9, 0)]
    assert table.drops == [NOT_TRACKED, NOT_TRACKED]
    assert len(table.connections) == 1


def test_entries_without_an_id_are_not_mixed_up() -> None:
    table = Table()

    assert table.take(tcp_entry(OPEN, ""), tcp_entry(CONTINUE, "", 5, 0)) == []
    assert table.take(tcp_entry(CLOSE, "", 9, 0)) == [("close", 9, 0, 9, 0)]
    assert table.drops == [NOT_TRACKED, NOT_TRACKED]


def test_idle_connections_are_forgotten() -> None:
    table = Table(ConnectionLimits(idle_s=60))
    table.take(tcp_entry(OPEN, "a"), at=0)
    table.take(tcp_entry(CONTINUE, "b", 5, 0), at=10)
    table.take(tcp_entry(CONTINUE, "c", 5, 0), at=20)
    table.take(tcp_entry(CONTINUE, "b", 6, 0), at=30)

    table.connections.forget_idle(85)

    assert table.drops == [FORGOTTEN_OPEN]
    assert len(table.connections) == 1
    assert table.take(tcp_entry(CLOSE, "b", 7, 0), at=86) == [("close", 1, 0, 7, 0)]
    assert table.due(1e9) == []


KINDS = st.sampled_from([OPEN, CONTINUE, CLOSE])
STEPS = st.lists(
    st.tuples(KINDS, st.sampled_from("abc"), st.integers(0, 50), st.booleans(), st.floats(0, 2)), max_size=40
)


@given(STEPS)
def test_bytes_of_continue_and_close_add_up_to_the_totals(steps: list[tuple[int, str, int, bool, float]]) -> None:
    table = Table(ConnectionLimits(connections=2))
    now = 0.0
    totals = dict.fromkeys("abc", 0)
    told = dict.fromkeys("abc", 0)
    living: set[str] = set()
    for kind, name, more, denied, pause in steps:
        now += pause
        totals[name] += more
        events = table.connections.take(STREAM, tcp_entry(kind, name, totals[name], denied=denied), now)
        for event in [*events, *table.connections.due(now)]:
            if event.event is not Event.OPEN:
                told[name] += event.traffic.received
        assert told[name] <= totals[name]
        if kind == CLOSE:
            assert told[name] == totals[name]
            totals[name] = told[name] = 0
            living.discard(name)
        else:
            living.add(name)
        assert len(table.connections) <= min(2, len(living))


# As records


def test_the_tables_have_every_attribute_of_a_connection() -> None:
    identity = ("source.principal", "source.user", "source.namespace", "destination.principal", "connection.mtls")
    connection = {
        *identity,
        "connection.requested_server_name",
        "connection.id",
        "context.protocol",
        "source.ip",
        "origin.ip",
    }
    any_event = {
        *("connection.event", "context.time", "context.proxy_error_code", "check.cache_hit", "quota.cache_hit"),
        *(f"connection.{side}.{what}" for side in ("received", "sent") for what in ("bytes", "bytes_total")),
        *("destination.uid", "rbac.permissive.response_code", "rbac.permissive.effective_policy_id"),
    }

    assert {*CONNECTION} == {*connection, "context.reporter.kind"}
    assert {*MERGES} == {"destination.ip", "destination.port"}
    assert {*EVENT_ROWS[Event.OPEN]} == {*EVENT_ROWS[Event.CONTINUE]} == any_event
    assert {*EVENT_ROWS[Event.CLOSE]} == {*any_event, "connection.duration", "check.error_code", "check.error_message"}


async def test_an_opening_has_the_identity_and_the_verdict_of_what_comes_later() -> None:
    opening, later = tcp_entry(OPEN), tcp_entry(CONTINUE, received=3, record=ALLOWED)

    first, second = await logged(message([opening, later], "inbound_tcp"))

    assert first["connection.event"] == "open"
    assert first["connection.received.bytes"] == 0
    assert first["source.principal"] == second["source.principal"] == "p"
    assert first["check.cache_hit"] is True
    assert first["context.time"] == Timestamp(START_S * 10**9)


async def test_a_denial_is_told_at_the_close_only() -> None:
    record = CheckRecord(code=16, attributes={"a.b": "c"})
    ending = tcp_entry(CLOSE, received=10, record=record, denied=True)
    ending.common_properties.duration.seconds = 2

    (found,) = await logged(message([tcp_entry(OPEN), ending], "inbound_tcp"))

    assert found == {
        "a.b": "c",
        "connection.id": "c1",
        "connection.event": "close",
        "connection.mtls": False,
        "check.error_code": 16,
        "check.error_message": "UNAUTHENTICATED",
        "check.cache_hit": False,
        "quota.cache_hit": False,
        "connection.duration": Duration(2 * 10**9),
        "connection.received.bytes": 10,
        "connection.received.bytes_total": 10,
        "connection.sent.bytes": 0,
        "connection.sent.bytes_total": 0,
        "context.protocol": "tcp",
        "context.proxy_error_code": "UAEX",
        "context.reporter.kind": "inbound",
        "context.reporter.uid": "kubernetes://reviews-1.ns2",
        "context.time": Timestamp((START_S + 2) * 10**9),
        "destination.ip": bytes((10, 0, 0, 1)),  # no host was chosen
        "destination.port": 15006,
        "destination.uid": "kubernetes://reviews-1.ns2",
        "destination.namespace": "ns2",
        "source.ip": bytes((10, 0, 0, 9)),
        "origin.ip": bytes((10, 0, 0, 9)),
    }


async def test_a_stream_that_breaks_and_comes_again_counts_nothing_twice() -> None:
    client, metrics = FakeClient(), AccessLogMetrics()
    service = AccessLog(client, metrics)  # type: ignore[arg-type]
    before = [tcp_entry(OPEN), tcp_entry(CONTINUE, received=100)]
    after = [tcp_entry(CONTINUE, received=150), tcp_entry(CLOSE, received=160)]

    for entries in (before, after):
        async for _ in service.stream_access_logs(stream_of([message(entries, "inbound_tcp")])):
            pass

    assert [(r["connection.event"], r["connection.received.bytes"]) for r in client.records] == [
        ("open", 0),
        ("continue", 100),
        ("continue", 50),
        ("close", 10),
    ]
    assert sample(metrics, "mixer_access_log_connections") == 0
    assert sample(metrics, "mixer_access_log_resumed_connections_total") == 0


async def test_a_stream_that_comes_to_another_process_counts_nothing_twice() -> None:
    found = await logged(message([tcp_entry(CONTINUE, received=150), tcp_entry(CLOSE, received=160)], "inbound_tcp"))

    assert [(r["connection.event"], r["connection.received.bytes"]) for r in found] == [("continue", 0), ("close", 10)]


REAL = [
    *[("open", 0, 0), ("close", 5, 10)],
    *[("open", 0, 0), ("continue", 100, 200), ("continue", 50, 100), ("continue", 41, 82), ("close", 0, 0)],
    *[("open", 0, 0), ("continue", 0, 0), ("close", 0, 0)],
]


async def test_the_connections_of_a_real_envoy_give_these_records() -> None:
    client = FakeClient()

    found = await logged(*recorded("inbound_tcp"), client=client)

    by_connection: dict[object, list[tuple[object, ...]]] = {}
    for r in found:
        told = (r["connection.event"], r["connection.received.bytes"], r["connection.sent.bytes"])
        by_connection.setdefault(r["connection.id"], []).append(told)
    assert [event for events in by_connection.values() for event in events] == REAL
    assert all(tcp for _, tcp, _ in client.calls)
    silent = found[-1]
    assert silent["check.cache_hit"] is True  # the check ran when the client closed its side
    assert silent["connection.duration"] == Duration(1_506_353_388)


async def test_identity_of_a_real_tls_connection_stands_in_its_opening() -> None:
    opening, closing = await logged(*recorded("inbound_tcps"))

    for record in (opening, closing):
        assert record["source.principal"] == "cluster.local/ns/ns1/sa/client"
        assert record["connection.mtls"] is True
    assert opening["connection.event"] == "open"


async def test_a_denied_connection_of_a_real_envoy_only_closes() -> None:
    metrics = AccessLogMetrics()

    (found,) = await logged(*recorded("inbound_tcpdeny"), metrics=metrics)

    assert found["check.error_message"] == "PERMISSION_DENIED:shish"
    assert found["connection.received.bytes_total"] == 10
    assert found["connection.sent.bytes_total"] == 0
    assert sample(metrics, "mixer_access_log_dropped_total", reason=DENIED_OPEN) == 1


@pytest.mark.parametrize("count", [1, 1000])
def test_waiting_openings_cost_no_more_than_their_number(count: int) -> None:
    table = Table()
    for number in range(count):
        table.take(tcp_entry(OPEN, str(number)))
        table.take(tcp_entry(CLOSE, str(number)))

    assert table.connections.next_due is None
    assert len(table.connections) == 0
