"""The learning page: the open round as it is drawn, every device's part in it, what closed rounds and the budget say."""

from __future__ import annotations

from typing import Any

import pytest
from cdp import Page
from console_browser import Console, text, visit
from console_feed import PAST, SLOT_SECONDS, T0, sections, slot_sums
from learning_feed import HIDDEN, IN_CLEAR, STEPS_PER_PHASE, hexed, name_of

from hub.ppdl.app.participation import SEAT_STATES

pytestmark = pytest.mark.browser

ROUND_LENGTH = STEPS_PER_PHASE * len(IN_CLEAR)
START = PAST // ROUND_LENGTH * ROUND_LENGTH  # the first step of a round in the clear
DRAWN = (
    "[...document.querySelectorAll('og-round .station')].map((e) => [...e.querySelectorAll('text')].map((t) => t.textContent))"
)
SEATS = "[...document.querySelectorAll('.card:has(og-round) .seat')].map((e) => e.innerText.split('\\n').filter(Boolean))"
CLASHES = """(() => {
  const svg = document.querySelector('og-round svg').getBoundingClientRect();
  const boxes = [...document.querySelectorAll('og-round text')].filter((e) => e.textContent)
    .map((e) => [e.textContent, e.getBoundingClientRect()]);
  const outside = boxes.filter(([, b]) => b.left < svg.left || b.right > svg.right + 1 || b.bottom > svg.bottom + 1);
  const clash = boxes.flatMap(([name, a], i) => boxes.slice(i + 1)
    .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
    .map(([other]) => `${name} | ${other}`));
  return [...outside.map(([name]) => name), ...clash];
})()"""


def show(page: Page, console: Console, step: int = START, language: str = "en-US", **first: Any) -> None:
    """The page at a step of the feed, with some keys of the first model replaced."""
    for name, value in sections(step).items():
        console.board.put(name, {**value, **first} if name == "learning" else value)
    visit(page, console, "learning", language)
    page.wait("document.querySelectorAll('main .card').length > 5")


def test_the_open_round_is_drawn_step_by_step(page: Page, console: Console):
    show(page, console, START + 1)
    rounds = sections(START)["learning"]["round"]
    assert text(page, "main .card h2") == f"Round {rounds} now: Net energy"
    assert page.evaluate(DRAWN) == [
        ["Commit (now)", "10 of 10", "committed"],
        ["Reveal", "", ""],
        ["Aggregate", "", ""],
        ["Committee", "", ""],
        ["Close", f"then round {rounds + 1}", ""],
    ]
    assert "before anybody sees one: 10 of 10 have." in text(page, ".say")
    assert text(page, ".card-aside").startswith(f"Block {START + 31}, this step ends by block {START + 36}, in 3s")
    for step, drawn, words in (
        (START + 6, ["Reveal (now)", "9 of 10", "held by a quorum"], "A quorum of hubs holds 9 of 10."),
        (START + 10, ["Aggregate (now)", "2 of 4 hubs agree", "attempt 1 of 4"], "hub-1 proposes the new model."),
        (START + 14, ["Committee (now)", "1 of 2", "voted"], "1 of 2 have voted."),
    ):
        console.board.put("learning", sections(step)["learning"])
        page.wait(f"document.querySelector('.say').innerText.includes({words!r})")
        stations = page.evaluate(DRAWN)
        assert drawn in stations
        marks = page.evaluate("[...document.querySelectorAll('og-round .station')].map((e) => e.classList[1])")
        assert marks == [*["is-done"] * stations.index(drawn), "is-now", *["is-next"] * (4 - stations.index(drawn))]
        label = page.evaluate("document.querySelector('og-round svg').getAttribute('aria-label')")
        assert words in label and f"Round {rounds}:" in label


def test_every_state_of_a_seat_is_a_mark_and_a_word(page: Page, console: Console):
    value = sections(START)["learning"]
    seats = [{"device": name_of(i), "state": state, "reason": ""} for i, state in enumerate(SEAT_STATES)]
    seats[0] |= {"state": "rejected", "reason": "not_revealed"}
    seats.append({"device": name_of(40), "state": "rejected", "reason": "a reason that is younger than this page"})
    show(page, console, open={**value["open"], "devices": seats}, registered=400)
    drawn = page.evaluate(SEATS)
    assert [row[0] for row in drawn] == [seat["device"][2:6] for seat in seats]
    assert drawn[0][1:] == ["refused", "Committed, but never revealed"]
    assert drawn[-1][1:] == ["refused", "a reason that is younger than this page"]
    words = [row[1] for row in drawn[1:-1]]
    assert len(set(words)) == len(words) and not any("_" in word for word in words)
    marks = page.evaluate(
        "[...document.querySelectorAll('.card:has(og-round) .seat .seat-mark')].map((e) => e.getAttribute('d'))"
    )
    assert len(set(marks)) == len(SEAT_STATES) - 1  # all but the empty house of who is still waiting
    assert f"{len(seats)} of 400 are drawn" in text(page, "main .card")
    page.evaluate("document.getElementById('language').click()")
    page.wait("document.querySelector('.seat-reason').innerText === '커밋만 하고 공개하지 않음'")
    page.evaluate("localStorage.clear()")


@pytest.mark.parametrize("language", ["en-US", "ko-KR"])
def test_no_words_of_the_drawing_touch_at_any_width(page: Page, console: Console, language: str):
    aggregating = next(
        step for step in range(START, START + 64) if HIDDEN[step // STEPS_PER_PHASE % len(HIDDEN)] == "aggregate"
    )
    show(page, console, aggregating + 2, language)  # the longest words, in both models
    for place in (1, 2):  # the model in the clear, and the one with nine steps
        page.evaluate(f"document.querySelector('.choice a:nth-of-type({place})').click()")
        page.wait(f"document.querySelector('.choice a:nth-of-type({place})[aria-current]') !== null")
        for width in (1400, 1180, 1000, 760, 560, 360):
            page.size(width, 844, mobile=width < 600)
            page.wait("document.querySelector('og-round svg').clientWidth === document.querySelector('og-round').clientWidth")
            assert page.evaluate(CLASHES) == [], f"model {place} at {width} px"


def test_a_model_is_chosen_with_the_keyboard_and_the_focus_stays(page: Page, console: Console):
    show(page, console, START + 2)
    page.evaluate("document.querySelector('.choice a').focus(); scrollTo(0, 30)")
    page.press("Tab")
    page.press("Enter")
    page.wait("document.querySelector('main .card h2').innerText.endsWith('Feed-in')")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    assert text(page, ".choice a[aria-current]") == "Feed-in" and page.evaluate("scrollY") == 30
    assert len(page.evaluate(DRAWN)) == 9
    words = text(page, "main")
    assert "Only the sum is opened, with noise" in words and "of 8.00" in words
    spent = sections(START)["learning"]["others"][0]["epsilon_micro"]
    label = page.evaluate("document.querySelector('.budget').getAttribute('aria-label')")
    assert label == f"Spent, ε: {spent / 1e6:.2f} of 8.00"
    assert page.evaluate("parseFloat(document.querySelector('.budget i').style.width)") == round(spent / 80_000, 1)


def test_a_spent_budget_ends_the_rounds_and_is_said(page: Page, console: Console):
    show(page, console, phase="spent", privacy="secagg_dp", epsilon_micro=7_900_000, epsilon_budget_micro=8_000_000)
    assert text(page, ".say").startswith("The privacy budget is spent. No further round opens")
    assert page.evaluate("document.querySelector('og-round')") is None
    assert "7.90" in text(page, "main")


def test_closed_rounds_refusals_and_wrong_leaders_are_told_in_words(page: Page, console: Console):
    refused = {"device": hexed("meter"), "reason": "commit: it is about another model"}
    value = sections(START)["learning"]
    show(page, console, rejected=[refused, *value["rejected"]])
    card = "[...document.querySelectorAll('main .card')].find((e) => e.getAttribute('aria-label') === {!r})"
    rows = card + ".querySelectorAll('tbody tr')"
    told = page.evaluate(f"[...{rows.format('Refused updates')}].map((e) => [...e.cells].map((c) => c.innerText))")
    number = value["round"] - 1
    assert told[0][1:] == [str(number), "Far from the other updates"]
    assert told[-1][1:] == ["–", "commit: it is about another model"]
    assert all(len(row[0]) == 13 for row in told), "a name is short on the screen"
    leaders = page.evaluate(f"[...{rows.format('Wrong leaders on record')}].map((e) => e.innerText)")
    assert leaders == ["hub-2\t2\t1"]
    closed = page.evaluate(f"[...{rows.format('Closed rounds')}].map((e) => e.innerText.split('\\t').map((c) => c.trim()))")
    assert closed[0] == [str(number), "Learnt", "10", "10", "1", str(number % 2), "2 / 2", "0", "1"]
    assert [row[1] for row in closed if row[0] == "2"] == ["Refused by the committee"]
    last = f"Round {number}, the last one closed"
    seats = page.evaluate(f"[...{card.format(last)}.querySelectorAll('.seat')].map((e) => e.innerText)")
    assert sum("refused" in seat and "Far from the other updates" in seat for seat in seats) == 1
    assert sum("did not train" in seat for seat in seats) == 2


def test_the_vouched_forecast_stands_beside_what_came(page: Page, console: Console):
    value = sections(PAST)
    hour = T0 // 3600 * 3600
    value["inference"]["last"].update(as_of_slot=hour // 900 - 1, answers_wh=[100 * h for h in range(24)])
    for slot in range(10):  # two hours and a half
        for what, wh in zip(("import_wh", "export_wh"), slot_sums(slot, 1), strict=True):
            console.board.append(f"grid.mg1.{what}", hour + slot * SLOT_SECONDS, wh)
    console.board.put("inference", value["inference"])
    visit(page, console, "learning")
    page.wait("document.querySelectorAll('og-chart .bar:not(.hollow)').length > 2")  # two of hours, one of the legend
    page.evaluate("document.querySelector('details.data').open = true")
    rows = page.evaluate("[...document.querySelectorAll('details.data tr')].map((row) => row.innerText.split('\\t'))")
    assert rows[0] == ["Hour", "Forecast of net import (below zero: export)", "Actual"]

    def net(first: int) -> str:
        wh = sum(slot_sums(slot, 1)[0] - slot_sums(slot, 1)[1] for slot in range(first, first + 4))
        return f"{wh} Wh" if abs(wh) < 1000 else f"{wh / 1000:.2f} kWh"

    assert [row[2] for row in rows[-1:-4:-1]] == [net(0), net(4), "–"]  # the third hour is not whole


def test_the_round_stands_still_for_those_who_ask(page: Page, console: Console):
    show(page, console)
    name = "getComputedStyle(document.querySelector('.station .here')).animationName"
    assert page.evaluate(name) == "breathe"
    page.media(prefers_reduced_motion="reduce")
    assert page.evaluate(name) == "none"
