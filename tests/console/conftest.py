"""Fixtures of the console's browser tests: one Chromium for all, a fresh console for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cdp import Page, browser_page, find_chromium
from console_browser import Console
from console_feed import PAST, Feeder, fill


@pytest.fixture(scope="session")
def chromium() -> Iterator[Page]:
    if find_chromium() is None:
        pytest.skip("no Chromium on this machine: the console was not opened")
    with browser_page() as page:
        yield page


@pytest.fixture
def page(chromium: Page, console: Console) -> Iterator[Page]:
    """The one tab, clean, 1280 pixels wide. Any console error, exception or failed load fails the test.

    It asks for the console, so that the tab leaves it before it closes.
    """
    chromium.size(1280, 860)
    chromium.media(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    chromium.requests.clear()
    chromium.errors.clear()
    yield chromium
    chromium.send("Page.navigate", url="about:blank")
    assert chromium.errors == []


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console().start()
    yield console
    console.close()


@pytest.fixture
def feeder(console: Console) -> Iterator[Feeder]:
    """The console's board, filled with a past and fed four times a second."""
    fill(console.board, PAST)
    feeder = Feeder(console.board, PAST, 0.25)
    feeder.start()
    yield feeder
    feeder.stop()
