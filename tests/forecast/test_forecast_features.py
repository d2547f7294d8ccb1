"""Features are as-of: nothing after the origin is read; and they are what the specification of the inputs says."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast import calendar, features
from openmg.forecast.features import Almanac, Series
from openmg.forecast.spec import NET_ENERGY, ForecastSpec

SHAPES = [(60, 24), (60, 48), (60, 72), (30, 24), (30, 72), (15, 24), (15, 48), (5, 24), (5, 72)]
START_STEP = 494_000
WEEKS = 5


def spec_of(minutes: int, horizon: int, **changes: object) -> ForecastSpec:
    return ForecastSpec(resolution_minutes=minutes, horizon_hours=horizon, hidden=(8, 4), **changes)  # type: ignore[arg-type]


def past_of(spec: ForecastSpec, seed: int = 3, weeks: int = WEEKS) -> Series:
    return Series(np.random.default_rng(seed).normal(size=weeks * spec.steps_per_week), START_STEP, Almanac())


def hourly_windows(values: features.F64, origins: list[int]) -> features.Windows:
    return features.build_windows(NET_ENERGY, Series(values, START_STEP, Almanac()), np.array(origins))


@pytest.fixture(scope="module")
def past() -> Series:
    return past_of(NET_ENERGY)


# As-of


@pytest.mark.parametrize(("minutes", "horizon"), SHAPES)
@settings(max_examples=8, deadline=None)
@given(place=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_inputs_do_not_change_with_the_future(minutes: int, horizon: int, place: float, seed: int) -> None:
    spec = spec_of(minutes, horizon, annual=True)
    past = past_of(spec)
    first, last = spec.min_history_steps, len(past.values) - spec.horizon_steps
    origin = first + round(place * (last - first))
    changed = past.values.copy()
    changed[origin:] = np.random.default_rng(seed).normal(scale=100, size=len(changed) - origin)
    inputs, base = features.inputs_and_base(spec, past, np.array([origin]))
    inputs_after, base_after = features.inputs_and_base(spec, replace(past, values=changed), np.array([origin]))
    assert inputs.shape == (1, spec.features) and base.shape == (1, spec.horizon_steps)
    assert np.array_equal(inputs, inputs_after) and np.array_equal(base, base_after)
    cut = replace(past, values=past.values[:origin])
    assert np.array_equal(features.inputs_and_base(spec, cut, np.array([origin]))[0], inputs)


@pytest.mark.parametrize(("minutes", "horizon"), SHAPES)
def test_the_step_before_the_origin_is_read_and_the_targets_are_the_steps_from_it_on(minutes: int, horizon: int) -> None:
    spec = spec_of(minutes, horizon)
    past, origin = past_of(spec), spec.steps_per_week + 100
    changed = past.values.copy()
    changed[origin - 1] += 1.0
    inputs, base = features.inputs_and_base(spec, past, np.array([origin]))
    inputs_after, _ = features.inputs_and_base(spec, replace(past, values=changed), np.array([origin]))
    assert inputs_after[0, spec.lag_steps - 1] != inputs[0, spec.lag_steps - 1]
    windows = features.build_windows(spec, past, np.array([origin]))
    target = past.values[origin : origin + spec.horizon_steps]
    assert windows.residual[0] + windows.base[0] == pytest.approx(target, abs=1e-5)
    assert windows.base[0] == pytest.approx(base[0], abs=1e-6)


@pytest.mark.parametrize(("minutes", "horizon"), [(60, 24), (60, 72), (15, 48), (5, 24)])
def test_channels_are_read_at_the_targets_and_nowhere_else(minutes: int, horizon: int) -> None:
    spec = spec_of(minutes, horizon, lag_hours=24, channels=("temperature", "demand"))
    random, steps = np.random.default_rng(5), spec.horizon_steps
    values = past_of(spec).values
    channels = random.normal(size=(len(values) + steps, 2))
    past = Series(values, START_STEP, Almanac(), channels)
    origin = len(values) - steps - 7
    inputs, base = features.inputs_and_base(spec, past, np.array([origin]))
    place = spec.lag_steps + 2 * spec.steps_per_day + steps
    assert np.array_equal(inputs[0, place : place + steps], channels[origin : origin + steps, 0])
    assert np.array_equal(inputs[0, place + steps : place + 2 * steps], channels[origin : origin + steps, 1])

    elsewhere = channels + 50.0
    elsewhere[origin : origin + steps] = channels[origin : origin + steps]
    future = values.copy()
    future[origin:] += 50.0
    same, same_base = features.inputs_and_base(spec, Series(future, START_STEP, Almanac(), elsewhere), np.array([origin]))
    assert np.array_equal(same, inputs) and np.array_equal(same_base, base)
    for target in (origin, origin + steps - 1):
        other = channels.copy()
        other[target] += 1.0
        moved, _ = features.inputs_and_base(spec, replace(past, channels=other), np.array([origin]))
        assert (moved != inputs).sum() == 2  # one input of each channel


def test_channels_that_are_missing_or_too_short_are_told() -> None:
    spec = spec_of(60, 24, channels=("temperature",))
    past = past_of(spec)
    end = np.array([len(past.values)])
    for wrong in (None, np.zeros(1000), np.zeros((1000, 2))):
        with pytest.raises(ValueError, match="takes the channels temperature; give one column for each"):
            features.inputs_and_base(spec, replace(past, channels=wrong), end)
    enough = np.zeros((len(past.values) + spec.horizon_steps, 1))
    assert not np.isnan(features.inputs_and_base(spec, replace(past, channels=enough), end)[0]).any()
    with pytest.raises(ValueError, match="channels end before the last target"):
        features.inputs_and_base(spec, replace(past, channels=enough[:-1]), end)
    enough[400] = np.nan
    origins = np.arange(168, len(past.values) - 23)
    kept = set(features.build_windows(spec, replace(past, channels=enough), origins).origins.tolist())
    assert set(origins.tolist()) - kept == set(range(400 - 23, 401))


# What the inputs are


@pytest.mark.parametrize(("minutes", "horizon"), SHAPES)
def test_inputs_follow_their_definition(minutes: int, horizon: int) -> None:
    spec = spec_of(minutes, horizon)
    past, origin = past_of(spec), 4 * spec.steps_per_week + 3
    values, day, week, steps = past.values, spec.steps_per_day, spec.steps_per_week, spec.horizon_steps
    inputs, base = features.inputs_and_base(spec, past, np.array([origin]))
    mean = values[origin - week : origin].mean()
    lags = values[origin - spec.lag_steps : origin] - mean
    columns = [[values[origin + k - day * d] for d in range(1, 8)] for k in range(day)]
    daily = [np.mean(column) for column in columns]
    spread = [np.mean(np.abs(np.array(column) - np.mean(column))) for column in columns]
    weekly = [np.mean([values[origin + k - week * w] for w in range(1, 5)]) for k in range(steps)]
    date_part = features.calendar_rows(spec, START_STEP, np.array([origin]), Almanac())[0]
    expected = [*lags, *(np.array(daily) - mean), *spread, *(np.array(weekly) - mean), *date_part, mean]
    assert inputs[0] == pytest.approx(np.array(expected))
    assert base[0] == pytest.approx([(daily[k % day] + weekly[k]) / 2 for k in range(steps)])


@pytest.mark.parametrize(("minutes", "horizon"), [(60, 24), (60, 72), (30, 48)])
@pytest.mark.parametrize("weeks", [1, 2, 3])
def test_same_weekday_profile_averages_the_whole_weeks_there_are(minutes: int, horizon: int, weeks: int) -> None:
    """A week that lies in the series in part is left out for every step, as it is in the integer forecast."""
    spec = spec_of(minutes, horizon)
    past = past_of(spec)
    for origin in (weeks * spec.steps_per_week, (weeks + 1) * spec.steps_per_week - 1):
        rows = features.same_weekday_rows(spec, past.values, np.array([origin]))[0]
        assert np.isnan(rows[weeks:]).all() and not np.isnan(rows[:weeks]).any()
        back = past.values[origin - weeks * spec.steps_per_week :][: spec.horizon_steps]
        assert np.array_equal(rows[weeks - 1], back)


def test_a_series_that_repeats_weekly_leaves_half_the_daily_difference() -> None:
    weekly = np.tile(np.random.default_rng(1).normal(size=168), 5)
    windows = hourly_windows(weekly, [700])
    daily = weekly[700 - 168 : 700].reshape(7, 24).mean(0)
    assert windows.residual[0] == pytest.approx((weekly[700:724] - daily) / 2, abs=1e-6)


def test_the_spread_is_nought_where_every_day_is_the_same_and_grows_with_the_raggedness() -> None:
    same = np.tile(np.random.default_rng(1).normal(size=24), 35)
    ragged = same + 3.0 * (np.arange(840) // 24 % 2) * (np.arange(840) % 24 == 5)
    place = slice(48 + 24, 48 + 48)
    for values, expected in ((same, 0.0), (ragged, 3.0 * 2 * 3 * 4 / 49)):  # 3 or 4 of 7 days: mean |v - mean|
        spread = features.inputs_and_base(NET_ENERGY, Series(values, START_STEP, Almanac()), np.array([696]))[0][0, place]
        assert spread[5] == pytest.approx(expected, abs=1e-12) and spread[:5].max() < 1e-12


def test_calendar_inputs_of_a_holiday() -> None:
    day = date(2026, 6, 6).toordinal() - date(1970, 1, 1).toordinal()  # Memorial Day, a Saturday
    origin_hour = day * 24 - calendar.KOREA_UTC_OFFSET_HOURS + 6  # 06:00 in Seoul
    rows = features.calendar_rows(NET_ENERGY, origin_hour - 200, np.array([200]), Almanac({day}))
    expected = np.zeros(NET_ENERGY.calendar_features)
    expected[0], expected[1] = 1.0, 0.0
    expected[2 + 5] = expected[9 + 6] = 1.0  # from Saturday 06:00 to Sunday 05:00
    expected[16] = 1.0
    assert rows[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("minutes", "horizon"), SHAPES)
@pytest.mark.parametrize("utc_offset_hours", [9, 0, -5])
def test_holidays_are_flagged_on_every_day_that_a_forecast_touches(minutes: int, horizon: int, utc_offset_hours: int) -> None:
    spec = spec_of(minutes, horizon)
    day, days = 20_610, horizon // 24
    midnight = (day * 24 - utc_offset_hours) * spec.steps_per_hour

    def flags(step: int, *holidays: int) -> list[float]:
        rows = features.calendar_rows(spec, step - 50, np.array([50]), Almanac(holidays, utc_offset_hours))
        return rows[0, 16:].tolist()  # type: ignore[no-any-return]

    for ahead in range(days + 1):
        expected = [float(place == ahead) for place in range(days + 1)]
        assert flags(midnight + 1, day + ahead) == expected
    assert flags(midnight, day + days) == [0.0] * (days + 1)  # it ends before that day begins
    assert flags(midnight, day + days - 1)[-2:] == [1.0, 1.0]
    assert flags(midnight - 1, day - 1)[0] == 1.0


def test_without_a_level_the_inputs_do_not_tell_how_high_the_series_lies(past: Series) -> None:
    origins, higher = np.array([200, 500]), replace(past, values=past.values + 3.0)
    flat = replace(NET_ENERGY, level=False)
    inputs, base = features.inputs_and_base(flat, past, origins)
    shifted, base_shifted = features.inputs_and_base(flat, higher, origins)
    assert shifted == pytest.approx(inputs, abs=1e-9) and base_shifted == pytest.approx(base + 3.0)
    levels = features.inputs_and_base(NET_ENERGY, higher, origins)[0][:, -1] - inputs[:, -1]
    assert levels == pytest.approx([past.values[o - 168 : o].mean() + 3.0 for o in origins])


def test_half_of_a_persistent_base_is_the_last_day(past: Series) -> None:
    origins = np.arange(400, 500)
    for spec in (NET_ENERGY, replace(NET_ENERGY, horizon_hours=72)):
        inputs, base = features.inputs_and_base(spec, past, origins)
        same, half = features.inputs_and_base(replace(spec, persistent=True), past, origins)
        for origin, plain, got in zip(origins, base, half, strict=True):
            last_day = past.values[origin - 24 : origin]
            assert 2 * got - plain == pytest.approx([last_day[step % 24] for step in range(len(plain))], nan_ok=True)
        assert np.array_equal(inputs, same, equal_nan=True)


def test_annual_waves_turn_once_a_year() -> None:
    spec = spec_of(60, 24, annual=True)
    day = np.array([0, 91, 365, 365 * 4 + 1])
    rows = np.vstack([features.calendar_rows(spec, int(d) * 24 - 9, np.array([0]), Almanac()) for d in day])
    plain = features.calendar_rows(NET_ENERGY, -9, np.array([0]), Almanac())
    assert rows.shape[1] == plain.shape[1] + 2 and np.array_equal(rows[0, :-2], plain[0])
    assert rows[:, -2] == pytest.approx([0, 1, 0, 0], abs=0.02) and rows[:, -1] == pytest.approx([1, 0, 1, 1], abs=0.02)


# Gaps and refusals


@pytest.mark.parametrize(("minutes", "horizon"), [(60, 24), (60, 72), (30, 24)])
def test_gaps_leave_windows_out_and_profiles_average_what_is_known(minutes: int, horizon: int) -> None:
    spec = spec_of(minutes, horizon)
    past, gap = past_of(spec), 2 * spec.steps_per_week
    past.values[gap] = np.nan
    origins = np.arange(spec.min_history_steps, len(past.values) - spec.horizon_steps + 1)
    windows = features.build_windows(spec, past, origins)
    missing = set(origins.tolist()) - set(windows.origins.tolist())
    assert missing == set(range(gap - spec.horizon_steps + 1, gap + spec.lag_steps + 1))
    later = np.array([gap + spec.lag_steps + 5])
    assert not np.isnan(features.inputs_and_base(spec, past, later)[0]).any()


def test_windows_are_the_same_built_one_by_one_and_none_are_none(past: Series) -> None:
    origins = np.arange(168, 840 - 23)
    assert len(origins) > features.WINDOWS_AT_ONCE
    windows = features.build_windows(NET_ENERGY, past, origins)
    for place in (0, features.WINDOWS_AT_ONCE - 1, features.WINDOWS_AT_ONCE, len(origins) - 1):
        one = features.build_windows(NET_ENERGY, past, origins[place : place + 1])
        assert np.array_equal(windows.inputs[place], one.inputs[0])
        assert np.array_equal(windows.residual[place], one.residual[0])
    empty = features.build_windows(NET_ENERGY, past, origins[:0])
    assert len(empty) == 0 and empty.inputs.shape == (0, 139) and empty.residual.shape == (0, 24)


def test_standard_ignores_gaps_and_survives_an_empty_home() -> None:
    standard = features.Standard.of(features.series([100, None, 300]))
    assert (standard.mean_wh, standard.deviation_wh) == (200.0, 100.0)
    assert standard.undo(standard.apply(np.array([7.0]))) == pytest.approx([7.0])
    assert features.Standard.of(np.zeros(50)).deviation_wh == features.MIN_DEVIATION_WH
    assert features.Standard.of(np.zeros(50), 0.5).deviation_wh == 0.5
    with pytest.raises(ValueError, match="no step of the training span is known"):
        features.Standard.of(features.series([None, None]))


@pytest.mark.parametrize(("minutes", "horizon"), SHAPES)
def test_origins_without_a_week_before_them_or_past_the_end_are_refused(minutes: int, horizon: int) -> None:
    spec = spec_of(minutes, horizon)
    past = past_of(spec, weeks=2)
    for origin in (spec.steps_per_week - 1, len(past.values) + 1):
        with pytest.raises(ValueError, match=f"not within {spec.steps_per_week}..{len(past.values)} steps"):
            features.inputs_and_base(spec, past, np.array([origin]))
    last = len(past.values) - spec.horizon_steps
    features.build_windows(spec, past, np.array([last]))
    with pytest.raises(ValueError, match="past the series' end"):
        features.build_windows(spec, past, np.array([last + 1]))


def test_korean_calendar() -> None:
    days = calendar.korean_holidays(2026, 2026)
    dates = {calendar.date_of(day) for day in days}
    assert {date(2026, 2, 17), date(2026, 5, 5), date(2026, 9, 25), date(2026, 10, 5)} <= dates
    assert date(2026, 6, 15) not in dates
    assert list(days) == sorted(days)
    monday = calendar.local_day(1_781_485_200 // 3600)
    assert calendar.date_of(monday) == date(2026, 6, 15)
    assert calendar.weekday(monday) == 0
    assert calendar.weekday_of(np.arange(monday, monday + 8)).tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert calendar.local_hour_of_day(1_781_485_200 // 3600) == 10
    with pytest.raises(ValueError, match="give a shorter span"):
        calendar.korean_holidays(1900, 2026)
