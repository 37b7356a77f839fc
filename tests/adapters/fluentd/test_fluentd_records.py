"""Records and cursors on disk: damage is noticed, and costs what is damaged."""

import io
import os

from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.fluentd.entries import Entry
from mixer.adapters.fluentd.records import Cursor, CursorFile, pack_record, read_records

entries = st.lists(st.builds(Entry, st.text(max_size=5), st.binary(max_size=20)), min_size=1, max_size=6)


def packed(items):
    return [pack_record(number, item) for number, item in enumerate(items)]


def read(data):
    return [(number, item) for _, number, item in read_records(io.BytesIO(data), len(data))]


@given(items=entries)
def test_records_are_read_back(items):
    assert read(b"".join(packed(items))) == list(enumerate(items))


@given(items=entries, data=st.data())
def test_torn_end_costs_only_itself(items, data):
    parts = packed(items)
    whole = b"".join(parts)
    end = data.draw(st.integers(0, len(whole)))
    complete = sum(len(b"".join(parts[: i + 1])) <= end for i in range(len(parts)))
    assert read(whole[:end]) == list(enumerate(items))[:complete]


@given(items=entries, data=st.data())
def test_damaged_byte_never_gives_another_record(items, data):
    whole = bytearray(b"".join(packed(items)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    got = read(bytes(whole))
    assert len(got) < len(items)
    assert all(items[number] == item for number, item in got)


@given(items=entries, data=st.data())
def test_damage_within_a_record_costs_only_that_one(items, data):
    parts = packed(items)
    hurt = data.draw(st.integers(0, len(parts) - 1))
    body = bytearray(parts[hurt])
    body[data.draw(st.integers(4, len(body) - 1))] ^= 1
    parts[hurt] = bytes(body)
    assert [number for number, _ in read(b"".join(parts))] == [n for n in range(len(items)) if n != hurt]


def test_cursor_survives_a_torn_write(tmp_path):
    descriptor = os.open(tmp_path / "cursor", os.O_RDWR | os.O_CREAT)
    file = CursorFile(descriptor)
    assert file.load() == Cursor(0, 0)
    for number in range(1, 5):
        file.save(Cursor(number, number + 1))
        assert CursorFile(descriptor).load() == Cursor(number, number + 1)
    os.pwrite(descriptor, b"torn", 10)  # into the slot of the fourth
    assert CursorFile(descriptor).load() == Cursor(3, 4)
    file.close()
