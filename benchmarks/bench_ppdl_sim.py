"""Seeds per second of the PPDL simulator on one core: fault-free, with the usual faults, with all, and with real signatures.

A seed is a run of ten heights by four validators (`hub.ppdl.sim`). CPU seconds are counted, so that other work on the machine
disturbs little. Prints a table with medians and writes `benchmarks/results/ppdl_sim.json` beside it.

    python benchmarks/bench_ppdl_sim.py [--validators 4] [--heights 10] [--seeds 100] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.ppdl.sim.campaign import Seeds, run_seeds
from hub.ppdl.sim.faults import CLASSES
from hub.ppdl.sim.world import World

RESULTS = Path(__file__).with_name("results") / "ppdl_sim.json"
USUAL = ("drop", "dup", "reorder", "partition", "crash", "twins")


def seeded(classes: tuple[str, ...], options: argparse.Namespace) -> Callable[[int], int]:
    """Runs that many seeds of these fault classes; returns what happened in them."""

    def run(count: int) -> int:
        done = run_seeds(Seeds(options.validators, 0, count, classes, options.heights))
        if done.failures:
            raise SystemExit(f"bench_ppdl_sim: seed {done.failures[0].seed} broke a promise: {done.failures[0].violations[0]}")
        return done.events

    return run


def with_real_signatures(options: argparse.Namespace) -> Callable[[int], int]:
    """Fault-free runs under secp256k1."""

    def run(count: int) -> int:
        events = 0
        for seed in range(count):
            world = World(options.validators, seed, real_crypto=True)
            events += world.run(options.heights).events
            world.dismantle()
        return events

    return run


def measured(run: Callable[[int], int], seeds: int, runs: int) -> dict[str, float]:
    """Medians over `runs` batches."""
    run(max(1, seeds // 10))  # imports and caches
    rates, events = [], 0
    for _ in range(runs):
        start = time.process_time()
        events = run(seeds)
        rates.append(seeds / (time.process_time() - start))
    median = statistics.median(rates)
    spread = {"best": max(rates), "worst": min(rates)}
    return {"seeds_per_second": median, **spread, "events_per_second": events / seeds * median, "cpu_ms_per_seed": 1e3 / median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--validators", type=int, default=4)
    parser.add_argument("--heights", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    kinds = {
        "fault-free": seeded((), options),
        "usual faults": seeded(USUAL, options),
        "all faults": seeded(CLASSES, options),
        "secp256k1": with_real_signatures(options),
    }
    print(f"{'':>13} {'seeds/s':>8} {'best':>7} {'worst':>7} {'events/s':>9} {'ms/seed':>8}")
    rows = {}
    for name, run in kinds.items():
        slow = name in ("all faults", "secp256k1")
        row = rows[name] = measured(run, max(1, options.seeds // 5) if slow else options.seeds, options.runs)
        figures = f"{row['seeds_per_second']:8.1f} {row['best']:7.1f} {row['worst']:7.1f} {row['events_per_second']:9.0f}"
        print(f"{name:>13} {figures} {row['cpu_ms_per_seed']:8.2f}")
    load = os.getloadavg()[0]
    print(f"medians of {options.runs}, n={options.validators}, {options.heights} heights, one core, machine load {load:.1f}")
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine(), "load": load}
    report = {"bench": "ppdl_sim", "options": vars(options), "machine": machine, "median": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
