"""How long a proof takes on this machine, measured in a process of its own; `python -m openmg.zk.bench` is that process.

Rules: the keys are made before the child starts and its peak memory is the prover's alone; the statement is a pure
function of a seed (`export.example`), so that another prover can be timed on the same one; r and s are fresh for each
proof and every proof is verified, since a wrong one has no time. The key is loaded once, which is told apart. The child
answers with one JSON line on standard output and tells its progress on standard error.
Not here: tables and ratios (`benchmarks/bench_zk.py`), printing (the command lines).
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from openmg.zk.backend import BACKEND_NAMES, BackendError, get_backend
from openmg.zk.curve import PointError
from openmg.zk.export.example import EXAMPLES, SEED_BYTES, example
from openmg.zk.field import R
from openmg.zk.keys import KeysError, Progress, ensure_keys
from openmg.zk.memory import peak_rss_mb

T = TypeVar("T")

DEFAULT_RUNS = 7
MAX_RUNS = 100
"""Above this a portable run takes many minutes and the median moves no more."""


class BenchError(Exception):
    """Nothing was measured; the text says why and what to do."""


@dataclass(frozen=True)
class BenchRow:
    """What `openmg zk bench` and `openmg-agent doctor --bench` print; seconds of wall time, MB of 10^6 bytes."""

    backend: str
    prove_seconds_median: float
    witness_seconds_median: float
    verify_seconds_median: float
    rss_mb: float
    threads: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def to_text(self) -> str:
        """One line for a person."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return (
            f"{self.backend}, {threads}: proof {self.prove_seconds_median:.3f} s, witness {self.witness_seconds_median:.3f} s, "
            f"verification {1000 * self.verify_seconds_median:.1f} ms, at most {self.rss_mb:.0f} MB"
        )


@dataclass(frozen=True)
class Samples:
    """Every run of one configuration, as the child measured it; CPU seconds are those of all threads."""

    backend: str
    threads: int
    key_load_seconds: float
    witness_seconds: list[float]
    prove_seconds: list[float]
    prove_cpu_seconds: list[float]
    verify_seconds: list[float]
    rss_mb: float

    def row(self) -> BenchRow:
        """The medians."""
        return BenchRow(
            backend=self.backend,
            prove_seconds_median=round(median(self.prove_seconds), 4),
            witness_seconds_median=round(median(self.witness_seconds), 4),
            verify_seconds_median=round(median(self.verify_seconds), 4),
            rss_mb=self.rss_mb,
            threads=self.threads,
        )


def _timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def _sample(circuit: str, backend_name: str, runs: int, threads: int | None, seed: bytes, cache_dir: Path | None) -> Samples:
    """Runs in the child."""
    backend = get_backend(backend_name, threads)
    key = ensure_keys(circuit, cache_dir, backend)
    prover, key_load_seconds, _ = _timed(lambda: backend.prover(key.path))
    solve = example(circuit, seed)
    samples = Samples(backend.name, backend.threads, round(key_load_seconds, 4), [], [], [], [], 0.0)
    for run in range(1, runs + 1):
        statement, witness_seconds, _ = _timed(solve)
        wires, r, s = statement.wires, secrets.randbelow(R), secrets.randbelow(R)
        proof, prove_seconds, cpu_seconds = _timed(lambda: prover.prove(wires, r, s))  # noqa: B023 - called at once
        publics = statement.publics
        valid, verify_seconds, _ = _timed(lambda: backend.verify(key.verifying_key, publics, proof))  # noqa: B023
        if not valid:
            raise BenchError(f"a proof of the {backend.name} backend does not verify; report this")
        samples.witness_seconds.append(witness_seconds)
        samples.prove_seconds.append(prove_seconds)
        samples.prove_cpu_seconds.append(cpu_seconds)
        samples.verify_seconds.append(verify_seconds)
        print(f"{backend.name}: proof {run} of {runs} in {prove_seconds:.3f} s", file=sys.stderr, flush=True)
    return Samples(**asdict(samples) | {"rss_mb": peak_rss_mb()})


def measure(
    circuit: str,
    backend: str = "auto",
    runs: int = DEFAULT_RUNS,
    *,
    threads: int | None = None,
    seed: bytes | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Prove `runs` times in a child, whose progress goes to this process's standard error.

    `threads` bounds the native backend's; without `seed` (32 bytes) the statement is a fresh one. Raises BenchError,
    BackendError or KeysError when nothing can be measured, ValueError for arguments that cannot be.
    """
    if not 1 <= runs <= MAX_RUNS:
        raise ValueError(f"runs is {runs}; choose 1 to {MAX_RUNS}")
    chosen = secrets.token_bytes(SEED_BYTES) if seed is None else seed
    example(circuit, chosen)
    ensure_keys(circuit, cache_dir, get_backend(backend), progress)
    command = [sys.executable, "-m", "openmg.zk.bench", circuit, backend, str(runs), chosen.hex()]
    command += [] if threads is None else ["--threads", str(threads)]
    command += [] if cache_dir is None else ["--cache-dir", str(cache_dir)]
    try:
        child = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise BenchError(f"the measuring process cannot be started ({error.strerror}); free memory or processes") from error
    try:
        document = json.loads(child.stdout)
        if "error" in document:
            raise BenchError(str(document["error"]))
        return Samples(**document)
    except (ValueError, TypeError) as error:
        why = "it may have run out of memory" if child.returncode < 0 else "see what it said on standard error"
        raise BenchError(f"the measuring process ended with code {child.returncode} and no answer; {why}") from error


def main() -> int:
    """The child: measure and answer."""
    parser = argparse.ArgumentParser(prog="openmg.zk.bench", description="Measure proofs and answer in one JSON line.")
    parser.add_argument("circuit", choices=sorted(EXAMPLES))
    parser.add_argument("backend", choices=BACKEND_NAMES)
    parser.add_argument("runs", type=int)
    parser.add_argument("seed", type=bytes.fromhex, help="of the statement; its witness owns nothing")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cache-dir", type=Path)
    o = parser.parse_args()
    try:
        samples = _sample(o.circuit, o.backend, o.runs, o.threads, o.seed, o.cache_dir)
    except KeyboardInterrupt:
        return 130
    except (BackendError, BenchError, KeysError, PointError, ValueError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(asdict(samples)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
