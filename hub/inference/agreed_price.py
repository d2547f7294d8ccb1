"""A forecast of prices with the model that the chain agreed on, from the public past as this hub knows it.

The model sees what it was taught on (`hub.learning.price_past`), measured in the mean and deviation of the latest four weeks.
Rules: the same past and weights give the same forecast to rounding; it is computed in floats and is this hub's word, while the
weights are the chain's. An untrained model's output is nought, so its forecast is the base forecast: half the mean of the
latest seven days, half that of the four same weekdays, in all of its quantiles.
Not here: which model is asked (`desk`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hub.learning.price_past import MIN_DEVIATION_WEI, PoolPast
from openmg.forecast.features import Almanac, Series, Standard, inputs_and_base, series
from openmg.forecast.gaps import fill
from openmg.forecast.loss import heads, ordered
from openmg.forecast.model import master_from_bytes, to_float
from openmg.forecast.spec import PROFILE_WEEKS
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.plan import LearningPlan

I64 = NDArray[np.int64]


def price_forecast(plan: LearningPlan, parameters: bytes, past: PoolPast) -> tuple[I64, int]:
    """[4, H] whole wei per Wh of the slots after the past: P10, P50, P90 and mean; and how many slots of its latest week were
    made up. ValueError when too little of the latest week is known, or of the net energy that the model takes.
    """
    spec = plan.spec
    filled = fill(spec, series(past.prices))
    end, span = len(filled.values), PROFILE_WEEKS * spec.steps_per_week
    latest = slice(max(0, end - span), end)
    standard = Standard.of(filled.values[latest], MIN_DEVIATION_WEI)
    almanac = Almanac(frozenset(plan.holiday_days), plan.utc_offset_hours)
    known = Series(standard.apply(filled.values), past.start_slot, almanac, past.channels(spec, latest))
    inputs, base = inputs_and_base(spec, known, np.array([end]))
    if np.isnan(inputs).any() or np.isnan(base).any():
        raise ValueError("prices: of the latest weeks too little net energy is known to expect the next day's")
    output = NumpyTrainer(spec).predict(to_float(master_from_bytes(spec, parameters)), inputs.astype(np.float32))
    mean, quantiles = heads(output)
    rows = np.vstack([base + ordered(quantiles)[0], base + mean])
    return np.rint(np.maximum(standard.undo(rows), 0.0)).astype(np.int64), filled.recent
