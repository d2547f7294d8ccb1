"""How long a private transfer takes to prove: each backend, the native one on one core and on all.

    python benchmarks/bench_zk.py [--backend native|portable|all] [--runs 5] [--json FILE]

Rules: every configuration runs in a child process of its own, so that its peak memory is its own; the statement is a
transfer of two notes into two, with fresh blinding scalars each time; every proof is verified. Medians over the runs,
the table on stdout and the same figures as JSON in FILE (benchmarks/results/zk.json). Wall time far above CPU time per
thread means that the machine was busy: measure again. Not here: set-up time (`openmg.zk.keys` tells it).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from openmg.zk.backend import BackendError, get_backend
from openmg.zk.circuits import transfer
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.field import R
from openmg.zk.keys import KeysError, ensure_keys
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import NoteTree

T = TypeVar("T")

DEFAULT_RUNS = 5
MAX_RUNS = 100
DEFAULT_JSON = Path(__file__).parent / "results" / "zk.json"
SPENDING_KEY = 77
AMOUNTS_WEI = (10**18, 24)


@dataclass(frozen=True)
class Row:
    """One configuration; seconds are medians, memory is the process's peak."""

    backend: str
    threads: int
    runs: int
    key_load_seconds: float
    witness_seconds: float
    prove_seconds: float
    prove_seconds_min: float
    prove_cpu_seconds: float
    verify_seconds: float
    peak_rss_mb: float


def statement() -> transfer.TransferWitness:
    """Two notes of one tree become two others."""
    pk = H("pk", SPENDING_KEY)
    notes = [H("cm", 0, amount, H("own", pk, 100 + i)) for i, amount in enumerate(AMOUNTS_WEI)]
    tree = NoteTree(notes)
    first, second = (transfer.TransferInput(amount, 100 + i, i, tree.path(i)) for i, amount in enumerate(AMOUNTS_WEI))
    outputs = (transfer.TransferOutput(1, pk, 5), transfer.TransferOutput(sum(AMOUNTS_WEI) - 1, pk, 6))
    return transfer.TransferWitness(SPENDING_KEY, 0, 0, tree.root(), (first, second), outputs, 0, 0, 4242)


def witness_of(values: transfer.TransferWitness, publics: transfer.TransferPublics) -> list[int]:
    builder = WitnessBuilder()
    transfer.synthesize(builder, publics, values)
    return builder.witness


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result, wall seconds and CPU seconds (of all threads)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def measure(backend_name: str, threads: int, runs: int) -> Row:
    """Runs in the child. ValueError if a proof does not verify: a wrong proof has no time."""
    if backend_name == "native":
        import openmg_native

        openmg_native.set_threads(threads)
    backend = get_backend(backend_name)
    key = ensure_keys(transfer.NAME, backend=backend)
    prover, key_load_seconds, _ = timed(lambda: backend.prover(key.path))
    values = statement()
    publics = transfer.publics_of(values)
    witness_seconds, wall, cpu, verify_seconds = [], [], [], []
    for _ in range(runs):
        witness, seconds, _ = timed(lambda: witness_of(values, publics))
        witness_seconds.append(seconds)
        r, s = secrets.randbelow(R), secrets.randbelow(R)
        proof, seconds, cpu_seconds = timed(lambda: prover.prove(witness, r, s))  # noqa: B023 - called at once
        wall.append(seconds)
        cpu.append(cpu_seconds)
        valid, seconds, _ = timed(lambda: backend.verify(key.verifying_key, publics.as_list(), proof))  # noqa: B023
        if not valid:
            raise ValueError(f"a proof of the {backend_name} backend does not verify; its times mean nothing")
        verify_seconds.append(seconds)
    return Row(
        backend=backend_name,
        threads=backend.threads,
        runs=runs,
        key_load_seconds=round(key_load_seconds, 4),
        witness_seconds=round(median(witness_seconds), 4),
        prove_seconds=round(median(wall), 4),
        prove_seconds_min=round(min(wall), 4),
        prove_cpu_seconds=round(median(cpu), 4),
        verify_seconds=round(median(verify_seconds), 4),
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def measure_in_child(backend_name: str, threads: int, runs: int) -> Row:
    command = [sys.executable, __file__, "--child", "--backend", backend_name]
    command += ["--threads", str(threads), "--runs", str(runs)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    if answer.returncode != 0:
        reason = answer.stderr.strip().splitlines() or ["no message"]
        raise BackendError(f"measuring {backend_name} failed: {reason[-1]}")
    return Row(**json.loads(answer.stdout))


def configurations(choice: str) -> list[tuple[str, int]]:
    """Backend and threads of each line of the table; a missing native module is left out of `all`, and said so."""
    chosen: list[tuple[str, int]] = []
    cores = len(os.sched_getaffinity(0))
    if choice in ("native", "all"):
        try:
            get_backend("native")
            chosen += [("native", threads) for threads in sorted({1, cores})]
        except BackendError as error:
            if choice == "native":
                raise
            print(f"native is left out: {error}", file=sys.stderr)
    if choice in ("portable", "all"):
        chosen.append(("portable", 1))
    return chosen


def table(rows: list[Row]) -> str:
    head = f"{'backend':<10}{'threads':>8}{'load s':>9}{'witness s':>11}{'prove s':>9}{'min s':>8}{'CPU s':>8}"
    lines = [f"{head}{'verify ms':>11}{'peak MB':>9}"]
    for row in rows:
        lines.append(
            f"{row.backend:<10}{row.threads:>8}{row.key_load_seconds:>9.3f}{row.witness_seconds:>11.3f}"
            f"{row.prove_seconds:>9.3f}{row.prove_seconds_min:>8.3f}{row.prove_cpu_seconds:>8.3f}"
            f"{1000 * row.verify_seconds:>11.2f}{row.peak_rss_mb:>9.1f}"
        )
    return "\n".join(lines)


def report(rows: list[Row]) -> dict[str, object]:
    system = circuit_named(transfer.NAME).build()
    return {
        "benchmark": "zk",
        "machine": {
            "architecture": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "load_average": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
        },
        "circuit": {
            "name": transfer.NAME,
            "constraints": system.n_constraints,
            "wires": system.n_wires,
            "domain_log2": system.domain_log2,
        },
        "rows": [asdict(row) for row in rows],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Prove a private transfer with each backend and time it.")
    parser.add_argument("--backend", choices=["native", "portable", "all"], default="all")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS)
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 1 <= options.runs <= MAX_RUNS:
        parser.error(f"--runs is {options.runs}: choose 1 to {MAX_RUNS}")
    try:
        if options.child:
            print(json.dumps(asdict(measure(options.backend, options.threads, options.runs))))
            return 0
        ensure_keys(transfer.NAME, progress=lambda line: print(line, file=sys.stderr))
        rows = [measure_in_child(name, threads, options.runs) for name, threads in configurations(options.backend)]
    except (BackendError, KeysError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report(rows), indent=2) + "\n", encoding="utf-8")
    print(table(rows))
    print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
