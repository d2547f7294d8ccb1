"""The model of prices: learnt by four hubs over real sockets from the record in their genesis; a liar, and a wrong record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from price_world import PLACE, PRICES, TRAINER_KEYS, TRAINERS, PriceHubs, price_genesis
from round_world import CHAIN_ID, METERS, MODEL, Chain

from hub.inference.desk import BY_CHAIN_MODEL, ForecastDesk
from hub.inference.history import HistoryStore
from hub.inference.models import PRICE, ModelKey
from hub.inference.recorder import Recorder
from hub.learning.price_past import pool_spans, recorded_pasts
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import AppGenesis
from hub.ppdl.app.round_state import UNJUDGED
from hub.ppdl.app.transactions import commit_tx
from openmg.forecast.features import Almanac
from openmg.forecast.model import initial_master, master_from_bytes
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.quantise import model_hash
from openmg.member.learner import LocalLearner
from openmg.messages import base
from openmg.messages.learning import UpdateCommit

ROUNDS = 3


def loss_micro(parameters: bytes) -> tuple[int, int]:
    """Of the base forecast and of a model on the week that nobody trains on."""
    pasts = recorded_pasts(AppGenesis.decode(price_genesis().app_state))
    learner = LocalLearner(bytes(32), PRICES, lambda plan: pool_spans(plan, pasts), NumpyTrainer(PRICES.spec))
    return learner.baseline(), learner.evaluate(master_from_bytes(PRICES.spec, parameters))


@pytest.mark.slow
async def test_hubs_learn_prices_together_and_a_liar_among_four_is_outvoted(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with PriceHubs(tmp_path, free_port, liars=(2,)) as world:
        for number in range(4):
            await world.closed(ROUNDS, number)
        views = [hub.model(PLACE) for hub in world.hubs.hubs]
        for record in views[0].records[:ROUNDS]:
            assert record.outcome == UNJUDGED and record.hostile == 1
            assert len(record.included) >= 3 and set(record.included) <= set(TRAINERS)
            assert all(view.records[record.number].model_hash == record.model_hash for view in views)
        assert len(world.liars[0].lies) >= ROUNDS - 1
        assert any(TRAINERS[2] in record.included for record in views[0].records[:ROUNDS]), "the lie was counted, and outvoted"
        base_micro, agreed_micro = loss_micro(views[0].model.master)
        assert agreed_micro < 0.97 * base_micro
        evaluated = [record.loss_sum_micro // record.loss_count for record in views[0].records[:ROUNDS] if record.loss_count]
        assert evaluated[-1] < evaluated[0], "as the hubs themselves found"
        assert views[0].round.completed >= ROUNDS and not world.hubs.hubs[0].model(0).commits
        assert_answered_with_the_agreed_model(world, tmp_path)


def assert_answered_with_the_agreed_model(world: PriceHubs, folder: Path) -> None:
    """What the inference API's desk says over this hub's replica."""
    app = world.hubs.hubs[0].app
    history = HistoryStore(folder / "history.sqlite")

    def query(path: str):
        return app.query(path, b"")

    Recorder(history, query, (1,)).step()
    end_s = 900 * history.prices(1).start_hour + 900 * len(history.prices(1).values)
    desk = ForecastDesk(history, query, (1,), {}, {}, lambda _: Almanac(), lambda: float(end_s))
    outlook = desk.outlook(ModelKey(PRICE, 1, 24))
    record = world.hubs.hubs[0].model(PLACE).records
    assert outlook.made_by == BY_CHAIN_MODEL and outlook.as_of_s == end_s and len(outlook.steps) == 96
    assert outlook.model_hash in {item.model_hash for item in record if item.outcome == UNJUDGED}
    assert 0 < outlook.ppdl_height <= app.info().last_height
    history.close()


@pytest.mark.slow
async def test_a_hub_with_another_record_of_prices_is_of_another_chain(tmp_path: Path, free_port: Callable[[], int]) -> None:
    wrong = price_genesis(first_price=31 * 10**9)
    assert wrong.hash != price_genesis().hash
    async with PriceHubs(tmp_path, free_port, chains={3: wrong}) as world:
        for number in range(3):
            await world.closed(1, number)
        records = [hub.model(PLACE).records[0] for hub in world.hubs.hubs[:3]]
        assert records[0].outcome == UNJUDGED and records[0].participants == tuple(sorted(TRAINERS[:3]))
        assert len({record.model_hash for record in records}) == 1
        alone = world.hubs.hubs[3]
        assert alone.app.info().last_height == 0 and alone.model(PLACE).records[0].participants == ()


def test_meters_learn_no_prices_and_hubs_no_energy(tmp_path: Path) -> None:
    app = PpdlApplication(tmp_path / "app.sqlite")
    app.init_chain(price_genesis())
    first = {
        plan.spec.short_name: model_hash(plan.spec, initial_master(plan.spec, plan.seed))
        for plan in app._view().env.genesis.plans
    }

    def commit(name: bytes, key: bytes) -> bytes:
        return commit_tx(base.sign(UpdateCommit(name, 0, first[name], bytes(32)), CHAIN_ID, key))

    prices = PRICES.spec.short_name
    assert app.check_tx(commit(prices, TRAINER_KEYS[0])).ok
    for name, key in ((prices, METERS[0].signing_key), (MODEL, TRAINER_KEYS[0])):
        refused = app.check_tx(commit(name, key))
        assert not refused.ok and "not registered for this model" in refused.reason
    app.close()


def test_the_genesis_record_is_what_every_hub_trains_on() -> None:
    past = recorded_pasts(AppGenesis.decode(price_genesis().app_state))[0]
    spans = pool_spans(PRICES, [past])
    assert len(spans.train) == (672 - 168 - 24) + 1 and len(spans.held_out) == 168 - 24 + 1, "an origin each hour"
    both = pool_spans(PRICES, [past, past])
    assert len(both.train) == 2 * len(spans.train) and (both.train.inputs[len(spans.train) :] == spans.train.inputs).all()


def test_a_chain_without_prices_records_none(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "app.sqlite")
    assert not chain.query("prices/1").ok and len(chain.whole.models) == 1
    chain.close()
