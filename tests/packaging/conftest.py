"""Brokers and processes of the data path's tests, and fresh roots, for the tests of what is installed on a meter."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

for folder in ("edge", "enrolment"):
    sys.path.append(str(Path(__file__).resolve().parent.parent / folder))

from edge_kit import broker, processes  # noqa: E402
from enrol_kit import operator, server, tls_broker  # noqa: E402
from fresh_root import FreshRoot, base_image, unpack  # noqa: E402

__all__ = ["broker", "operator", "processes", "server", "tls_broker"]


@pytest.fixture
def fresh_root(repo_root: Path, tmp_path: Path) -> Iterator[Callable[..., FreshRoot]]:
    """Makes a root of an architecture, of no more than the packages where they are named; it is gone after the test."""
    made: list[Path] = []

    def make(arch: str, only: str = "") -> FreshRoot:
        made.append(tmp_path / f"root-{arch}")
        return unpack(base_image(arch, repo_root / "dist/roots", only), made[-1])

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
