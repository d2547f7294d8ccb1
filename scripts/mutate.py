"""Takes one guard away at a time and demands that its attack test goes red (`make mutate`).

The guards stand in tests/mutations/*.toml: a name, the file, the exact text to replace (it must occur once), what to put
there instead, and the tests that must fail then. Everything happens in a copy of the checkout; contracts are compiled
again when a Solidity file was changed. First all named tests must pass in the untouched copy, or a red one would prove
nothing. A guard whose tests stay green is a survivor; the exit code is 1 then, and for a table that no longer fits.
Rules: a test run that ends in any other way than "tests failed" is an error and not a success.

    python scripts/mutate.py --only timelock            # the guards whose name or file has this in it
    python scripts/mutate.py --sample 5 --seed 7 --json # a drawn slice, and a document of the outcomes

Not here: the single-wire mutation of witnesses, which needs no text changed (`openmg zk fuzz`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = Path("tests/mutations")
ARTIFACTS = Path("contracts/artifacts")
LINKED = (Path("contracts/node_modules"),)
"""Folders outside the repository that the copy shares with the checkout."""
TEST_SECONDS = 900
TESTS_FAILED = 1
"""Exit code of pytest when it ran and tests failed."""


class MutationError(Exception):
    """The run cannot say anything; one sentence says why and what to do."""


@dataclass(frozen=True)
class Mutation:
    """One guard: `old` is replaced by `new` in `file`, and then `tests` (pytest node ids) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """`result` is killed, survived or broken (the mutant did not compile, or pytest did not run)."""

    name: str
    file: str
    result: str
    seconds: float
    detail: str = ""


def load(folder: Path) -> list[Mutation]:
    """All tables in order of their names; MutationError for an entry that is not whole."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("mutation", []):
            try:
                found.append(Mutation(entry["name"], entry["file"], entry["old"], entry["new"], tuple(entry["tests"])))
            except (KeyError, TypeError) as error:
                raise MutationError(f"{path.name}: an entry lacks {error}; give name, file, old, new and tests") from error
    return found


def copy_checkout(target: Path) -> None:
    """Every file that is, or could be, in the repository; nothing that programs made."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    for folder in LINKED:
        if (ROOT / folder).is_dir():
            (target / folder).symlink_to(ROOT / folder)


def run(command: Sequence[str], copy: Path) -> tuple[int, str]:
    """Exit code and the last lines; the copy's packages come before those that are installed."""
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=copy, env=env, capture_output=True, text=True, timeout=TEST_SECONDS, check=False
    )  # fmt: skip
    return done.returncode, "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])


def run_tests(tests: Sequence[str], copy: Path, *, first_failure: bool) -> tuple[int, str]:
    options = ["-q", "-p", "no:cacheprovider", "-m", "slow or not slow", "--no-header", *(["-x"] if first_failure else [])]
    return run([sys.executable, "-m", "pytest", *options, *tests], copy)


@contextmanager
def mutated(mutation: Mutation, copy: Path) -> Iterator[str]:
    """The copy with the guard taken away; yields why it cannot be built, or nothing."""
    path = copy / mutation.file
    original = path.read_text(encoding="utf-8") if path.is_file() else ""
    if original.count(mutation.old) != 1:
        times = original.count(mutation.old)
        raise MutationError(f"{mutation.name}: the text stands {times} times in {mutation.file}; renew the entry")
    kept = copy.parent / "artifacts"
    path.write_text(original.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        trouble = ""
        if path.suffix == ".sol":
            shutil.copytree(copy / ARTIFACTS, kept)
            code, text = run([sys.executable, "contracts/build.py"], copy)
            trouble = text if code else ""
        yield trouble
    finally:
        path.write_text(original, encoding="utf-8")
        if kept.is_dir():
            shutil.rmtree(copy / ARTIFACTS)
            kept.rename(copy / ARTIFACTS)


def judge(mutation: Mutation, copy: Path) -> Outcome:
    began = time.monotonic()
    try:
        with mutated(mutation, copy) as trouble:
            code, text = (2, trouble) if trouble else run_tests(mutation.tests, copy, first_failure=True)
    except subprocess.TimeoutExpired:
        code, text = 2, f"no end after {TEST_SECONDS} s"
    result = {TESTS_FAILED: "killed", 0: "survived"}.get(code, "broken")
    seconds = round(time.monotonic() - began, 1)
    return Outcome(mutation.name, mutation.file, result, seconds, "" if result == "killed" else text)


def chosen(mutations: list[Mutation], only: str, sample: int, seed: int) -> list[Mutation]:
    found = [item for item in mutations if only in item.name or only in item.file]
    if not found:
        raise MutationError(f"no guard has {only!r} in its name or file; look into {TABLES}")
    if not 0 < sample < len(found):
        return found
    drawn = random.Random(seed).sample(range(len(found)), sample)
    return [found[k] for k in sorted(drawn)]


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mutate", description="Take guards away one at a time; their tests must go red.",
        epilog="example: python scripts/mutate.py --only ConfidentialToken --json",
    )  # fmt: skip
    parser.add_argument("--only", default="", metavar="TEXT", help="guards with this in their name or file")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="draw so many of them (0: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--json", action="store_true", help="print a document instead of lines")
    return parser.parse_args(given)


def tell(options: argparse.Namespace, line: str) -> None:
    """Progress, for people only."""
    if not options.json:
        print(line, flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Run the chosen guards; 0 when every one was killed."""
    options = arguments(given)
    try:
        mutations = chosen(load(ROOT / TABLES), options.only, options.sample, options.seed)
        with tempfile.TemporaryDirectory(prefix="openmg-mutate-") as folder:
            copy = Path(folder) / "checkout"
            copy_checkout(copy)
            tests = sorted({test for item in mutations for test in item.tests})
            tell(options, f"{len(mutations)} guards; first their {len(tests)} tests in the untouched copy")
            code, text = run_tests(tests, copy, first_failure=False)
            if code:
                raise MutationError(f"the tests do not pass with every guard in place:\n{text}")
            outcomes = []
            for item in mutations:
                outcomes.append(judge(item, copy))
                tell(options, f"{outcomes[-1].result:<9} {outcomes[-1].seconds:6.1f} s  {item.name} ({item.file})")
    except (MutationError, OSError, subprocess.SubprocessError, tomllib.TOMLDecodeError) as error:
        print(f"mutate: {error}", file=sys.stderr)
        return 1
    bad = [outcome for outcome in outcomes if outcome.result != "killed"]
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        for outcome in bad:
            print(f"\n{outcome.result}: {outcome.name}\n{outcome.detail}")
        print(f"\n{len(outcomes) - len(bad)} of {len(outcomes)} guards are held by their tests")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
