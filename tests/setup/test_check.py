"""`make test` says of every test that did not run why, also where processors share the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = """
import pytest

@pytest.mark.slow
def test_long(): pass

def test_short(): pass

def test_without_a_tool(): pytest.skip("the tool is not here")
"""
SETTINGS = '[pytest]\naddopts = -m "not slow"\nmarkers =\n    slow: takes long\n'


@pytest.fixture(scope="module")
def check(repo_root: Path) -> ModuleType:
    """scripts/check.py, which is a program and no package."""
    spec = importlib.util.spec_from_file_location("openmg_check", repo_root / "scripts" / "check.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_test_runs_once_and_the_whole_machine_is_for_one_file(check, repo_root):
    (_, shared), (_, alone) = check.test_runs(())
    ignored = [option.removeprefix("--ignore=") for option in shared if option.startswith("--ignore=")]
    assert tuple(ignored) == alone == check.ALONE and all((repo_root / path).is_file() for path in alone)
    assert check.test_runs(("tests/edge", "-x")) == (("tests", ("tests/edge", "-x")),)


def test_processes_of_the_tests_keep_what_they_compile(check, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    asked = [sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]
    done = subprocess.run(asked, env=check.environment(tmp_path / "report"), capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_checks_that_run_beside_each_other_are_all_told_and_a_failed_one_whole(check, capfd):
    said = "import time, sys; print('first'); print('last'); time.sleep(0.2); sys.exit({})"
    several = [
        check.Check("right", (sys.executable, "-c", said.format(0))),
        check.Check("wrong", (sys.executable, "-c", said.format(3))),
        check.Check("absent", ("there-is-no-such-program",), lambda: "it is not installed"),
        check.Check("right too", (sys.executable, "-c", said.format(0))),
    ]
    outcomes = check.run_together(several, dict(os.environ))
    assert [(item.name, item.word, item.reason) for item in outcomes] == [
        ("right", "ok", ""),
        ("wrong", "failed (3)", ""),
        ("absent", "not run", "it is not installed"),
        ("right too", "ok", ""),
    ]
    assert capfd.readouterr().out == "\n== right\nlast\n\n== wrong\nfirst\nlast\n\n== right too\nlast\n"


def test_collecting_beforehand_leaves_no_list_of_skipped_tests(check, repo_root, tmp_path):
    (tmp_path / "conftest.py").write_bytes((repo_root / "tests" / "conftest.py").read_bytes())
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "test_one.py").write_text(TESTS)
    report = tmp_path / "skipped.json"
    env = {**os.environ, "PYTHONPATH": str(repo_root), check.SKIP_REPORT_VARIABLE: str(report)}
    command = [sys.executable, *check.COLLECT, "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2/3 tests collected" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert not report.exists()


@pytest.mark.slow
def test_what_was_skipped_is_told_once_however_many_processes_ran(check, repo_root, tmp_path):
    shutil.copy(repo_root / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    for name in ("one", "two", "three"):
        (tmp_path / f"test_{name}.py").write_text(TESTS)
    report = tmp_path / "skipped.json"
    env = {**os.environ, "PYTHONPATH": str(repo_root), check.SKIP_REPORT_VARIABLE: str(report)}
    shared = ("-n", "2", "--dist", "loadfile", "--ignore=test_three.py")
    for arguments in (shared, ("test_three.py",)):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    told = sorted(check.skipped_tests(report))
    assert [line.split(" (")[0] for line in told] == [
        "3 tests: not part of this run",
        "3 tests: the tool is not here",
    ]
