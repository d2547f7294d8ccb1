"""From a trained difference to the int16 update that leaves the meter, and back into the int32 master.

Rules: the difference is clipped to an L2 norm before it is rounded, and the integers are checked again afterwards: an
honest update always passes `norm_units(...) <= clip_units`, because every replica rejects one that does not.
This is the last place with floats; what comes out is signed and agreed on.
Not here: aggregation (`aggregate`).
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import MASTER_SCALE_BITS, ForecastSpec
from openmg.hashing import keccak256, word
from openmg.learning.plan import UPDATE_SCALE_BITS

F32 = NDArray[np.float32]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]

INT16_LIMIT = 32_767
"""-32768 is not used, so that an update and its negative are equally valid."""
_SHRINK_STEPS = 16
"""Rounding adds at most sqrt(P)/2 < 224 units to the norm; each step takes 1/1024 off, 16 take more than 1.5 %."""


def norm_units(update: I16) -> int:
    """L2 norm in units of 2^-18, rounded up; the squares sum to less than 2^30 * P < 2^63."""
    wide = update.astype(np.int64)
    squares = int((wide * wide).sum())
    root = isqrt(squares)
    return root if root * root == squares else root + 1


def quantise(difference: F32, clip_units: int) -> I16:
    """The update of a weight difference: clipped to `clip_units` * 2^-18, rounded to int16.

    Raises ValueError for a difference that holds an infinity or NaN.
    """
    exact = difference.astype(np.float64) * 2.0**UPDATE_SCALE_BITS
    norm = float(np.sqrt((exact * exact).sum()))
    if not np.isfinite(norm):
        raise ValueError("quantise: training diverged (the update is not finite); lower the learning rate")
    factor = min(1.0, clip_units / norm) if norm > 0 else 1.0
    for _ in range(_SHRINK_STEPS):
        update = np.clip(np.rint(exact * factor), -INT16_LIMIT, INT16_LIMIT).astype(np.int16)
        if norm_units(update) <= clip_units:
            return np.asarray(update, dtype=np.int16)
        factor *= 1 - 1 / 1024
    towards_zero = np.trunc(exact * min(factor, clip_units / norm))
    return np.asarray(towards_zero, dtype=np.int16)


def update_bytes(update: I16) -> bytes:
    """Little-endian int16, 2 bytes a weight."""
    return update.astype("<i2").tobytes()


def update_from_bytes(spec: ForecastSpec, data: bytes) -> I16:
    """Inverse of `update_bytes`; ValueError for a wrong length or the unused value -32768."""
    if len(data) != spec.update_bytes:
        raise ValueError(f"update: {len(data)} bytes instead of {spec.update_bytes}")
    update = np.frombuffer(data, dtype="<i2").astype(np.int16)
    if (update < -INT16_LIMIT).any():
        raise ValueError("update: -32768 is not a value of an update")
    return update


def model_hash(spec: ForecastSpec, master: I32) -> bytes:
    """keccak(model id | word(scale bits) | int32 little-endian weights): the name of a model everywhere."""
    return keccak256(spec.model_id.encode("ascii") + word(MASTER_SCALE_BITS) + master.astype("<i4").tobytes())
