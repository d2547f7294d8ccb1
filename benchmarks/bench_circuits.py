"""Every circuit beside the transfer: how long a proof takes, and how many transfers that is.

    python benchmarks/bench_circuits.py [--backend native|portable] [--runs 5] [--circuit NAME ...] [--json FILE]

Rules: each circuit is proved in a child of its own, all in one run; every proof is verified. `x` is the median proof over
the median transfer. `ready s` is a proving key opened from its file, the check of its digest included. Medians; the table
on stdout and the same figures as JSON in FILE (benchmarks/results/circuits.json).
Not here: other provers (`bench_zk`), gas (`bench_gas`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from openmg.zk.backend import BackendError, get_backend
from openmg.zk.bench import MAX_RUNS, BenchError, Samples, measure
from openmg.zk.circuits.registry import CIRCUITS, circuit_named
from openmg.zk.keys import KeysError, ensure_keys

DEFAULT_RUNS = 5
DEFAULT_JSON = Path(__file__).parent / "results" / "circuits.json"
REFERENCE = "transfer"
READY_RUNS = 3


@dataclass(frozen=True)
class Row:
    """One circuit; seconds are medians, memory is the child's peak in MB of 10^6 bytes."""

    circuit: str
    constraints: int
    prove_seconds: float
    prove_cpu_seconds: float
    witness_seconds: float
    ready_seconds: float
    peak_rss_mb: float
    transfers: float


def ready_seconds(circuit: str, backend_name: str) -> float:
    """Median of opening the cached key: its digest is checked, its points are decoded."""
    backend, seconds = get_backend(backend_name), []
    for _ in range(READY_RUNS):
        began = time.perf_counter()
        backend.prover(ensure_keys(circuit, backend=backend).path)
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def row_of(circuit: str, samples: Samples, ready: float, reference_seconds: float) -> Row:
    seconds = median(samples.prove_seconds)
    return Row(
        circuit,
        circuit_named(circuit).build().n_constraints,
        round(seconds, 4),
        round(median(samples.prove_cpu_seconds), 4),
        round(median(samples.witness_seconds), 4),
        round(ready, 4),
        samples.rss_mb,
        round(seconds / reference_seconds, 2),
    )


def measure_all(circuits: list[str], backend: str, runs: int) -> list[Row]:
    samples = {name: measure(name, backend, runs, progress=lambda text: print(text, file=sys.stderr)) for name in circuits}
    reference = median(samples[REFERENCE].prove_seconds)
    return [row_of(name, samples[name], ready_seconds(name, backend), reference) for name in circuits]


def table(rows: list[Row]) -> str:
    lines = [
        f"{'circuit':<10}{'constraints':>12}{'prove s':>10}{'x':>7}{'CPU s':>8}{'witness s':>11}{'ready s':>9}{'peak MB':>9}"
    ]
    for row in rows:
        lines.append(
            f"{row.circuit:<10}{row.constraints:>12,}{row.prove_seconds:>10.3f}{row.transfers:>7.2f}{row.prove_cpu_seconds:>8.2f}"
            f"{row.witness_seconds:>11.3f}{row.ready_seconds:>9.3f}{row.peak_rss_mb:>9.1f}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Prove an example of every circuit and compare it with a transfer.")
    parser.add_argument("--circuit", action="append", choices=sorted(CIRCUITS), help="may be repeated; default: all")
    parser.add_argument("--backend", choices=["native", "portable", "auto"], default="auto")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS)
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON)
    options = parser.parse_args()
    if not 1 <= options.runs <= MAX_RUNS:
        parser.error(f"--runs is {options.runs}: choose 1 to {MAX_RUNS}")
    wanted = options.circuit or list(CIRCUITS)
    circuits = [REFERENCE, *(name for name in wanted if name != REFERENCE)]
    try:
        backend = get_backend(options.backend).name
        rows = measure_all(circuits, backend, options.runs)
    except (BackendError, BenchError, KeysError) as error:
        print(error, file=sys.stderr)
        return 1
    document = {"benchmark": "circuits", "backend": backend, "runs": options.runs, "rows": [asdict(row) for row in rows]}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{backend}\n{table(rows)}")
    print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
