"""The loss of both heads: its value and slope against a plain oracle, and that its minimum is what the heads promise."""

from __future__ import annotations

import forecast_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast import loss
from openmg.forecast.loss import F32
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import BATCH_ROWS, run_steps
from openmg.forecast.trainer_numpy import NumpyTrainer


def outputs(seed: int, rows: int, steps: int) -> tuple[F32, F32]:
    random = np.random.default_rng(seed)
    output = random.standard_normal((rows, 4 * steps)).astype(np.float32)
    return output, random.standard_normal((rows, steps)).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), steps=st.integers(1, 30))
def test_value_and_slope_equal_the_oracle(seed: int, rows: int, steps: int) -> None:
    output, residual = outputs(seed, rows, steps)
    value, slope = loss.loss_and_slope(output, residual)
    pairs = list(zip(output.tolist(), residual.tolist(), strict=True))
    expected = sum(forecast_oracle.output_loss(o, r) for o, r in pairs) / residual.size
    assert value == pytest.approx(expected, rel=1e-5) == loss.loss(output, residual)
    slopes = np.array([forecast_oracle.output_slope(o, r) for o, r in pairs]) / residual.size
    assert slope.dtype == np.float32 and slope == pytest.approx(slopes, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("head", range(4), ids=["mean", "P10", "P50", "P90"])
def test_the_slope_of_each_head_equals_finite_differences(head: int) -> None:
    output, residual = outputs(3, 4, 6)
    direction = np.zeros_like(output)
    direction[:, 6 * head : 6 * head + 6] = np.random.default_rng(head).standard_normal((4, 6))
    _, slope = loss.loss_and_slope(output, residual)
    step = 1e-3
    ahead, behind = (loss.loss((output + s * step * direction).astype(np.float32), residual) for s in (1, -1))
    assert (ahead - behind) / (2 * step) == pytest.approx(float((slope * direction).sum()), rel=5e-3, abs=1e-5)
    assert np.abs(slope[:, 6 * head : 6 * head + 6]).min() > 0


def test_heads_are_views_in_the_order_mean_p10_p50_p90() -> None:
    output = np.arange(8, dtype=np.float32).reshape(1, 8)
    mean, quantiles = loss.heads(output)
    assert mean.tolist() == [[0, 1]] and quantiles.tolist() == [[[2, 3], [4, 5], [6, 7]]]
    assert np.shares_memory(mean, output) and np.shares_memory(quantiles, output)


def test_a_perfect_forecast_costs_nothing_and_each_head_is_charged_for_itself() -> None:
    target = np.array([[1.0, -2.0]], np.float32)
    perfect = np.tile(target, 4)
    assert loss.loss(perfect, target) == 0.0
    for head, by, cost in [(0, 1.0, 1.0), (1, 1.0, 0.9 / 3), (1, -1.0, 0.1 / 3), (2, 1.0, 0.5 / 3), (3, 1.0, 0.1 / 3)]:
        wrong = perfect.copy()
        wrong[:, 2 * head : 2 * head + 2] += by
        assert loss.loss(wrong, target) == pytest.approx(cost)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 30))
def test_ordered_quantiles_do_not_cross_and_never_cost_more(seed: int, steps: int) -> None:
    output, residual = outputs(seed, 6, steps)
    mean, quantiles = loss.heads(output)
    tidy = loss.ordered(quantiles)
    assert (np.diff(tidy, axis=1) >= 0).all()
    assert np.array_equal(np.sort(tidy, axis=1), np.sort(quantiles, axis=1))
    again = np.concatenate([mean, tidy.reshape(6, -1)], axis=1)
    assert loss.loss(again, residual) <= loss.loss(output, residual) + 1e-6


def test_the_heads_learn_mean_and_quantiles_of_a_skewed_distribution() -> None:
    """Exponential noise whose scale depends on an input: its mean is not its median, and its P90 is far from both."""
    spec = ForecastSpec(hidden=(16, 8))
    random = np.random.default_rng(11)

    def draw(rows: int) -> tuple[F32, F32, F32]:
        scale = random.choice(np.array([0.5, 1.5], np.float32), (rows, 1))
        inputs = np.zeros((rows, spec.features), np.float32)
        inputs[:, :1] = scale
        return inputs, (scale * random.exponential(size=(rows, spec.horizon_steps))).astype(np.float32), scale

    batches = (draw(BATCH_ROWS)[:2] for _ in range(1500))
    start = to_float(initial_master(spec, b"skewed"))
    trainer = NumpyTrainer(spec)
    weights, _ = run_steps(trainer, start, batches, anchor=start, learning_rate=3e-3)
    inputs, residual, scale = draw(4000)
    mean, quantiles = loss.heads(trainer.predict(weights, inputs))
    quantiles = loss.ordered(quantiles)
    for one in (0.5, 1.5):
        rows = scale[:, 0] == np.float32(one)
        learnt = [float(mean[rows].mean()), *(float(quantiles[rows, head].mean()) for head in range(3))]
        assert learnt == pytest.approx([one, one * np.log(1 / 0.9), one * np.log(2), one * np.log(10)], rel=0.15, abs=0.03)
        below = [float((residual[rows] <= quantiles[rows, head]).mean()) for head in range(3)]
        assert below == pytest.approx([0.1, 0.5, 0.9], abs=0.04)
    covered = (residual >= quantiles[:, 0]) & (residual <= quantiles[:, 2])
    assert float(covered.mean()) == pytest.approx(0.8, abs=0.04)
