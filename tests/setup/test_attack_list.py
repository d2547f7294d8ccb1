"""docs/ATTACKS.md and tests/mutations/*.toml name tests and guards: everything that they name must be there.

Files are parsed and nothing of them is run, so this costs a second. Not here: whether a test goes red without its guard
(`scripts/mutate.py`).
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LIST = ROOT / "docs" / "ATTACKS.md"
TABLES = sorted((ROOT / "tests" / "mutations").glob("*.toml"))
COLUMNS = 3
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
MUTATION_KEYS = {"name", "file", "old", "new", "tests"}


@cache
def defined_in(path: str) -> frozenset[str]:
    """Names of the tests that a file defines; none for a file that is not there."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    functions = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in functions if name.startswith("test_"))


@cache
def text_of(path: str) -> str:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def rows() -> list[list[str]]:
    """The cells of every row of the document's tables, heads and rules left out."""
    lines = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "Attack" and not set("".join(row)) <= set("-: ")]


def misfits(entry: dict[str, object]) -> list[str]:
    """What is wrong with a guard of a table."""
    if set(entry) != MUTATION_KEYS:
        return [f"its keys are {sorted(entry)}"]
    found = []
    old, tests = entry["old"], entry["tests"]
    assert isinstance(old, str) and isinstance(tests, list)
    times = text_of(str(entry["file"])).count(old)
    if times != 1:
        found.append(f"its text stands {times} times in {entry['file']}")
    if old == entry["new"]:
        found.append("it changes nothing")
    for node in tests:
        path, _, name = node.partition("::")
        if name.partition("[")[0] not in defined_in(path):
            found.append(f"there is no {node}")
    return found if tests else [*found, "it names no test"]


def test_every_attack_has_a_defence_and_a_test_that_is_there() -> None:
    listed = rows()
    assert len(listed) > 60
    for attack, *rest in listed:
        assert len(rest) == COLUMNS - 1, attack
        defence, tests = rest
        named = NODE.findall(tests)
        assert defence and named, attack
        assert tests.count("::") == len(named), f"{attack}: a test is not written as `tests/...py::name`"
        for path, name in named:
            assert name in defined_in(path), f"{attack}: there is no {path}::{name}"


def test_no_attack_is_listed_twice() -> None:
    attacks = [row[0] for row in rows()]
    assert sorted(attacks) == sorted(set(attacks))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_guard_of_a_table_fits(table: Path) -> None:
    entries = tomllib.loads(table.read_text(encoding="utf-8"))["mutation"]
    assert entries and {entry.get("name"): misfits(entry) for entry in entries if misfits(entry)} == {}
    names = [entry["name"] for entry in entries]
    assert sorted(names) == sorted(set(names))


def test_what_does_not_fit_is_found() -> None:
    here = "tests/setup/test_attack_list.py"
    once = "COLUMNS" + " = 3"  # as a whole it stands above only
    good: dict[str, object] = {
        "name": "x", "file": here, "old": once, "new": "", "tests": [f"{here}::test_what_does_not_fit_is_found"],
    }  # fmt: skip
    assert misfits(good) == []
    assert misfits(good | {"old": once * 2}) == [f"its text stands 0 times in {here}"]
    assert misfits(good | {"old": "COLUMNS"}) == [f"its text stands {text_of(here).count('COLUMNS')} times in {here}"]
    assert misfits(good | {"file": "no/such/file"}) == ["its text stands 0 times in no/such/file"]
    assert misfits(good | {"new": once}) == ["it changes nothing"]
    assert misfits(good | {"tests": []}) == ["it names no test"]
    assert misfits(good | {"tests": [f"{here}::test_of_nothing"]}) == [f"there is no {here}::test_of_nothing"]
    assert misfits({"name": "x"}) == ["its keys are ['name']"]
