"""statsd and dogstatsd against a socket. Source: spec adapters 4.12, scenarios 4 to 12, and 5."""

import asyncio
import socket

import pytest

from mixer.adapters.statsd import DOGSTATSD, INFO
from mixer.adapters.statsd.sender import RESOLVE_EVERY_S
from mixer.adapters.testing import assert_handler_lifecycle, build_handler, settle
from mixer.attributes import Duration
from mixer.errors import AdapterError

COUNTER = {"type": "COUNTER"}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "unix:///nowhere/at/all", "no-such-host.invalid:8125"])
@pytest.mark.parametrize("info", [INFO, DOGSTATSD], ids=lambda info: info.name)
async def test_lifecycle(info, address):
    await assert_handler_lifecycle(info, {"address": address})


async def test_instances_become_lines_of_one_datagram(bench, server, instance_info, metric):
    params = {
        "address": server.address,
        "prefix": "p",
        "metrics": {
            "c": COUNTER,
            "g": {"type": "GAUGE"},
            "d": {"type": "DISTRIBUTION"},
            "t": {"type": "COUNTER", "nameTemplate": "{{.apiMethod}}-{{.responseCode}}"},
        },
    }
    known = [instance_info(name) for name in "cgd"]
    handler = await bench.build(params, *known, instance_info("t", apiMethod=1, responseCode=2))
    handler.handle_report([metric("c", 456), metric("g", 123), metric("d", Duration.parse("146ms")), metric("d", 3459)])
    handler.handle_report([metric("t", 1, apiMethod="methodName", responseCode=500)])
    assert server.waiting() == 0
    await bench.clock.advance(0.3)

    (datagram,) = await server.datagrams(1)

    assert datagram.decode().split("\n") == [
        "p.c:456|c",
        "p.g:123|g",
        "p.d:146|ms",
        "p.d:3459|c",
        "p.methodName-500:1|c",
    ]
    assert bench.books() == {"accepted": 5, "sent": 5, "datagrams_sent": 1}
    await handler.aclose()


async def test_datagram_leaves_when_it_is_full(bench, server, instance_info, metric):
    handler = await bench.build(
        {"address": server.address, "flushBytes": 20, "metrics": {"c": COUNTER}}, instance_info("c")
    )
    handler.handle_report([metric("c", 1)] * 7)  # "c:1|c" has 5 bytes, three of them and two newlines 17

    assert await server.datagrams(2) == [b"c:1|c\nc:1|c\nc:1|c"] * 2
    assert bench.books()["buffered"] == 1
    await handler.aclose()
    assert await server.datagrams(1) == [b"c:1|c"]


async def test_valid_instances_are_sent_beside_invalid_ones(bench, server, instance_info, metric):
    handler = await bench.build({"address": server.address, "metrics": {"c": COUNTER}}, instance_info("c"))
    with pytest.raises(AdapterError, match=r"2 of 3 .*could not record.*nowhere"):
        handler.handle_report([metric("c", 1.0), metric("c", 2), metric("nowhere", 3)])
    await handler.aclose()

    assert await server.datagrams(1) == [b"c:2|c"]
    assert bench.books() == {
        "accepted": 3, "sent": 1, "dropped": 2, "unknown_metric": 1, "bad_value": 1, "datagrams_sent": 1,
    }  # fmt: skip


async def test_flush_bytes_of_0_means_the_default_and_is_logged(bench, server, instance_info):
    handler = await bench.build({"address": server.address, "flushBytes": 0, "flushDuration": "0"})
    assert [(line["event"], line["flush_bytes"]) for line in bench.recording.logged] == [
        ("flush_bytes_by_default", 512)
    ]
    await handler.aclose()


async def test_metric_whose_template_fails_is_left_out_with_a_warning(bench, server, instance_info, metric):
    params = {"address": server.address, "metrics": {"c": {**COUNTER, "nameTemplate": "{{printf}}"}, "e": COUNTER}}
    handler = await bench.build(params, instance_info("c"), instance_info("e"))
    warnings = [(line["log_level"], line["metric"]) for line in bench.recording.logged]
    assert warnings == [("warning", "c")]
    with pytest.raises(AdapterError, match="name template"):
        handler.handle_report([metric("c", 1), metric("e", 2)])
    await handler.aclose()
    assert await server.datagrams(1) == [b"e:2|c"]


async def test_metric_that_nobody_routes_is_only_logged(bench, server):
    handler = await bench.build({"address": server.address, "metrics": {"c": COUNTER}})
    assert [(line["log_level"], line["metric"]) for line in bench.recording.logged] == [("info", "c")]
    await handler.aclose()


async def test_sampling_sends_a_share_and_counts_the_rest(bench, server, instance_info, metric):
    params = {"address": server.address, "samplingRate": 0.25, "flushBytes": 1432, "metrics": {"c": COUNTER}}
    handler = await bench.build(params, instance_info("c"))
    handler._chance.seed(4)
    handler.handle_report([metric("c", 1)] * 1000)
    await handler.aclose()
    books = bench.books()
    assert 200 < books["sent"] < 300
    assert books["unsampled"] == 1000 - books["sent"]
    (datagram,) = await server.datagrams(1)
    assert set(datagram.split(b"\n")) == {b"c:1|c|@0.250000"}


@pytest.mark.parametrize(("rate", "sent"), [(0, 0), (3, 5)])
async def test_sampling_rate_beyond_its_ends(bench, server, instance_info, metric, rate, sent):
    handler = await bench.build(
        {"address": server.address, "samplingRate": rate, "metrics": {"c": COUNTER}}, instance_info("c")
    )
    handler.handle_report([metric("c", 1)] * 5)
    await handler.aclose()
    assert bench.books().get("sent", 0) == sent


async def test_dogstatsd_sends_each_line_alone_unless_a_buffer_is_given(bench, server, instance_info, metric):
    params = {
        "address": server.address,
        "prefix": "p",
        "globalTags": {"mesh": "m", "zone": "z"},
        "metrics": {"c": {"name": "calls", "type": "COUNTER", "tags": {"zone": "y", "code": "x"}}},
    }
    handler = await bench.build(params, instance_info("c"), adapter=DOGSTATSD)
    handler.handle_report([metric("c", 1, code=200), metric("c", 2, code=404)])
    assert await server.datagrams(2) == [
        b"p.calls:1|c|#mesh:m,zone:y,code:200",
        b"p.calls:2|c|#mesh:m,zone:y,code:404",
    ]
    await handler.aclose()


async def test_dogstatsd_buffer_leaves_when_full_or_after_100_ms(bench, server, instance_info, metric):
    params = {"address": server.address, "bufferLength": 2, "metrics": {"c": {"name": "n", "type": "COUNTER"}}}
    handler = await bench.build(params, instance_info("c"), adapter=DOGSTATSD)
    handler.handle_report([metric("c", 1), metric("c", 2), metric("c", 3)])
    assert await server.datagrams(1) == [b"istio.n:1|c\nistio.n:2|c"]
    assert server.waiting() == 0
    await bench.clock.advance(0.1)
    assert await server.datagrams(1) == [b"istio.n:3|c"]
    await handler.aclose()


async def test_unix_socket_takes_lines(bench, unix_server, instance_info, metric):
    handler = await bench.build({"address": unix_server.address, "metrics": {"c": COUNTER}}, instance_info("c"))
    handler.handle_report([metric("c", 1)])
    await handler.aclose()
    assert await unix_server.datagrams(1) == [b"c:1|c"]


async def test_reader_that_is_stuck_stalls_nothing_and_losses_are_counted(bench, unix_server, instance_info, metric):
    params = {"address": unix_server.address, "flushBytes": 100, "bufferBytes": 5000, "metrics": {"c": COUNTER}}
    handler = await bench.build(params, instance_info("c"))
    with pytest.raises(AdapterError, match="buffer_full"):
        handler.handle_report([metric("c", 1)] * 10_000)
    books = bench.books()
    assert books["buffer_full"] > 0
    assert 0 < books["buffered"] <= 5000 / 6
    taken = 0
    while "buffered" in bench.books():  # it reads again, so what waited leaves
        taken += unix_server.waiting()
        await bench.clock.advance(0.3)
    assert taken + unix_server.waiting() == bench.books()["datagrams_sent"]
    await handler.aclose()


async def test_unix_server_that_comes_back_gets_what_waited(bench, tmp_path, instance_info, metric):
    path = str(tmp_path / "late")
    handler = await bench.build({"address": f"unix://{path}", "metrics": {"c": COUNTER}}, instance_info("c"))
    handler.handle_report([metric("c", 1)])
    assert bench.books() == {"accepted": 1, "buffered": 1}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
        late.bind(path)
        late.settimeout(2)
        await bench.clock.advance(60)
        assert late.recv(100) == b"c:1|c"
    assert [line["event"] for line in bench.recording.logged][-2:] == ["statsd_server_not_found", "statsd_server_found"]
    await handler.aclose()


async def test_udp_port_where_nothing_listens_is_counted_as_refusals(bench, server, instance_info, metric):
    handler = await bench.build({"address": server.address, "metrics": {"c": COUNTER}}, instance_info("c"))
    server.close()
    for _ in range(3):
        handler.handle_report([metric("c", 1)])
        await bench.clock.advance(0.3)
        await asyncio.sleep(0.01)  # the answer of the host
    await handler.aclose()
    books = bench.books()
    assert books["sent"] == 3
    assert books["datagrams_refused"] >= 1


async def test_name_is_resolved_again_and_the_former_address_kept_when_that_fails(
    bench, server, instance_info, monkeypatch
):
    handler = await bench.build({"address": server.address.replace("127.0.0.1", "localhost")})
    first = handler._sender._socket

    async def fails(*args, **kwargs):
        raise OSError("no more names")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
    await bench.clock.advance(RESOLVE_EVERY_S + 1)
    assert handler._sender._socket is first
    assert "statsd_server_not_found" in [line["event"] for line in bench.recording.logged]
    await handler.aclose()


async def test_instances_after_closing_are_dropped_and_counted(bench, server, instance_info, metric):
    handler = await bench.build({"address": server.address, "metrics": {"c": COUNTER}}, instance_info("c"))
    await handler.aclose()
    with pytest.raises(AdapterError, match="closed"):
        handler.handle_report([metric("c", 1)])
    assert bench.books() == {"accepted": 1, "dropped": 1, "closed": 1}


async def test_line_too_large_for_any_datagram_is_dropped(bench, server, instance_info, metric):
    params = {"address": server.address, "metrics": {"c": {**COUNTER, "nameTemplate": "{{.x}}"}}}
    handler = await bench.build(params, instance_info("c", x=1))
    handler.handle_report([metric("c", 1, x="y" * 70_000), metric("c", 2, x="z" * 2000)])
    await handler.aclose()
    assert len((await server.datagrams(1))[0]) == 2004
    assert bench.books()["too_large"] == 1


async def test_handler_closed_before_its_task_ran_leaves_nothing(bench, server):
    handler = await build_handler(INFO, {"address": server.address}, env=bench.recording)
    await handler.aclose()
    await settle()
    assert bench.recording.running == 0
