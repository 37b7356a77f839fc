"""Queue, batches, retries, books: against a receiver that does what each test wants, in time that the test owns."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.adapters.base import AdapterInfo
from mixer.adapters.spans.courier import MAX_ASKED_PAUSE_S, NotTakenError, RefusedError, Taken
from mixer.adapters.spans.handler import start
from mixer.adapters.spans.params import Limits, SpanParams
from mixer.adapters.testing import settle
from mixer.errors import AdapterError
from mixer.templates import TRACESPAN
from tests.adapters.spans.kit import Bench, numbered


class FakeReceiver:
    """Does what ``plan`` says, then what ``mode`` says; bodies are the spans' ids."""

    def __init__(self):
        self.mode = Taken()
        self.plan = []
        self.batches = []
        self.attempts = 0
        self.closed = 0
        self.poison = set()

    def encode(self, spans):
        ids = [span.span_id for span in spans]
        if self.poison & set(ids):
            raise ValueError("poison")
        return repr(ids).encode()

    async def send(self, body):
        self.attempts += 1
        does = self.plan.pop(0) if self.plan else self.mode
        if does == "hang":
            await asyncio.Event().wait()
        if isinstance(does, Exception):
            raise does
        self.batches.append([n - 1 for n in eval(body)])
        return does

    async def aclose(self):
        self.closed += 1

    @property
    def arrived(self):
        return [n for batch in self.batches for n in batch]


def make_bench():
    receiver = FakeReceiver()

    async def build(params, instances, env):
        return start("fake", params, receiver, Limits.of(params, batch=10), env)

    bench = Bench(AdapterInfo("fake", (TRACESPAN,), SpanParams, build))
    bench.receiver = receiver
    return bench


@pytest.fixture
async def bench():
    bench = make_bench()
    yield bench
    await bench.aclose()


def report(handler, *numbers):
    handler.handle_report([numbered(n) for n in numbers])


async def test_spans_wait_for_the_interval(bench):
    handler = await bench.build()
    report(handler, 1, 2)
    await bench.clock.advance(0.9)
    assert bench.receiver.batches == []
    assert bench.books()["buffered"] == 2

    books = await bench.until_settled()

    assert bench.receiver.batches == [[1, 2]]
    assert books == {"accepted": 2, "delivered": 2}
    assert bench.clock.monotonic() < 3
    await handler.aclose()


async def test_full_batch_goes_at_once(bench):
    handler = await bench.build()
    report(handler, *range(25))

    for _ in range(200):
        await asyncio.sleep(0.001)
        if len(bench.receiver.batches) == 3:
            break

    assert [len(b) for b in bench.receiver.batches] == [10, 10, 5]
    assert bench.clock.monotonic() == 0
    await handler.aclose()


async def test_batch_is_sent_again_until_taken(bench):
    bench.receiver.plan = [NotTakenError("down")] * 5
    handler = await bench.build()
    report(handler, 1)

    books = await bench.until_settled()

    assert books == {"accepted": 1, "delivered": 1, "retries": 5}
    assert bench.events("warning") == ["spans_delivery_failed"]
    assert bench.events("info") == ["spans_delivery_resumed"]
    await handler.aclose()


async def test_batch_is_given_up_after_the_time_for_retries(bench):
    bench.receiver.mode = NotTakenError("down")
    handler = await bench.build(retryFor="20s")
    report(handler, 1, 2)
    await bench.until(lambda: bench.books().get("gave_up") == 2)
    assert bench.clock.monotonic() < 25

    bench.receiver.mode = Taken()
    report(handler, 3)

    assert (await bench.until_settled())["delivered"] == 1
    await handler.aclose()


@pytest.mark.parametrize(("asked_s", "waits_s"), [(7.0, 7.0), (1e6, MAX_ASKED_PAUSE_S)])
async def test_receiver_may_ask_for_a_pause(bench, asked_s, waits_s):
    bench.receiver.plan = [NotTakenError("busy", asked_s)]
    handler = await bench.build(batchSize=1)
    report(handler, 1)
    await bench.until(lambda: bench.receiver.attempts == 1, step_s=0)

    report(handler, 2)  # does not cut it short
    await bench.clock.advance(waits_s - 0.5)
    assert bench.receiver.attempts == 1
    await bench.until_settled()
    assert bench.receiver.arrived == [1, 2]
    await handler.aclose()


async def test_refused_batch_costs_no_other(bench):
    bench.receiver.plan = [RefusedError("bad"), RefusedError("bad"), Taken()]
    handler = await bench.build(batchSize=2)
    report(handler, *range(6))

    books = await bench.until_settled()

    assert books == {"accepted": 6, "delivered": 2, "dropped": 4, "rejected": 4}
    assert bench.receiver.arrived == [4, 5]
    assert bench.events("warning") == ["spans_dropped"]
    await handler.aclose()


@pytest.mark.parametrize(("rejected", "counted"), [(3, 3), (0, 0), (99, 6), (-4, 0)])
async def test_receiver_may_refuse_a_part_and_may_lie_about_it(bench, rejected, counted):
    bench.receiver.plan = [Taken(rejected, "too old")]
    handler = await bench.build()
    report(handler, *range(6))

    books = await bench.until_settled()

    assert (books.get("rejected", 0), books.get("delivered", 0)) == (counted, 6 - counted)
    assert bench.recording.logged[-1]["event"] == ("spans_dropped" if counted else "spans_receiver_warns")
    await handler.aclose()


async def test_hanging_receiver_holds_nobody_up_and_the_oldest_make_room(bench):
    bench.receiver.mode = "hang"
    handler = await bench.build(bufferSize=20)
    report(handler, *range(10))
    await bench.until(lambda: bench.receiver.attempts == 1, step_s=0)

    for n in range(10, 40):
        report(handler, n)

    assert bench.books() == {"accepted": 40, "dropped": 20, "buffer_full": 20, "buffered": 20}
    assert bench.events("warning") == ["spans_overflow"]
    bench.receiver.mode = Taken()
    await handler.aclose(0.05)
    assert bench.books() == {"accepted": 40, "dropped": 40, "buffer_full": 20, "closed": 20}


async def test_span_without_a_form_costs_no_other(bench):
    bench.receiver.poison = {3, 5}
    handler = await bench.build()
    report(handler, *range(10))

    books = await bench.until_settled()

    assert books == {"accepted": 10, "delivered": 8, "dropped": 2, "unencodable": 2}
    assert bench.receiver.arrived == [0, 1, 3, 5, 6, 7, 8, 9]

    report(handler, 2)  # alone in its batch
    assert (await bench.until_settled())["unencodable"] == 3
    await handler.aclose()


async def test_bug_costs_one_batch(bench):
    bench.receiver.plan = [ZeroDivisionError("bug"), Taken()]
    bench.receiver.poison = {1}
    handler = await bench.build(batchSize=5)
    report(handler, *range(10))

    books = await bench.until_settled()

    assert books == {"accepted": 10, "delivered": 5, "dropped": 5, "failed": 4, "unencodable": 1}
    assert "spans_delivery_crashed" in bench.events()
    await handler.aclose()


async def test_long_messages_are_cut(bench):
    bench.receiver.plan = [RefusedError("x" * 10_000)]
    handler = await bench.build()
    report(handler, 1)
    await bench.until_settled()

    assert len(str(bench.recording.logged)) < 600
    await handler.aclose()


async def test_everything_left_out_is_counted_with_its_reason(bench):
    handler = await bench.build()
    handler.handle_report(
        [numbered(1, trace_id=""), numbered(2, trace_id="zz"), numbered(3, end_time=numbered(0).start_time)]
    )
    handler.handle_report([numbered(4, start_time=numbered(0).end_time, end_time=numbered(0).start_time)])

    assert await bench.until_settled() == {
        "accepted": 4,
        "skipped": 1,
        "untraced": 1,
        "dropped": 2,
        "bad_id": 1,
        "bad_time": 1,
        "delivered": 1,
    }
    await handler.aclose()


async def test_disabled_handler_takes_everything_and_exports_nothing(bench):
    handler = await bench.build(sampleProbability=0)
    report(handler, *range(30))

    assert bench.books() == {"accepted": 30, "skipped": 30, "unsampled": 30}
    assert bench.events("warning") == ["spans_disabled"]
    await handler.aclose()
    assert bench.receiver.attempts == 0


async def test_close_sends_what_waits(bench):
    handler = await bench.build()
    report(handler, *range(25))
    await handler.aclose()

    assert bench.books() == {"accepted": 25, "delivered": 25}
    await settle()
    assert bench.receiver.closed == 1
    assert bench.recording.running == 0


async def test_close_does_not_wait_for_a_backoff(bench):
    bench.receiver.plan = [NotTakenError("restarting", 30.0)]
    handler = await bench.build()
    report(handler, 1)
    await bench.until(lambda: bench.receiver.attempts == 1)
    await asyncio.wait_for(handler.aclose(), 2)

    assert bench.books() == {"accepted": 1, "delivered": 1, "retries": 1}


@pytest.mark.slow
async def test_close_gives_up_on_a_receiver_that_stays_away(bench):
    bench.receiver.mode = NotTakenError("down")
    handler = await bench.build()
    report(handler, *range(30))
    await asyncio.wait_for(handler.aclose(), 2)

    assert bench.books()["closed"] == 30
    assert bench.receiver.attempts <= 4


async def test_close_before_the_task_has_started(bench):
    handler = await bench.info.build(SpanParams(sample_probability=1.0), (), bench.recording.env())
    report(handler, 1)
    await handler.aclose()
    await settle()

    assert bench.books() == {"accepted": 1, "delivered": 1}
    assert bench.recording.running == 0


async def test_closed_handler_says_so(bench):
    handler = await bench.build()
    await handler.aclose()
    await handler.aclose()
    with pytest.raises(AdapterError, match="closed"):
        report(handler, 1, 2)

    assert bench.books() == {"accepted": 2, "dropped": 2, "closed": 2}


async def test_two_handlers_keep_their_own_books(bench):
    first, second = await bench.build(), await bench.build()
    report(first, 1)
    report(second, 2, 3)
    assert (await bench.until_settled())["delivered"] == 3
    await first.aclose()
    await second.aclose()


OUTCOMES = st.sampled_from(
    [Taken(), Taken(1, "one"), Taken(7, ""), NotTakenError("away"), NotTakenError("busy", 3.0), RefusedError("no")]
)
STEPS = st.lists(st.integers(0, 12) | st.floats(0, 40), max_size=12)


@pytest.mark.slow
@settings(max_examples=40)
@given(plan=st.lists(OUTCOMES, max_size=20), steps=STEPS, buffer=st.integers(1, 30), batch=st.integers(1, 12))
def test_books_balance_whatever_happens(plan, steps, buffer, batch):
    async def live():
        bench = make_bench()
        bench.receiver.plan = list(plan)
        handler = await bench.build(bufferSize=buffer, batchSize=batch, retryFor="30s")
        number = 0
        for step in steps:
            if isinstance(step, int):
                report(handler, *range(number, number + step))
                number += step
            else:
                await bench.clock.advance(step)
            assert bench.books().get("buffered", 0) <= buffer
        bench.receiver.plan = []
        await handler.aclose()
        books = bench.books()
        assert books.get("buffered", 0) == 0
        assert books.get("accepted", 0) == number
        arrived = bench.receiver.arrived
        assert arrived == sorted(set(arrived))
        assert books.get("delivered", 0) <= len(arrived)
        await bench.aclose()

    asyncio.run(live())
