"""The hub's models: trained in a child, kept as integers under their hash, as-of inputs, gaps, and when they are due."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forecast_world import ALMANAC, END_HOUR, PAST_HOURS, Chain, Trained, price_of, task_of

from hub.inference import trainer_job
from hub.inference.desk import BY_BASE, BY_CHAIN_MODEL, BY_HUB, ForecastDesk, NoForecast, UnknownMicrogrid
from hub.inference.expectation import expected
from hub.inference.history import SOURCE_AGREED, SOURCE_IMPORTED, HistoryStore, Hour
from hub.inference.hub_model import HistoryTooShort
from hub.inference.models import DEMAND, GENERATION, PRICE, KeptModel, ModelKey, ModelStore, model_keys, price_past_of
from hub.inference.trainer_job import TrainerJob, train_in_child
from hub.inference.training import TrainingFailed, TrainingTask, kept_from_json
from hub.ppdl.app.inference import answer_request
from hub.ppdl.app.transactions import InferenceRequest
from openmg.forecast.features import series
from openmg.learning.quantise import model_hash
from openmg.messages import base

pytestmark = pytest.mark.slow

DAY_AHEAD = ModelKey(DEMAND, 1, 24)


@pytest.fixture
def history(history_file: Path):
    store = HistoryStore(history_file)
    yield store
    store.close()


def desk_of(history: HistoryStore, models: dict[ModelKey, KeptModel], chain: Chain, missing=None, hour: int = END_HOUR):
    return ForecastDesk(history, chain.query, (1, 2), models, missing or {}, lambda _: ALMANAC, lambda: 3600.0 * hour)


# What is expected


@pytest.mark.parametrize("ahead", [24, 48, 72, 25])
def test_what_is_expected_of_a_step_reads_nothing_less_than_that_far_before_it(ahead: int):
    values = np.random.default_rng(3).normal(size=1000)
    whole = expected(values, ahead, 24)
    assert len(whole) == 1000 + ahead
    for origin in (700, 731, 999):
        changed = values.copy()
        changed[origin:] = np.random.default_rng(4).normal(size=1000 - origin)
        np.testing.assert_array_equal(expected(changed, ahead, 24)[: origin + ahead], whole[: origin + ahead])


def test_what_is_expected_by_hand():
    values = np.arange(1000.0)
    week, weekdays = 700 - np.mean([24 * n for n in range(1, 8)]), 700 - np.mean([168 * n for n in range(1, 5)])
    assert expected(values, 24, 24)[700] == pytest.approx((week + weekdays) / 2)
    assert np.isnan(expected(values, 24, 24)[:168]).all()


def test_the_price_model_sees_the_net_energy_expected_for_its_slots(history: HistoryStore):
    past = price_past_of(history, 1)
    assert past.end_slot == 4 * END_HOUR and len(past.expected_net_wh) == len(past.prices) + 96
    assert past.prices[-5:] == tuple(map(price_of, range(4 * END_HOUR - 5, 4 * END_HOUR)))
    ahead = expected(series(history.net(1).values), 24, 24)
    np.testing.assert_array_equal(past.expected_net_wh[-96::4], ahead[-24:])
    history.add_price(1, 4 * END_HOUR + 2, 5)  # its hour's net energy is not known yet
    assert price_past_of(history, 1).end_slot == 4 * END_HOUR
    assert price_past_of(history, 2).prices == ()


# Training


def test_a_childs_model_has_the_hash_that_its_integers_give(trained: Trained):
    assert len(trained.models) == 4
    for key, kept in trained.models.items():
        master = np.frombuffer(kept.master, dtype="<i4")
        assert kept.model.model_hash == model_hash(kept.spec, master)
        assert kept.spec.horizon_hours == key.horizon_hours and kept.trained_hour == END_HOUR
    assert len({kept.model.model_hash for kept in trained.models.values()}) == 4


def test_a_child_trains_what_this_process_would(trained: Trained, history: HistoryStore):
    here = KeptModel.of(DAY_AHEAD, task_of(history, DAY_AHEAD).train(), END_HOUR)
    assert here.mean_milli == trained.models[DAY_AHEAD].mean_milli
    ours, theirs = (np.frombuffer(kept.master, "<i4").astype(int) for kept in (here, trained.models[DAY_AHEAD]))
    assert np.abs(ours - theirs).max() <= 2  # float training is the same to rounding


def test_a_task_survives_its_json(history: HistoryStore):
    history.add_hours(1, [Hour.of_sums(END_HOUR + 1, 900, 100)], SOURCE_AGREED)  # after a gap
    task = task_of(history, ModelKey(GENERATION, 1, 24))
    again = TrainingTask.from_json(task.to_json())
    assert (again.key, again.spec, again.inputs.values, again.almanac) == (
        task.key,
        task.spec,
        task.inputs.values,
        task.almanac,
    )
    assert task.inputs.values[-2] is None


def test_a_history_that_is_too_short_says_what_is_missing(tmp_path: Path, past_file: Path):
    source, short = HistoryStore(past_file), HistoryStore(tmp_path / "short.sqlite")
    net = source.net(1)
    hours = [Hour(hour, value) for hour, value in enumerate(net.values[-900:], net.end_hour - 900) if value is not None]
    short.add_hours(1, hours, SOURCE_AGREED)
    with pytest.raises(HistoryTooShort, match="5 weeks of sums are known, 8 are needed"):
        asyncio.run(train_in_child(task_of(short, DAY_AHEAD)))
    job = TrainerJob(short, (DAY_AHEAD,), {}, lambda _: ALMANAC, lambda: END_HOUR, 1, lambda _: None, lambda: None)
    asyncio.run(job.train(DAY_AHEAD))
    assert "900 of 1344 steps are known (8 weeks)" in job.missing[DAY_AHEAD] and not job.models
    source.close()
    short.close()


def test_a_child_that_dies_or_hangs_is_a_failure_and_leaves_no_process(history: HistoryStore):
    task = task_of(history, DAY_AHEAD)
    broken = TrainingTask(task.key, task.spec, task.inputs, ALMANAC, -1, END_HOUR)
    object.__setattr__(broken.inputs, "values", ("no number",))
    with pytest.raises(TrainingFailed, match="the process ended with 1"):
        asyncio.run(train_in_child(broken))
    with pytest.raises(TrainingFailed, match="not done after 0.05 s"):
        asyncio.run(train_in_child(task, timeout_seconds=0.05))
    for text in ("", "{}", '{"master": "AAAA", "scales": "[1, 1, 1, []]"}', '{"master": 1, "scales": "[]"}'):
        with pytest.raises(TrainingFailed, match="cannot be read"):
            kept_from_json(task, text)


async def test_stopping_the_job_ends_a_training_under_way(history: HistoryStore):
    job = TrainerJob(history, (DAY_AHEAD,), {}, lambda _: ALMANAC, lambda: END_HOUR, 10**9, lambda _: None, lambda: None)
    stop = asyncio.Event()
    running = asyncio.create_task(job.run(stop))
    async with asyncio.timeout(60):
        while DAY_AHEAD not in job._tried:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert not running.done()
        stop.set()
        await running
    assert not job.models and not job.missing


async def test_a_job_trains_keeps_and_tells(history: HistoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(trainer_job, "STEP_SECONDS", 0.01)
    store, told = ModelStore(tmp_path / "models.sqlite"), asyncio.Event()
    job = TrainerJob(history, (DAY_AHEAD,), {}, lambda _: ALMANAC, lambda: END_HOUR, 2, store.keep, told.set)
    stop = asyncio.Event()
    running = asyncio.create_task(job.run(stop))
    async with asyncio.timeout(60):
        await told.wait()
        stop.set()
        await running
    assert store.all() == job.models and set(job.models) == {DAY_AHEAD}
    store.close()


def test_models_fall_due_once_a_day_the_oldest_first(trained: Trained, history: HistoryStore):
    keys = model_keys((1,), (24, 48))
    job = TrainerJob(history, keys, trained.models, lambda _: ALMANAC, lambda: END_HOUR, 1, lambda _: None, lambda: None)
    assert set(job.models) == set(trained.models) & set(keys)
    untrained = ModelKey(GENERATION, 1, 48)
    assert job.due(END_HOUR + 23, 0.0) == untrained  # nothing is known of it, so it is due at once
    job._tried[untrained] = END_HOUR + 23, 0.0
    assert job.due(END_HOUR + 23, 1e6) is None
    job._tried[untrained] = END_HOUR + 22, 0.0
    assert job.due(END_HOUR + 23, 1e6) == untrained  # without a model it is looked at every hour
    job._tried[untrained] = END_HOUR + 24, 0.0
    assert job.due(END_HOUR + 24, 0.0) == DAY_AHEAD
    for key in keys:
        job._tried[key] = END_HOUR, 0.0
    job._tried[ModelKey(GENERATION, 1, 24)] = END_HOUR - 5, 0.0
    assert job.due(END_HOUR + 100, 599.0) is None  # a fast virtual clock does not keep the machine busy
    assert job.due(END_HOUR + 100, 600.0) == ModelKey(GENERATION, 1, 24)


def test_kept_models_come_back_and_damaged_ones_do_not(trained: Trained, tmp_path: Path):
    store = ModelStore(tmp_path / "models.sqlite")
    for kept in trained.models.values():
        store.keep(kept)
    assert store.all() == trained.models
    with store._db.transaction() as db:
        db.execute("UPDATE models SET master = zeroblob(length(master)) WHERE horizon_hours = 72")
    assert set(store.all()) == set(trained.models) - {ModelKey(DEMAND, 1, 72)}
    with store._db.transaction() as db:  # as a later version of this program would write it
        db.execute("UPDATE models SET spec = json_set(spec, '$.novelty', 1) WHERE kind = 'generation'")
    assert {key.kind for key in store.all()} == {DEMAND}
    store.close()


@pytest.mark.parametrize(
    ("kind", "microgrid", "horizon"), [("demand", 1, 25), ("price", 1, 48), ("heat", 1, 24), ("demand", 0, 24)]
)
def test_there_are_no_other_models(kind: str, microgrid: int, horizon: int):
    with pytest.raises(ValueError, match="there is no model"):
        ModelKey(kind, microgrid, horizon)


# Forecasts


def test_every_models_quantiles_are_in_order(trained: Trained, history: HistoryStore, chain: Chain):
    desk = desk_of(history, trained.models, chain)
    for key, kept in trained.models.items():
        outlook = desk.outlook(key)
        assert len(outlook.steps) == key.horizon_hours * key.steps_per_hour
        assert outlook.made_by == BY_HUB and outlook.model_hash == kept.model.model_hash
        assert all(step.p10 <= step.p50 <= step.p90 for step in outlook.steps)
        seconds = 3600 // key.steps_per_hour
        assert [step.start_s for step in outlook.steps] == [3600 * END_HOUR + seconds * n for n in range(len(outlook.steps))]
        if key.kind != DEMAND:
            assert min(step.p10 for step in outlook.steps) >= 0


def test_what_was_made_up_is_counted_and_a_new_hour_makes_a_new_forecast(trained: Trained, history: HistoryStore, chain: Chain):
    desk = desk_of(history, trained.models, chain)
    first = desk.outlook(DAY_AHEAD)
    history.add_hours(1, [Hour.of_sums(END_HOUR + 2, 900, 100)], SOURCE_AGREED)  # two hours are skipped
    assert desk.outlook(DAY_AHEAD) == first
    desk.forget()
    second = desk.outlook(DAY_AHEAD)
    assert (first.gaps_filled, second.gaps_filled) == (0, 2)
    assert second.as_of_s - first.as_of_s == 3 * 3600


def test_before_there_is_a_model_the_chains_own_stands_in_and_says_so(history: HistoryStore, chain: Chain):
    outlook = desk_of(history, {}, chain).outlook(DAY_AHEAD)
    request = InferenceRequest(900, bytes(20), 1, 1)
    signed = base.Signed(request, bytes(20), b"")
    state, _ = answer_request(chain.state, signed, chain.height, chain.env)
    assert outlook.made_by == BY_CHAIN_MODEL and outlook.ppdl_height == chain.height
    assert outlook.model_hash == chain.state.models[0].model.model_hash
    assert tuple(step.mean for step in outlook.steps) == state.answers[-1].answer_wh
    assert all(step.p10 <= step.p50 <= step.p90 for step in outlook.steps)


def test_nothing_else_has_a_stand_in(history: HistoryStore, chain: Chain):
    desk = desk_of(history, {}, chain, {ModelKey(GENERATION, 2, 24): "5 weeks of 8 are known"})
    for key in (ModelKey(DEMAND, 1, 48), ModelKey(GENERATION, 1, 24)):
        with pytest.raises(NoForecast, match="not trained yet"):
            desk.outlook(key)
    with pytest.raises(NoForecast, match="5 weeks of 8 are known"):
        desk.outlook(ModelKey(GENERATION, 2, 24))
    with pytest.raises(UnknownMicrogrid, match="microgrid 3"):
        desk.outlook(ModelKey(DEMAND, 3, 24))


def test_a_history_that_ends_long_ago_forecasts_nothing(trained: Trained, history: HistoryStore, chain: Chain):
    assert desk_of(history, trained.models, chain, hour=END_HOUR + 12).outlook(DAY_AHEAD)
    with pytest.raises(NoForecast, match="is 13 hours old"):
        desk_of(history, trained.models, chain, hour=END_HOUR + 13).outlook(DAY_AHEAD)


def test_a_forecast_rests_on_the_latest_week(trained: Trained, tmp_path: Path, history: HistoryStore, chain: Chain):
    short = HistoryStore(tmp_path / "short.sqlite")
    known = history.net(1).values[-200:]
    short.add_hours(1, [Hour(END_HOUR - 200 + n, wh) for n, wh in enumerate(known) if wh is not None], SOURCE_IMPORTED)
    assert desk_of(short, trained.models, chain).outlook(DAY_AHEAD).gaps_filled == 0
    with pytest.raises(NoForecast, match="0 steps of history"):
        desk_of(short, trained.models, chain).outlook(ModelKey(GENERATION, 1, 24))
    short.close()
    assert PAST_HOURS > 200


def test_a_chain_without_a_model_of_prices_forecasts_none(history: HistoryStore, chain: Chain):
    chain.env = replace(
        chain.env, genesis=replace(chain.env.genesis, plans=chain.env.genesis.plans[:2], trainers=(), prices=())
    )
    chain.state = replace(chain.state, models=chain.state.models[:2])
    with pytest.raises(NoForecast, match="agrees on no model of prices"):
        desk_of(history, {}, chain).outlook(ModelKey(PRICE, 1, 24))


def test_an_untrained_models_prices_are_those_of_yesterday_and_of_the_weeks(history: HistoryStore, chain: Chain):
    outlook = desk_of(history, {}, chain).outlook(ModelKey(PRICE, 1, 24))
    assert outlook.made_by == BY_BASE and outlook.as_of_s == 3600 * END_HOUR
    for number, step in enumerate(outlook.steps):
        slot = 4 * END_HOUR + number
        days = np.mean([price_of(slot - 96 * day) for day in range(1, 8)])
        weekdays = np.mean([price_of(slot - 672 * week) for week in range(1, 5)])
        profiles = (days + weekdays) / 2
        assert step.p50 == pytest.approx((price_of(slot - 96) + profiles) / 2, abs=2) == step.mean


def test_a_price_forecast_needs_most_of_the_latest_week(history: HistoryStore, chain: Chain):
    with history._db.transaction() as db:
        db.execute("DELETE FROM prices WHERE slot >= ? AND slot % 3 = 0", (4 * END_HOUR - 600,))
    with pytest.raises(NoForecast, match="of the last week's 672 readings are missing"):
        desk_of(history, {}, chain).outlook(ModelKey(PRICE, 1, 24))
    with pytest.raises(NoForecast, match="0 steps of history"):
        desk_of(history, {}, chain).outlook(ModelKey(PRICE, 2, 24))
