"""Features are as-of: nothing after the origin is read; and they are what the specification of the inputs says."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast import calendar, features
from openmg.forecast.spec import CALENDAR_FEATURES, FEATURES, HORIZON_HOURS, LAG_HOURS

START_HOUR = 494_000
HOURS = 840


@pytest.fixture(scope="module")
def values() -> features.F64:
    return np.random.default_rng(3).normal(size=HOURS)


@settings(max_examples=40, deadline=None)
@given(origin=st.integers(168, HOURS - HORIZON_HOURS), seed=st.integers(0, 2**32 - 1))
def test_inputs_do_not_change_with_the_future(origin: int, seed: int) -> None:
    values = np.random.default_rng(3).normal(size=HOURS)
    changed = values.copy()
    changed[origin:] = np.random.default_rng(seed).normal(scale=100, size=HOURS - origin)
    origins = np.array([origin])
    inputs, base = features.inputs_and_base(values, START_HOUR, origins, ())
    inputs_after, base_after = features.inputs_and_base(changed, START_HOUR, origins, ())
    assert np.array_equal(inputs, inputs_after) and np.array_equal(base, base_after)
    assert np.array_equal(features.inputs_and_base(values[:origin], START_HOUR, origins, ())[0], inputs)


def test_the_hour_before_the_origin_is_read(values: features.F64) -> None:
    changed = values.copy()
    changed[499] += 1.0
    inputs, _ = features.inputs_and_base(values, START_HOUR, np.array([500]), ())
    inputs_after, _ = features.inputs_and_base(changed, START_HOUR, np.array([500]), ())
    assert not np.array_equal(inputs, inputs_after)


def test_inputs_follow_their_definition(values: features.F64) -> None:
    origin = 700
    inputs, base = features.inputs_and_base(values, START_HOUR, np.array([origin]), ())
    mean = values[origin - 168 : origin].mean()
    lags = [values[origin - 48 + i] - mean for i in range(LAG_HOURS)]
    daily = [np.mean([values[origin + k - 24 * d] for d in range(1, 8)]) for k in range(24)]
    weekly = [np.mean([values[origin + k - 168 * w] for w in range(1, 5)]) for k in range(24)]
    assert inputs.shape == (1, FEATURES)
    assert inputs[0, :48] == pytest.approx(lags)
    assert inputs[0, 48:72] == pytest.approx(np.array(daily) - mean)
    assert inputs[0, 72:96] == pytest.approx(np.array(weekly) - mean)
    assert inputs[0, 114] == pytest.approx(mean)
    assert base[0] == pytest.approx((np.array(daily) + np.array(weekly)) / 2)


def test_same_weekday_profile_averages_the_weeks_there_are(values: features.F64) -> None:
    inputs, _ = features.inputs_and_base(values, START_HOUR, np.array([400]), ())
    mean = values[400 - 168 : 400].mean()
    weekly = [np.mean([values[400 + k - 168 * w] for w in (1, 2)]) for k in range(24)]
    assert inputs[0, 72:96] == pytest.approx(np.array(weekly) - mean)


def test_a_series_that_repeats_weekly_leaves_half_the_daily_difference() -> None:
    weekly = np.tile(np.random.default_rng(1).normal(size=168), 5)
    windows = features.build_windows(weekly, START_HOUR, np.array([700]), ())
    daily = weekly[700 - 168 : 700].reshape(7, 24).mean(0)
    assert windows.residual[0] == pytest.approx((weekly[700:724] - daily) / 2, abs=1e-6)


def test_calendar_inputs_of_a_holiday() -> None:
    day = date(2026, 6, 6).toordinal() - date(1970, 1, 1).toordinal()  # Memorial Day, a Saturday
    origin_hour = day * 24 - calendar.KOREA_UTC_OFFSET_HOURS + 6  # 06:00 in Seoul
    rows = features.calendar_rows(origin_hour - 200, np.array([200]), {day}, calendar.KOREA_UTC_OFFSET_HOURS)
    expected = np.zeros(CALENDAR_FEATURES)
    expected[0], expected[1] = 1.0, 0.0
    expected[2 + 5] = expected[9 + 6] = 1.0  # from Saturday 06:00 to Sunday 05:00
    expected[16] = 1.0
    assert rows[0] == pytest.approx(expected, abs=1e-12)


def test_gaps_leave_windows_out_and_profiles_average_what_is_known(values: features.F64) -> None:
    with_gap = values.copy()
    with_gap[300] = np.nan
    origins = np.arange(168, HOURS - HORIZON_HOURS + 1)
    windows = features.build_windows(with_gap, START_HOUR, origins, ())
    missing = set(origins.tolist()) - set(windows.origins.tolist())
    assert missing == set(range(300 - 23, 300 + 48 + 1))
    inputs, _ = features.inputs_and_base(with_gap, START_HOUR, np.array([400]), ())
    assert not np.isnan(inputs).any()


def test_standard_ignores_gaps_and_survives_an_empty_home() -> None:
    standard = features.Standard.of(features.series([100, None, 300]))
    assert (standard.mean_wh, standard.deviation_wh) == (200.0, 100.0)
    assert features.Standard.of(np.zeros(50)).deviation_wh == features.MIN_DEVIATION_WH
    with pytest.raises(ValueError, match="no hour of the training span is known"):
        features.Standard.of(features.series([None, None]))


@pytest.mark.parametrize("origin", [167, HOURS + 1])
def test_origins_without_a_week_before_them_are_refused(values: features.F64, origin: int) -> None:
    with pytest.raises(ValueError, match="an origin is not within"):
        features.inputs_and_base(values, START_HOUR, np.array([origin]), ())


def test_a_target_past_the_end_is_refused(values: features.F64) -> None:
    features.build_windows(values, START_HOUR, np.array([HOURS - HORIZON_HOURS]), ())
    with pytest.raises(ValueError, match="past the series' end"):
        features.build_windows(values, START_HOUR, np.array([HOURS - HORIZON_HOURS + 1]), ())


def test_korean_calendar() -> None:
    days = calendar.korean_holidays(2026, 2026)
    dates = {calendar.date_of(day) for day in days}
    assert {date(2026, 2, 17), date(2026, 5, 5), date(2026, 9, 25), date(2026, 10, 5)} <= dates
    assert date(2026, 6, 15) not in dates
    assert list(days) == sorted(days)
    monday = calendar.local_day(1_781_485_200 // 3600)
    assert calendar.date_of(monday) == date(2026, 6, 15)
    assert calendar.weekday(monday) == 0
    assert calendar.local_hour_of_day(1_781_485_200 // 3600) == 10
    with pytest.raises(ValueError, match="give a shorter span"):
        calendar.korean_holidays(1900, 2026)
