"""Shape of the forecaster: what goes in, what comes out, how its weights lie in one flat vector.

The network is residual: base forecast (half the mean profile of the last 7 days, half that of the last 4 same
weekdays) plus the output of a 115-48-24-24 ReLU network, everything in units of the series' own deviation.
The canonical weights ("master") are int32 at 2^-20; float32 weights are derived from them and never go back.
Not here: features, training and arithmetic; any change of a number here is a new model, so it changes `SPEC_ID`.
"""

from __future__ import annotations

import math

HOURS_PER_DAY = 24
HOURS_PER_WEEK = 168
HORIZON_HOURS = 24
"""The network forecasts the 24 hours that follow its origin."""
LAG_HOURS = 48
PROFILE_WEEKS = 4
"""The same-weekday profile averages up to this many earlier weeks, as many as the history has."""
CALENDAR_FEATURES = 18
"""sin and cos of the origin's hour, weekday of first and last target hour (7 + 7), holiday flags of both."""

FEATURES = LAG_HOURS + HORIZON_HOURS + HORIZON_HOURS + CALENDAR_FEATURES + 1
HIDDEN = (48, 24)
SHAPES: tuple[tuple[int, ...], ...] = (
    (FEATURES, HIDDEN[0]),
    (HIDDEN[0],),
    (HIDDEN[0], HIDDEN[1]),
    (HIDDEN[1],),
    (HIDDEN[1], HORIZON_HOURS),
    (HORIZON_HOURS,),
)
"""Weight matrix [in, out] and bias [out] of each layer, in the order in which they lie in the flat vector."""
SIZES = tuple(math.prod(shape) for shape in SHAPES)
OFFSETS = tuple(sum(SIZES[:i]) for i in range(len(SIZES)))
PARAMETERS = sum(SIZES)

MASTER_SCALE_BITS = 20
"""Master weights are integers in units of 2^-20; float32 holds them exactly below 2^24, that is below 16.0."""
MASTER_BYTES = 4 * PARAMETERS
SPEC_ID = b"openmg.forecast.resmlp.115-48-24-24.relu.v1"

MIN_HISTORY_HOURS = HOURS_PER_WEEK
"""Without one week there is no weekly mean and no same-weekday profile, hence no forecast."""
