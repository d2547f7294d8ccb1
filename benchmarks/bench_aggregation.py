"""Milliseconds of each aggregation rule, beside Flower's own where it has the rule and an interpreter with it is given.

Ours is the whole of `aggregate`: sorting, widening, norm cap, rule, rejections, in integers; Flower's is its function
on float32 arrays, without a norm cap. One thread each, same updates. `apart` is the largest difference of the two
answers in units of the wire (2^-18): 1 is what rounding the updates and the answer adds up to. Medians over runs;
writes `benchmarks/results/aggregation.json`.

    python benchmarks/bench_aggregation.py [--devices 12 30 100] [--parameters 14208] [--runs 5] [--flower-python PATH]
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it when it is loaded

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from openmg.learning.aggregate import aggregate
from openmg.learning.plan import RULES, UPDATE_SCALE_BITS, LearningPlan
from openmg.learning.quantise import quantise

RESULTS = Path(__file__).with_name("results") / "aggregation.json"
FLOWER_SCRIPT = Path(__file__).with_name("flower_rules.py")
SCALE = 2.0**-UPDATE_SCALE_BITS
NO_CAP = 1000
"""The norm cap is so wide that it shortens nobody: Flower has none."""
FLOWER_TIMEOUT_S = 600


def float_updates(devices: int, parameters: int) -> np.ndarray:
    """float32 [n, P]: a common direction and as much noise, as long as honest updates are; the last 30 % flipped."""
    random = np.random.default_rng(devices)
    rows = random.normal(scale=0.002, size=parameters) + random.normal(scale=0.002, size=(devices, parameters))
    hostile = devices * 3 // 10
    rows[devices - hostile :] *= -1
    return rows.astype(np.float32)


def ours(rows: np.ndarray, runs: int) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    updates = {index.to_bytes(20, "big"): quantise(row, 1 << 30) for index, row in enumerate(rows)}
    steps, times_ms = {}, {}
    for rule in RULES:
        plan = LearningPlan(evaluation_start_hour=495_000, rule=rule, norm_cap_num=NO_CAP)
        times_ms[rule] = []
        for _ in range(runs):
            began = time.perf_counter()
            outcome = aggregate(updates, plan, len(rows))
            times_ms[rule].append((time.perf_counter() - began) * 1000)
        steps[rule] = outcome.step * SCALE
    return steps, times_ms


def flowers(python: str, rows: np.ndarray, runs: int) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """Flower's steps and times, by the other interpreter; RuntimeError with its message when that fails."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "updates.npz", Path(folder) / "steps.npz"
        np.savez(source, rows=rows, hostile=len(rows) * 3 // 10)
        command = [python, str(FLOWER_SCRIPT), str(source), str(target), str(runs)]
        env = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=FLOWER_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"flower: {python} failed: {done.stderr.strip()[-500:]}")
        with np.load(target) as given:
            steps = {name: given[name] for name in given.files}
        return steps, json.loads(done.stdout.strip().splitlines()[-1])


def compare(devices: int, parameters: int, runs: int, python: str | None) -> dict[str, dict[str, float]]:
    rows = float_updates(devices, parameters)
    steps, times_ms = ours(rows, runs)
    table = {rule: {"ms_median": round(statistics.median(times_ms[rule]), 2)} for rule in RULES}
    if python is None:
        return table
    their_steps, their_ms = flowers(python, rows, runs)
    for rule, step in their_steps.items():
        line, flower_ms = table[rule], statistics.median(their_ms[rule])
        line["flower_ms_median"] = round(flower_ms, 2)
        line["ours_over_flower"] = round(statistics.median(times_ms[rule]) / flower_ms, 2)
        line["apart_units"] = round(float(np.abs(steps[rule] - step).max()) / SCALE, 3)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[12, 30, 100])
    parser.add_argument("--parameters", type=int, default=14208)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--flower-python", metavar="PATH", help="an interpreter that has flwr")
    arguments = parser.parse_args()
    tables = {
        devices: compare(devices, arguments.parameters, arguments.runs, arguments.flower_python)
        for devices in arguments.devices
    }
    print(f"{'devices':>7}  {'rule':18}{'ms':>9}{'Flower ms':>11}{'ours/Flower':>13}{'apart':>8}")
    for devices, table in tables.items():
        for rule, line in table.items():
            cells = [line.get(name, "-") for name in ("flower_ms_median", "ours_over_flower", "apart_units")]
            print(f"{devices:>7}  {rule:18}{line['ms_median']:>9}{cells[0]:>11}{cells[1]:>13}{cells[2]:>8}")
    result = {
        "parameters": arguments.parameters,
        "runs": arguments.runs,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "devices": tables,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
