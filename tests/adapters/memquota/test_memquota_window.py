"""Rolling windows by themselves. Source: spec adapters 4.6, scenarios 6 and 7."""

import pytest

from mixer.adapters.windows import RollingWindow, WindowTable, window_ticks
from mixer.attributes import Duration


def test_window_gives_back_exactly_after_its_length():
    window = RollingWindow(5, 3)
    table = [  # tick, amount, granted, available after
        (1, 6, False, 5),
        (1, 1, True, 4),
        (1, 2, True, 2),
        (1, 2, True, 0),
        (2, 1, False, 0),
        (3, 1, False, 0),
        (4, 1, True, 4),
        (5, 4, True, 0),
        (7, 1, True, 0),
        (7, 1, False, 0),
        (8, 1, True, 3),
        (11, 5, True, 0),
    ]
    for tick, amount, granted, available in table:
        assert (window.alloc(amount, tick), window.available) == (granted, available), f"at tick {tick}"


def test_window_releases_what_is_still_out():
    window = RollingWindow(5, 3)
    table = [  # take, at, release, at, released, available after
        (4, 0, 4, 0, 4, 5),
        (4, 0, 4, 1, 4, 5),
        (4, 1, 4, 5, 0, 5),  # already back; the table's 4@0 would run backwards after tick 1
        (2, 10, 0, 10, 0, 3),
        (2, 11, 0, 11, 0, 1),
        (0, 13, 4, 13, 2, 5),
        (5, 13, 5, 13, 5, 5),
    ]
    for take, taken_at, release, released_at, released, available in table:
        assert window.alloc(take, taken_at)
        assert (window.release(release, released_at), window.available) == (released, available)


def test_window_stays_at_the_newest_tick_when_time_runs_backwards():
    window = RollingWindow(5, 3)
    assert window.alloc(5, 10)
    assert not window.alloc(1, 7)
    assert window.alloc(5, 13)
    assert not window.alloc(1, 10)
    assert window.available == 0


def test_window_releases_the_newest_charge_first():
    window = RollingWindow(5, 3)
    assert window.alloc(2, 1)
    assert window.alloc(2, 2)
    assert window.release(3, 2) == 3
    window.roll(3)
    assert window.available == 4
    window.roll(4)
    assert window.available == 5


@pytest.mark.parametrize(
    ("duration", "ticks"), [("1ns", 10), ("500ms", 10), ("1s", 10), ("1.1s", 20), ("60s", 600)], ids=str
)
def test_window_length_is_whole_seconds(duration, ticks):
    assert window_ticks(Duration.parse(duration)) == ticks


def test_table_forgets_windows_in_which_nothing_is_out():
    table = WindowTable(5, Duration.parse("1s"))
    for number in range(100):
        assert table.alloc(number, 1, best_effort=False, tick=0) == 1
    assert len(table) == 100
    assert table.alloc("late", 1, best_effort=False, tick=10) == 1
    assert len(table) == 99  # two dropped by the way, one new
    table.sweep(10, at_most=1_000)
    assert len(table) == 1


def test_table_keeps_no_window_for_a_refusal():
    table = WindowTable(0, Duration.parse("1s"))
    assert table.alloc("a", 1, best_effort=False, tick=0) == 0
    assert table.alloc("a", 1, best_effort=True, tick=0) == 0
    assert len(table) == 0


def test_table_drops_a_window_that_a_release_makes_full():
    table = WindowTable(5, Duration.parse("1s"))
    assert table.alloc("a", 3, best_effort=False, tick=0) == 3
    assert table.release("a", 2, tick=1) == 2
    assert len(table) == 1
    assert table.release("a", 2, tick=1) == 1
    assert len(table) == 0
    assert table.release("a", 2, tick=1) == 0
