"""Flower's own aggregation on a file of updates; run by an interpreter that has `flwr`, which nothing else here needs.

    PYTHON benchmarks/flower_rules.py INPUT.npz OUTPUT.npz RUNS

INPUT holds `rows` (float32 [n, P]) and `hostile` (f). OUTPUT gets one float64 [P] a rule, under our rules' names;
milliseconds of each run are printed as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from flwr.server.strategy import aggregate as flower


def main() -> None:
    source, target, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with np.load(source) as given:
        rows, hostile = given["rows"], int(given["hostile"])
    results = [([row], 1) for row in rows]
    # Flower takes a share and rounds it down to a count; half a row more keeps it on the right side.
    share = (hostile + 0.5) / len(rows) if hostile else 0.0
    rules = {
        "mean": lambda: flower.aggregate(results),
        "median": lambda: flower.aggregate_median(results),
        "trimmed_mean": lambda: flower.aggregate_trimmed_avg(results, share),
        "krum": lambda: flower.aggregate_krum(results, hostile, 0),
        "multi_krum": lambda: flower.aggregate_krum(results, hostile, len(rows) - hostile),
    }
    steps, times_ms = {}, {}
    for name, rule in rules.items():
        times_ms[name] = []
        for _ in range(runs):
            began = time.perf_counter()
            answer = rule()
            times_ms[name].append((time.perf_counter() - began) * 1000)
        steps[name] = np.asarray(answer[0], dtype=np.float64)
    np.savez(target, **steps)
    print(json.dumps(times_ms))


if __name__ == "__main__":
    main()
