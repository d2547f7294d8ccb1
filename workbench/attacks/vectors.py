"""Between float vectors, in which attacks are reckoned, and int16 updates, all in units of 2^-18."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from openmg.learning.plan import UPDATE_SCALE_BITS
from openmg.learning.quantise import INT16_LIMIT, quantise
from workbench.attacks.attack import AttackView

F64 = NDArray[np.float64]
I16 = NDArray[np.int16]


def within_norm(units: F64, clip_units: int) -> I16:
    """The update of a vector as an honest device would round it: shortened to the norm that replicas admit."""
    return quantise((units * 2.0**-UPDATE_SCALE_BITS).astype(np.float32), clip_units)


def saturated(units: F64) -> I16:
    """Rounded, and held only by what int16 can say; replicas refuse what is too long."""
    return np.asarray(np.clip(np.rint(units), -INT16_LIMIT, INT16_LIMIT), dtype=np.int16)


def stacked(updates: Iterable[I16]) -> F64:
    """[n, P]"""
    return np.stack([update.astype(np.float64) for update in updates])


def honest_rows(view: AttackView) -> F64:
    """The updates that an omniscient adversary takes its statistics from: the honest ones in the order of their
    devices, or what its own devices trained when it sees no others."""
    known = view.honest or view.own
    return stacked(known[device] for device in sorted(known))


def decode(data: bytes, width: int) -> I16 | None:
    """Wire bytes as an update [width], None when they are not one."""
    return np.frombuffer(data, dtype="<i2").astype(np.int16) if len(data) == 2 * width else None
