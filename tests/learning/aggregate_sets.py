"""Seeded sets of updates, and the hashes of what each rule makes of them.

    python tests/learning/aggregate_sets.py

prints the hashes of this interpreter as JSON; it needs numpy and cbor2 only, so that any environment can be asked.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray

from openmg.learning.aggregate import Aggregate, aggregate
from openmg.learning.plan import RULES, LearningPlan

I16 = NDArray[np.int16]

HOUR = 495_000
WIDTH = 7344
COUNT = 12


def plan(**changes: object) -> LearningPlan:
    return LearningPlan(evaluation_start_hour=HOUR, **changes)  # type: ignore[arg-type]


def rows_of(seed: int, count: int, width: int) -> dict[bytes, I16]:
    """Updates of one common direction and as much noise, by device id in no order."""
    random = np.random.default_rng(seed)
    common = random.normal(scale=300, size=width)
    return {
        hashlib.sha256(bytes([i, seed % 256])).digest()[:20]: np.rint(common + random.normal(scale=300, size=width))
        .clip(-32_767, 32_767)
        .astype(np.int16)
        for i in range(count)
    }


def aggregate_hash(outcome: Aggregate) -> str:
    """SHA-256 of the step as int32 little-endian, then the capped devices, then the rejected and their reasons."""
    digest = hashlib.sha256(outcome.step.astype("<i4").tobytes())
    for device in outcome.capped:
        digest.update(device)
    for rejection in outcome.rejected:
        digest.update(rejection.device + rejection.reason.encode())
    return digest.hexdigest()


def sets() -> dict[str, dict[bytes, I16]]:
    """COUNT honest updates, and the same with three turned round and made thrice as long."""
    honest = rows_of(12, COUNT, WIDTH)
    hostile = sorted(honest)[2:5]
    mixed = {device: (-3 * row).astype(np.int16) if device in hostile else row for device, row in honest.items()}
    return {"honest": honest, "three flipped": mixed}


def hashes() -> dict[str, dict[str, str]]:
    """Of each set by rule."""
    return {
        name: {rule: aggregate_hash(aggregate(updates, plan(rule=rule), COUNT)) for rule in RULES}
        for name, updates in sets().items()
    }


if __name__ == "__main__":
    print(json.dumps(hashes()))
