"""A member's windows: those it trains on, those nobody trains on, and the scale they are measured in.

Rules: both spans are fixed by the plan; training windows end before `plan.evaluation_start_hour`, evaluation windows
begin there; mean and deviation are those of the training span. Not here: training (`learner`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import MIN_DEVIATION_WH, Almanac, Series, Standard, Windows, build_windows, series
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import BATCH_ROWS
from openmg.learning.plan import LearningPlan

F64 = NDArray[np.float64]

EnergyHistory = Callable[[int], tuple[int, Sequence[int | None]]]
"""By the minutes of a step: the first step (steps since 1970, UTC) and the net energies in Wh from there on; None where
nothing was metered."""


class LearnerNotReady(RuntimeError):
    """This member cannot take part yet; the message says what is missing."""


class Split(Protocol):
    """What a learner needs: windows to train on, and windows that nobody trains on."""

    @property
    def train(self) -> Windows: ...

    @property
    def held_out(self) -> Windows: ...


SpansOf = Callable[[LearningPlan], Split]
"""The member's windows under a plan. Raises LearnerNotReady."""


@dataclass(frozen=True)
class Spans:
    """Training and evaluation windows of one series, in units of its standard."""

    standard: Standard
    train: Windows
    held_out: Windows


def of_home(history: EnergyHistory) -> SpansOf:
    """The windows of a home with this history."""
    return lambda plan: spans_of(plan, history)


def spans_of(plan: LearningPlan, history: EnergyHistory) -> Spans:
    """The spans that the plan cuts from a home's history. Raises LearnerNotReady when too little of it is known."""
    spec = plan.spec
    start, energy_wh = history(spec.resolution_minutes)
    return cut(plan, start, series(energy_wh), MIN_DEVIATION_WH / spec.steps_per_hour)


def cut(
    plan: LearningPlan, start: int, values: F64, min_deviation: float, channels: F64 | None = None, stride: int = 1
) -> Spans:
    """The spans of a series from step `start` on (NaN where nothing is known); origins are `stride` steps apart.

    `channels` [len + H, number of channels], in the units in which the model takes them. Raises LearnerNotReady.
    """
    spec = plan.spec
    evaluation = plan.evaluation_start_hour * spec.steps_per_hour - start
    first = max(0, evaluation - plan.train_hours * spec.steps_per_hour)
    end = evaluation + plan.evaluation_hours * spec.steps_per_hour
    if evaluation - first < spec.min_history_steps + spec.horizon_steps or end > len(values):
        hours = spec.steps_per_hour
        raise LearnerNotReady(
            f"learning: the store holds hours {start // hours}..{(start + len(values)) // hours}, the plan needs"
            f" {plan.evaluation_start_hour - plan.train_hours}..{(start + end) // hours}; import the home's history"
        )
    values, split = values[first:end], evaluation - first
    try:
        standard = Standard.of(values[:split], min_deviation)
    except ValueError as error:
        raise LearnerNotReady(str(error)) from error
    almanac = Almanac(frozenset(plan.holiday_days), plan.utc_offset_hours)
    beside = None if channels is None else channels[first : end + spec.horizon_steps]
    past = Series(standard.apply(values), start + first, almanac, beside)
    train = _windows(spec, past, spec.min_history_steps, split, stride)
    held_out = _windows(spec, past, split, len(values), stride)
    if len(train) < BATCH_ROWS or len(held_out) == 0:
        raise LearnerNotReady(
            f"learning: {len(train)} training and {len(held_out)} evaluation windows are complete, at least"
            f" {BATCH_ROWS} and 1 are needed; the home's history has gaps"
        )
    return Spans(standard, train, held_out)


def _windows(spec: ForecastSpec, past: Series, first: int, end: int, stride: int) -> Windows:
    """Windows whose origins and targets lie in first..end-1."""
    return build_windows(spec, past, np.arange(first, end - spec.horizon_steps + 1, stride, dtype=np.int64))
