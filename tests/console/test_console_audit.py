"""The page's structure, contrast and focus, as a reader with a keyboard or a screen reader meets them (`audit.js`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cdp import Page
from console_browser import Console, go, visit
from console_feed import Feeder

pytestmark = pytest.mark.browser

PAGES = ("overview", "grid", "market", "learning", "chains", "privacy")
AUDIT = Path(__file__).with_name("audit.js")


@pytest.mark.parametrize("language", ["en-US", "ko-KR"])
def test_every_page_is_named_structured_and_labelled(page: Page, console: Console, feeder: Feeder, language: str):
    visit(page, console, "overview", language)
    feeder.stop()  # an element that is drawn anew under the audit's hands loses its focus
    for theme in ("light", "dark"):
        page.media(prefers_color_scheme=theme)
        for name in PAGES:
            go(page, name)
            faults = page.evaluate(AUDIT.read_text("utf-8"))
            assert faults == [], f"{name}, {theme}: {faults}"


def test_the_audit_sees_what_is_wrong(page: Page, console: Console, feeder: Feeder):
    visit(page, console)
    feeder.stop()
    spoil = """(() => {
        document.querySelector('.title').style.setProperty('color', '#ccc');
        document.querySelector('nav a').style.setProperty('outline', 'none');
        document.querySelector('.facts').setAttribute('aria-live', 'polite');
        document.querySelector('#language').textContent = '';
    })();
    """
    faults = page.evaluate(spoil + AUDIT.read_text("utf-8"))  # at once: a message on its way would draw the parts anew
    assert [fault.split(":")[0].split(" 1.")[0] for fault in faults] == ["no name", "speaks", "contrast", "focus is not seen"]
