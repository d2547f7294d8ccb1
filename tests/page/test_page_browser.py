"""The page in a real browser: the way in, both languages, a phone and a screen, and what a screen reader meets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_kit import PageProcess

sys.path.append(str(Path(__file__).resolve().parent.parent / "console"))

from cdp import Page, browser_page, find_chromium  # noqa: E402

pytestmark = pytest.mark.browser
AUDIT = Path(__file__).resolve().parent.parent / "console/audit.js"
DRAWN = "document.readyState === 'complete' && document.querySelectorAll('.drawing').length === 6"
CUT = """[...document.querySelectorAll('.drawing text')].filter((text) => {
  const box = text.getBBox(), view = text.ownerSVGElement.viewBox.baseVal;
  return box.x < 0 || box.y < 0 || box.x + box.width > view.width || box.y + box.height > view.height;
}).map((text) => text.textContent)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    if find_chromium() is None:
        pytest.skip("no Chromium on this machine: the page was not opened")
    with browser_page() as page:
        yield page


@pytest.fixture(scope="module")
def inside(browser: Page, full_page: PageProcess) -> Page:
    """The browser with a session of its own, got by typing a code into the form; the last test ends it."""
    browser.size(360, 800)
    browser.open(full_page.url)
    browser.wait("document.activeElement?.id === 'code'")
    browser.evaluate(f"document.getElementById('code').value = '{full_page.code()}'")
    browser.press("Enter")
    browser.wait(DRAWN, 60)
    return browser


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_nothing_is_cut_off_on_a_phone_and_on_a_screen(inside: Page, full_page: PageProcess, lang: str) -> None:
    inside.requests.clear()
    for width in (360, 1400):
        inside.size(width, 900)
        inside.open(f"{full_page.url}?lang={lang}")
        inside.wait(f"{DRAWN} && document.documentElement.lang === '{lang}'", 60)
        assert (inside.evaluate(OVERFLOW), inside.evaluate(CUT)) == (0, []), width
    asked = [url for url in inside.requests if url != "about:blank"]
    assert asked and all(url.startswith(full_page.url) for url in asked) and inside.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_named_structured_and_of_contrast(inside: Page, theme: str) -> None:
    inside.media(prefers_color_scheme=theme)
    assert inside.evaluate(AUDIT.read_text("utf-8")) == []


def test_the_script_puts_the_power_in_as_text(inside: Page) -> None:
    """It asks the page again and again; here it finds its words gone and writes them anew."""
    shown = inside.evaluate("document.getElementById('power').innerText")
    inside.evaluate("document.querySelector('#power dd').textContent = ''")
    inside.wait("document.querySelector('#power dd').textContent !== ''", 60)
    assert inside.evaluate("document.getElementById('power').innerText").split("\n")[0] in (shown.split("\n")[0], "power now")
    assert inside.errors == []


def test_a_code_that_is_typed_leads_in_and_logging_out_leads_out(inside: Page) -> None:
    """With the browser's own Origin, Referer and cookie rules."""
    assert inside.evaluate("document.cookie") == ""
    inside.evaluate("document.querySelector('form[action^=\"/logout\"] button').click()")
    inside.wait("location.pathname === '/login' && document.readyState === 'complete'")
    assert inside.errors == []
