"""The spool: what is not delivered is found again, under the same chunk ids, by the next life of the handler."""

import errno
import os

import pytest

from mixer.adapters.fluentd import INFO
from mixer.adapters.fluentd import journal as journal_module
from mixer.adapters.testing import parse_params
from mixer.errors import AdapterError


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


def journals(spool):
    return sorted(path for home in spool.iterdir() for path in home.iterdir())


def numbers(receiver):
    return [record["n"] for record in receiver.records]


async def left_behind(bench, spool, count, entry, **params):
    """A handler that closes while the receiver is away."""
    await bench.receiver.stop()
    handler = await bench.build(spoolDirectory=str(spool), **params)
    for number in range(count):
        handler.handle_report([entry(number, f"tag{number % 2}")])
    await handler.aclose(timeout_s=0.02)
    await bench.receiver.start()


async def test_delivered_entries_leave_no_files(bench, receiver, entry, spool):
    handler = await bench.build(spoolDirectory=str(spool))
    for number in range(3):
        handler.handle_report([entry(number)])
        await bench.until(lambda n=number: numbers(receiver) == list(range(n + 1)), step_s=60)
    await bench.until(lambda: len(list(journals(spool)[0].glob("*.segment"))) == 0, step_s=0)
    await handler.aclose()
    assert journals(spool) == []
    assert bench.books() == {"accepted": 3, "delivered": 3}


async def test_next_life_sends_what_was_left(bench, receiver, entry, spool):
    await left_behind(bench, spool, 5, entry)
    assert bench.books()["left_in_spool"] == 5
    handler = await bench.build(spoolDirectory=str(spool))
    handler.handle_report([entry(5)])
    await bench.until(lambda: bench.books().get("delivered") == 6, step_s=60)
    assert sorted(numbers(receiver)) == list(range(6))
    books = bench.books()
    assert (books["accepted"], books["recovered"], books["left_in_spool"]) == (6, 5, 5)
    await handler.aclose()
    assert journals(spool) == []


async def test_chunk_that_was_sent_before_keeps_its_id_in_the_next_life(bench, receiver, entry, spool):
    receiver.mode = "silent"
    handler = await bench.build(spoolDirectory=str(spool))
    handler.handle_report([entry(n, f"tag{n % 2}") for n in range(4)])
    await bench.until(lambda: len(receiver.messages) == 2, step_s=60)
    handler.handle_report([entry(9, "tag0")])  # must not join a chunk that may have arrived
    await handler.aclose(timeout_s=0.02)
    receiver.mode = "ack"
    handler = await bench.build(spoolDirectory=str(spool), maxBatchSizeBytes=200)
    await bench.until(lambda: bench.books().get("delivered") == 5, step_s=60)
    first, again = receiver.messages[:2], receiver.messages[2:4]
    assert [m[2]["chunk"] for m in first] == [m[2]["chunk"] for m in again]
    assert sorted(numbers(receiver)) == [0, 1, 2, 3, 9], "each chunk once"
    await handler.aclose()


async def test_journal_of_a_living_handler_is_left_alone_until_it_closes(bench, receiver, entry, spool):
    """As when configuration changes: the successor is built before the old handler is closed."""
    await receiver.stop()
    old = await bench.build(spoolDirectory=str(spool))
    old.handle_report([entry(1)])
    new = await bench.build(spoolDirectory=str(spool))
    new.handle_report([entry(2)])
    await bench.clock.advance(120)
    assert "recovered" not in bench.books()
    await old.aclose(timeout_s=0.02)
    await receiver.start()
    await bench.until(lambda: sorted(numbers(receiver)) == [1, 2], step_s=30)
    await new.aclose()
    assert journals(spool) == []


async def test_handlers_share_a_directory_and_not_their_entries(bench, receiver, entry, spool):
    await left_behind(bench, spool, 2, entry)
    params = parse_params(INFO, {"address": receiver.address, "spoolDirectory": str(spool)})
    other = await INFO.build(params, (), bench.recording.env("other/handler.ns"))
    await bench.clock.advance(120)
    await other.aclose()
    assert bench.books()["left_in_spool"] == 2
    assert {path.name for path in spool.iterdir()} == {"test.istio-system", "other%2Fhandler.ns"}


async def test_spool_is_bounded(bench, receiver, entry, spool):
    await receiver.stop()
    handler = await bench.build(spoolDirectory=str(spool), maxSpoolBytes=1000)
    for number in range(5):
        handler.handle_report([entry(number)])
    with pytest.raises(AdapterError, match="fluentd spool full; dropping log entry"):
        handler.handle_report([entry(n) for n in range(5, 40)])
    assert sum(path.stat().st_size for path in journals(spool)[0].glob("*.segment")) <= 1000
    books = bench.books()
    assert books["spool_full"] == books["dropped"] == 40 - books["buffered"] > 0
    await receiver.start()
    await bench.until(lambda: "buffered" not in bench.books(), step_s=30)
    assert numbers(receiver) == list(range(books["buffered"]))
    handler.handle_report([entry(99)])
    await handler.aclose()
    assert numbers(receiver)[-1] == 99


async def test_memory_bounds_do_not_concern_the_spool(bench, receiver, entry, spool):
    handler = await bench.build(spoolDirectory=str(spool), instanceBufferSize=1, maxBufferBytes=1)
    handler.handle_report([entry(n) for n in range(50)])
    await handler.aclose()
    assert numbers(receiver) == list(range(50))


async def test_spool_that_cannot_be_made_fails_the_build(bench, spool):
    spool.write_text("a file")
    with pytest.raises(AdapterError, match="cannot make a spool"):
        await bench.build(spoolDirectory=str(spool))


async def test_failing_write_is_counted_and_leaves_no_trace(bench, receiver, entry, spool, monkeypatch):
    handler = await bench.build(spoolDirectory=str(spool))
    handler.handle_report([entry(1)])

    def half_full(descriptor, data, write=os.write):
        if len(data) < 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) - 5])

    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "write", half_full)
        with pytest.raises(AdapterError, match="No space left"):
            handler.handle_report([entry(2), entry(3)])
        patched.setattr(journal_module.os, "ftruncate", lambda *_: half_full(0, b""))
        with pytest.raises(AdapterError, match="No space left"):
            handler.handle_report([entry(4)])
    handler.handle_report([entry(5)])
    await handler.aclose()
    assert numbers(receiver) == [1, 5]
    assert bench.books() == {"accepted": 5, "delivered": 2, "dropped": 3, "spool_failed": 3}


async def test_damaged_record_is_counted_and_costs_only_itself(bench, receiver, entry, spool):
    await left_behind(bench, spool, 3, entry)
    (segment,) = journals(spool)[0].glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(bytes(data) + b"torn")
    handler = await bench.build(spoolDirectory=str(spool))
    await bench.until(lambda: bench.books().get("delivered") == 2, step_s=60)
    assert numbers(receiver) == [0, 2]
    assert bench.books()["spool_corrupt"] == 1
    await handler.aclose()
    assert journals(spool) == []


@pytest.mark.parametrize("damage", ["zeros", "gone", "garbage", "cursor"])
async def test_damaged_file_never_stops_the_rest(bench, receiver, entry, spool, damage):
    await left_behind(bench, spool, 30, entry, maxSpoolBytes=4000)
    segments = sorted(journals(spool)[0].glob("*.segment"))
    assert len(segments) >= 3
    victim = segments[1]
    if damage == "gone":
        victim.unlink()
    elif damage == "cursor":
        (journals(spool)[0] / "cursor").write_bytes(b"?" * 64)
    else:
        victim.write_bytes((b"\0" if damage == "zeros" else b"\x7f") * victim.stat().st_size)
    handler = await bench.build(spoolDirectory=str(spool))
    await bench.until(lambda: bench.books().get("recovered") == 30 and "buffered" not in bench.books(), step_s=60)
    lost = set() if damage == "cursor" else set(range(int(victim.stem), int(segments[2].stem)))
    assert set(numbers(receiver)) == set(range(30)) - lost
    assert bench.books().get("spool_corrupt", 0) == len(lost)
    await handler.aclose()
    assert journals(spool) == []


async def test_files_are_synced_about_once_a_second(bench, entry, spool, monkeypatch):
    synced = []
    monkeypatch.setattr(journal_module.os, "fsync", synced.append)
    await bench.receiver.stop()
    handler = await bench.build(spoolDirectory=str(spool))
    handler.handle_report([entry(1)])
    await bench.until(lambda: len(synced) == 2, step_s=1)  # the file and the directory that names it
    await bench.clock.advance(5)
    assert len(synced) == 2
    handler.handle_report([entry(2)])
    await bench.until(lambda: len(synced) == 3, step_s=1)
    await handler.aclose(timeout_s=0.02)
    await bench.receiver.start()
