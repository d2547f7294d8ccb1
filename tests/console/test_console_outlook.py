"""The hub's forecast beside what came: one card a microgrid, drawn from the section that the inference role puts."""

from __future__ import annotations

import pytest
from cdp import Page
from console_browser import Console, visit

pytestmark = pytest.mark.browser

HOUR = 3600
NOON = 1781492400  # 12:00 in Seoul


def test_actual_and_forecast_stand_in_one_chart_and_its_table(page: Page, console: Console):
    row = {
        "id": 1,
        "made_by": "agreed chain model",
        "model_hash": "0x" + "ab" * 32,
        "as_of": NOON,
        "actual": [[NOON - 2 * HOUR, 900], [NOON - HOUR, -250]],
        "day_ahead": [[NOON - HOUR, -400, -300, 100]],
        "next": [[NOON, 1000, 2000, 3000]],
    }
    lacking = {"id": 2, "made_by": None, "missing": "no history", "actual": [], "day_ahead": [], "next": []}
    console.board.put("forecast", {"microgrids": [row, lacking]})
    visit(page, console, "learning")
    page.evaluate("document.querySelector('details.data').open = true")
    rows = page.evaluate("[...document.querySelectorAll('details.data tr')].map((row) => row.innerText)")
    assert rows[0] == "Hour\tActual\tForecast P50\tForecast P10\tForecast P90"
    assert [line for line in rows if "-250 Wh" in line] == ["11:00\t-250 Wh\t-300 Wh\t-400 Wh\t100 Wh"]
    words = page.evaluate("document.body.innerText")
    assert "Agreed chain model" in words and "Forecast against actual: MG2" in words
    assert "No hour is known and none is forecast yet." in words
