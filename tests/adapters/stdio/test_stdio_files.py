"""Files: appended to, rotated, pruned."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.stdio.backups import Backups
from mixer.adapters.stdio.sinks import FileSink, RotatedFileSink
from mixer.adapters.testing import FakeClock
from mixer.attributes import Timestamp
from mixer.errors import AdapterError
from mixer.templates.logentry import LogEntryInstance

DAY = 86_400


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def rotated(tmp_path, clock):
    """Makes sinks of ``<tmp>/log.txt``."""
    complaints = []

    def make(max_bytes=10, keep=0, max_days=0):
        path = tmp_path / "log.txt"
        backups = Backups(path, keep=keep, max_days=max_days, complain=complaints.append)
        return RotatedFileSink(path, max_bytes=max_bytes, backups=backups, now=clock.now)

    yield make
    assert complaints == []


def contents(directory):
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("stream", ["FILE", "ROTATED_FILE"])
async def test_file_that_cannot_be_opened_is_a_build_error(bench, stream):
    """Source: spec adapters 4.3, scenarios 2 and 3."""
    with pytest.raises(AdapterError, match="could not build logger"):
        await bench.build(log_stream=stream, output_path="/")
    with pytest.raises(AdapterError, match="could not build logger"):
        await bench.build(log_stream=stream, output_path="nul\0byte")


@pytest.mark.parametrize("stream", ["FILE", "ROTATED_FILE"])
async def test_file_is_appended_to(bench, tmp_path, stream):
    """Source: spec adapters 4.3, scenario 2."""
    path = tmp_path / "log"
    path.write_text("before\n")
    handler = await bench.build(log_stream=stream, output_path=str(path))
    handler.handle_report([LogEntryInstance("grün \udc80")])
    handler.handle_report([LogEntryInstance("two")])
    await handler.aclose()
    before, one, two = path.read_text(encoding="utf-8").splitlines()
    assert (before, "grün \ufffd" in one, "two" in two) == ("before", True, True)


@pytest.mark.parametrize("stream", ["FILE", "ROTATED_FILE"])
async def test_closed_handler_reports_what_it_cannot_write(bench, tmp_path, stream):
    handler = await bench.build(log_stream=stream, output_path=str(tmp_path / "log"))
    await handler.aclose()
    await handler.aclose()
    with pytest.raises(AdapterError, match="it is closed"):
        handler.handle_report([LogEntryInstance("x")])


def test_full_device_is_an_answer():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no full device")
    sink = FileSink(Path("/dev/full"))
    (fault,) = sink.write(["a\n", "b\n"])
    assert fault.startswith("2 line(s) not written to /dev/full")
    sink.close()


def test_file_is_renamed_before_it_exceeds_the_limit(tmp_path, rotated):
    sink = rotated(max_bytes=10)
    assert sink.write(["12345\n", "789\n"]) == []
    assert contents(tmp_path) == {"log.txt": "12345\n789\n"}
    assert sink.write(["x\n"]) == []
    sink.close()
    assert contents(tmp_path) == {"log-2001-09-09T01-46-40.000.txt": "12345\n789\n", "log.txt": "x\n"}


def test_one_batch_may_fill_several_files_of_the_same_millisecond(tmp_path, rotated):
    sink = rotated(max_bytes=4)
    assert sink.write(["aaa\n", "bbb\n", "ccc\n"]) == []
    sink.close()
    assert contents(tmp_path) == {
        "log-2001-09-09T01-46-40.000.txt": "aaa\n",
        "log-2001-09-09T01-46-40.001.txt": "bbb\n",
        "log.txt": "ccc\n",
    }


def test_line_above_the_limit_is_refused_and_the_others_are_written(tmp_path, rotated):
    sink = rotated(max_bytes=4)
    (fault,) = sink.write(["aaa\n", "too long\n", "bbb\n"])
    sink.close()
    assert "9 bytes exceeds the 4" in fault
    assert sorted(contents(tmp_path).values()) == ["aaa\n", "bbb\n"]


def test_size_of_an_existing_file_counts(tmp_path, rotated):
    (tmp_path / "log.txt").write_text("12345678\n")
    sink = rotated(max_bytes=10)
    sink.write(["ab\n"])
    sink.close()
    assert sorted(contents(tmp_path).values()) == ["12345678\n", "ab\n"]


def test_no_limit_means_one_file(tmp_path, rotated):
    sink = rotated(max_bytes=0)
    for _ in range(50):
        assert sink.write(["x" * 1000 + "\n"]) == []
    sink.close()
    assert list(contents(tmp_path)) == ["log.txt"]


async def test_only_the_newest_backups_are_kept(tmp_path, rotated, clock):
    """The count is the count, not the days as in the original."""
    sink = rotated(max_bytes=2, keep=2, max_days=1000)
    for text in "abcde":
        sink.write([f"{text}\n"])
        await clock.advance(1)
    sink.close()
    assert sorted(contents(tmp_path).values()) == ["c\n", "d\n", "e\n"]


async def test_backups_that_are_too_old_go(tmp_path, rotated, clock):
    """The days are days, not the count as in the original."""
    sink = rotated(max_bytes=2, keep=1000, max_days=3)
    for text in "abcde":
        sink.write([f"{text}\n"])
        await clock.advance(2 * DAY)
    sink.close()
    assert sorted(contents(tmp_path).values()) == ["c\n", "d\n", "e\n"]


async def test_old_backups_go_when_the_handler_starts(tmp_path, rotated, clock):
    sink = rotated(max_bytes=2)
    sink.write(["a\n", "b\n"])
    sink.close()
    await clock.advance(10 * DAY)
    rotated(max_bytes=2, max_days=5).close()
    assert contents(tmp_path) == {"log.txt": "b\n"}


async def test_other_files_are_left_alone(tmp_path, rotated, clock):
    others = [
        "log-notes.txt",
        "log-2001-01-01.txt",
        "log-2001-01-01T00-00-00.000.gz",
        "other-2001-01-01T00-00-00.000.txt",
    ]
    for name in others:
        (tmp_path / name).write_text("mine\n")
    sink = rotated(max_bytes=2, keep=1, max_days=1)
    sink.write(["a\n", "b\n", "c\n"])
    sink.close()
    assert set(others) <= set(contents(tmp_path))


def test_two_sinks_of_one_file_rotate_it_together(tmp_path, rotated):
    """A handler and its replacement write for a moment side by side."""
    old, new = rotated(max_bytes=6), rotated(max_bytes=6)
    old.write(["o1\n"])
    new.write(["n1\n", "n2\n"])
    old.write(["o2\n"])
    old.close()
    new.close()
    assert sorted(contents(tmp_path).values()) == ["n2\no2\n", "o1\nn1\n"]


def test_file_that_was_taken_away_comes_back(tmp_path, rotated):
    sink = rotated()
    sink.write(["a\n"])
    (tmp_path / "log.txt").unlink()
    assert sink.write(["b\n"]) == []
    sink.close()
    assert contents(tmp_path) == {"log.txt": "b\n"}


def test_rotation_that_fails_costs_the_line_and_nothing_more(tmp_path, rotated, monkeypatch):
    sink = rotated(max_bytes=4)

    def refuse(*_):
        raise PermissionError(13, "no")

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", refuse)
        (fault,) = sink.write(["aaa\n", "bbb\n"])
    assert "cannot be rotated" in fault
    assert sink.write(["ccc\n"]) == []
    sink.close()
    assert sorted(contents(tmp_path).values()) == ["aaa\n", "ccc\n"]


def test_backup_that_cannot_be_deleted_is_complained_about(tmp_path):
    (tmp_path / "log-2001-01-01T00-00-00.000.txt").mkdir()
    complaints = []
    Backups(tmp_path / "log.txt", keep=0, max_days=1, complain=complaints.append).prune(
        Timestamp.parse("2001-02-01T00:00:00Z")
    )
    assert "cannot be deleted" in complaints[0]


@given(lines=st.lists(st.text("ab", min_size=0, max_size=12), max_size=40), cuts=st.sets(st.integers(0, 40)))
def test_rotation_loses_no_line_and_exceeds_no_limit(tmp_path_factory, lines, cuts):
    directory = tmp_path_factory.mktemp("rotation")
    path = directory / "log.txt"
    backups = Backups(path, keep=0, max_days=0, complain=pytest.fail)
    sink = RotatedFileSink(path, max_bytes=13, backups=backups, now=FakeClock().now)
    batch = []
    for place, line in enumerate(lines):
        batch.append(line + "\n")
        if place in cuts:
            assert sink.write(batch) == []
            batch = []
    assert sink.write(batch) == []
    sink.close()
    files = [file.read_text() for file in sorted(directory.iterdir())]
    assert "".join(files) == "".join(line + "\n" for line in lines)
    assert all(len(text) <= 13 for text in files)
