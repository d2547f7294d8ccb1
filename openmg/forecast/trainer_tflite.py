"""The forecaster on a TFLite interpreter, with weights as plain tensors.

Uses `tflite_runtime` where its wheels exist, else `ai_edge_litert`; the graph is the file of `assets` that is named after
the network's shape. One thread: two never helped at this size. An interpreter is not thread-safe, so one trainer belongs
to one thread at a time.
Not here: the graph itself (`assets/build_asset.py`).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import BATCH_ROWS, AdamState, TrainerUnavailable

F32 = NDArray[np.float32]

ASSETS = Path(__file__).parent / "assets"
INTERPRETER_MODULES = ("tflite_runtime.interpreter", "ai_edge_litert.interpreter")


def asset_name(spec: ForecastSpec) -> str:
    """The graph's file name: it depends on the shape alone, so models of one shape share it."""
    shape = "-".join(str(size) for size in (spec.features, *spec.hidden, spec.outputs))
    return f"mlp-{shape}.tflite"


def _interpreter(asset: Path) -> Any:
    if not asset.is_file():
        raise TrainerUnavailable(f"trainer: {asset.name} is missing; build it with assets/build_asset.py, or use numpy")
    for module in INTERPRETER_MODULES:
        try:
            runtime = importlib.import_module(module)
            # Without `allocate_tensors` there are no XNNPACK kernels: a step takes a tenth of a millisecond more, and the
            # program on the meter 4 MB less.
            return runtime.Interpreter(model_path=str(asset), num_threads=1)
        except (ImportError, SystemError):  # tflite_runtime answers numpy 2 with a SystemError
            continue
    raise TrainerUnavailable(
        "trainer: no TFLite interpreter works here; install tflite-runtime (with numpy below 2) or ai-edge-litert,"
        " or choose the numpy trainer"
    )


class TfliteTrainer:
    """`openmg.forecast.trainer.Trainer` on a TFLite interpreter; TrainerUnavailable when none works here."""

    name = "tflite"

    def __init__(self, spec: ForecastSpec, assets: Path = ASSETS) -> None:
        self.spec = spec
        interpreter = _interpreter(assets / asset_name(spec))
        self._train = interpreter.get_signature_runner("train")
        self._predict = interpreter.get_signature_runner("predict")
        self._predict_one = interpreter.get_signature_runner("predict_one")

    def step(
        self, state: AdamState, inputs: F32, residual: F32, *, anchor: F32, learning_rate: float, prox: float
    ) -> tuple[AdamState, float]:
        out = self._train(
            weights=state.weights,
            first=state.first_moment,
            second=state.second_moment,
            anchor=anchor,
            inputs=inputs,
            residual=residual,
            learning_rate=np.float32(learning_rate),
            steps=np.float32(state.steps + 1),
            prox=np.float32(prox),
        )
        return AdamState(out["weights"], out["first"], out["second"], state.steps + 1), float(out["loss"])

    def predict(self, weights: F32, inputs: F32) -> F32:
        if len(inputs) == 1:
            single: F32 = self._predict_one(weights=weights, inputs=inputs)["output"]
            return single
        rows = len(inputs)
        padded = np.zeros((-(-rows // BATCH_ROWS) * BATCH_ROWS, self.spec.features), dtype=np.float32)
        padded[:rows] = inputs
        output = np.empty((len(padded), self.spec.outputs), dtype=np.float32)
        for start in range(0, len(padded), BATCH_ROWS):
            batch = padded[start : start + BATCH_ROWS]
            output[start : start + BATCH_ROWS] = self._predict(weights=weights, inputs=batch)["output"]
        return output[:rows]
