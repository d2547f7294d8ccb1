"""Runs every check of the checkout, one after the other, and ends with what was skipped and why (`make test`).

Rules: runs in the checkout's .venv; a failed check does not stop the later ones; what was not checked is never
silent: each left-out check and each skipped test is listed with its reason at the very end. Exit code 1 when a
check failed. The tests are shared out to the processors, a file to one of them, and then those in ALONE run, which take
the whole machine. With arguments pytest runs once, in one process, and gets them (`scripts/check.py tests/edge -x`).

Not here: set-up (bootstrap.py); the settings of the tools (pyproject.toml).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIP_REPORT_VARIABLE = "OPENMG_SKIP_REPORT"  # read by tests/conftest.py
MAX_TESTS_NAMED = 3  # per reason; the rest is counted
ALONE = ("tests/workbench/test_demo_run.py",)  # whole microgrids, whose slots must not wait for other tests
MAX_WORKERS = 4  # each starts chains and brokers of its own, some 300 MB
WAITING = 1  # a worker waits a third of its time for sockets and timers
PYTEST = ("-m", "pytest", "-q", "--durations=15")


@dataclass(frozen=True)
class Check:
    """One check. `why_not` says why it cannot be done here, or returns None."""

    name: str
    command: tuple[str, ...]
    why_not: Callable[[], str | None] = field(default=lambda: None)


@dataclass(frozen=True)
class Outcome:
    name: str
    word: str
    seconds: float
    reason: str = ""


def why_no_contract_check() -> str | None:
    if shutil.which("node") is None:
        return "there is no Node.js on this machine"
    if not (ROOT / "contracts" / "node_modules" / "solc").is_dir():
        return "the Solidity compiler is not installed in contracts/node_modules"
    return None


def checks(pytest_arguments: Sequence[str]) -> tuple[Check, ...]:
    python = sys.executable
    linter = str(Path(python).parent / "lint-imports")
    return (
        Check("ruff", (python, "-m", "ruff", "check", ".")),
        Check("mypy", (python, "-m", "mypy")),
        Check("import directions", (linter, "--config", "pyproject.toml")),
        Check("contract artifacts", (python, "contracts/build.py", "--check"), why_no_contract_check),
        *(Check(name, (python, *PYTEST, *arguments)) for name, arguments in test_runs(pytest_arguments)),
    )


def test_runs(arguments: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """How pytest is called, by name."""
    if arguments:
        return (("tests", tuple(arguments)),)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(MAX_WORKERS, processors + WAITING) if processors > 1 else 1
    shared = ("-n", str(workers), "--dist", "loadfile") if workers > 1 else ()
    return ("tests", (*shared, *(f"--ignore={path}" for path in ALONE))), ("tests alone", ALONE)


def run(check: Check, env: dict[str, str]) -> Outcome:
    reason = check.why_not()
    if reason is not None:
        return Outcome(check.name, "not run", 0.0, reason)
    print(f"\n== {check.name}", flush=True)
    began = time.monotonic()
    code = subprocess.call(check.command, cwd=ROOT, env=env)
    return Outcome(check.name, "ok" if code == 0 else f"failed ({code})", time.monotonic() - began)


def skipped_tests(report: Path) -> list[str]:
    """The lines about what pytest did not run, from the report that tests/conftest.py wrote."""
    try:
        groups = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["the tests left no list of what was skipped"]
    by_reason: dict[str, list[str]] = {}
    for group in groups:
        by_reason.setdefault(group["reason"], []).extend(group["tests"])
    lines = []
    for reason, tests in by_reason.items():
        named = ", ".join(tests[:MAX_TESTS_NAMED])
        more = f" and {len(tests) - MAX_TESTS_NAMED} more" if len(tests) > MAX_TESTS_NAMED else ""
        lines.append(f"{len(tests)} test{'s' if len(tests) > 1 else ''}: {reason} ({named}{more})")
    return lines


def environment(report: Path) -> dict[str, str]:
    """What the checks see: this Python first, a place for the list of skipped tests, and compiled modules kept.

    Where nothing may be kept, each of the hundreds of processes that tests start compiles every module anew.
    """
    env = {**os.environ, SKIP_REPORT_VARIABLE: str(report), "PYTHONUTF8": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    return env


def tell(outcomes: Sequence[Outcome], skipped: Sequence[str]) -> None:
    width = max(len(outcome.name) for outcome in outcomes)
    print("\n== summary")
    for outcome in outcomes:
        print(f"{outcome.name:<{width}}  {outcome.word}  ({outcome.seconds:.1f} s)")
    left_out = [f"{outcome.name}: {outcome.reason}" for outcome in outcomes if outcome.reason]
    print("\nSkipped and why:")
    for line in [*left_out, *skipped] or ["nothing"]:
        print(f"- {line}")


def main(arguments: Sequence[str]) -> int:
    """Run all checks. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="openmg-check-") as folder:
        report = Path(folder) / "skipped.json"
        env = environment(report)
        outcomes = [run(check, env) for check in checks(arguments)]
        tell(outcomes, skipped_tests(report))
    return 1 if any(outcome.word.startswith("failed") for outcome in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nInterrupted: the checks after this one were not run.", file=sys.stderr)
        sys.exit(130)
