"""Bytes that are no update: floats that are not numbers, and wrong lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.attacks.attack import AttackView, BaseAttack, wire

FLOAT_BYTES = (2, 4, 8)


@dataclass(frozen=True)
class NotFinite(BaseAttack):
    """Sends NaN or infinity in each weight, as floats of `float_bytes` bytes where int16 are expected.

    With four or eight bytes the length is wrong. Half floats have the right length and are read as the int16 of the
    same bits: 32,256 for NaN, 31,744 for infinity, -1024 for minus infinity. In float aggregates one such device
    makes the model NaN. A defence must refuse the wrong length and treat the rest as the plain integers they are:
    too long for the norm bound, or, as -1024 may be, an update like any other.
    """

    value: float = float("nan")
    float_bytes: int = 4
    name = "not_finite"

    def __post_init__(self) -> None:
        if self.float_bytes not in FLOAT_BYTES or np.isfinite(self.value):
            raise ValueError(f"not_finite: {self.value} in {self.float_bytes} bytes; give NaN or infinity in 2, 4 or 8")

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        kind = f"<f{self.float_bytes}"
        return {device: np.full(len(view.own[device]), self.value).astype(kind).tobytes() for device in view.hostile}


@dataclass(frozen=True)
class WrongShape(BaseAttack):
    """Sends its honest update with `extra_bytes` more noughts at the end, or with as many bytes cut off.

    A defence must refuse any length but the one, before it looks at a value.
    """

    extra_bytes: int = -2
    name = "wrong_shape"

    def __post_init__(self) -> None:
        if self.extra_bytes == 0:
            raise ValueError("wrong_shape: extra_bytes is 0, which is the right shape; give another number")

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        sent = {}
        for device in view.hostile:
            data = wire(view.own[device])
            sent[device] = data[: max(0, len(data) + self.extra_bytes)] + bytes(max(0, self.extra_bytes))
        return sent
