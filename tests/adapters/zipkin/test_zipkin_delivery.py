"""Spans arrive at a Zipkin collector, through everything that a collector and a network may do."""

import json

import pytest

from tests.adapters.spans.kit import numbered


def arrived(collector):
    return sorted(int(span["id"], 16) - 1 for _, _, body in collector.requests for span in json.loads(body))


def report(handler, *numbers):
    handler.handle_report([numbered(n) for n in numbers])


async def test_batch_is_a_json_list(bench, collector):
    handler = await bench.build(headers={"Authorization": "Bearer hunter2"})
    handler.handle_report([numbered(1, destination_name="a"), numbered(2, destination_name="b")])

    assert await bench.until_settled() == {"accepted": 2, "delivered": 2}

    ((path, headers, body),) = collector.requests
    assert path == "/api/v2/spans"
    assert (headers["content-type"], headers["authorization"]) == ("application/json", "Bearer hunter2")
    assert [s["localEndpoint"]["serviceName"] for s in json.loads(body)] == ["a", "b"]  # scenario 14
    assert "hunter2" not in str(bench.recording.logged)
    await handler.aclose()


async def test_batches_of_a_hundred(bench, collector):
    handler = await bench.build()
    report(handler, *range(250))
    await bench.until_settled()

    assert [len(json.loads(body)) for _, _, body in collector.requests] == [100, 100, 50]
    await handler.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("cut", id="connection reset"),
        pytest.param("slow", id="no answer"),
        pytest.param(503, id="unavailable"),
        pytest.param((429, {"Retry-After": "3"}, b""), id="too many"),
        pytest.param((503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""), id="a date to come back"),
        pytest.param((502, {"Retry-After": "-inf"}, b""), id="nonsense to come back"),
    ],
)
async def test_passing_fault_costs_nothing(bench, collector, fault):
    collector.plan = [fault]
    handler = await bench.build(timeout="100ms")
    report(handler, 1, 2)

    books = await bench.until_settled()

    assert books == {"accepted": 2, "delivered": 2, "retries": 1}
    assert set(arrived(collector)) == {1, 2}
    await handler.aclose()


@pytest.mark.parametrize("refusal", [400, 401, 404, 413, 500, (302, {"Location": "http://127.0.0.1:1/"}, b"")], ids=str)
async def test_refusal_is_counted_and_not_repeated(bench, collector, refusal):
    collector.plan = [refusal]
    handler = await bench.build(batchSize=2)
    report(handler, 1, 2, 3)

    books = await bench.until_settled()

    assert books == {"accepted": 3, "delivered": 1, "dropped": 2, "rejected": 2}
    assert collector.attempts == 2
    await handler.aclose()


async def test_collector_may_restart(bench, collector):
    handler = await bench.build(batchSize=10)
    report(handler, *range(10))
    await bench.until_settled()
    await collector.stop()
    report(handler, *range(10, 45))
    await bench.until(lambda: bench.books().get("retries", 0) >= 2)

    await collector.start()
    books = await bench.until_settled()

    assert books["delivered"] == 45
    assert arrived(collector) == list(range(45))
    await handler.aclose()


@pytest.mark.parametrize("answer", ["endless", "stuck"])
async def test_answer_without_end_holds_nobody_up(bench, collector, answer):
    collector.plan = [answer]
    handler = await bench.build(timeout="150ms")
    report(handler, 1)

    assert await bench.until_settled() == {"accepted": 1, "delivered": 1}
    await handler.aclose()


async def test_no_collector_at_all(bench, collector):
    await collector.stop()
    handler = await bench.build(url=f"http://user:hunter2@127.0.0.1:{collector.port}/api/v2/spans?key=hunter2")
    report(handler, *range(3))
    await bench.until(lambda: bench.books().get("retries", 0) >= 1)
    await handler.aclose(0.1)

    assert bench.books()["closed"] == 3
    assert "hunter2" not in str(bench.recording.logged)
