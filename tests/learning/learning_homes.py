"""Homes for tests of learning: seeded hourly net energy, London homes, and rounds of learning in one process."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from firmware_sim.homes import KOREA_UTC_OFFSET, Home, fleet, household_load_w
from firmware_sim.noise import mix
from firmware_sim.sun import Sky, local_day, pv_w
from openmg.forecast.loss import loss
from openmg.forecast.model import initial_master
from openmg.forecast.spec import HEADS
from openmg.forecast.trainer import Trainer, get_trainer
from openmg.learning.aggregate import ServerState, aggregate, apply_step
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import update_from_bytes
from openmg.member.learner import LocalLearner
from openmg.member.spans import of_home

START_HOUR = 1_781_485_200 // 3600 - 840
"""35 days before 10:00 in Seoul on 15 June 2026."""
HOURS = 840


def synthetic_homes(count: int, seed: int) -> list[list[int]]:
    """Hourly net Wh of prosumers, one producer (the first home) and consumers (every fourth) under one sky."""
    random = np.random.default_rng(seed)
    hour = np.arange(HOURS)
    local = (START_HOUR + hour + 9) % 24
    day = (START_HOUR + hour + 9) // 24
    weekend = ((day + 3) % 7) >= 5
    sky = 0.35 + 0.65 * random.random(HOURS // 24 + 2)[day - day[0]]
    sun = np.clip(np.sin((local - 5.5) / 14 * np.pi), 0, None) * ((local > 5) & (local < 20)) * sky
    homes = []
    for number in range(count):
        morning, evening = random.uniform(6.5, 8.5), random.uniform(18, 21)
        at_home = 80 + 250 * np.exp(-((local - morning - 1.5 * weekend) ** 2) / 2)
        at_home = at_home + 600 * np.exp(-((local - evening) ** 2) / 5) + 150 * weekend * (local > 9)
        load = at_home * random.uniform(0.8, 1.3) * random.lognormal(sigma=0.25, size=HOURS)
        peak = 15_000 if number == 0 else 0 if number % 4 == 3 else random.uniform(1500, 4500)
        load = 8.0 if number == 0 else load
        homes.append([round(v) for v in load - peak * sun * random.lognormal(sigma=0.05, size=HOURS)])
    return homes


def simulated_homes(seed: int) -> list[list[int]]:
    """Hourly net Wh of the demonstration's twelve homes before its default start, from four samples an hour."""
    sky = Sky(mix(seed, 1000) >> 1, local_day((START_HOUR + HOURS) * 3600, KOREA_UTC_OFFSET), KOREA_UTC_OFFSET)

    def net_w(home: Home, second: int) -> int:
        return household_load_w(home, second) - pv_w(home, sky, second)

    def net_wh(home: Home, hour: int) -> int:
        return round(sum(net_w(home, hour * 3600 + quarter) for quarter in (450, 1350, 2250, 3150)) / 4)

    return [[net_wh(home, START_HOUR + hour) for hour in range(HOURS)] for home in fleet(12, seed)]


def london_homes(folder: Path, count: int) -> tuple[int, list[list[int]]]:
    """First hour and hourly Wh of complete London homes in the 35 days before 15 June 2013."""
    with gzip.open(folder / "lcl_2013_80_households_30min.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    first = next(i for i, row in enumerate(rows) if row[0].startswith("2013-05-11 00:00"))
    table = np.array([[float(cell or "nan") for cell in row[1:]] for row in rows[first : first + 2 * HOURS]])
    hourly = table.reshape(HOURS, 2, -1).sum(1) * 1000
    whole = [i for i in range(hourly.shape[1]) if not np.isnan(hourly[:, i]).any() and hourly[:, i].mean() > 60]
    start = int(datetime(2013, 5, 11, tzinfo=UTC).timestamp()) // 3600
    return start, [[round(v) for v in hourly[:, i]] for i in whole[:count]]


@dataclass(frozen=True)
class Run:
    """Mean loss in millionths of each round's model on the honest homes, and of the base forecast alone."""

    losses: tuple[int, ...]
    baseline: int


def naive_loss(homes: Sequence[Sequence[int]], lag_hours: int) -> int:
    """The same mean loss when mean and quantiles are all "as `lag_hours` ago", over the last week's 145 origins."""
    losses = []
    for home in homes:
        wh, split = np.array(home, dtype=float), HOURS - 168
        values = ((wh - wh[:split].mean()) / wh[:split].std()).astype(np.float32)
        target = np.arange(split, HOURS - 23)[:, None] + np.arange(24)
        losses.append(loss(np.tile(values[target - lag_hours], HEADS), values[target]))
    return round(1_000_000 * sum(losses) / len(losses))


Attack = Callable[[np.ndarray], np.ndarray]


def run_rounds(
    start_hour: int,
    homes: Sequence[Sequence[int]],
    rounds: int,
    *,
    attackers: Collection[int] = (),
    attack: Attack = np.negative,
    trainer: Trainer | None = None,
    **changes: object,
) -> Run:
    """Federated rounds with the real learner and the real aggregate, all in this process."""
    plan = LearningPlan(evaluation_start_hour=start_hour + 672, **changes)  # type: ignore[arg-type]
    shared = trainer or get_trainer(plan.spec)
    learners = [
        LocalLearner(bytes([number]) * 20, plan, of_home(lambda minutes, home=home: (start_hour, home)), shared)
        for number, home in enumerate(homes)
    ]
    honest = [learner for number, learner in enumerate(learners) if number not in attackers]
    state = ServerState(initial_master(plan.spec, plan.seed), np.zeros(plan.spec.parameters, np.int32))
    losses = []
    for number in range(rounds + 1):
        losses.append(sum(learner.evaluate(state.master) for learner in honest) // len(honest))
        if number == rounds:
            break
        updates = {}
        for index, learner in enumerate(learners):
            result = learner.train(state.master, number)
            update = update_from_bytes(plan.spec, result.update_int16)
            updates[learner.chance] = attack(update).astype(np.int16) if index in attackers else update
        state = apply_step(state, aggregate(updates, plan, len(learners)).step, plan)
    return Run(tuple(losses), sum(learner.baseline() for learner in honest) // len(honest))
