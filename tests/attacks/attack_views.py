"""Seeded rounds of updates and windows for tests of attacks."""

from __future__ import annotations

import numpy as np

from openmg.forecast.features import Windows
from openmg.learning.quantise import norm_units
from workbench.attacks.attack import AttackView, wire

CLIP_UNITS = 1 << 18
HOSTILE = tuple(bytes([0xF0 + i]) * 20 for i in range(3))
HONEST = tuple(bytes([1 + i]) * 20 for i in range(9))


def rows(seed: int, devices: tuple[bytes, ...], width: int) -> dict[bytes, np.ndarray]:
    """A common direction (the same for every seed) and as much noise."""
    common = np.random.default_rng(99).normal(scale=500, size=width)
    random = np.random.default_rng(seed)
    return {device: np.rint(common + random.normal(scale=500, size=width)).astype(np.int16) for device in devices}


def view(seed: int = 1, width: int = 2000, number: int = 5, clip_units: int = CLIP_UNITS) -> AttackView:
    """Round `number` with three hostile and nine honest devices; the first round has nothing before it."""
    last = rows(seed + 50, HOSTILE + HONEST, width)
    return AttackView(
        round=number,
        hostile=HOSTILE,
        own=rows(seed, HOSTILE, width),
        honest=rows(seed + 1, HONEST, width),
        previous={device: wire(update) for device, update in last.items()} if number else {},
        clip_units=clip_units,
        generator=np.random.default_rng(seed),
        global_step=np.rint(np.mean(list(last.values()), axis=0)).astype(np.int64) if number else None,
    )


def windows(count: int = 300, features: int = 60, horizon: int = 24, seed: int = 3) -> Windows:
    """Windows whose residual is a linear function of the inputs and a little noise."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(count, features)).astype(np.float32)
    weights = random.normal(scale=0.05, size=(features, horizon)).astype(np.float32)
    residual = inputs @ weights + random.normal(scale=0.05, size=(count, horizon)).astype(np.float32)
    return Windows(np.arange(count), inputs, np.zeros((count, horizon), np.float32), residual.astype(np.float32))


def read(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype="<i2").astype(np.int16)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.astype(float) @ b.astype(float) / (np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float))))


def norm(update: np.ndarray) -> int:
    return norm_units(update.astype(np.int16))
