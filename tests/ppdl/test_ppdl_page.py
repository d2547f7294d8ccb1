"""docs/PPDL.md names functions, tests and constants: they exist, and the constants have the values it gives."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = {
    "rules": "test_consensus_rules.py",
    "logs": "test_consensus_logs.py",
    "blocks": "test_consensus_blocks.py",
    "forms": "test_consensus_forms.py",
    "review": "test_consensus_review.py",
    "cluster": "test_engine_cluster.py",
    "files": "test_engine_files.py",
    "engine": "test_engine_review.py",
    "sets": "test_set_changes.py",
    "net": "test_net_transport.py",
    "shell": "test_app_shell.py",
}
MODULES = ["genesis", "mempool", "driver", "net.queues", "net.transport", "app.governance", "app.offences"] + [
    f"consensus.{name}" for name in ("block", "catchup", "certs", "core", "early", "evidence", "messages", "votes")
]
UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2}


@pytest.fixture(scope="module")
def page(repo_root: Path) -> str:
    return (repo_root / "docs" / "PPDL.md").read_text()


def code_of(repo_root: Path) -> dict[str, str]:
    """Every module of the chain by its last name; those of one name together."""
    texts: dict[str, str] = {}
    for path in sorted((repo_root / "hub" / "ppdl").rglob("*.py")):
        texts[path.stem] = texts.get(path.stem, "") + path.read_text()
    return texts


def test_every_test_that_is_named_exists(page: str, repo_root: Path) -> None:
    named = re.findall(r"(\w+): `(test_\w+)(\.\.\.)?`", page)
    assert len(named) >= 27
    for where, name, cut in named:
        text = (repo_root / "tests" / "ppdl" / FILES[where]).read_text()
        assert f"def {name}" in text if cut else f"def {name}(" in text, name
    for file in re.findall(r"`(test_\w+\.py)`", page):
        assert (repo_root / "tests" / "ppdl" / file).is_file(), file


def test_every_function_that_is_named_exists(page: str, repo_root: Path) -> None:
    modules = code_of(repo_root)
    named = re.findall(r"`([a-z_]+)\.([A-Za-z_.]+)`", page)
    named = [(module, path) for module, path in named if path != "py" and module != "hub" and "test_" not in module]
    assert len(named) >= 40
    for module, path in named:
        if (module, path) == ("net", "queues"):
            assert "queues" in modules
            continue
        for part in path.split("."):
            assert re.search(rf"(def|class) {part}\b|^    {part}: ", modules[module], re.MULTILINE), (module, path)


def values(text: str) -> Iterator[int]:
    for item in text.split(", "):
        power = re.fullmatch(r"2\^(\d+) - 1", item)
        plain = re.fullmatch(r"([\d,]+)(?: (\w+))?", item)
        assert power or plain, item
        yield 2 ** int(power[1]) - 1 if power else int(plain[1].replace(",", "")) * UNITS[plain[2] or ""]  # type: ignore[index]


def test_every_bound_has_the_value_that_the_page_gives(page: str) -> None:
    modules = [importlib.import_module(f"hub.ppdl.{name}") for name in MODULES]
    rows = re.findall(r"^\| ([A-Z_]+(?:, [A-Z_]+)?)(?: \(\w+\))? \| ([^|]+) \|", page, re.MULTILINE)
    assert len(rows) >= 24
    for names, text in rows:
        for name, value in zip(names.split(", "), values(text.strip()), strict=True):
            found = {getattr(module, name) for module in modules if hasattr(module, name)}
            roundly = 64 if name == "MAX_MESSAGE_BYTES" else 0  # with the frame's own bytes it is the value given
            assert found == {value - roundly}, (name, value, found)
