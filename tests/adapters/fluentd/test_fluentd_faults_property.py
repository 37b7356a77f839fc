"""Any sequence of reports and faults: nothing that fits the buffer is lost, and the books are exact."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.errors import AdapterError

FAULTS = ["cut", "cut_after", "wrong", "garbage", "freeze", "silent"]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(1, 8)),
        st.tuples(st.just("fault"), st.sampled_from(FAULTS)),
        st.tuples(st.just("pass"), st.sampled_from([0.1, 2, 60])),
        st.tuples(st.sampled_from(["stop", "start"]), st.none()),
    ),
    max_size=14,
)


async def play(script, receiver, bench, entry, params):
    """Play a script, then let the receiver recover; the numbers that were sent and those that were refused."""
    await receiver.start()
    up, number, refused = True, 0, 0
    handler = await bench.build(
        instanceBufferSize=12, maxBatchSizeBytes=150, pushIntervalDuration="1s", pushTimeoutDuration="15ms", **params
    )
    for step, value in script:
        if step == "report":
            before = bench.books().get("dropped", 0)
            try:
                handler.handle_report([entry(number + i, f"tag{i % 2}") for i in range(value)])
            except AdapterError:
                refused += bench.books()["dropped"] - before
            number += value
        elif step == "fault":
            receiver.plan.append(value)
        elif step == "pass":
            await bench.clock.advance(value)
            await asyncio.sleep(0.003)
        elif (step == "start") != up:
            await (receiver.stop() if up else receiver.start())
            up = not up
        bench.books()
    if not up:
        await receiver.start()
    receiver.plan.clear()
    await bench.until(lambda: not bench.books().get("buffered"), step_s=30)
    await handler.aclose()
    await receiver.stop()
    await asyncio.sleep(0)
    return number, refused


@pytest.mark.slow
@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
@settings(deadline=None, max_examples=30)
@given(script=steps)
def test_nothing_that_fits_is_lost_whatever_the_receiver_does(bench_type, entry, tmp_path_factory, spooled, script):
    receiver_type, make_bench = bench_type

    async def run():
        receiver = receiver_type()
        bench = make_bench(receiver)
        params = {"spoolDirectory": str(tmp_path_factory.mktemp("spool"))} if spooled else {}
        number, refused = await play(script, receiver, bench, entry, params)
        books = bench.books()
        arrived = [record["n"] for record in receiver.records]
        assert len(arrived) == len(set(arrived)), "one chunk id for one content"
        assert len(arrived) + refused == books.get("accepted", 0) == number
        assert books.get("delivered", 0) == len(arrived)
        assert books.get("dropped", 0) == books.get("buffer_full", 0) == refused
        assert not (spooled and refused)
        assert bench.recording.crashes == []
        assert bench.recording.running == 0

    asyncio.run(run())
