"""The rounds in one process: what a replica refuses, what hostile homes achieve, and what is scored."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from train_data import SPLIT, write_households

from openmg.forecast.features import Windows
from openmg.forecast.loss import heads
from openmg.forecast.spec import DAYS_PER_WEEK
from openmg.forecast.trainer import get_trainer
from workbench.attacks.catalogue import named
from workbench.ppdl_train.federation import Federation
from workbench.ppdl_train.homes import Fleet, choose_hostile, make_fleet
from workbench.ppdl_train.households import load_households
from workbench.ppdl_train.options import TrainOptions
from workbench.ppdl_train.rivals import mean_of_7_days, seasonal_naive

HOMES = 10


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_households(tmp_path_factory.mktemp("data") / "homes.csv", homes=HOMES)


def federation(file: Path, attack: str = "none", rule: str = "nnm-trimmed", share: float = 0.3) -> Federation:
    options = TrainOptions(file, date.fromisoformat(SPLIT), rule=rule, byzantine=share, attack=attack, local_steps=10)
    data = load_households(file, 60)
    plan = options.plan(data.hour_of(options.split_date), data.start_hour, data.end_hour, ())
    trainer, hostile = get_trainer(plan.spec), choose_hostile(len(data.homes), share, 1)
    fleet = make_fleet(data.homes, plan, trainer, hostile, named(attack), lambda text: None)
    return Federation(fleet, plan, named(attack), HOMES, 1)


def loss(subject: Federation) -> float:
    honest = subject.fleet.honest
    return sum(home.learner.evaluate(subject.state.master) for home in honest) / len(honest)


def silent(text: str) -> None:
    """No progress."""


def test_hostile_homes_are_drawn_by_the_seed_and_rounded_down() -> None:
    assert len(choose_hostile(10, 0.39, 1)) == 3
    assert choose_hostile(70, 0.3, 1) == choose_hostile(70, 0.3, 1) != choose_hostile(70, 0.3, 2)
    assert choose_hostile(10, 0.0, 1) == frozenset()


def test_the_last_rounds_settle(file: Path) -> None:
    subject = federation(file)
    subject.plan = replace(subject.plan, rate_decay_rounds=6)
    for home in subject.fleet.homes:
        home.learner.plan = subject.plan
    moved = []
    for number in range(7):
        subject._round(number)
        assert subject._step is not None
        moved.append(float(np.linalg.norm(subject._step)))
    assert moved[6] < 0.1 * min(moved[:3])


@pytest.mark.parametrize("rounds", [1, 6, 60])
def test_the_rate_falls_over_all_rounds_that_are_asked_for(file: Path, rounds: int) -> None:
    options, data = TrainOptions(file, date.fromisoformat(SPLIT), rounds=rounds), load_households(file, 60)
    plan = options.plan(data.hour_of(options.split_date), data.start_hour, data.end_hour, ())
    assert plan.rate_decay_rounds == rounds


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("unclipped_sign_flip", "norm above the bound"),
        ("wrong_shape", "malformed"),
        ("replayed_message", "of another round"),
        ("sybil", "device is not registered"),
    ],
)
def test_a_replica_refuses_what_the_chain_would_refuse(file: Path, attack: str, reason: str) -> None:
    subject = federation(file, attack)
    subject.run(2, silent)
    assert subject.ledger.rejected[reason] > 0


@pytest.mark.slow
def test_sign_flips_ruin_the_plain_mean_and_not_the_default_rule(file: Path) -> None:
    losses = {}
    for rule in ("mean", "nnm-trimmed"):
        for attack in ("none", "sign_flip"):
            subject = federation(file, attack, rule)
            subject.run(8, silent)
            losses[rule, attack] = loss(subject)
    harm = {rule: losses[rule, "sign_flip"] / losses[rule, "none"] - 1 for rule in ("mean", "nnm-trimmed")}
    assert harm["nnm-trimmed"] < 0.05 and harm["mean"] > 2 * abs(harm["nnm-trimmed"]), losses


def test_all_hostile_updates_refused_leaves_the_model_to_the_honest(file: Path) -> None:
    subject = federation(file, "wrong_shape")
    subject.run(1, silent)
    assert subject.ledger.rejected["malformed"] == 3


def test_bytes_count_what_was_sent_by_invented_devices_too(file: Path) -> None:
    honest, crowd = federation(file), federation(file, "sybil")
    honest.run(1, silent)
    crowd.run(1, silent)
    assert crowd.ledger.bytes_sent > honest.ledger.bytes_sent


def test_forecasts_without_a_model_are_what_they_say(file: Path) -> None:
    data = load_households(file, 60)
    subject = federation(file, share=0.0)
    home = subject.fleet.honest[3]
    household = next(item for item in data.homes if item.name == home.name)
    energy = np.array(household.energy_wh, dtype=np.float64)
    naive, mean = (rule(home, household, subject.plan).mean for rule in (seasonal_naive, mean_of_7_days))
    split = data.hour_of(date.fromisoformat(SPLIT)) - data.start_hour
    held = home.spans.held_out
    assert np.allclose(home.truth_wh[5], energy[split + 5 : split + 29], atol=0.01)
    assert np.allclose(naive[5], energy[split + 5 - 24 : split + 5])
    days = np.stack([energy[split + 5 - 24 * day : split + 5 - 24 * day + 24] for day in range(1, DAYS_PER_WEEK + 1)])
    assert np.allclose(mean[5], days.mean(0))
    assert len(naive) == len(held)


def test_forecasts_follow_the_days_before_and_nothing_later(file: Path) -> None:
    subject = federation(file, share=0.0)
    home, trainer = subject.fleet.honest[3], subject.fleet.honest[3].learner.trainer
    held, standard = home.spans.held_out, home.spans.standard
    weights = np.random.default_rng(5).normal(scale=0.05, size=subject.plan.spec.parameters).astype(np.float32)
    told, row = home.forecast_wh(trainer, weights), 30
    assert told.quantiles is not None
    plain = standard.undo((held.base + heads(trainer.predict(weights, held.inputs))[0]).astype(np.float64))
    assert not np.allclose(told.mean[0], plain[0], atol=1.0), "the first day of the test window has the training span before it"

    changed = held.residual.copy()
    for later in range(max(0, row - 23), len(held)):  # every target from this origin on
        changed[later, max(0, row - later) :] += 7.0
    after = Windows(held.origins, held.inputs, held.base, changed)
    again = replace(home, spans=replace(home.spans, held_out=after)).forecast_wh(trainer, weights)
    assert again.quantiles is not None
    assert np.array_equal(told.mean[: row + 1], again.mean[: row + 1])
    assert np.array_equal(told.quantiles[: row + 1], again.quantiles[: row + 1])
    assert not np.allclose(told.mean[row + 1], again.mean[row + 1])


def test_half_hours_add_up_to_hours_and_unknown_ones_spoil_theirs(tmp_path: Path) -> None:
    path = write_households(tmp_path / "homes.csv", homes=1)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].split(",")[0] + ","
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    hourly, half_hourly = load_households(path, 60), load_households(path, 30)
    assert hourly.homes[0].energy_wh[1] is None and half_hourly.homes[0].energy_wh[2] is None
    first = [round(1000 * float(line.split(",")[1])) for line in lines[1:3]]
    assert hourly.homes[0].energy_wh[0] == sum(first)
    assert half_hourly.homes[0].start_step == 2 * hourly.homes[0].start_step
    assert hourly.end_hour - hourly.start_hour == 2400


def test_the_fleet_names_homes_without_enough_windows(file: Path) -> None:
    data = load_households(file, 60)
    options = TrainOptions(file, date.fromisoformat(SPLIT))
    plan = options.plan(data.hour_of(options.split_date), data.start_hour, data.end_hour, ())
    ragged = data.homes[0]
    holes = tuple(None if step % 20 == 0 else value for step, value in enumerate(ragged.energy_wh))
    broken = type(ragged)(ragged.name, ragged.resolution_minutes, ragged.start_step, holes)
    trainer = get_trainer(plan.spec)
    fleet: Fleet = make_fleet((broken, *data.homes[1:]), plan, trainer, frozenset(), named("none"), silent)
    assert [item.name for item in fleet.excluded] == [ragged.name] and "gaps" in fleet.excluded[0].reason
    assert len(fleet.homes) == HOMES - 1
