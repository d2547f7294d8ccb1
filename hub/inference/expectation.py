"""What is expected of a series at steps that lie ahead, from what is known of it by then: an input of the price model.

Rules: strictly as-of; the value for a step reads nothing that is less than the forecast's horizon before it, so it can be
computed once for all origins. A step of which nothing is known is NaN.
Not here: stand-ins for missing steps (`openmg.forecast.gaps`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import known_mean
from openmg.forecast.spec import DAYS_PER_WEEK, PROFILE_WEEKS

F64 = NDArray[np.float64]


def expected(values: F64, steps_ahead: int, steps_per_day: int) -> F64:
    """[len + steps_ahead]: of each step half the mean of the 7 latest days that are known `steps_ahead` before it, half
    that of the same weekday of the 4 weeks before; NaN where nothing is known. `steps_ahead` is at most a week."""
    days_ahead = -(-steps_ahead // steps_per_day)
    assert days_ahead <= DAYS_PER_WEEK
    days = [days_ahead + number for number in range(DAYS_PER_WEEK)]
    weeks = [DAYS_PER_WEEK * number for number in range(1, PROFILE_WEEKS + 1)]
    return (_mean_of(values, days, steps_ahead, steps_per_day) + _mean_of(values, weeks, steps_ahead, steps_per_day)) / 2


def _mean_of(values: F64, days_back: Sequence[int], steps_ahead: int, steps_per_day: int) -> F64:
    length = len(values) + steps_ahead
    rows = np.full((len(days_back), length), np.nan)
    for row, days in zip(rows, days_back, strict=True):
        shift = days * steps_per_day
        count = min(len(values), length - shift)
        if count > 0:
            row[shift : shift + count] = values[:count]
    return known_mean(rows, 0)
