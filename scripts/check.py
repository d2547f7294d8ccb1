"""Runs every check of the checkout, and ends with what was skipped and why (`make test`).

Rules: runs in the checkout's .venv; a failed check does not stop the later ones; what was not checked is never
silent: each left-out check and each skipped test is listed with its reason at the very end. Exit code 1 when a
check failed. Checks that run no test run beside each other, as many as there are processors; one that is right shows its
last line, one that failed all it printed. Then the tests are shared out to the processors, a file to one of them, and
then those in ALONE run, which take the whole machine. With arguments pytest runs once, in one process, and gets them
(`scripts/check.py tests/edge -x`).

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIP_REPORT_VARIABLE = "OPENMG_SKIP_REPORT"  # read by tests/conftest.py
MAX_TESTS_NAMED = 3  # per reason; the rest is counted
ALONE = ("tests/workbench/test_demo_run.py",)  # whole microgrids, whose slots must not wait for other tests
MAX_WORKERS = 4  # each starts chains and brokers of its own, some 300 MB
WAITING = 2  # a worker waits some two fifths of its time for sockets and timers, so there are this many more than processors
PYTEST = ("-m", "pytest", "-q", "--durations=15")
COLLECT = ("-m", "pytest", "-q", "--collect-only", "-p", "no:openmg-skip-list")  # what is skipped the tests themselves tell


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


def static_checks(arguments: Sequence[str]) -> tuple[Check, ...]:
    """Those that run no test, the longest first.

    That all tests can be collected compiles them once for all workers, which in a new checkout would each do it all.
    """
    python = sys.executable
    linter = str(Path(python).parent / "lint-imports")
    return (
        Check("mypy", (python, "-m", "mypy")),
        *(() if arguments else (Check("collection", (python, *COLLECT)),)),
        Check("contract artifacts", (python, "contracts/build.py", "--check"), why_no_contract_check),
        Check("import directions", (linter, "--config", "pyproject.toml")),
        Check("ruff", (python, "-m", "ruff", "check", ".")),
    )


def test_checks(arguments: Sequence[str]) -> tuple[Check, ...]:
    return tuple(Check(name, (sys.executable, *PYTEST, *given)) for name, given in test_runs(arguments))


def processors() -> int:
    """Of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def test_runs(arguments: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """How pytest is called, by name."""
    if arguments:
        return (("tests", tuple(arguments)),)
    workers = min(MAX_WORKERS, processors() + WAITING) if processors() > 1 else 1
    shared = ("-n", str(workers), "--dist", "loadfile") if workers > 1 else ()
    return ("tests", (*shared, *(f"--ignore={path}" for path in ALONE))), ("tests alone", ALONE)


def outcome(check: Check, code: int, began: float) -> Outcome:
    return Outcome(check.name, "ok" if code == 0 else f"failed ({code})", time.monotonic() - began)


def run(check: Check, env: dict[str, str]) -> Outcome:
    """Of a check that has the terminal for itself."""
    print(f"\n== {check.name}", flush=True)
    began = time.monotonic()
    return outcome(check, subprocess.call(check.command, cwd=ROOT, env=env), began)


def run_beside(check: Check, env: dict[str, str]) -> tuple[Outcome, str]:
    """Of a check beside which others run: also what it printed."""
    reason = check.why_not()
    if reason is not None:
        return Outcome(check.name, "not run", 0.0, reason), ""
    began = time.monotonic()
    done = subprocess.run(
        check.command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    )
    return outcome(check, done.returncode, began), done.stdout


def run_together(several: Sequence[Check], env: dict[str, str]) -> list[Outcome]:
    """As many at a time as there are processors; each is told in its turn."""
    outcomes = []
    with ThreadPoolExecutor(processors()) as pool:
        for found, printed in pool.map(lambda check: run_beside(check, env), several):
            outcomes.append(found)
            if not found.reason:
                lines = printed.splitlines()
                print(f"\n== {found.name}", *(lines[-1:] if found.word == "ok" else lines), sep="\n", flush=True)
    return outcomes


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
        outcomes = run_together(static_checks(arguments), env)
        outcomes += [run(check, env) for check in test_checks(arguments)]
        tell(outcomes, skipped_tests(report))
    return 1 if any(outcome.word.startswith("failed") for outcome in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nInterrupted: the checks after this one were not run.", file=sys.stderr)
        sys.exit(130)
