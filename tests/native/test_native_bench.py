"""The prove-time benchmark runs, verifies its proofs and writes the figures that it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.native

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_zk.py"


def test_benchmark_writes_a_row_for_each_number_of_threads(native, tmp_path):
    figures = tmp_path / "figures" / "zk.json"
    command = [sys.executable, str(BENCHMARK), "--backend", "native", "--runs", "1", "--json", str(figures)]
    environment = {**os.environ, "OPENMG_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    report = json.loads(figures.read_text())
    assert report["circuit"]["domain_log2"] == 14
    assert [row["threads"] for row in report["rows"]] == sorted({1, len(os.sched_getaffinity(0))})
    for row in report["rows"]:
        assert row["backend"] == "native"
        assert 0 < row["prove_seconds"] < 30
        assert f"{row['prove_seconds']:.3f}" in run.stdout


def test_benchmark_refuses_an_impossible_number_of_runs():
    run = subprocess.run([sys.executable, str(BENCHMARK), "--runs", "0"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "--runs is 0: choose 1 to 100" in run.stderr
