"""Drift: offsets come from past errors alone, follow what a series does otherwise than its model, and stay bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast import drift
from openmg.forecast.drift import LEVEL_ECHO, MEAN_RATE, OFFSET_LIMIT, QUANTILE_RATE, STEP_ECHO, corrected
from openmg.forecast.loss import heads, loss_and_slope, ordered
from openmg.forecast.spec import NET_ENERGY, ForecastSpec

SHAPES = [(60, 24), (60, 48), (60, 72), (15, 48)]
START_STEP = 494_003
"""Three hours into a day: the first day has fewer rows than the others."""


def spec_of(minutes: int, horizon: int) -> ForecastSpec:
    return ForecastSpec(resolution_minutes=minutes, horizon_hours=horizon, hidden=(8, 4))


def series_of(spec: ForecastSpec, days: int, seed: int = 1) -> tuple[drift.I64, drift.F32, drift.F32]:
    """Origins a step apart, outputs, and residuals of one series, so that windows that overlap agree about it."""
    random = np.random.default_rng(seed)
    count = days * spec.steps_per_day
    values = random.normal(size=count + spec.horizon_steps).astype(np.float32)
    residual = np.lib.stride_tricks.sliding_window_view(values, spec.horizon_steps)[:count].copy()
    return START_STEP + np.arange(count), random.normal(size=(count, spec.outputs)).astype(np.float32), residual


def with_future(residual: drift.F32, at: int, random: np.random.Generator) -> drift.F32:
    """Residuals whose series is another one from the origin of row `at` on."""
    changed, steps = residual.copy(), residual.shape[1]
    noise = (100 * random.normal(size=len(residual) + steps)).astype(np.float32)
    for row in range(max(0, at - steps + 1), len(residual)):
        ahead = max(0, at - row)
        changed[row, ahead:] = noise[row + ahead : row + steps]
    return changed


@pytest.mark.parametrize(("minutes", "horizon"), SHAPES)
@settings(max_examples=6, deadline=None)
@given(place=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_a_forecast_does_not_change_with_the_future(minutes: int, horizon: int, place: float, seed: int) -> None:
    spec = spec_of(minutes, horizon)
    origins, output, residual = series_of(spec, days=6)
    row = round(place * (len(origins) - 1))
    random = np.random.default_rng(seed)
    after = output.copy()
    after[row + 1 :] = random.normal(size=after[row + 1 :].shape)
    before = corrected(spec, origins, output, residual)[: row + 1]
    assert np.array_equal(before, corrected(spec, origins, after, with_future(residual, row, random))[: row + 1])
    cut = corrected(spec, origins[: row + 1], output[: row + 1], residual[: row + 1])
    assert np.array_equal(before, cut)


@pytest.mark.parametrize(("minutes", "horizon"), SHAPES)
def test_the_last_step_before_the_origin_counts_and_the_origin_does_not(minutes: int, horizon: int) -> None:
    spec = spec_of(minutes, horizon)
    origins, output, residual = series_of(spec, days=6)
    plain, row = corrected(spec, origins, output, residual), 5 * spec.steps_per_day
    complete = row - spec.horizon_steps  # the forecast whose last step is the one before this row's origin
    for changed_row, differs in ((complete, True), (complete + 1, False)):
        other = residual.copy()
        other[changed_row, -1] += 50.0
        assert np.array_equal(corrected(spec, origins, output, other)[row], plain[row]) != differs


def test_each_day_is_one_step_against_the_trained_loss_and_the_mean_echoes_the_last_error() -> None:
    origins, output, residual = series_of(NET_ENERGY, days=4)
    got = corrected(NET_ENERGY, origins, output, residual)
    followed, steps = output.copy(), NET_ENERGY.horizon_steps
    expected = output.copy()
    offsets = np.zeros((24, NET_ENERGY.outputs), np.float32)
    for row in range(len(origins)):
        echo = np.zeros(NET_ENERGY.outputs, np.float32)
        if row >= 24:
            _, slope = loss_and_slope(followed[row - 24 : row - 23], residual[row - 24 : row - 23])
            # By the mean's step half its squared error's slope, by the quantiles' three times their mean's.
            scale = np.where(np.arange(NET_ENERGY.outputs) < steps, MEAN_RATE * steps / 2, QUANTILE_RATE * 3 * steps)
            offsets[row % 24] -= scale.astype(np.float32) * slope[0]
            error = residual[row - 24] - followed[row - 24, :steps]
            echo[:steps] = [LEVEL_ECHO * sum(error) / steps + STEP_ECHO * one for one in error]
        followed[row] += offsets[row % 24]
        expected[row] = followed[row] + echo
    assert got == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(got[:24], output[:24]) and not np.array_equal(got[24:48], output[24:48])


def test_the_sum_of_homes_is_followed_as_a_sum() -> None:
    """Homes of one size, whose weather comes and goes over days: the echo takes from their sum what chance hides in each."""
    random, days, homes = np.random.default_rng(3), 200, 40
    weather = np.zeros(days)
    for day in range(1, days):
        weather[day] = 0.7 * weather[day - 1] + random.normal(scale=0.3)
    common = np.repeat(weather, 24)
    origins = START_STEP + np.arange((days - 1) * 24)
    output = np.zeros((len(origins), NET_ENERGY.outputs), np.float32)
    forecasts, truth = np.zeros((len(origins), 24)), np.zeros((len(origins), 24))
    for _ in range(homes):
        values = (common + random.normal(size=days * 24)).astype(np.float32)
        residual = np.lib.stride_tricks.sliding_window_view(values, 24)[: len(origins)].copy()
        forecasts += corrected(NET_ENERGY, origins, output, residual)[:, :24]
        truth += residual
    latest = slice(30 * 24, None)
    assert np.abs(truth - forecasts)[latest].mean() < 0.95 * np.abs(truth)[latest].mean()


def test_a_series_that_its_model_takes_for_another_is_followed() -> None:
    """A level that is too low by .3 and a spread of .8 instead of 1.28: the bias goes, coverage comes near 80 %."""
    random, days = np.random.default_rng(2), 800
    origins = START_STEP + np.arange(days * 24)
    values = (0.3 + random.normal(size=days * 24 + 24)).astype(np.float32)
    residual = np.lib.stride_tricks.sliding_window_view(values, 24)[: days * 24].copy()
    quantile = np.repeat([-0.8, 0.0, 0.8], 24)
    output = np.tile(np.concatenate([np.zeros(24), quantile]), (days * 24, 1)).astype(np.float32)
    latest = slice(-30 * 24, None)
    for forecast, bias_within, cover in ((output, (0.2, 0.4), (0.5, 0.62)), (None, (-0.1, 0.1), (0.75, 0.85))):
        mean, quantiles = heads(corrected(NET_ENERGY, origins, output, residual) if forecast is None else forecast)
        low, _, high = np.moveaxis(ordered(quantiles)[latest], 1, 0)
        bias = float((residual[latest] - mean[latest]).mean())
        covered = float(((residual[latest] >= low) & (residual[latest] <= high)).mean())
        assert bias_within[0] < bias < bias_within[1]
        assert cover[0] < covered < cover[1]


def test_unknown_errors_and_days_without_forecasts_move_nothing() -> None:
    origins, output, residual = series_of(NET_ENERGY, days=5)
    gone = residual.copy()
    gone[:48, 3] = np.nan
    got = corrected(NET_ENERGY, origins, output, gone)
    unknown = np.arange(NET_ENERGY.outputs) % 24 == 3
    quantiles = np.arange(NET_ENERGY.outputs) >= 24
    assert np.array_equal(got[24:72][:, unknown & quantiles], output[24:72][:, unknown & quantiles])
    assert not np.array_equal(got[24:72][:, ~unknown & quantiles], output[24:72][:, ~unknown & quantiles])
    errors = np.delete(residual[:24] - output[:24, :24], 3, axis=1)
    level = LEVEL_ECHO * errors.sum(axis=1) / 24  # what is unknown counts as no error
    assert got[24:48, 3] - output[24:48, 3] == pytest.approx(level, abs=1e-5)
    kept = np.concatenate([np.arange(24), np.arange(72, 120)])  # two days without a forecast
    jumped = corrected(NET_ENERGY, origins[kept], output[kept], residual[kept])
    first = corrected(NET_ENERGY, origins, output, residual)[24:48] - output[24:48]
    assert (jumped[24:48] - output[72:96])[:, quantiles] == pytest.approx(first[:, quantiles], abs=1e-5)
    offsets = MEAN_RATE * (residual[:24] - output[:24, :24])
    assert (jumped[24:48] - output[72:96])[:, :24] == pytest.approx(offsets, abs=1e-5), "an echo is of the day before"


def test_no_offset_passes_its_limit() -> None:
    origins, output, residual = series_of(NET_ENERGY, days=8)
    moved = corrected(NET_ENERGY, origins, output, residual * np.float32(1e6)) - output
    assert np.abs(moved).max() == pytest.approx(float(OFFSET_LIMIT), abs=1e-5)
    quantiles = np.abs(moved[:, NET_ENERGY.horizon_steps :])
    assert quantiles.max() < 8 * QUANTILE_RATE


def test_what_does_not_fit_together_is_told() -> None:
    origins, output, residual = series_of(NET_ENERGY, days=2)
    none = corrected(NET_ENERGY, origins[:0], output[:0], residual[:0])
    assert none.shape == (0, NET_ENERGY.outputs)
    for wrong in ((origins[::-1], output, residual), (origins[1:], output, residual), (origins, output, residual[:, 1:])):
        with pytest.raises(ValueError, match="drift: give ascending origins"):
            corrected(NET_ENERGY, *wrong)
