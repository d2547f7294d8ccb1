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

from openmg.forecast import trainer_numpy, trainer_tflite
from openmg.forecast.model import initial_master, master_bytes, master_from_bytes, to_float, unpack
from openmg.forecast.spec import FEATURES, HORIZON_HOURS, OFFSETS, PARAMETERS, SHAPES
from openmg.forecast.trainer import BATCH_ROWS, AdamState, Trainer, TrainerUnavailable, get_trainer, run_steps
from openmg.forecast.trainer_numpy import NumpyTrainer

F32 = trainer_numpy.F32
PER_STEP_TOLERANCE = 1e-5


def batch(seed: int, rows: int = BATCH_ROWS) -> tuple[F32, F32]:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((rows, FEATURES)).astype(np.float32)
    return inputs, random.standard_normal((rows, HORIZON_HOURS)).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> F32:
    return to_float(initial_master(b"a published seed"))


@pytest.fixture(scope="module")
def tflite() -> Trainer:
    try:
        return get_trainer("tflite")
    except TrainerUnavailable as error:
        pytest.skip(str(error))


def test_the_network_has_7344_weights_laid_out_one_after_the_other() -> None:
    assert PARAMETERS == 115 * 48 + 48 + 48 * 24 + 24 + 24 * 24 + 24 == 7344
    views = unpack(np.arange(PARAMETERS, dtype=np.float32))
    assert [view.shape for view in views] == list(SHAPES)
    assert [int(view.flat[0]) for view in views] == list(OFFSETS)


def test_the_first_model_is_the_same_everywhere() -> None:
    master = initial_master(b"openmg-published-seed-1")
    assert hashlib.sha256(master_bytes(master)).hexdigest() == (
        "dc5dba0c972aff3ef97e419803227cdc1975d1f40f21136efc1db35d2ffd4913"
    )
    assert not np.array_equal(master, initial_master(b"openmg-published-seed-2"))
    layers = unpack(to_float(master))
    for index in (1, 3, 5):
        assert not layers[index].any()
    for index, bound in ((0, (6 / 115) ** 0.5), (2, (6 / 48) ** 0.5), (4, (6 / 48) ** 0.5)):
        assert np.abs(layers[index]).max() <= bound
        assert layers[index].std() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert abs(layers[index].mean()) < 0.1 * bound


def test_master_bytes_are_inverse_and_checked() -> None:
    master = initial_master(b"x")
    assert np.array_equal(master_from_bytes(master_bytes(master)), master)
    with pytest.raises(ValueError, match="29375 bytes instead of 29376"):
        master_from_bytes(bytes(29375))
    assert np.array_equal(np.rint(to_float(master).astype(np.float64) * 2**20).astype(np.int32), master)


def test_the_gradient_equals_finite_differences() -> None:
    random = np.random.default_rng(5)
    weights = (random.standard_normal(PARAMETERS) * 0.2).astype(np.float32)
    inputs, residual = batch(5, rows=4)
    _, gradient = trainer_numpy.loss_and_gradient(weights, inputs, residual)
    for direction_seed in range(4):
        direction = np.random.default_rng(direction_seed).standard_normal(PARAMETERS)
        direction /= np.linalg.norm(direction)
        step = 1e-4
        losses = [_loss_in_double(weights + sign * step * direction, inputs, residual) for sign in (1, -1)]
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(gradient @ direction), rel=2e-3, abs=1e-4)


def _loss_in_double(weights: np.ndarray, inputs: F32, residual: F32) -> float:
    w1, b1, w2, b2, w3, b3 = unpack(np.asarray(weights, dtype=np.float64))  # type: ignore[arg-type]
    hidden = np.maximum(np.maximum(inputs @ w1 + b1, 0) @ w2 + b2, 0)
    return float(np.mean((hidden @ w3 + b3 - residual) ** 2))


@pytest.mark.parametrize("name", ["numpy", "tflite"])
def test_steps_follow_adams_definition_in_double_precision(name: str, weights: F32) -> None:
    try:
        trainer = get_trainer(name)
    except TrainerUnavailable as error:
        pytest.skip(str(error))
    anchor, prox, rate = weights * np.float32(0.5), 0.003, 1e-3
    state = AdamState.start(weights)
    expected = [float(w) for w in weights], [0.0] * PARAMETERS, [0.0] * PARAMETERS
    for number in range(1, 4):
        inputs, residual = batch(number)
        slope = forecast_oracle.gradient(expected[0], inputs.tolist(), residual.tolist())
        pull = [prox * (w - float(a)) for w, a in zip(expected[0], anchor, strict=True)]
        expected = forecast_oracle.adam_step(expected, [g + p for g, p in zip(slope, pull, strict=True)], number, rate)
        state, _ = trainer.step(state, inputs, residual, anchor=anchor, learning_rate=rate, prox=prox)
        for ours, exact in zip((state.first_moment, state.second_moment), expected[1:], strict=True):
            assert np.abs(ours - exact).max() < PER_STEP_TOLERANCE
        # Where a slope is almost nothing, its sign and so the direction of a step is a matter of rounding.
        clear = np.abs(np.array(slope)) > 1e-5
        assert clear.mean() > 0.9
        assert np.abs(state.weights - expected[0])[clear].max() < PER_STEP_TOLERANCE


def test_the_proximal_term_pulls_towards_the_anchor(weights: F32) -> None:
    inputs, residual = np.zeros((BATCH_ROWS, FEATURES), np.float32), np.zeros((BATCH_ROWS, HORIZON_HOURS), np.float32)
    anchor = np.zeros_like(weights)
    steps = [(inputs, residual)] * 50
    free, _ = run_steps(NumpyTrainer(), weights, steps, anchor=anchor, learning_rate=1e-3, prox=0.0)
    pulled, _ = run_steps(NumpyTrainer(), weights, steps, anchor=anchor, learning_rate=1e-3, prox=0.1)
    assert np.array_equal(free, weights)
    assert np.linalg.norm(pulled) < np.linalg.norm(weights)


@pytest.mark.parametrize("prox", [0.0, 0.05])
def test_tflite_and_numpy_agree_on_every_step(tflite: Trainer, weights: F32, prox: float) -> None:
    reference = NumpyTrainer()
    state = AdamState.start(weights)
    anchor = weights * np.float32(0.5)
    for number in range(30):
        inputs, residual = batch(number)
        ours, our_loss = tflite.step(state, inputs, residual, anchor=anchor, learning_rate=1e-3, prox=prox)
        state, loss = reference.step(state, inputs, residual, anchor=anchor, learning_rate=1e-3, prox=prox)
        assert np.abs(ours.weights - state.weights).max() < PER_STEP_TOLERANCE
        assert np.abs(ours.first_moment - state.first_moment).max() < PER_STEP_TOLERANCE
        assert np.abs(ours.second_moment - state.second_moment).max() < PER_STEP_TOLERANCE
        assert our_loss == pytest.approx(loss, rel=PER_STEP_TOLERANCE)
        assert ours.steps == state.steps


@pytest.mark.parametrize("rows", [1, 31, 32, 65])
def test_tflite_and_numpy_predict_the_same(tflite: Trainer, weights: F32, rows: int) -> None:
    inputs, _ = batch(9, rows)
    output = tflite.predict(weights, inputs)
    assert output.shape == (rows, HORIZON_HOURS)
    assert np.abs(output - NumpyTrainer().predict(weights, inputs)).max() < PER_STEP_TOLERANCE


@pytest.mark.parametrize("name", ["numpy", "tflite"])
def test_a_trainer_learns_a_linear_rule(name: str, weights: F32) -> None:
    try:
        trainer = get_trainer(name)
    except TrainerUnavailable as error:
        pytest.skip(str(error))
    inputs, _ = batch(2)
    residual = np.tanh(inputs[:, :HORIZON_HOURS])
    trained, losses = run_steps(trainer, weights, [(inputs, residual)] * 200, anchor=weights, learning_rate=3e-3)
    assert losses[-1] < losses[0] / 10
    assert np.mean((trainer.predict(trained, inputs) - residual) ** 2) < losses[0] / 10


def test_auto_falls_back_to_numpy_when_no_interpreter_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_tflite, "INTERPRETER_MODULES", ("no_such_interpreter",))
    assert get_trainer("auto").name == "numpy"
    with pytest.raises(TrainerUnavailable, match="install tflite-runtime"):
        get_trainer("tflite")


def test_unknown_names_and_a_missing_asset_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use auto, tflite or numpy"):
        get_trainer("torch")
    with pytest.raises(TrainerUnavailable, match="build it with"):
        trainer_tflite.TfliteTrainer(tmp_path / "mlp_train.tflite")


def test_the_package_asks_for_one_blas_thread_before_numpy_loads(repo_root: Path) -> None:
    code = (
        "import sys, os, openmg.forecast; assert 'numpy' not in sys.modules;print(os.environ['OPENBLAS_NUM_THREADS'])"
    )
    clean = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    out = subprocess.run([sys.executable, "-c", code], cwd=repo_root, env=clean, capture_output=True, text=True)
    assert out.stdout.strip() == "1", out.stderr
