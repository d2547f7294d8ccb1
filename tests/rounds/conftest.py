"""A chain with the usual plan, for tests of rounds that do not make one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from round_world import Chain


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    one = Chain(tmp_path / "app.sqlite")
    yield one
    one.close()
