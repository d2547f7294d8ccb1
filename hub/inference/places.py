"""Where the inference role keeps its databases; the command line uses two of them beside the running hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class InferencePlaces:
    """The files in a hub's state folder."""

    state_dir: Path

    @property
    def history(self) -> Path:
        return self.state_dir / "history.sqlite"

    @property
    def models(self) -> Path:
        return self.state_dir / "models.sqlite"

    @property
    def keys(self) -> Path:
        return self.state_dir / "api-keys.sqlite"
