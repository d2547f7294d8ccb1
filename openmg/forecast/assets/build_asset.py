"""Builds `mlp_train.tflite`, the forecaster's training and inference graph; the only file that needs TensorFlow.

Run once after a change of `openmg.forecast.spec`, in an environment with TensorFlow 2.16 or later:
    python openmg/forecast/assets/build_asset.py
Rules: TFLite builtins only, so the conversion fails rather than ask for the Flex delegate, which the interpreters on
meters do not have. The default gradients of ReLU, Dense and slicing would need it, hence the custom ones. Weights
and Adam's moments are plain inputs and outputs: no variables, no checkpoint files.
Not here: a description of the network (spec.py) or of the training step (trainer.py), which this graph repeats.
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

from openmg.forecast.spec import FEATURES, HORIZON_HOURS, OFFSETS, PARAMETERS, SHAPES, SIZES  # noqa: E402
from openmg.forecast.trainer import BATCH_ROWS, BETA_1, BETA_2, EPSILON  # noqa: E402

tf: Any = importlib.import_module("tensorflow")
ASSET = Path(__file__).with_name("mlp_train.tflite")


def _relu(x: Any) -> Any:
    return tf.nn.relu(x), lambda upstream: upstream * tf.cast(x > 0.0, tf.float32)


def _dense(x: Any, weight: Any, bias: Any) -> Any:
    def gradient(upstream: Any) -> Any:
        return (
            tf.matmul(upstream, tf.transpose(weight)),
            tf.matmul(tf.transpose(x), upstream),
            tf.reduce_sum(upstream, 0),
        )

    return tf.matmul(x, weight) + bias, gradient


relu = tf.custom_gradient(_relu)
dense = tf.custom_gradient(_dense)


def unpack(weights: Any) -> list[Any]:
    """The layers as separate tensors; the tape watches these, so slicing needs no gradient."""
    pieces = zip(SHAPES, OFFSETS, SIZES, strict=True)
    return [tf.reshape(tf.slice(weights, [offset], [size]), shape) for shape, offset, size in pieces]


def network(layers: list[Any], x: Any) -> Any:
    x = relu(dense(x, layers[0], layers[1]))
    x = relu(dense(x, layers[2], layers[3]))
    return dense(x, layers[4], layers[5])


def tensor(*shape: int) -> Any:
    return tf.TensorSpec(list(shape), tf.float32)


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
    layers = unpack(weights)
    with tf.GradientTape() as tape:
        tape.watch(layers)
        error = network(layers, inputs) - residual
        loss = tf.reduce_sum(error * error) * (1.0 / (BATCH_ROWS * HORIZON_HOURS))
    pieces = [tf.reshape(piece, [-1]) for piece in tape.gradient(loss, layers)]
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
    return {"output": network(unpack(weights), inputs)}


def build() -> bytes:
    """The graph with its three signatures as a TFLite flat buffer."""
    flat = tensor(PARAMETERS)
    batch = [tensor(BATCH_ROWS, FEATURES), tensor(BATCH_ROWS, HORIZON_HOURS)]
    module = tf.Module()
    module.train = tf.function(train, input_signature=[flat] * 4 + batch + [tensor()] * 3)
    module.predict = tf.function(predict, input_signature=[flat, batch[0]])
    module.predict_one = tf.function(predict, input_signature=[flat, tensor(1, FEATURES)])
    signatures = {"train": module.train, "predict": module.predict, "predict_one": module.predict_one}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        blob: bytes = converter.convert()
    return blob


if __name__ == "__main__":
    ASSET.write_bytes(build())
    print(f"{ASSET.name}: {ASSET.stat().st_size} bytes, {PARAMETERS} weights")
