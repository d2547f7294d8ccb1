"""Runs every check of the checkout, one after the other, and ends with what was skipped and why (`make test`).

Rules: runs in the checkout's .venv; a failed check does not stop the later ones; what was not checked is never
silent: each left-out check and each skipped test is listed with its reason at the very end. Exit code 1 when a
check failed. Arguments are handed on to pytest (`scripts/check.py tests/edge -x`).

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
        Check("tests", (python, "-m", "pytest", "-q", "--durations=15", *pytest_arguments)),
    )


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
    lines = []
    for group in groups:
        tests, reason = group["tests"], group["reason"]
        named = ", ".join(tests[:MAX_TESTS_NAMED])
        more = f" and {len(tests) - MAX_TESTS_NAMED} more" if len(tests) > MAX_TESTS_NAMED else ""
        lines.append(f"{len(tests)} test{'s' if len(tests) > 1 else ''}: {reason} ({named}{more})")
    return lines


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
        env = {**os.environ, SKIP_REPORT_VARIABLE: str(report), "PYTHONUTF8": "1"}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
        outcomes = [run(check, env) for check in checks(arguments)]
        tell(outcomes, skipped_tests(report))
    return 1 if any(outcome.word.startswith("failed") for outcome in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nInterrupted: the checks after this one were not run.", file=sys.stderr)
        sys.exit(130)
