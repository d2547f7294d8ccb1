"""What the steps share: the paths of a checkout, the options of one run, and the ways a step can end.

Rules: frozen values only; no I/O. Not here: how a step works (one module per step).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT_FOLDER = ".venv"


class SetupError(Exception):
    """Set-up cannot go on. The message is one sentence: what, where, and what to do."""


class StepSkipped(Exception):
    """A step that is not needed on every machine was left out. The message is one sentence that says why."""


@dataclass(frozen=True)
class Checkout:
    """The paths of one checkout. `root` is absolute and resolved."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ENVIRONMENT_FOLDER

    @property
    def python(self) -> Path:
        """The interpreter of the checkout's own environment."""
        return self.venv / "bin" / "python"

    @property
    def pyproject(self) -> Path:
        return self.root / "pyproject.toml"

    @property
    def constraints(self) -> Path:
        return self.root / "scripts" / "constraints.txt"

    @property
    def contracts(self) -> Path:
        return self.root / "contracts"

    @property
    def native(self) -> Path:
        return self.root / "native"

    @property
    def zk(self) -> Path:
        return self.root / "openmg" / "zk"


@dataclass(frozen=True)
class Options:
    """What one run was asked for. `python`: the command to make .venv with; `extras`: of pyproject.toml."""

    steps: tuple[str, ...]
    extras: tuple[str, ...] = ("dev",)
    python: str | None = None
    retry: bool = False
