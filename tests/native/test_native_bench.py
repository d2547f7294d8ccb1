"""The prove-time benchmark runs, verifies its proofs and writes the figures that it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.zk.snarkjs import SnarkjsMissing, find_snarkjs

pytestmark = pytest.mark.native

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_zk.py"


def bench(folder: Path, *options: str) -> tuple[dict, str]:
    """The report and what was printed."""
    figures = folder / "figures" / "zk.json"
    command = [sys.executable, str(BENCHMARK), "--backend", "native", "--runs", "1", "--json", str(figures), *options]
    environment = {**os.environ, "OPENMG_CACHE": str(folder / "cache")}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=folder)
    assert run.returncode == 0, run.stderr
    return json.loads(figures.read_text()), run.stdout


@pytest.mark.slow
def test_benchmark_writes_a_row_for_each_number_of_threads(native, tmp_path):
    report, printed = bench(tmp_path, "--without-snarkjs")
    assert report["circuit"]["domain_log2"] == 14
    assert [row["threads"] for row in report["rows"]] == sorted({1, len(os.sched_getaffinity(0))})
    for row in report["rows"]:
        assert row["backend"] == "native" and row["snarkjs_ratio"] is None
        assert 0 < row["prove_seconds"] < 30
        assert f"{row['prove_seconds']:.3f}" in printed


@pytest.mark.slow
def test_benchmark_compares_with_snarkjs_on_the_same_statement(native, tmp_path):
    try:
        version = find_snarkjs().version
    except SnarkjsMissing as error:
        pytest.skip(str(error))
    report, printed = bench(tmp_path)
    *ours, theirs = report["rows"]
    assert theirs["backend"] == f"snarkjs {version}" and theirs["snarkjs_ratio"] is None
    for row in ours:
        assert row["snarkjs_ratio"] == pytest.approx(theirs["prove_seconds"] / row["prove_seconds"], rel=0.01)
        assert f"{row['snarkjs_ratio']:.1f}" in printed


def test_benchmark_refuses_an_impossible_number_of_runs():
    run = subprocess.run([sys.executable, str(BENCHMARK), "--runs", "0"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "--runs is 0: choose 1 to 100" in run.stderr
