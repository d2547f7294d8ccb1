"""Flower's aggregators as an oracle from outside: the same answers within what quantisation adds."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PYTHON_VARIABLE = "OPENMG_FLOWER_PYTHON"
FLOWER = "flwr==1.40.0"


@pytest.fixture(scope="module")
def flower_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """This interpreter, the one that OPENMG_FLOWER_PYTHON names, or one of a scratch environment that pip makes."""
    if importlib.util.find_spec("flwr"):
        return sys.executable
    if named := os.environ.get(PYTHON_VARIABLE):
        return named
    folder = tmp_path_factory.mktemp("flower")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", FLOWER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    if done.returncode:
        pytest.skip(f"pip cannot install {FLOWER}: {done.stderr.strip().splitlines()[-1:]}")
    return python


@pytest.fixture(scope="module")
def bench(repo_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_aggregation", repo_root / "benchmarks/bench_aggregation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_rules_give_what_flower_gives_within_quantisation(bench: ModuleType, flower_python: str) -> None:
    for devices in (1, 2, 7, 12, 31):
        rows = bench.float_updates(devices, 501)
        (steps, _), (theirs, _) = bench.ours(rows, 1), bench.flowers(flower_python, rows, 1)
        assert set(theirs) == {"mean", "median", "trimmed_mean", "krum", "multi_krum"}
        for rule, step in theirs.items():
            # Half a unit from rounding the updates, half from rounding the answer, a hair from Flower's float32.
            assert np.abs(steps[rule] - step).max() <= 1.01 * bench.SCALE, (devices, rule)


def test_the_benchmark_tells_why_the_other_interpreter_failed(bench: ModuleType, tmp_path: Path) -> None:
    blind = tmp_path / "python"
    blind.write_text("#!/bin/sh\necho no flwr here >&2\nexit 1\n", encoding="utf-8")
    blind.chmod(0o755)
    with pytest.raises(RuntimeError, match="no flwr here"):
        bench.flowers(str(blind), bench.float_updates(3, 5), 1)
