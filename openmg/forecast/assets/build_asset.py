"""Builds the training and inference graphs `mlp-*.tflite`, one for each shape; the only file that needs TensorFlow.

Run once after a change of SPECS, the features or the loss, in an environment with TensorFlow 2.16 or later:
    python openmg/forecast/assets/build_asset.py
Rules: TFLite builtins only, so the conversion fails rather than ask for the Flex delegate, which the interpreters on
meters do not have. The default gradients of ReLU, Dense and slicing would need it, hence the custom ones. Weights
and Adam's moments are plain inputs and outputs: no variables, no checkpoint files.
Not here: a description of the network (spec.py), its loss (loss.py) or the training step (trainer.py), which this graph
repeats.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from openmg.forecast.spec import HEADS, QUANTILES_MILLI, ForecastSpec  # noqa: E402
from openmg.forecast.trainer import BATCH_ROWS, BETA_1, BETA_2, EPSILON  # noqa: E402
from openmg.forecast.trainer_tflite import ASSETS, asset_name  # noqa: E402

tf: Any = importlib.import_module("tensorflow")
SPECS = tuple(ForecastSpec(resolution_minutes=minutes) for minutes in (60, 30, 15))
"""Shapes with a graph. Finer steps are rare on a meter and trained by numpy."""


def _relu(x: Any) -> Any:
    return tf.nn.relu(x), lambda upstream: upstream * tf.cast(x > 0.0, tf.float32)


def _dense(x: Any, weight: Any, bias: Any) -> Any:
    def gradient(upstream: Any) -> Any:
        return (
            tf.matmul(upstream, tf.transpose(weight)),
            tf.matmul(tf.transpose(x), upstream),
            tf.reshape(total(upstream), [-1]),
        )

    return tf.matmul(x, weight) + bias, gradient


relu = tf.custom_gradient(_relu)
dense = tf.custom_gradient(_dense)


def unpack(spec: ForecastSpec, weights: Any) -> list[Any]:
    """The layers as separate tensors; the tape watches these, so slicing needs no gradient."""
    pieces = zip(spec.shapes, spec.offsets, spec.sizes, strict=True)
    return [tf.reshape(tf.slice(weights, [offset], [size]), shape) for shape, offset, size in pieces]


def hidden(layers: list[Any], x: Any) -> Any:
    x = relu(dense(x, layers[0], layers[1]))
    return relu(dense(x, layers[2], layers[3]))


def total(x: Any) -> Any:
    """Sums of the columns [1, n] of rows [m, n]; a product, because the builtin sum is several times slower."""
    return tf.matmul(tf.ones([1, x.shape[0]]), x)


def loss_and_slope(spec: ForecastSpec, output: Any, residual: Any) -> tuple[Any, Any]:
    """Loss of `openmg.forecast.loss` and its slope by the outputs, written out: maximum has no builtin gradient.

    Both losses follow from their slopes: a square is half its slope times the error, a pinball loss the whole of it.
    """
    steps = spec.horizon_steps
    count = BATCH_ROWS * steps
    short = tf.concat([residual] * HEADS, 1) - output
    short_mean = tf.slice(short, [0, 0], [BATCH_ROWS, steps])
    short_quantiles = tf.slice(short, [0, steps], [BATCH_ROWS, (HEADS - 1) * steps])
    levels = tf.constant([[milli / 1000 for milli in QUANTILES_MILLI for _ in range(steps)]])
    slope_mean = short_mean * (-2.0 / count)
    slope_quantiles = (tf.cast(short_quantiles < 0.0, tf.float32) - levels) * (1.0 / (count * (HEADS - 1)))
    slope = tf.concat([slope_mean, slope_quantiles], 1)
    share = tf.constant([[-0.5]] * steps + [[-1.0]] * ((HEADS - 1) * steps))
    return tf.reshape(tf.matmul(total(slope * short), share), []), slope


def graphs(spec: ForecastSpec) -> tuple[Any, Any]:
    """The functions `train` and `predict` of a network."""

    def train(
        weights: Any,
        first: Any,
        second: Any,
        anchor: Any,
        inputs: Any,
        residual: Any,
        learning_rate: Any,
        steps: Any,
        prox: Any,
    ) -> dict[str, Any]:
        layers = unpack(spec, weights)
        with tf.GradientTape() as tape:
            tape.watch(layers)
            output = dense(hidden(layers, inputs), layers[4], layers[5])
        loss, slope = loss_and_slope(spec, output, residual)
        pieces = [tf.reshape(piece, [-1]) for piece in tape.gradient(output, layers, output_gradients=slope)]
        gradient = tf.concat(pieces, 0) + prox * (weights - anchor)
        first = BETA_1 * first + (1 - BETA_1) * gradient
        second = BETA_2 * second + (1 - BETA_2) * gradient * gradient
        # Adam's bias correction, with powers written as exp because Pow of two tensors is not a builtin everywhere.
        decay_1 = tf.exp(steps * math.log(BETA_1))
        decay_2 = tf.exp(steps * math.log(BETA_2))
        rate = learning_rate * tf.sqrt(1.0 - decay_2) / (1.0 - decay_1)
        weights = weights - rate * first / (tf.sqrt(second) + EPSILON)
        return {"weights": weights, "first": first, "second": second, "loss": loss}

    def predict(weights: Any, inputs: Any) -> dict[str, Any]:
        layers = unpack(spec, weights)
        return {"output": dense(hidden(layers, inputs), layers[4], layers[5])}

    return train, predict


def tensor(*shape: int) -> Any:
    return tf.TensorSpec(list(shape), tf.float32)


def build(spec: ForecastSpec) -> bytes:
    """The graph with its three signatures as a TFLite flat buffer."""
    flat = tensor(spec.parameters)
    batch = [tensor(BATCH_ROWS, spec.features), tensor(BATCH_ROWS, spec.horizon_steps)]
    train, predict = graphs(spec)
    module = tf.Module()
    module.train = tf.function(train, input_signature=[flat] * 4 + batch + [tensor()] * 3)
    module.predict = tf.function(predict, input_signature=[flat, batch[0]])
    module.predict_one = tf.function(predict, input_signature=[flat, tensor(1, spec.features)])
    signatures = {"train": module.train, "predict": module.predict, "predict_one": module.predict_one}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        blob: bytes = converter.convert()
    return blob


if __name__ == "__main__":
    for each in SPECS:
        path = ASSETS / asset_name(each)
        path.write_bytes(build(each))
        print(f"{path.name}: {path.stat().st_size} bytes, {each.parameters} weights")
