"""A home's windows: those it trains on, those nobody trains on, and the scale they are measured in.

Rules: both spans are fixed by the plan; training windows end before `plan.evaluation_start_hour`, evaluation windows
begin there; mean and deviation are those of the training span. Not here: training (`learner`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from openmg.forecast.features import MIN_DEVIATION_WH, Almanac, Series, Standard, Windows, build_windows, series
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import BATCH_ROWS
from openmg.learning.plan import LearningPlan

EnergyHistory = Callable[[int], tuple[int, Sequence[int | None]]]
"""By the minutes of a step: the first step (steps since 1970, UTC) and the net energies in Wh from there on; None where
nothing was metered."""


class LearnerNotReady(RuntimeError):
    """This home cannot take part yet; the message says what is missing."""


@dataclass(frozen=True)
class Spans:
    """Training and evaluation windows of one home, in units of its standard."""

    standard: Standard
    train: Windows
    held_out: Windows


def spans_of(plan: LearningPlan, history: EnergyHistory) -> Spans:
    """The spans that the plan cuts from a history. Raises LearnerNotReady when too little of it is known."""
    spec = plan.spec
    start, energy_wh = history(spec.resolution_minutes)
    evaluation = plan.evaluation_start_hour * spec.steps_per_hour - start
    first = max(0, evaluation - plan.train_hours * spec.steps_per_hour)
    end = evaluation + plan.evaluation_hours * spec.steps_per_hour
    if evaluation - first < spec.min_history_steps + spec.horizon_steps or end > len(energy_wh):
        hours = spec.steps_per_hour
        raise LearnerNotReady(
            f"learning: the store holds hours {start // hours}..{(start + len(energy_wh)) // hours}, the plan needs"
            f" {plan.evaluation_start_hour - plan.train_hours}..{(start + end) // hours}; import the home's history"
        )
    values_wh, split = series(energy_wh[first:end]), evaluation - first
    try:
        standard = Standard.of(values_wh[:split], MIN_DEVIATION_WH / spec.steps_per_hour)
    except ValueError as error:
        raise LearnerNotReady(str(error)) from error
    almanac = Almanac(frozenset(plan.holiday_days), plan.utc_offset_hours)
    past = Series(standard.apply(values_wh), start + first, almanac)
    train = _windows(spec, past, spec.min_history_steps, split)
    held_out = _windows(spec, past, split, len(values_wh))
    if len(train) < BATCH_ROWS or len(held_out) == 0:
        raise LearnerNotReady(
            f"learning: {len(train)} training and {len(held_out)} evaluation windows are complete, at least"
            f" {BATCH_ROWS} and 1 are needed; the home's history has gaps"
        )
    return Spans(standard, train, held_out)


def _windows(spec: ForecastSpec, past: Series, first: int, end: int) -> Windows:
    """Windows whose origins and targets lie in first..end-1."""
    return build_windows(spec, past, np.arange(first, end - spec.horizon_steps + 1, dtype=np.int64))
