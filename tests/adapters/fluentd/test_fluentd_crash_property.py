"""A process may die at any point: what its spool holds then is all that the next one needs."""

import asyncio
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

steps = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(1, 8)),
        st.tuples(st.just("fault"), st.sampled_from(["cut", "cut_after", "wrong", "silent"])),
        st.tuples(st.just("pass"), st.sampled_from([0.1, 2, 60])),
    ),
    max_size=8,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(
    lives=st.lists(steps, min_size=1, max_size=3), batch_bytes=st.lists(st.integers(60, 400), min_size=4, max_size=4)
)
def test_each_entry_arrives_in_one_chunk_over_any_number_of_deaths(
    bench_type, entry, tmp_path_factory, lives, batch_bytes
):
    """A copy of the files at one instant is what kill -9 leaves; sizes may be configured anew in between."""
    receiver_type, make_bench = bench_type
    spool = tmp_path_factory.mktemp("spool") / "0"

    async def run():
        nonlocal spool
        receiver, number = receiver_type(), 0
        await receiver.start()
        for life, script in enumerate([*lives, []]):
            bench = make_bench(receiver)
            handler = await bench.build(
                spoolDirectory=str(spool),
                maxBatchSizeBytes=batch_bytes[life],
                pushIntervalDuration="1s",
                pushTimeoutDuration="15ms",
                maxSpoolBytes=20_000,
            )
            for step, value in script:
                if step == "report":
                    handler.handle_report([entry(number + i, f"tag{i % 3}") for i in range(value)])
                    number += value
                elif step == "fault":
                    receiver.plan.append(value)
                else:
                    await bench.clock.advance(value)
                    await asyncio.sleep(0.003)
            if life < len(lives):
                spool = shutil.copytree(spool, spool.with_name(str(life + 1)))
                await bench.recording.aclose()  # the old life does nothing more
            else:
                receiver.plan.clear()
                await bench.until(lambda b=bench: not b.books().get("buffered"), step_s=30)
            await handler.aclose(timeout_s=0 if life < len(lives) else 1)
        assert sorted(record["n"] for record in receiver.records) == list(range(number))
        await receiver.stop()

    asyncio.run(run())
