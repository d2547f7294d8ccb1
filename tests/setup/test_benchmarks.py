"""Every file of benchmarks/ can be imported, so that a name which was moved or changed breaks none of them unseen.

Rules: one child process imports them all, since each puts folders of its own on its path; what a benchmark then does with
its imports mypy checks. Not here: what they measure.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ANOTHER_INTERPRETERS = {"flower_rules"}
"""Started by bench_aggregation.py with a Python that has Flower (tests/learning/test_learning_flower.py)."""
IMPORT_ALL = """
import importlib, sys, traceback
failed = 0
for name in sys.argv[1:]:
    try:
        importlib.import_module("benchmarks." + name)
    except Exception:
        failed += 1
        print("benchmarks/" + name + ".py:", traceback.format_exc(), sep="\\n")
sys.exit(failed)
"""


def import_all(root: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT_ALL, *names]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_every_benchmark_can_be_imported(repo_root: Path) -> None:
    names = sorted(path.stem for path in (repo_root / "benchmarks").glob("*.py"))
    assert set(names) >= ANOTHER_INTERPRETERS and len(names) > 20
    done = import_all(repo_root, [name for name in names if name not in ANOTHER_INTERPRETERS])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("planted", ["from edge_agent.meter import NOT_THERE", "import no_such_module"])
def test_a_name_that_is_gone_is_noticed(tmp_path: Path, planted: str) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "bench_planted.py").write_text(planted + "\n", encoding="utf-8")
    done = import_all(tmp_path, ["bench_planted"])
    assert done.returncode == 1 and "benchmarks/bench_planted.py:" in done.stdout and "Error" in done.stdout
