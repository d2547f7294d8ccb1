"""A wall clock that is set back behind slots that were closed: what is metered meanwhile waits for one that can be settled."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.slots import BACK_SLOTS, CARRIED, IMPORTED, Baseline, ClosedSlot, carry, observe
from edge_agent.store import Store
from openmg.clock import slot_of
from openmg.units import SLOT_SECONDS, SLOTS_PER_DAY

MAX_W, YEAR, NOW = 20_000, 365 * SLOTS_PER_DAY, 2_000_000
WH = 100
"""Metered in each slot."""


def metered(slots: Iterable[int]) -> tuple[dict[int, ClosedSlot], Baseline]:
    """What is closed when the clock shows these slots one after the other, from slot NOW with counters at 0 on."""
    closed: dict[int, ClosedSlot] = {}
    baseline, total = Baseline(NOW, 0, 0), 0
    for slot in slots:
        total += WH
        newest = max(closed, default=None) if baseline.carried else None
        following, done = observe(baseline, slot * SLOT_SECONDS + 1, total, 0, MAX_W, newest)
        if done is not None and done.slot in closed:
            following, done = carry(baseline, following), None
        if done is not None:
            closed[done.slot] = done
        baseline = following
    return closed, baseline


def test_what_is_metered_a_year_back_waits_for_the_clock_to_be_set_right() -> None:
    shown = [NOW + 1, NOW + 2, *range(NOW + 2 - YEAR, NOW + 12 - YEAR), NOW + 13, NOW + 14]
    closed, _ = metered(shown)
    assert list(closed) == [NOW, NOW + 1, NOW + 12, NOW + 13]
    assert closed[NOW + 12] == ClosedSlot(NOW + 12, 11 * WH, 0, CARRIED) and closed[NOW + 13].import_wh == WH


def test_a_clock_that_stays_back_for_a_day_is_taken_for_right() -> None:
    """It had been ahead then; all that was metered is in the slot that ends the day."""
    shown = [NOW + 1, *range(NOW - YEAR, NOW - YEAR + BACK_SLOTS + 3)]
    closed, _ = metered(shown)
    first = NOW - YEAR + BACK_SLOTS - 1
    assert list(closed) == [NOW, first, first + 1, first + 2]
    assert closed[first] == ClosedSlot(first, (BACK_SLOTS + 1) * WH, 0, CARRIED) and closed[first + 2].import_wh == WH


def test_a_clock_set_back_by_an_hour_goes_on_after_the_slots_that_were_closed() -> None:
    closed, _ = metered([NOW + 1, NOW + 2, NOW + 3, *range(NOW - 1, NOW + 6)])
    assert list(closed) == [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4]
    assert closed[NOW + 3] == ClosedSlot(NOW + 3, 6 * WH, 0, CARRIED)


@given(st.lists(st.integers(-3 * SLOTS_PER_DAY, 3 * SLOTS_PER_DAY), max_size=60))
def test_no_energy_is_lost_or_doubled_wherever_the_clock_goes(steps: list[int]) -> None:
    shown, slot = [], NOW
    for step in steps:
        slot += step
        shown.append(slot)
    closed, baseline = metered(shown)
    assert sum(item.import_wh for item in closed.values()) == baseline.import_total_wh


def test_the_past_of_a_file_does_not_count_as_metered(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    assert store.newest_slot() is None
    store.import_slots([ClosedSlot(slot_of(0) + 50, 1, 0, IMPORTED)], None)
    assert store.newest_slot() is None
    store.move_baseline(Baseline(8, 1, 0), ClosedSlot(7, 1, 0, 0))
    store.move_baseline(Baseline(6, 2, 0), ClosedSlot(5, 1, 0, 0))
    assert store.newest_slot() == 7
    store.close()
