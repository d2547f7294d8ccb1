"""The planner's rules, each with what is due and its smallest neighbour that is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trade_cases import CALENDAR, SLOT

from edge_agent.market.planner import (
    BURN_LAST_SLOTS,
    MARGIN_SLOTS,
    ORDER_SLOTS,
    PURCHASE_DELAY_SLOTS,
    SETTLE_SLOTS,
    UNSETTLED_SLOTS,
    Burn,
    Buy,
    MergeDelivery,
    MergePeth,
    MeteredSlot,
    Mint,
    Sell,
    View,
    plan,
)
from openmg.market.calendar import Calendar
from openmg.market.ladder import STEPS, largest_step

CAP = 1_000
KEY = CALENDAR.key_of(SLOT)
LAST = CALENDAR.last_slot_of(KEY)


def view(now: int = SLOT + PURCHASE_DELAY_SLOTS, **changes) -> View:
    slots = (MeteredSlot(SLOT, 1_234, 700),)
    return replace(View(now, slots, frozenset({SLOT}), CAP), **changes)


def idle(now: int = SLOT + 1, **changes) -> View:
    return view(now, slots=(), **changes)


def steps(case: View) -> tuple:
    return plan(case, CALENDAR)


def test_every_agreed_slot_is_minted_an_export_of_nothing_too():
    assert steps(view(slots=(MeteredSlot(SLOT, 0, 0),))) == (Mint(SLOT),)
    assert steps(view(slots=(MeteredSlot(SLOT, 0, 700),))) == (Mint(SLOT),)
    assert steps(view(slots=(MeteredSlot(SLOT, 0, 700, minted=True),))) == ()
    assert steps(view(agreed=frozenset())) == ()
    assert steps(view(now=SLOT)) == ()


def test_a_slot_whose_call_would_come_too_late_is_left_alone():
    last = SLOT + ORDER_SLOTS - MARGIN_SLOTS
    assert Mint(SLOT) in steps(view(now=last))
    assert steps(view(now=last + 1)) == ()


def test_older_slots_are_minted_first():
    slots = tuple(MeteredSlot(SLOT - i, 0, 0) for i in (1, 0, 2))
    agreed = frozenset(item.slot for item in slots)
    assert steps(view(slots=slots, agreed=agreed)) == (Mint(SLOT - 2), Mint(SLOT - 1), Mint(SLOT))


def test_a_purchase_is_the_largest_step_that_import_and_notes_allow():
    bought = (MeteredSlot(SLOT, 1_234, 0, minted=True),)
    assert steps(view(slots=bought, peth=(10 * 100 * CAP,))) == (Buy(SLOT, 10),)
    assert steps(view(slots=bought, peth=(10 * 100 * CAP - 1,))) == (Buy(SLOT, 5),)
    assert steps(view(slots=bought, peth=(500 * CAP, 500 * CAP))) == (Buy(SLOT, 10),)
    assert steps(view(slots=bought, peth=(100 * CAP - 1,))) == ()
    assert steps(view(slots=(replace(bought[0], import_wh=999),), peth=(10**9,))) == (Buy(SLOT, 5),)
    assert steps(view(slots=(replace(bought[0], import_wh=99),), peth=(10**9,))) == ()
    assert steps(view(slots=(replace(bought[0], bought=True),), peth=(10**9,))) == ()


def test_a_purchase_comes_when_the_slots_supply_can_be_sold():
    bought = {"slots": (MeteredSlot(SLOT, 1_234, 0, minted=True),), "peth": (10**9,)}
    assert steps(view(SLOT + PURCHASE_DELAY_SLOTS - 1, **bought)) == ()
    assert steps(view(SLOT + PURCHASE_DELAY_SLOTS, **bought)) == (Buy(SLOT, 10),)


def test_small_notes_are_merged_before_a_purchase_that_two_of_them_cannot_pay():
    bought = (MeteredSlot(SLOT, 1_234, 0, minted=True),)
    assert steps(view(slots=bought, peth=(100 * CAP,) * 5)) == (MergePeth(),)
    assert steps(view(slots=bought, peth=(100 * CAP,) * 4)) == (Buy(SLOT, 2),)


def test_one_purchase_at_a_time():
    slots = tuple(MeteredSlot(SLOT - i, 500, 0, minted=True) for i in range(2))
    agreed = frozenset(item.slot for item in slots)
    assert steps(view(slots=slots, agreed=agreed, peth=(10**9,))) == (Buy(SLOT - 1, 5),)


def test_a_sale_is_one_a_slot_and_key_of_the_largest_step():
    assert steps(idle(supply={KEY: (150, 60)})) == (Sell(KEY, 2, 2),)
    assert steps(idle(supply={KEY: (99,)})) == ()
    assert steps(idle(supply={KEY: (150, 60)}, sold=frozenset({KEY}))) == ()
    assert steps(idle(supply={KEY: (50, 50, 50, 50)})) == (Sell(KEY, 2, 8),)
    assert steps(idle(supply={KEY: (50,) * 9})) == (Sell(KEY, 2, 8),)
    assert steps(idle(supply={KEY: (500,), KEY + 256: (100,)})) == (Sell(KEY, 5, 2), Sell(KEY + 256, 1, 2))


def test_no_sale_after_the_keys_last_orders():
    supply = {KEY: (500,)}
    assert steps(idle(LAST + ORDER_SLOTS - MARGIN_SLOTS, supply=supply)) == (Sell(KEY, 5, 2),)
    assert steps(idle(LAST + ORDER_SLOTS - MARGIN_SLOTS + 1, supply=supply)) == ()


def test_a_key_is_burned_once_between_its_last_settlement_and_the_deadline():
    first, last = LAST + ORDER_SLOTS + 1 + SETTLE_SLOTS, LAST + BURN_LAST_SLOTS - MARGIN_SLOTS
    case = {"delivery": {KEY: (100, 200)}}
    assert [bool(steps(idle(now, **case))) for now in (first - 1, first, last, last + 1)] == [False, True, True, False]
    assert steps(idle(first, **case)) == (Burn(KEY),)
    assert steps(idle(first, burned=frozenset({KEY}), **case)) == ()
    assert steps(idle(first, delivery={KEY: (10,) * 9})) == (MergeDelivery(KEY),)
    assert steps(idle(first, delivery={KEY: (10,) * 8})) == (Burn(KEY),)


def test_a_burn_waits_for_a_purchase_whose_outcome_is_missing_but_not_for_ever():
    first = LAST + ORDER_SLOTS + 1 + SETTLE_SLOTS
    case = {"delivery": {KEY: (100,)}, "awaited": frozenset({KEY})}
    assert steps(idle(first, **case)) == ()
    assert steps(idle(first + UNSETTLED_SLOTS - 1, **case)) == ()
    assert steps(idle(first + UNSETTLED_SLOTS, **case)) == (Burn(KEY),)


def test_the_ladder_has_the_steps_that_fit_sixteen_bits():
    assert STEPS[:7] == (1, 2, 5, 10, 20, 50, 100) and STEPS[-1] == 50_000
    assert [largest_step(lots) for lots in (0, 1, 4, 5, 19, 99_999)] == [0, 1, 2, 5, 10, 50_000]


def test_the_calendar_counts_days_bands_and_periods_of_local_time():
    midnight = 10 * 96 - 36
    assert CALENDAR.day_of(midnight) == 10 and CALENDAR.day_of(midnight - 1) == 9
    assert CALENDAR.first_slot_of(CALENDAR.key_of(midnight + 95)) == midnight
    assert CALENDAR.last_slot_of(CALENDAR.key_of(midnight)) == midnight + 95
    assert [CALENDAR.band_of(midnight + hour * 4) for hour in (8, 9, 20, 21)] == [0, 1, 1, 0]
    period = CALENDAR.slots_of_period(3)
    assert {CALENDAR.period_of(slot) for slot in (period.start, period.stop - 1)} == {3}
    assert CALENDAR.period_of(period.stop) == 4 and len(period) == 28 * 96


@pytest.mark.parametrize("bad", [(200, 28, bytes(24)), (0, 0, bytes(24)), (0, 28, bytes(23))])
def test_an_impossible_calendar_is_refused(bad):
    with pytest.raises(ValueError):
        Calendar(*bad)
