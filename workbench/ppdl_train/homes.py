"""The homes of a run: learners of the honest and of the hostile, and what is forecast for each honest one.

Rules: which homes are hostile follows from the seed alone; every score is over honest homes and the test window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.drift import FOLLOWED_DAYS, corrected
from openmg.forecast.features import Windows
from openmg.forecast.loss import heads, ordered
from openmg.forecast.metrics import Forecast
from openmg.forecast.trainer import Trainer
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from openmg.member.learner import LocalLearner
from openmg.member.spans import LearnerNotReady, Spans, spans_of
from workbench.attacks.attack import Attack
from workbench.ppdl_train.households import Excluded, Household

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_DOMAIN = b"openmg.ppdl.train.device"


@dataclass(frozen=True)
class Home:
    """A home with its windows; values of `truth` and forecasts are in Wh."""

    name: str
    device: bytes
    learner: LocalLearner
    spans: Spans
    hostile: bool
    naive_error_wh: float
    """Mean absolute error of "as a day ago" over the training span."""

    @property
    def truth_wh(self) -> F64:
        held = self.spans.held_out
        return self.spans.standard.undo((held.base + held.residual).astype(np.float64))

    def forecast_wh(self, trainer: Trainer, weights: F32) -> Forecast:
        """What a model says of the test window, corrected by what it said of the days before (`openmg.forecast.drift`)."""
        held, standard = self.spans.held_out, self.spans.standard
        before = _latest(self.spans.train, FOLLOWED_DAYS * trainer.spec.steps_per_day)
        made = [trainer.predict(weights, windows.inputs) for windows in (before, held)]
        origins = np.concatenate([before.origins, held.origins])
        residual = np.concatenate([before.residual, held.residual])
        output = corrected(trainer.spec, origins, np.concatenate(made), residual)
        mean, quantiles = heads(output[len(before) :])
        return Forecast(
            standard.undo((held.base + mean).astype(np.float64)),
            standard.undo((held.base[:, None, :] + ordered(quantiles)).astype(np.float64)),
        )


@dataclass(frozen=True)
class Fleet:
    """All homes of a run in the file's order."""

    homes: tuple[Home, ...]
    excluded: tuple[Excluded, ...]

    @property
    def honest(self) -> tuple[Home, ...]:
        return tuple(home for home in self.homes if not home.hostile)

    @property
    def hostile_devices(self) -> tuple[bytes, ...]:
        return tuple(home.device for home in self.homes if home.hostile)


def _latest(windows: Windows, steps: int) -> Windows:
    """Those that begin in the last `steps` steps before the end of the last one's inputs."""
    first = int(np.searchsorted(windows.origins, windows.origins[-1] - steps, side="right"))
    return Windows(windows.origins[first:], windows.inputs[first:], windows.base[first:], windows.residual[first:])


def device_of(number: int) -> bytes:
    """The 20-byte id of a home."""
    return keccak256(_DOMAIN + word(number))[-20:]


def make_fleet(
    households: Sequence[Household],
    plan: LearningPlan,
    trainer: Trainer,
    hostile: frozenset[int],
    attack: Attack,
    progress: Callable[[str], None],
) -> Fleet:
    """Learners of all homes; a home without enough windows is left out and named."""
    homes, excluded = [], []
    for number, household in enumerate(households):
        progress(f"windows of home {number + 1} of {len(households)}")
        try:
            spans = spans_of(plan, household.history)
        except LearnerNotReady as error:
            excluded.append(Excluded(household.name, str(error)))
            continue
        if number in hostile:
            spans = Spans(spans.standard, attack.corrupt_data(spans.train), spans.held_out)
        device = device_of(number)
        learner = LocalLearner.of_spans(device, plan, spans, trainer)  # its own chance: a run can be repeated
        homes.append(Home(household.name, device, learner, spans, number in hostile, _naive_error(household, plan)))
    return Fleet(tuple(homes), tuple(excluded))


def choose_hostile(count: int, share: float, seed: int) -> frozenset[int]:
    """floor(share * count) homes, drawn by the seed."""
    order = np.random.default_rng([seed, 1]).permutation(count)
    return frozenset(int(number) for number in order[: int(share * count)])


def _naive_error(household: Household, plan: LearningPlan) -> float:
    steps = plan.spec.steps_per_hour
    start, energy = household.history(plan.spec.resolution_minutes)
    end = plan.evaluation_start_hour * steps - start
    past = energy[max(0, end - plan.train_hours * steps) : end]
    values = np.array([np.nan if value is None else value for value in past])
    day = plan.spec.steps_per_day
    return float(np.nanmean(np.abs(values[day:] - values[:-day])))
