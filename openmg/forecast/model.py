"""The forecaster's weights: the int32 master, its first value from a published seed, and the float32 copy to train on.

Rules: the master is the only canonical form (int32 in units of 2^-20, little-endian on the wire); its initial value is
computed with integers only, so every replica and meter derives the same bytes from the same seed.
Not here: arithmetic with the weights (`trainer_numpy`, `trainer_tflite`, `fixedpoint`) and agreement
(`openmg.learning`).
"""

from __future__ import annotations

import hashlib
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import MASTER_SCALE_BITS, ForecastSpec

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


def _uniform(stream: bytes, bound: int) -> NDArray[np.int64]:
    """Integers within -bound..bound from 32-bit words; |result| <= bound because |word - 2^31| <= 2^31."""
    words = np.frombuffer(stream, dtype="<u4").astype(np.int64) - (1 << 31)
    return (words * bound) >> 31


def initial_master(spec: ForecastSpec, seed: bytes) -> I32:
    """He-uniform hidden layers (bound sqrt(6/in)); the last layer and all biases are zero.

    With a last layer of zeros the first model is the base forecast itself: no round has to unlearn noise before it
    learns. The hidden layers are not zero, so the last layer's gradient is not. He et al. 2015; the random words are
    SHAKE-256 of the seed and the layer's index.
    """
    master = np.zeros(spec.parameters, dtype=np.int64)
    hidden = list(zip(spec.shapes, spec.offsets, spec.sizes, strict=True))[:-2]
    for index, (shape, offset, size) in enumerate(hidden):
        if len(shape) == 1:
            continue
        bound = isqrt((6 << (2 * MASTER_SCALE_BITS)) // shape[0])
        stream = hashlib.shake_256(b"openmg.forecast.init\0" + bytes([index]) + seed).digest(4 * size)
        master[offset : offset + size] = _uniform(stream, bound)
    return master.astype(np.int32)


def to_float(master: I32) -> F32:
    """Float32 weights to train with; exact while every weight is below 16 in size."""
    return (master.astype(np.float64) * 2.0**-MASTER_SCALE_BITS).astype(np.float32)


def master_bytes(master: I32) -> bytes:
    """Little-endian int32, 4 bytes a weight."""
    return master.astype("<i4").tobytes()


def master_from_bytes(spec: ForecastSpec, data: bytes) -> I32:
    """Inverse of `master_bytes`; ValueError for another length."""
    if len(data) != spec.master_bytes:
        raise ValueError(f"model: {len(data)} bytes instead of {spec.master_bytes}; use a model of {spec.model_id}")
    return np.frombuffer(data, dtype="<i4").astype(np.int32)


def unpack(spec: ForecastSpec, weights: F32) -> list[F32]:
    """Views of the flat vector as the matrices and biases of `spec.shapes`."""
    return [
        weights[offset : offset + size].reshape(shape)
        for shape, offset, size in zip(spec.shapes, spec.offsets, spec.sizes, strict=True)
    ]
