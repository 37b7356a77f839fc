"""kill -9: whatever a handler with a spool took is delivered by the next process."""

import asyncio
import sys

import pytest

CHILD = """
import asyncio, sys, time
from mixer.adapters.fluentd import INFO
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.attributes import Timestamp
from mixer.templates.logentry import LogEntryInstance

class RealClock:
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)
    def now(self):
        return Timestamp(time.time_ns())

async def main(address, spool):
    params = {"address": address, "spoolDirectory": spool, "pushIntervalDuration": "20ms"}
    handler = await build_handler(INFO, params, env=RecordingEnv(RealClock()))
    for line in sys.stdin:
        handler.handle_report([LogEntryInstance("log", {"n": int(n)}) for n in line.split()])
        print("taken", flush=True)
        await asyncio.sleep(0.1)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.e2e
async def test_entries_survive_kill_9(bench, receiver, tmp_path):
    receiver.mode = "silent"  # keeps the first chunk and does not say so
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        receiver.address,
        str(tmp_path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"1 2 3\n")
    assert await child.stdout.readline() == b"taken\n"
    await bench.until(lambda: len(receiver.messages) == 1)
    child.stdin.write(b"4 5\n")
    assert await child.stdout.readline() == b"taken\n"
    child.kill()
    await child.wait()

    receiver.mode = "ack"
    handler = await bench.build(spoolDirectory=str(tmp_path))
    await bench.until(lambda: bench.books().get("delivered") == 5, step_s=60)
    await handler.aclose()
    assert [record["n"] for record in receiver.records] == [1, 2, 3, 4, 5]
    first, again = receiver.messages[:2]
    assert first == again, "the same chunk under the same id"
    assert bench.books() == {"recovered": 5, "delivered": 5}
