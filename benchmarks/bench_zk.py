"""How long a statement takes to prove: each backend, the native one on one core and on all, and snarkjs beside them.

    python benchmarks/bench_zk.py [--circuit transfer] [--backend native|portable|all] [--runs 5] [--json FILE]

Rules: every configuration runs in a child process of its own, so that its peak memory is its own, and all of them prove
one statement, which is exported for snarkjs; fresh blinding scalars each time; every proof of ours is verified, and
snarkjs's last one too. snarkjs is warm: loaded once, files in memory, two proofs before the clock starts. Medians over
the runs; the table on stdout and the same figures as JSON in FILE (benchmarks/results/zk.json). `x` is how many times
as long snarkjs takes. Wall time far above CPU time per thread means that the machine was busy: measure again.
Not here: set-up time (`openmg.zk.keys` tells it), the measuring of one backend (`openmg.zk.bench`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from openmg.zk.backend import BackendError, get_backend
from openmg.zk.bench import MAX_RUNS, BenchError, Samples, measure
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.curve import PointError
from openmg.zk.export.example import EXAMPLES, SEED_BYTES, example
from openmg.zk.export.snarkjs_json import parse_proof
from openmg.zk.export.writer import ExportError, export
from openmg.zk.keys import KeysError, ensure_keys
from workbench.zk.snarkjs import Snarkjs, SnarkjsMissing, find_snarkjs

DEFAULT_RUNS = 5
DEFAULT_JSON = Path(__file__).parent / "results" / "zk.json"
SNARKJS_SCRIPT = Path(__file__).with_name("snarkjs_prove.cjs")


@dataclass(frozen=True)
class Row:
    """One configuration; seconds are medians, memory is the process's peak in MB of 10^6 bytes."""

    backend: str
    threads: int
    runs: int
    prove_seconds: float
    prove_seconds_min: float
    peak_rss_mb: float
    key_load_seconds: float | None = None
    witness_seconds: float | None = None
    prove_cpu_seconds: float | None = None
    verify_seconds: float | None = None
    """None where the configuration is not ours and does not tell."""
    snarkjs_ratio: float | None = None
    """Median seconds of snarkjs in the same run over this row's."""


def row_of(samples: Samples, snarkjs: Row | None) -> Row:
    seconds = median(samples.prove_seconds)
    return Row(
        backend=samples.backend,
        threads=samples.threads,
        runs=len(samples.prove_seconds),
        prove_seconds=round(seconds, 4),
        prove_seconds_min=round(min(samples.prove_seconds), 4),
        peak_rss_mb=samples.rss_mb,
        key_load_seconds=samples.key_load_seconds,
        witness_seconds=round(median(samples.witness_seconds), 4),
        prove_cpu_seconds=round(median(samples.prove_cpu_seconds), 4),
        verify_seconds=round(median(samples.verify_seconds), 4),
        snarkjs_ratio=None if snarkjs is None else round(snarkjs.prove_seconds / seconds, 2),
    )


def measure_snarkjs(snarkjs: Snarkjs, circuit: str, seed: bytes, runs: int) -> Row:
    """snarkjs proves the statement of the seed from our own files; BenchError when it fails or proves something else."""
    with tempfile.TemporaryDirectory(prefix="openmg-bench-") as folder:
        paths = {path.suffix: path for path in export(circuit, "iden3", Path(folder), get_backend(), seed=seed)}
        command = [snarkjs.node, str(SNARKJS_SCRIPT), str(snarkjs.folder), str(paths[".zkey"]), str(paths[".wtns"]), str(runs)]
        run = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise BenchError(f"snarkjs ended with code {run.returncode}; see what it said, or use --without-snarkjs")
    answer = json.loads(run.stdout)
    publics = [int(value) for value in answer["publics"]]
    proof = parse_proof(answer["proof"]).to_bytes()
    if publics != example(circuit, seed)().publics or not get_backend().verify(
        ensure_keys(circuit).verifying_key, publics, proof
    ):
        raise BenchError("snarkjs made a proof that does not hold for the exported statement; its times mean nothing")
    seconds = answer["prove_seconds"]
    return Row(
        backend=f"snarkjs {snarkjs.version}",
        threads=answer["threads"],
        runs=len(seconds),
        prove_seconds=round(median(seconds), 4),
        prove_seconds_min=round(min(seconds), 4),
        peak_rss_mb=answer["rss_mb"],
    )


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


def measure_all(options: argparse.Namespace) -> list[Row]:
    """Ours, and snarkjs when it is here: then every row of ours has its ratio."""
    seed = secrets.token_bytes(SEED_BYTES)
    samples = [
        measure(options.circuit, name, options.runs, threads=threads, seed=seed)
        for name, threads in configurations(options.backend)
    ]
    if options.without_snarkjs:
        return [row_of(one, None) for one in samples]
    try:
        other = measure_snarkjs(find_snarkjs(), options.circuit, seed, options.runs)
    except SnarkjsMissing as error:
        print(f"snarkjs is left out: {error}", file=sys.stderr)
        return [row_of(one, None) for one in samples]
    return [*(row_of(one, other) for one in samples), other]


def table(rows: list[Row]) -> str:
    head = f"{'backend':<15}{'threads':>8}{'load s':>9}{'witness s':>11}{'prove s':>9}{'min s':>8}{'CPU s':>8}"
    lines = [f"{head}{'verify ms':>11}{'peak MB':>9}{'x':>7}"]

    def cell(value: float | None, width: int, digits: int) -> str:
        return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"

    for row in rows:
        verify_ms = None if row.verify_seconds is None else 1000 * row.verify_seconds
        lines.append(
            f"{row.backend:<15}{row.threads:>8}{cell(row.key_load_seconds, 9, 3)}{cell(row.witness_seconds, 11, 3)}"
            f"{row.prove_seconds:>9.3f}{row.prove_seconds_min:>8.3f}{cell(row.prove_cpu_seconds, 8, 3)}"
            f"{cell(verify_ms, 11, 2)}{row.peak_rss_mb:>9.1f}{cell(row.snarkjs_ratio, 7, 1)}"
        )
    return "\n".join(lines)


def report(circuit: str, rows: list[Row]) -> dict[str, object]:
    system = circuit_named(circuit).build()
    return {
        "benchmark": "zk",
        "machine": {
            "architecture": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "load_average": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
        },
        "circuit": {
            "name": circuit,
            "constraints": system.n_constraints,
            "wires": system.n_wires,
            "domain_log2": system.domain_log2,
        },
        "rows": [asdict(row) for row in rows],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Prove one statement with each backend and with snarkjs, and time it.")
    parser.add_argument("--circuit", choices=sorted(EXAMPLES), default="transfer")
    parser.add_argument("--backend", choices=["native", "portable", "all"], default="all")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS)
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON)
    parser.add_argument("--without-snarkjs", action="store_true", help="do not look for snarkjs")
    options = parser.parse_args()
    if not 1 <= options.runs <= MAX_RUNS:
        parser.error(f"--runs is {options.runs}: choose 1 to {MAX_RUNS}")
    try:
        rows = measure_all(options)
    except (BackendError, BenchError, ExportError, KeysError, PointError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report(options.circuit, rows), indent=2) + "\n", encoding="utf-8")
    print(table(rows))
    print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
