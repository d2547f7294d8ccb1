"""Scores of forecasts against their definitions, worked out by hand and by plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast.metrics import Forecast, aggregate_mape, mean_score, score


def test_scores_worked_out_by_hand() -> None:
    truth = np.array([[100.0, 300.0]])
    mean = np.array([[120.0, 260.0]])
    quantiles = np.array([[[90.0, 310.0], [110.0, 320.0], [130.0, 330.0]]])
    found = score(truth, Forecast(mean, quantiles), naive_error=30.0)
    assert found.nmae == pytest.approx((10 + 20) / 2 / 200)  # of the median
    assert found.mase == pytest.approx(15 / 30)
    assert found.nrmse == pytest.approx(((400 + 1600) / 2) ** 0.5 / 200)  # of the mean
    assert found.coverage == 0.5  # 300 lies below P10
    # P10: 10 over by .1; 10 short by .9. P50: half of 10 and 20. P90: 30 short... of .1 each.
    losses = [0.1 * 10, 0.9 * 10, 0.5 * 10, 0.5 * 20, 0.1 * 30, 0.1 * 30]
    assert found.pinball == pytest.approx(sum(losses) / 6 / 200)


def test_a_forecast_without_quantiles_has_neither_pinball_nor_coverage() -> None:
    truth = np.array([[100.0, 300.0]])
    found = score(truth, Forecast(truth + 10), naive_error=5.0)
    assert (found.pinball, found.coverage) == (None, None)
    assert found.nmae == pytest.approx(0.05) and found.mase == pytest.approx(2.0)
    other = score(truth, Forecast(truth, np.repeat(truth[:, None], 3, 1)), 5.0)
    assert mean_score([found, other]).pinball is None
    assert mean_score([found, other]).nmae == pytest.approx(0.025)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 6), steps=st.integers(1, 5))
def test_pinball_and_coverage_equal_plain_loops(seed: int, rows: int, steps: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.uniform(1, 10, (rows, steps))
    quantiles = np.sort(random.uniform(0, 12, (rows, 3, steps)), axis=1)
    found = score(truth, Forecast(truth, quantiles), 1.0)
    losses, inside = [], []
    for row in range(rows):
        for step in range(steps):
            value = truth[row, step]
            inside.append(quantiles[row, 0, step] <= value <= quantiles[row, 2, step])
            for place, level in enumerate((0.1, 0.5, 0.9)):
                off = value - quantiles[row, place, step]
                losses.append(level * off if off >= 0 else (level - 1) * off)
    assert found.pinball == pytest.approx(np.mean(losses) / truth.mean())
    assert found.coverage == pytest.approx(np.mean(inside))


def test_the_sum_over_homes_is_taken_over_common_windows_only() -> None:
    one, two = np.array([[10.0], [20.0], [30.0]]), np.array([[1.0], [3.0]])
    origins = [np.array([5, 6, 7]), np.array([6, 7])]
    found = aggregate_mape([one, two], [one + 2, two - 1], origins)
    assert found == pytest.approx((1 / 21 + 1 / 33) / 2)
    with pytest.raises(ValueError, match="no window in common"):
        aggregate_mape([one, two], [one, two], [np.array([1, 2, 3]), np.array([6, 7])])


def test_a_home_without_load_is_refused() -> None:
    with pytest.raises(ValueError, match="leave it out"):
        score(np.zeros((2, 2)), Forecast(np.ones((2, 2))), 1.0)
    with pytest.raises(ValueError, match="no home"):
        mean_score([])
