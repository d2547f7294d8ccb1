"""The trainers: gradient against finite differences, TFLite against numpy step by step, the choice between them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import forecast_oracle
import numpy as np
import pytest

from openmg.forecast import loss, trainer_numpy, trainer_tflite
from openmg.forecast.model import initial_master, master_bytes, master_from_bytes, to_float, unpack
from openmg.forecast.spec import NET_ENERGY, ForecastSpec
from openmg.forecast.trainer import BATCH_ROWS, AdamState, Trainer, TrainerUnavailable, get_trainer, run_steps
from openmg.forecast.trainer_numpy import NumpyTrainer

F32 = trainer_numpy.F32
PER_STEP_TOLERANCE = 1e-5
GRAPHS = [ForecastSpec(resolution_minutes=minutes) for minutes in (60, 30, 15)]
"""The shapes that have a TFLite graph."""


def batch(spec: ForecastSpec, seed: int, rows: int = BATCH_ROWS) -> tuple[F32, F32]:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((rows, spec.features)).astype(np.float32)
    return inputs, random.standard_normal((rows, spec.horizon_steps)).astype(np.float32)


def some_weights(spec: ForecastSpec, seed: int = 1) -> F32:
    """The first model with a last layer that is not nought, so that every layer has a gradient."""
    change = np.random.default_rng(seed).standard_normal(spec.parameters).astype(np.float32)
    return to_float(initial_master(spec, b"a published seed")) + np.float32(0.1) * change


def trainer_of(spec: ForecastSpec, name: str) -> Trainer:
    try:
        return get_trainer(spec, name)
    except TrainerUnavailable as error:
        pytest.skip(str(error))


def test_the_flat_vector_is_cut_into_the_layers() -> None:
    views = unpack(NET_ENERGY, np.arange(NET_ENERGY.parameters, dtype=np.float32))
    assert [view.shape for view in views] == list(NET_ENERGY.shapes)
    assert [int(view.flat[0]) for view in views] == list(NET_ENERGY.offsets)


def test_the_first_model_is_the_same_everywhere() -> None:
    master = initial_master(NET_ENERGY, b"openmg-published-seed-1")
    assert hashlib.sha256(master_bytes(master)).hexdigest() == (
        "9f96c508389f8d9b439ff3f30341f2d396c1eae641eb26224bf899d1f1742b1e"
    )
    assert not np.array_equal(master, initial_master(NET_ENERGY, b"openmg-published-seed-2"))
    layers = unpack(NET_ENERGY, to_float(master))
    for index in (1, 3, 4, 5):
        assert not layers[index].any()
    for index, bound in ((0, (6 / 139) ** 0.5), (2, (6 / 64) ** 0.5)):
        assert np.abs(layers[index]).max() <= bound
        assert layers[index].std() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert abs(layers[index].mean()) < 0.1 * bound


def test_the_first_model_adds_nothing_to_the_base_forecast_and_can_learn() -> None:
    weights = to_float(initial_master(NET_ENERGY, b"x"))
    inputs, residual = batch(NET_ENERGY, 3)
    assert not NumpyTrainer(NET_ENERGY).predict(weights, inputs).any()
    _, gradient = trainer_numpy.loss_and_gradient(NET_ENERGY, weights, inputs, residual)
    last = unpack(NET_ENERGY, gradient)[4]
    assert (np.abs(last).max(0) > 0).all()  # every output of every head has a slope to go by


def test_master_bytes_are_inverse_and_checked() -> None:
    master = initial_master(NET_ENERGY, b"x")
    assert np.array_equal(master_from_bytes(NET_ENERGY, master_bytes(master)), master)
    with pytest.raises(ValueError, match=f"56831 bytes instead of 56832; use a model of {NET_ENERGY.model_id}"):
        master_from_bytes(NET_ENERGY, bytes(56831))
    assert np.array_equal(np.rint(to_float(master).astype(np.float64) * 2**20).astype(np.int32), master)


@pytest.mark.parametrize(
    "spec", [NET_ENERGY, ForecastSpec(resolution_minutes=30, horizon_hours=48, hidden=(9, 7), annual=True)]
)
@pytest.mark.parametrize("heads", ["both", "mean", "quantiles"])
def test_the_gradient_equals_finite_differences(spec: ForecastSpec, heads: str) -> None:
    """One head alone: the other's outputs are held still by a direction that does not move their last layer."""
    random = np.random.default_rng(5)
    weights = (random.standard_normal(spec.parameters) * 0.2).astype(np.float32)
    inputs, residual = batch(spec, 5, rows=4)
    _, gradient = trainer_numpy.loss_and_gradient(spec, weights, inputs, residual)
    for direction_seed in range(4):
        # Uphill everywhere: else the slopes of thousands of weights cancel and little is left to compare.
        direction = np.abs(np.random.default_rng(direction_seed).standard_normal(spec.parameters)) * np.sign(gradient)
        if heads != "both":
            direction[: spec.offsets[4]] = 0.0
            still = slice(spec.horizon_steps, None) if heads == "mean" else slice(0, spec.horizon_steps)
            for layer in unpack(spec, direction)[4:]:  # type: ignore[arg-type]
                layer[..., still] = 0.0
        direction /= np.linalg.norm(direction)
        step = 1e-4
        losses = [_loss_in_double(spec, weights + sign * step * direction, inputs, residual) for sign in (1, -1)]
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(gradient @ direction), rel=2e-3)
        assert float(gradient @ direction) > 0.03


def _loss_in_double(spec: ForecastSpec, weights: np.ndarray, inputs: F32, residual: F32) -> float:
    w1, b1, w2, b2, w3, b3 = unpack(spec, np.asarray(weights, dtype=np.float64))  # type: ignore[arg-type]
    hidden = np.maximum(np.maximum(inputs @ w1 + b1, 0) @ w2 + b2, 0)
    rows = zip((hidden @ w3 + b3).tolist(), residual.tolist(), strict=True)
    return sum(forecast_oracle.output_loss(output, wanted) for output, wanted in rows) / residual.size


@pytest.mark.parametrize("name", ["numpy", "tflite"])
def test_steps_follow_adams_definition_in_double_precision(name: str) -> None:
    spec, trainer = NET_ENERGY, trainer_of(NET_ENERGY, name)
    weights = some_weights(spec)
    anchor, prox, rate = weights * np.float32(0.5), 0.003, 1e-3
    state = AdamState.start(weights)
    expected = [float(w) for w in weights], [0.0] * spec.parameters, [0.0] * spec.parameters
    for number in range(1, 4):
        inputs, residual = batch(spec, number)
        slope = forecast_oracle.gradient(spec, expected[0], inputs.tolist(), residual.tolist())
        pull = [prox * (w - float(a)) for w, a in zip(expected[0], anchor, strict=True)]
        slope = [g + p for g, p in zip(slope, pull, strict=True)]
        expected = forecast_oracle.adam_step(expected, slope, number, rate)
        state, _ = trainer.step(state, inputs, residual, anchor=anchor, learning_rate=rate, prox=prox)
        for ours, exact in zip((state.first_moment, state.second_moment), expected[1:], strict=True):
            assert np.abs(ours - exact).max() < PER_STEP_TOLERANCE
        # Where a slope is almost nothing, its sign and so the direction of a step is a matter of rounding.
        clear = np.abs(np.array(slope)) > 1e-5
        assert clear.mean() > 0.9
        assert np.abs(state.weights - expected[0])[clear].max() < PER_STEP_TOLERANCE


def test_the_proximal_term_pulls_towards_the_anchor() -> None:
    """At the first model with nothing to forecast only the pull moves the weights of the hidden layers."""
    weights = to_float(initial_master(NET_ENERGY, b"a published seed"))
    inputs, residual = (np.zeros_like(part) for part in batch(NET_ENERGY, 0))
    anchor, hidden = np.zeros_like(weights), slice(0, NET_ENERGY.offsets[4])
    steps, trainer = [(inputs, residual)] * 50, NumpyTrainer(NET_ENERGY)
    free, _ = run_steps(trainer, weights, steps, anchor=anchor, learning_rate=1e-3, prox=0.0)
    pulled, _ = run_steps(trainer, weights, steps, anchor=anchor, learning_rate=1e-3, prox=0.1)
    assert np.array_equal(free[hidden], weights[hidden])
    assert np.linalg.norm(pulled[hidden]) < np.linalg.norm(weights[hidden])


@pytest.mark.parametrize("spec", GRAPHS, ids=trainer_tflite.asset_name)
@pytest.mark.parametrize("prox", [0.0, 0.05])
def test_tflite_and_numpy_agree_on_every_step(spec: ForecastSpec, prox: float) -> None:
    tflite, reference = trainer_of(spec, "tflite"), NumpyTrainer(spec)
    weights = some_weights(spec)
    state, anchor = AdamState.start(weights), weights * np.float32(0.5)
    for number in range(30):
        inputs, residual = batch(spec, number)
        ours, our_loss = tflite.step(state, inputs, residual, anchor=anchor, learning_rate=1e-3, prox=prox)
        state, loss = reference.step(state, inputs, residual, anchor=anchor, learning_rate=1e-3, prox=prox)
        # Adam divides by the size of the slope: where that is as small as its rounding, so is the step's direction.
        unclear = (state.second_moment > 0) & (state.second_moment < 1e-17)
        assert unclear.mean() < 1e-3
        assert np.abs(ours.weights - state.weights)[~unclear].max() < PER_STEP_TOLERANCE
        assert np.abs(ours.weights - state.weights).max() < 1e-3
        assert np.abs(ours.first_moment - state.first_moment).max() < PER_STEP_TOLERANCE
        assert np.abs(ours.second_moment - state.second_moment).max() < PER_STEP_TOLERANCE
        assert our_loss == pytest.approx(loss, rel=PER_STEP_TOLERANCE)
        assert ours.steps == state.steps


@pytest.mark.parametrize("spec", GRAPHS, ids=trainer_tflite.asset_name)
@pytest.mark.parametrize("rows", [0, 1, 31, 32, 65])
def test_tflite_and_numpy_predict_the_same(spec: ForecastSpec, rows: int) -> None:
    tflite, weights = trainer_of(spec, "tflite"), some_weights(spec)
    inputs, _ = batch(spec, 9, rows)
    output = tflite.predict(weights, inputs)
    assert output.shape == (rows, spec.outputs)
    assert np.abs(output - NumpyTrainer(spec).predict(weights, inputs)).max(initial=0.0) < PER_STEP_TOLERANCE


@pytest.mark.parametrize("name", ["numpy", "tflite"])
def test_a_trainer_learns_a_rule_with_both_heads(name: str) -> None:
    trainer, weights = trainer_of(NET_ENERGY, name), to_float(initial_master(NET_ENERGY, b"a published seed"))
    inputs, _ = batch(NET_ENERGY, 2)
    residual = np.tanh(inputs[:, :24])
    trained, losses = run_steps(trainer, weights, [(inputs, residual)] * 400, anchor=weights, learning_rate=3e-3)
    assert losses[-1] < losses[0] / 10
    mean, quantiles = loss.heads(trainer.predict(trained, inputs))
    assert np.mean((mean - residual) ** 2) < np.mean(residual**2) / 10
    assert np.mean(np.abs(quantiles[:, 1] - residual)) < np.mean(np.abs(residual)) / 3


def test_auto_falls_back_to_numpy_when_no_interpreter_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_tflite, "INTERPRETER_MODULES", ("no_such_interpreter",))
    assert get_trainer(NET_ENERGY).name == "numpy"
    with pytest.raises(TrainerUnavailable, match="install tflite-runtime"):
        get_trainer(NET_ENERGY, "tflite")


def test_unknown_names_and_a_missing_asset_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use auto, tflite or numpy"):
        get_trainer(NET_ENERGY, "torch")
    with pytest.raises(TrainerUnavailable, match="mlp-139-64-32-96.tflite is missing; build it with"):
        trainer_tflite.TfliteTrainer(NET_ENERGY, tmp_path)


def test_a_shape_without_a_graph_is_trained_by_numpy() -> None:
    spec = ForecastSpec(resolution_minutes=5, hidden=(8, 4))
    with pytest.raises(TrainerUnavailable, match="is missing; build it with assets/build_asset.py, or use numpy"):
        get_trainer(spec, "tflite")
    trainer = get_trainer(spec)
    assert trainer.name == "numpy" and trainer.spec == spec
    inputs, residual = batch(spec, 1)
    weights = to_float(initial_master(spec, b"x"))
    state, _ = trainer.step(AdamState.start(weights), inputs, residual, anchor=weights, learning_rate=1e-3, prox=0.0)
    assert not np.array_equal(state.weights, weights)


def test_the_package_asks_for_one_blas_thread_before_numpy_loads(repo_root: Path) -> None:
    code = "import sys, os, openmg.forecast; assert 'numpy' not in sys.modules;print(os.environ['OPENBLAS_NUM_THREADS'])"
    clean = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    out = subprocess.run([sys.executable, "-c", code], cwd=repo_root, env=clean, capture_output=True, text=True)
    assert out.stdout.strip() == "1", out.stderr
