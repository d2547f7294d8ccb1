"""What a forecast reads where readings are missing: a stand-in for every missing step, and how many there are.

Rules: a stand-in is a reading, never another stand-in, so the order of filling does not matter. A missing step takes the
same time of the day before, else of the week before, else the mean of what is known at that time in the last week of the
series. Too little of the last week, or a time of day unknown on all of its days, is no basis for a forecast.
Training never sees a stand-in: `features` leaves windows with gaps out.
Not here: gaps of a channel, for which whoever made that forecast answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import known_mean
from openmg.forecast.spec import DAYS_PER_WEEK, MINUTES_PER_HOUR, ForecastSpec

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

MAX_MISSING_PERCENT = 25
"""Of the last week, that is 42 hours: a weekend without the meter is bridged, half a week of guesses is not."""


@dataclass(frozen=True)
class Filled:
    """A series without gaps and which of its steps are stand-ins, both as long as the series was.

    recent: stand-ins among the steps of the last week, the ones that lags and daily profile are made of.
    """

    values: F64
    mask: Bool
    recent: int


def fill(spec: ForecastSpec, values: F64) -> Filled:
    """The series (any unit, NaN where a reading is missing) with stand-ins; the argument is left as it is.

    Raises ValueError for less than a week, for more than MAX_MISSING_PERCENT of the last week missing, and for a missing
    step whose time of day is unknown on the days named above.
    """
    day, week = spec.steps_per_day, spec.steps_per_week
    if len(values) < week:
        raise ValueError(f"gaps: {len(values)} steps of history; a forecast needs {week}, import the home's history")
    missing = np.isnan(values)
    recent = int(missing[-week:].sum())
    if 100 * recent > MAX_MISSING_PERCENT * week:
        raise ValueError(
            f"gaps: {recent} of the last week's {week} readings are missing, more than {MAX_MISSING_PERCENT} percent;"
            " wait for the meter or import the home's history"
        )
    steps = np.arange(len(values))
    usual = known_mean(values[-week:].reshape(DAYS_PER_WEEK, day), 0)[(steps - len(values)) % day]
    filled = values.copy()
    for stand_in in (_earlier(values, day), _earlier(values, week), usual):
        filled = np.where(np.isnan(filled), stand_in, filled)
    if np.isnan(filled).any():
        before = int(np.flatnonzero(np.isnan(filled))[-1])
        ago = (len(values) - before) * spec.resolution_minutes // MINUTES_PER_HOUR
        raise ValueError(
            f"gaps: the reading of {ago} hours ago and its time of day in the whole last week are missing;"
            " import the home's history"
        )
    return Filled(filled, missing, recent)


def _earlier(values: F64, steps: int) -> F64:
    """The reading `steps` before each; NaN where the series had not begun."""
    return np.concatenate([np.full(steps, np.nan), values[:-steps]])
