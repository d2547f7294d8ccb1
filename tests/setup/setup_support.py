"""What the tests of the set-up share: copies of this checkout in awkward places, and bootstrap run in them.

Rules: bootstrap is run as a person runs it, as a process, with the real steps; only tools of other people
(cargo, node) are replaced, by ones of another version. Nothing here touches the checkout under test.

Not here: the fixtures (conftest.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", "target", "__pycache__", ".*_cache", ".hypothesis", ".openmg", "*.lock"
)
RUN_LIMIT_S = 170


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Copy:
    """A copy of the checkout. `env` is what every command in it sees besides PATH."""

    root: Path
    env: Mapping[str, str]

    @property
    def python(self) -> Path:
        return self.root / ".venv" / "bin" / "python"

    @property
    def record(self) -> Path:
        return self.root / ".venv" / "openmg-setup.json"

    def command(self, *arguments: str, python: str = sys.executable) -> list[str]:
        return [python, str(self.root / "scripts" / "bootstrap.py"), *arguments]

    def bootstrap(self, *arguments: str, python: str = sys.executable, path: str | None = None, **variables: str) -> Result:
        env = {**self.env, **variables}
        if path is not None:
            env["PATH"] = path
        done = subprocess.run(
            self.command(*arguments, python=python),
            env=env,
            cwd=self.root.parent,
            capture_output=True,
            encoding="utf-8",
            timeout=RUN_LIMIT_S,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


def copy_checkout(root: Path) -> Copy:
    shutil.copytree(ROOT, root, ignore=NOT_COPIED, symlinks=True)
    kept = {key: value for key, value in os.environ.items() if key not in ("LANG", "LANGUAGE")}
    return Copy(root, {**kept, "LC_ALL": "C", "OPENMG_CACHE": str(root.parent / "cache")})


def write_tool(folder: Path, name: str, says: str) -> str:
    """A tool `name` of another version: it only answers. Returns the folder, as a PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / name
    tool.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    tool.chmod(0o755)
    return str(folder)
