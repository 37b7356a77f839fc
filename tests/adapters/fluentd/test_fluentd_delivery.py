"""Batches, acknowledgements, faults of the receiver, closing."""

import asyncio

import pytest

from mixer.adapters.fluentd.shipper import MAX_BACKOFF_S, backoff_s
from mixer.errors import AdapterError
from mixer.templates.logentry import LogEntryInstance


def numbers(receiver):
    return [record["n"] for record in receiver.records]


async def test_empty_batch_is_taken(bench, receiver):
    """Source: spec adapters 4.2, scenario 1."""
    handler = await bench.build()
    handler.handle_report([])
    await handler.aclose()
    assert receiver.connections == 0
    assert bench.books() == {}


async def test_entries_wait_for_the_interval(bench, receiver, entry, unpacked):
    handler = await bench.build(pushIntervalDuration="10s")
    handler.handle_report([entry(1)])
    handler.handle_report([entry(2), entry(3, "other")])
    await bench.clock.advance(9)
    await asyncio.sleep(0.01)
    assert receiver.connections == 0
    assert bench.books() == {"accepted": 3, "buffered": 3}
    await bench.until(lambda: bench.books() == {"accepted": 3, "delivered": 3})
    assert [(m[0], [r["n"] for _, r in unpacked(m)]) for m in receiver.messages] == [("log", [1, 2]), ("other", [3])]
    await handler.aclose()
    assert receiver.connections == 1


async def test_full_batch_does_not_wait(bench, receiver, entry):
    handler = await bench.build(maxBatchSizeBytes=100)
    handler.handle_report([entry(n) for n in range(5)])
    await bench.until(lambda: len(receiver.records) == 5, step_s=0)
    await handler.aclose()


async def test_half_a_buffer_does_not_wait(bench, receiver, entry):
    handler = await bench.build(instanceBufferSize=10)
    handler.handle_report([entry(n) for n in range(5)])
    await bench.until(lambda: len(receiver.records) == 5, step_s=0)
    await handler.aclose()


async def test_batches_keep_within_their_size(bench, receiver):
    """Source: spec adapters 4.2, scenario 5: together they are larger than a batch, so they are two."""
    handler = await bench.build(maxBatchSizeBytes=60)
    small, large = (LogEntryInstance("l", {"tag": tag}, severity="i") for tag in ("Foo", "fluent-tag"))
    handler.handle_report([small, large])
    await bench.until(lambda: len(receiver.messages) == 2, step_s=0)
    await handler.aclose()
    assert [message[0] for message in receiver.messages] == ["Foo", "fluent-tag"]
    assert bench.books() == {"accepted": 2, "delivered": 2}


async def test_large_batch_is_sent_in_pieces(bench, receiver, entry):
    handler = await bench.build()
    handler.handle_report([entry(n, text="x" * 600_000) for n in range(3)])
    handler.handle_report([entry(3, text="x" * 2_000_000), entry(4)])
    await handler.aclose()
    assert [message[2]["size"] for message in receiver.messages] == [1, 1, 1, 1, 1]
    assert numbers(receiver) == list(range(5))


async def test_entry_larger_than_a_batch_is_dropped_without_an_error(bench, receiver, entry):
    """Source: spec adapters 4.2, scenario 6."""
    handler = await bench.build(maxBatchSizeBytes=60)
    handler.handle_report([entry(1, text="x" * 100), entry(2)])
    await handler.aclose()
    assert numbers(receiver) == [2]
    assert bench.books() == {"accepted": 2, "delivered": 1, "dropped": 1, "too_large": 1}


async def test_full_buffer_is_an_error_and_costs_only_what_does_not_fit(bench, receiver, entry):
    """Source: spec adapters 4.2, scenario 7."""
    handler = await bench.build(instanceBufferSize=1)
    with pytest.raises(AdapterError, match=r"^fluentd instance buffer full; dropping log entry$"):
        handler.handle_report([entry(1), entry(2)])
    with pytest.raises(AdapterError, match=r"dropping log entry \(2 of them\)"):
        handler.handle_report([entry(3), entry(4)])
    await handler.aclose()
    assert numbers(receiver) == [1]
    assert bench.books() == {"accepted": 4, "delivered": 1, "dropped": 3, "buffer_full": 3}


async def test_buffer_is_bounded_in_bytes(bench, receiver, entry):
    handler = await bench.build(maxBufferBytes=115)
    with pytest.raises(AdapterError, match="buffer full"):
        handler.handle_report([entry(1, text="x" * 40), entry(2, text="x" * 40), entry(3)])
    await handler.aclose()
    assert numbers(receiver) == [1, 3]


async def test_faulty_entry_costs_only_itself(bench, receiver, entry):
    handler = await bench.build()
    with pytest.raises(AdapterError, match=r"tag is not a string.*and 2 more"):
        handler.handle_report([entry(1), *(entry(n, tag=7) for n in range(2, 6)), entry(6, bad={1, 2}), entry(7)])
    await handler.aclose()
    assert numbers(receiver) == [1, 7]
    assert bench.books() == {"accepted": 7, "delivered": 2, "dropped": 5, "bad_tag": 4, "unencodable": 1}


@pytest.mark.parametrize("mode", ["cut", "cut_after", "wrong", "garbage", "hello"])
async def test_chunk_that_is_not_acknowledged_is_sent_again_with_its_id(bench, receiver, entry, mode):
    receiver.plan.extend([mode, mode])
    handler = await bench.build()
    handler.handle_report([entry(1), entry(2)])
    await bench.until(lambda: bench.books().get("delivered") == 2, step_s=60)
    assert numbers(receiver) == [1, 2]
    assert len({message[2]["chunk"] for message in receiver.messages}) == 1
    assert bench.books() == {"accepted": 2, "delivered": 2, "retries": 2}
    events = [(line["log_level"], line["event"]) for line in bench.recording.logged if line["log_level"] != "debug"]
    assert events == [("warning", "fluentd_delivery_failed"), ("info", "fluentd_delivery_resumed")]
    await handler.aclose()


@pytest.mark.parametrize("mode", ["silent", "freeze"])
async def test_receiver_that_says_nothing_is_given_up_after_the_timeout(bench, receiver, entry, mode):
    receiver.plan.append(mode)
    handler = await bench.build(pushTimeoutDuration="40ms")
    handler.handle_report([entry(1)])
    await bench.until(lambda: bench.books().get("delivered") == 1, step_s=60)
    assert receiver.connections == 2
    assert numbers(receiver) == [1]
    await handler.aclose()


async def test_only_chunks_that_are_not_acknowledged_are_sent_again(bench, receiver, entry):
    receiver.plan.extend(["ack", "ack", "cut_after"])
    handler = await bench.build()
    handler.handle_report([entry(n, f"tag{n}") for n in range(4)])
    await bench.until(lambda: bench.books().get("delivered") == 4, step_s=60)
    assert [message[0] for message in receiver.messages] == ["tag0", "tag1", "tag2", "tag2", "tag3"]
    await handler.aclose()


async def test_many_tags_are_acknowledged_in_windows(bench, receiver, entry):
    handler = await bench.build()
    handler.handle_report([entry(n, f"tag{n}") for n in range(200)])
    await handler.aclose()
    assert numbers(receiver) == list(range(200))


async def test_receiver_that_never_acknowledges_works_when_it_is_not_asked(bench, receiver, entry):
    receiver.mode = "silent"
    handler = await bench.build(requireAckResponse=False)
    handler.handle_report([entry(1)])
    await handler.aclose()
    await bench.until(lambda: numbers(receiver) == [1], step_s=0)
    assert receiver.messages[0][2] == {"size": 1}
    assert bench.books() == {"accepted": 1, "delivered": 1}


@pytest.mark.parametrize("ack", [True, False])
async def test_restart_of_the_receiver_loses_nothing(bench, receiver, entry, ack):
    handler = await bench.build(requireAckResponse=ack)
    handler.handle_report([entry(1)])
    await bench.until(lambda: numbers(receiver) == [1], step_s=60)
    await receiver.stop()
    handler.handle_report([entry(n) for n in range(2, 50)])
    await bench.until(lambda: bench.books().get("retries", 0) >= 3, step_s=30)
    assert bench.books()["buffered"] == 48
    await receiver.start()
    await bench.until(lambda: bench.books()["delivered"] == 49, step_s=30)
    await bench.until(lambda: numbers(receiver) == list(range(1, 50)), step_s=0)
    await handler.aclose()


async def test_receiver_that_is_away_at_the_start_is_found_later(bench, receiver, entry):
    await receiver.stop()
    handler = await bench.build()
    handler.handle_report([entry(1)])
    await bench.until(lambda: bench.books().get("retries", 0) >= 2, step_s=60)
    await receiver.start()
    await bench.until(lambda: numbers(receiver) == [1], step_s=60)
    await handler.aclose()


def test_backoff_doubles_up_to_its_bound():
    assert [backoff_s(n, 0) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert backoff_s(9, 0) == 25.6
    assert backoff_s(10, 0) == backoff_s(10_000, 0) == MAX_BACKOFF_S == 30
    assert backoff_s(1, 1) == 0.05


async def test_close_sends_what_waits_and_refuses_more(bench, receiver, entry):
    """Source: spec adapters 4.2, scenario 12: a second close does nothing."""
    handler = await bench.build()
    handler.handle_report([entry(1)])
    await handler.aclose()
    await handler.aclose()
    assert numbers(receiver) == [1]
    with pytest.raises(AdapterError, match="closed"):
        handler.handle_report([entry(2)])
    assert bench.books() == {"accepted": 2, "delivered": 1, "dropped": 1, "closed": 1}
    assert bench.recording.running == 0


@pytest.mark.slow
async def test_close_while_the_receiver_is_away_drops_with_a_count(bench, receiver, entry):
    await receiver.stop()
    handler = await bench.build()
    handler.handle_report([entry(1), entry(2)])
    await bench.until(lambda: bench.books().get("retries") == 1, step_s=60)
    await handler.aclose()
    assert bench.books() == {"accepted": 2, "dropped": 2, "closed": 2, "retries": 5}
    assert [line["entries"] for line in bench.recording.logged if line["event"] == "fluentd_entries_dropped"] == [2]
    await asyncio.sleep(0)
    assert bench.recording.running == 0
    await receiver.start()


async def test_close_waits_for_a_frozen_receiver_only_so_long(bench, receiver, entry):
    receiver.mode = "freeze"
    handler = await bench.build()
    handler.handle_report([entry(1)])
    await bench.until(lambda: len(receiver.messages) == 1, step_s=60)
    await handler.aclose(timeout_s=0.05)
    assert bench.books() == {"accepted": 1, "dropped": 1, "closed": 1}
    await asyncio.sleep(0)
    assert bench.recording.running == 0


async def test_close_lets_the_attempt_under_way_finish(bench, receiver, entry):
    receiver.mode = "silent"
    handler = await bench.build()
    handler.handle_report([entry(1)])
    await bench.until(lambda: len(receiver.messages) == 1, step_s=60)
    closing = asyncio.ensure_future(handler.aclose())
    await asyncio.sleep(0.01)
    assert not closing.done()
    await receiver.stop()
    await receiver.start()
    receiver.mode = "ack"
    await closing
    assert numbers(receiver) == [1]
    assert bench.books()["delivered"] == 1


async def test_handlers_of_one_process_share_their_metrics(bench, receiver, entry):
    for number in range(2):
        handler = await bench.build()
        handler.handle_report([entry(number)])
        await handler.aclose()
    assert bench.books() == {"accepted": 2, "delivered": 2}
