"""Fixtures of the set-up's tests: a fresh copy of the checkout, and one whose .venv is made once for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "scripts"))

from setup_support import Copy, copy_checkout


@pytest.fixture
def bare(tmp_path: Path) -> Copy:
    """A fresh copy without .venv, in a folder with a space and Korean letters, under LC_ALL=C."""
    return copy_checkout(tmp_path / "열린 그리드" / "open mg")


@pytest.fixture(scope="session")
def shared_copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = copy_checkout(tmp_path_factory.mktemp("setup") / "열린 그리드" / "open mg")
    result = copy.bootstrap("--only", "environment")
    assert result.code == 0, result.err
    assert "made with Python" in result.out
    return copy


@pytest.fixture
def made(shared_copy: Copy) -> Iterator[Copy]:
    """A copy whose .venv was made once for all tests; its record is put back after each."""
    record = shared_copy.record.read_bytes()
    yield shared_copy
    shared_copy.record.write_bytes(record)
