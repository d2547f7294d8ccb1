"""Fixtures of the page's tests: one home with everything, and pages of a test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from page_kit import TRADED_DAYS, PageProcess, fill_store, keep_model, keep_prices, trade, write_config  # noqa: E402

Started = Callable[..., PageProcess]


@pytest.fixture(scope="session")
def full_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a home with six weeks of slots, a model, prices and two weeks of trade."""
    folder = tmp_path_factory.mktemp("full-home")
    state = folder / "state"
    state.mkdir()
    store = fill_store(state)
    keep_model(state, store)
    store.close()
    keep_prices(state)
    trade(state, days=TRADED_DAYS)
    return write_config(folder, market=True)


@pytest.fixture(scope="session")
def full_page(full_home: Path, repo_root: Path) -> Iterator[PageProcess]:
    """The page of that home, logged in. Tests give it no wrong codes and do not log out."""
    page = PageProcess(repo_root, full_home)
    try:
        page.login()
        yield page
    finally:
        page.stop()


@pytest.fixture
def start_page(repo_root: Path) -> Iterator[Started]:
    """Starts pages, which end with the test."""
    started: list[PageProcess] = []

    def start(config: Path, *arguments: str) -> PageProcess:
        started.append(PageProcess(repo_root, config, *arguments))
        return started[-1]

    yield start
    for page in started:
        page.stop()
