"""What the chain's own plan tells of measured homes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from openmg.forecast.features import series
from openmg.forecast.model import initial_master
from openmg.forecast.trainer import get_trainer
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import update_from_bytes
from openmg.member.learner import LocalLearner
from openmg.member.spans import of_home
from workbench.attacks.presence import HomePresence
from workbench.attacks.rehearsal import Rehearsal
from workbench.attacks.revealed import reveal
from workbench.attacks.roc import area
from workbench.ppdl_train.homes import device_of
from workbench.ppdl_train.households import Households, load_households

LONDON = "lcl_2013_80_households_30min.csv.gz"
SPANS, MEMBERS = 4, 5


@cache
def homes(path: Path) -> Households:
    return load_households(path, 60)


def plan_of(data: Households, span: int) -> LearningPlan:
    hours = LearningPlan.__dataclass_fields__["train_hours"].default
    return LearningPlan(evaluation_start_hour=data.start_hour + (span + 1) * hours, utc_offset_hours=0)


@pytest.mark.slow
@pytest.mark.london
def test_homes_of_london_are_found_in_clear_and_in_sums_of_five(shared_data: Path) -> None:
    """Every other home is the hub's own; the last span holds the victims, the others the shadows."""
    data = homes(shared_data / LONDON)
    first = plan_of(data, 0)
    master, trainer = initial_master(first.spec, first.seed), get_trainer(first.spec, "numpy")

    def update(number: int, span: int) -> np.ndarray:
        learner = LocalLearner(device_of(number), plan_of(data, span), of_home(data.homes[number].history), trainer)
        return update_from_bytes(first.spec, learner.train(master, span).update_int16).astype(np.float64)

    shadows = [update(number, span) for span in range(SPANS - 1) for number in range(0, 60, 2)]
    victims = np.stack([update(number, SPANS - 1) for number in range(1, 60, 2)])
    attack = HomePresence(np.stack(shadows))
    secagg = LearningPlan(first.evaluation_start_hour, privacy="secagg", rule="mean", min_participants=MEMBERS)
    for plan, members in ((first, 1), (secagg, MEMBERS)):
        inside, outside = [], []
        for begin in range(0, len(victims), members):
            row = np.arange(begin, begin + members)
            (seen,) = reveal(plan, victims[row].astype(np.int16))
            scores = attack.scores(victims, seen)
            inside.append(scores[row])
            outside.append(np.delete(scores, row))
        assert area(np.concatenate(inside), np.concatenate(outside)) > 0.97


@pytest.mark.london
def test_a_measured_homes_update_can_be_rehearsed_to_the_bit(shared_data: Path) -> None:
    data = homes(shared_data / LONDON)
    plan = plan_of(data, 0)
    master = initial_master(plan.spec, plan.seed)
    home = data.homes[3]
    learner = LocalLearner(device_of(3), plan, of_home(home.history), get_trainer(plan.spec, "numpy"))
    sent = update_from_bytes(plan.spec, learner.train(master, 0).update_int16)
    values = learner.spans.standard.apply(series(home.energy_wh[: plan.train_hours]))
    assert np.array_equal(Rehearsal(plan, master, 0, device_of(3)).sent(values), sent)
