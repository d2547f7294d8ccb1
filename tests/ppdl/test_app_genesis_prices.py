"""Prices in the genesis: who may learn them, which records they are learnt from, and what a chain without them looks like."""

from __future__ import annotations

from dataclasses import replace

import pytest
from app_world import HISTORY_HOURS, METERS, PLAN, START_HOUR, app_genesis

from hub.ppdl.app.genesis_prices import MAX_PRICE_WEI_PER_WH, MAX_RECORD_SLOTS, NO_PRICE, PriceRecord, Trainer
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError
from openmg.forecast.spec import PRICE, ForecastSpec
from openmg.learning.plan import LearningPlan

PLAN_OF_PRICES = LearningPlan(evaluation_start_hour=START_HOUR + 672, min_participants=3, committee_size=0, spec=PRICE)
TRAINERS = tuple(Trainer(bytes([number]) * 20, f"hub-{number}") for number in range(1, 5))
RECORD = PriceRecord(1, 4 * START_HOUR, (3 * 10**10,) * 4 * HISTORY_HOURS)


def genesis(plan: LearningPlan = PLAN_OF_PRICES, trainers: tuple[Trainer, ...] = TRAINERS, *records: PriceRecord) -> AppGenesis:
    return replace(app_genesis(), plans=(PLAN, plan), trainers=trainers, prices=records or (RECORD,))


def test_a_chain_that_learns_prices_reads_back_what_it_wrote() -> None:
    whole = genesis()
    assert AppGenesis.decode(whole.encode()) == whole
    assert whole.learners(PLAN_OF_PRICES) == TRAINERS and whole.metered_by(PLAN_OF_PRICES) == ()
    assert set(whole.learners(PLAN)) == set(whole.devices)
    assert AppGenesis.decode(app_genesis().encode()).prices == ()


def test_another_price_is_another_genesis() -> None:
    other = replace(RECORD, wei_per_wh=(RECORD.wei_per_wh[0] + 1, *RECORD.wei_per_wh[1:]))
    assert genesis(PLAN_OF_PRICES, TRAINERS, other).encode() != genesis().encode()


@pytest.mark.parametrize("microgrid_slots_prices", [(1, -1, (5,)), (1, 0, ()), (1, 0, (5,) * (MAX_RECORD_SLOTS + 1))])
def test_a_record_has_possible_slots(microgrid_slots_prices: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="impossible slot"):
        PriceRecord(*microgrid_slots_prices)


@pytest.mark.parametrize("price", [-1, MAX_PRICE_WEI_PER_WH + 1])
def test_a_record_has_possible_prices(price: int) -> None:
    assert PriceRecord(1, 0, (0, MAX_PRICE_WEI_PER_WH)).end_slot == 2
    with pytest.raises(ValueError, match="has a price outside"):
        PriceRecord(1, 0, (price,))


def test_a_meter_does_not_learn_prices_and_no_hub_twice() -> None:
    meter = Trainer(METERS[0].key.address, "hub-9")
    for trainers, problem in (
        (tuple(sorted((*TRAINERS, meter), key=lambda item: item.address)), "is a trainer and a meter"),
        (TRAINERS[::-1], "ascending order of distinct addresses"),
        ((TRAINERS[0], *TRAINERS), "ascending order of distinct addresses"),
        ((*TRAINERS[:3], Trainer(TRAINERS[3].address, "hub-1")), "two trainers have one name"),
        (TRAINERS[:2], "needs 3 devices and a committee of 0 others but 2"),
        ((), "go together"),
    ):
        with pytest.raises(AppStateError, match=problem):
            genesis(PLAN_OF_PRICES, trainers)
    for address, name in ((bytes(19), "hub-1"), (bytes(20), "hub/1")):
        with pytest.raises(ValueError, match="an address of the wrong length or an unusable name"):
            Trainer(address, name)


def test_no_round_of_prices_closes_with_too_few_to_outvote_the_liars() -> None:
    with pytest.raises(AppStateError, match="may close with 2 of 4 hubs, of which 1 may lie; ask for 3"):
        genesis(replace(PLAN_OF_PRICES, min_participants=2))
    assert genesis(replace(PLAN_OF_PRICES, min_participants=2, byzantine_num=0)).prices


def test_records_and_plans_go_together_and_cover_each_other() -> None:
    with pytest.raises(AppStateError, match="go together"):
        replace(genesis(), plans=(PLAN,))
    late = replace(RECORD, start_slot=RECORD.start_slot + 1)
    short = replace(RECORD, wei_per_wh=RECORD.wei_per_wh[:-1])
    for record in (late, short):
        with pytest.raises(AppStateError, match=r"the plan needs \d+\.\.\d+"):
            genesis(PLAN_OF_PRICES, TRAINERS, record)
    with pytest.raises(AppStateError, match="microgrids that have a feeder history"):
        genesis(PLAN_OF_PRICES, TRAINERS, replace(RECORD, microgrid=7))
    with pytest.raises(AppStateError, match="ascending order of microgrids"):
        genesis(PLAN_OF_PRICES, TRAINERS, RECORD, RECORD)
    feeder, *others = genesis().feeders
    with pytest.raises(AppStateError, match="the feeder of microgrid 1 has hours"):
        replace(genesis(), feeders=(replace(feeder, net_wh=feeder.net_wh[:-1]), *others))


def test_at_most_a_quarter_of_a_record_may_lack_a_price() -> None:
    known, whole = RECORD.wei_per_wh, len(RECORD.wei_per_wh)
    quarter = whole // 4
    assert genesis(PLAN_OF_PRICES, TRAINERS, replace(RECORD, wei_per_wh=(NO_PRICE,) * quarter + known[quarter:])).prices
    with pytest.raises(AppStateError, match=f"no price in {quarter + 1} of {whole} slots"):
        genesis(PLAN_OF_PRICES, TRAINERS, replace(RECORD, wei_per_wh=(NO_PRICE,) * (quarter + 1) + known[quarter + 1 :]))


@pytest.mark.parametrize(
    "spec",
    [
        ForecastSpec("price", 60, 24, hidden=(24, 24)),
        ForecastSpec("price", 15, 48, 4, hidden=(4, 4)),
        ForecastSpec("price", 15, 24, 24, hidden=(8, 8), channels=("weather",)),
        ForecastSpec("price", 15, 24, 24, hidden=(8, 8), annual=True),
    ],
    ids=["hours", "two_days", "weather", "annual"],
)
def test_there_is_one_shape_of_answers_for_prices(spec: ForecastSpec) -> None:
    with pytest.raises(AppStateError, match="no hub can learn"):
        genesis(replace(PLAN_OF_PRICES, spec=spec))


def test_prices_hide_nothing_also_beside_meters_that_do() -> None:
    hiding = replace(PLAN_OF_PRICES, privacy="secagg", rule="mean", min_participants=5)
    with pytest.raises(AppStateError, match="their plan hides nothing, not secagg"):
        genesis(hiding)
