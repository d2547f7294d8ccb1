"""Writes vectors/aggregate.json anew from the plain-integer oracle; what changes there changes the chain's rules.

python tests/learning/aggregate_vectors.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import aggregate_sets
import learning_oracle
import numpy as np

from openmg.learning.aggregate import Aggregate, Rejection
from openmg.learning.plan import RULES
from openmg.learning.rules.outcome import Reason

PATH = Path(__file__).parent / "vectors" / "aggregate.json"
REASONS = {
    "nnm_trimmed_mean": Reason.FEW_NEIGHBOURS,
    "trimmed_mean": Reason.MOSTLY_TRIMMED,
    "median": Reason.MOSTLY_TRIMMED,
    "krum": Reason.NOT_SELECTED,
    "multi_krum": Reason.NOT_SELECTED,
    "centred_clipping": Reason.LOW_WEIGHT,
    "geometric_median": Reason.LOW_WEIGHT,
}
"""The mean finds nobody far off."""


def expected(updates: dict[bytes, list[int]], rule: str, registered: int, caps: tuple[int, int] = (2, 1)) -> Aggregate:
    """What `aggregate` must answer under the default plan, from the oracle."""
    order = sorted(updates)
    rows = [updates[device] for device in order]
    short = learning_oracle.capped(rows, *caps)
    capped = tuple(device for device, row, new in zip(order, rows, short, strict=True) if row != new)
    f = aggregate_sets.plan().hostile_devices(registered)
    step, far = learning_oracle.outcome(updates, rule, f, *caps)
    rejected = tuple(Rejection(device, REASONS[rule]) for device in far)
    return Aggregate(np.array(step, dtype=np.int64), min(f, (len(rows) - 1) // 2), capped, rejected)


def main() -> None:
    vectors = json.loads(PATH.read_text(encoding="utf-8"))
    for case in vectors["cases"]:
        updates = {bytes.fromhex(device): row for device, row in case["updates"].items()}
        for rule in RULES:
            answer = expected(updates, rule, case["registered"], (case["norm_cap_num"], case["norm_cap_den"]))
            case["hostile"], case["capped"] = answer.hostile, [device.hex() for device in answer.capped]
            case.setdefault("outcomes", {})[rule] = {
                "step": answer.step.tolist(),
                "rejected": [[rejection.device.hex(), rejection.reason] for rejection in answer.rejected],
            }
    vectors["whole_model_sha256"] = {
        name: {
            rule: aggregate_sets.aggregate_hash(
                expected({device: row.tolist() for device, row in updates.items()}, rule, aggregate_sets.COUNT)
            )
            for rule in RULES
        }
        for name, updates in aggregate_sets.sets().items()
    }
    PATH.write_text(json.dumps(vectors, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
