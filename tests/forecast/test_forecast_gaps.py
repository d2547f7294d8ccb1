"""Stand-ins for missing readings: where each comes from, that none stands on another, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast import features, gaps
from openmg.forecast.spec import NET_ENERGY, ForecastSpec

HOURS = 3 * 168


def with_gaps(*missing: int) -> features.F64:
    """Three weeks in which hour h has the value h."""
    values = np.arange(float(HOURS))
    values[list(missing)] = np.nan
    return values


def test_a_series_without_gaps_stays_as_it_is() -> None:
    filled = gaps.fill(NET_ENERGY, with_gaps())
    assert np.array_equal(filled.values, with_gaps()) and not filled.mask.any() and filled.recent == 0


def test_the_day_before_comes_first_then_the_week_before_then_the_usual_of_that_time() -> None:
    assert gaps.fill(NET_ENERGY, with_gaps(400)).values[400] == 400 - 24
    assert gaps.fill(NET_ENERGY, with_gaps(400, 376)).values[400] == 400 - 168
    known_days = [h for h in range(HOURS - 168, HOURS) if h % 24 == 400 % 24 and h not in (400, 376)]
    filled = gaps.fill(NET_ENERGY, with_gaps(400, 376, 232))
    assert filled.values[400] == np.mean(known_days)
    assert filled.values[376] == 376 - 24 and filled.values[232] == 232 - 24


def test_the_first_day_takes_the_usual_of_the_last_week() -> None:
    days = [h for h in range(HOURS - 168, HOURS) if h % 24 == 5]
    filled = gaps.fill(NET_ENERGY, with_gaps(5))
    assert filled.values[5] == np.mean(days) and filled.recent == 0 and filled.mask.sum() == 1


def test_the_argument_is_left_alone_and_the_mask_names_every_stand_in() -> None:
    values = with_gaps(7, 400, 401, 500)
    filled = gaps.fill(NET_ENERGY, values)
    assert np.isnan(values[[7, 400, 401, 500]]).all()
    assert np.flatnonzero(filled.mask).tolist() == [7, 400, 401, 500] and filled.recent == 3


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 0.24), minutes=st.sampled_from([60, 30, 15]))
def test_every_stand_in_is_a_reading_or_a_mean_of_readings_and_the_rest_is_untouched(
    seed: int, share: float, minutes: int
) -> None:
    spec = ForecastSpec(resolution_minutes=minutes)
    random = np.random.default_rng(seed)
    values = random.normal(size=2 * spec.steps_per_week)
    whole = values.copy()
    values[random.random(len(values)) < share] = np.nan
    try:
        filled = gaps.fill(spec, values)
    except ValueError as error:
        assert "missing" in str(error)
        return
    known = ~np.isnan(values)
    assert np.array_equal(filled.mask, ~known)
    assert np.array_equal(filled.values[known], whole[known])
    assert np.nanmin(values) <= filled.values.min() and filled.values.max() <= np.nanmax(values)
    for step in np.flatnonzero(filled.mask):
        back = [values[step - s] for s in (spec.steps_per_day, spec.steps_per_week) if step >= s]
        readings = [value for value in back if not np.isnan(value)]
        if readings:
            assert filled.values[step] == readings[0]


@pytest.mark.parametrize("minutes", [60, 30, 15, 5])
def test_the_bound_is_exact(minutes: int) -> None:
    spec = ForecastSpec(resolution_minutes=minutes, hidden=(8, 4))
    allowed = spec.steps_per_week * gaps.MAX_MISSING_PERCENT // 100
    values = np.ones(2 * spec.steps_per_week)
    values[-allowed:] = np.nan
    assert gaps.fill(spec, values).recent == allowed
    values[-allowed - 1] = np.nan
    with pytest.raises(ValueError, match=f"{allowed + 1} of the last week's {spec.steps_per_week} readings are missing"):
        gaps.fill(spec, values)


def test_older_gaps_do_not_count_against_the_last_week() -> None:
    values = with_gaps(*range(0, 336, 2))
    filled = gaps.fill(NET_ENERGY, values)
    assert filled.recent == 0 and filled.mask.sum() == 168 and not np.isnan(filled.values).any()


def test_a_time_of_day_that_nobody_knows_is_refused() -> None:
    night = [hour for hour in range(HOURS) if hour % 24 == 3]
    with pytest.raises(ValueError, match="its time of day in the whole last week are missing"):
        gaps.fill(NET_ENERGY, with_gaps(*night))


def test_less_than_a_week_is_refused() -> None:
    with pytest.raises(ValueError, match="167 steps of history; a forecast needs 168"):
        gaps.fill(NET_ENERGY, np.ones(167))
    assert gaps.fill(NET_ENERGY, np.ones(168)).recent == 0


def test_a_filled_series_has_the_inputs_of_a_forecast_where_training_has_no_window() -> None:
    values = np.random.default_rng(1).normal(size=HOURS)
    values[-30:-10] = np.nan
    end = np.array([HOURS])
    series = features.Series(values, 494_000, features.Almanac())
    assert np.isnan(features.inputs_and_base(NET_ENERGY, series, end)[0]).any()
    filled = features.Series(gaps.fill(NET_ENERGY, values).values, 494_000, features.Almanac())
    assert not np.isnan(features.inputs_and_base(NET_ENERGY, filled, end)[0]).any()
