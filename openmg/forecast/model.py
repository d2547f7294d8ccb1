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

from openmg.forecast.spec import MASTER_BYTES, MASTER_SCALE_BITS, OFFSETS, PARAMETERS, SHAPES, SIZES

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

OUTPUT_LAYER = 4
"""Index of the last weight matrix in SHAPES."""


def _uniform(stream: bytes, bound: int) -> NDArray[np.int64]:
    """Integers within -bound..bound from 32-bit words; |result| <= bound because |word - 2^31| <= 2^31."""
    words = np.frombuffer(stream, dtype="<u4").astype(np.int64) - (1 << 31)
    return (words * bound) >> 31


def initial_master(seed: bytes) -> I32:
    """He-uniform hidden layers (bound sqrt(6/in)), a Glorot-uniform last layer (sqrt(6/(in+out))), zero biases.

    He et al. 2015, Glorot and Bengio 2010; the random words are SHAKE-256 of the seed and the layer's index.
    """
    master = np.zeros(PARAMETERS, dtype=np.int64)
    for index, (shape, offset, size) in enumerate(zip(SHAPES, OFFSETS, SIZES, strict=True)):
        if len(shape) == 1:
            continue
        fan = sum(shape) if index == OUTPUT_LAYER else shape[0]
        bound = isqrt((6 << (2 * MASTER_SCALE_BITS)) // fan)
        stream = hashlib.shake_256(b"openmg.forecast.init\0" + bytes([index]) + seed).digest(4 * size)
        master[offset : offset + size] = _uniform(stream, bound)
    return master.astype(np.int32)


def to_float(master: I32) -> F32:
    """Float32 weights to train with; exact while every weight is below 16 in size."""
    return (master.astype(np.float64) * 2.0**-MASTER_SCALE_BITS).astype(np.float32)


def master_bytes(master: I32) -> bytes:
    """Little-endian int32, 4 bytes a weight."""
    if master.shape != (PARAMETERS,):
        raise ValueError(f"model: {master.shape} weights instead of ({PARAMETERS},); use a model of this spec")
    return master.astype("<i4").tobytes()


def master_from_bytes(data: bytes) -> I32:
    """Inverse of `master_bytes`; ValueError for another length."""
    if len(data) != MASTER_BYTES:
        raise ValueError(f"model: {len(data)} bytes instead of {MASTER_BYTES}; use a model of this spec")
    return np.frombuffer(data, dtype="<i4").astype(np.int32)


def unpack(weights: F32) -> list[F32]:
    """Views of the flat vector as the matrices and biases of SHAPES."""
    return [
        weights[offset : offset + size].reshape(shape)
        for shape, offset, size in zip(SHAPES, OFFSETS, SIZES, strict=True)
    ]
