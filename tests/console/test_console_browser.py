"""The console in a real browser: a real server, a real board that changes, headless Chromium.

The numbers expected on the screen come from the feed's own arithmetic, not from the page.
"""

from __future__ import annotations

import time

import pytest
from cdp import Page
from console_browser import Console, go, text, visit
from console_feed import GWEI, PAST, STEPS_PER_SLOT, T0, Feeder, feed, fill, price_at, sections, slot_sums

pytestmark = pytest.mark.browser

PAGES = ("overview", "grid", "market", "learning", "chains", "privacy")


def test_live_values_arrive_and_change_and_are_the_right_ones(page: Page, console: Console, feeder: Feeder):
    visit(page, console)
    block = "document.querySelector('.chain li:nth-child(5) .node-figure').innerText"
    first = page.wait(block)
    page.wait(f"{block} !== {first!r}")
    clock = text(page, "#clock-time")
    page.wait(f"document.querySelector('#clock-time').innerText !== {clock!r}")
    feeder.stop()
    feed(console.board, 4321)
    expected = sections(4321)
    page.wait(f"{block}.startsWith('4,381')")  # 60 + 4321
    figures = page.evaluate("[...document.querySelectorAll('.chain .node-figure')].map((e) => e.innerText)")
    imported, exported = (sum(slot_sums(4321 // STEPS_PER_SLOT - 1, g)[i] for g in (1, 2)) for i in (0, 1))
    assert [f.replace("\u00a0", " ").split()[0] for f in figures] == [
        "14/14",  # twelve homes and two feeders
        f"{(imported + exported) / 1000:.2f}",
        "4,351",  # PPDL: 30 + 4321
        "4,350",  # relayed: 4321 % 3 = 1 behind
        "4,381",
        "4,385",  # root: 64 + 4321
    ]
    assert text(page, "#headline") == "All 10 running parts are well."
    assert f"{expected['learning']['participants']} of 12 meters took part" in text(page, ".story")


def test_every_page_in_both_languages_and_themes_asks_only_this_hub_and_fits(page: Page, console: Console, feeder: Feeder):
    for language in ("en-US", "ko-KR"):
        visit(page, console, "overview", language)
        assert page.evaluate("document.documentElement.lang") == language[:2]
        for theme, width in (("dark", 1400), ("light", 1400), ("light", 360), ("light", 320)):  # colours move nothing
            page.media(prefers_color_scheme=theme)
            page.size(width, 844, mobile=width < 600)
            for name in PAGES:
                go(page, name)
                page.wait("document.querySelectorAll('main .card').length > 1")
                spill = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert spill <= 0, f"{name} in {language} at {width} px is {spill} px too wide"
    assert len(page.requests) > 20
    assert {url.split("/")[2] for url in page.requests if not url.startswith("about:")} == {f"127.0.0.1:{console.port}"}


def test_the_language_switch_speaks_korean_and_is_remembered(page: Page, console: Console, feeder: Feeder):
    visit(page, console)
    assert text(page, ".title") == "Overview"
    page.evaluate("document.getElementById('language').click()")
    page.wait("document.querySelector('.title').innerText === '개요'")
    assert page.evaluate("document.documentElement.lang") == "ko"
    assert "계량기" in text(page, ".chain") and "체크포인트 2가" in text(page, ".events")
    visit(page, console)  # an English browser, but the choice stays
    assert text(page, ".title") == "개요"
    page.evaluate("localStorage.clear()")
    visit(page, console)
    assert text(page, ".title") == "Overview"


def test_the_theme_follows_the_system_until_one_is_chosen(page: Page, console: Console, feeder: Feeder):
    ground = "getComputedStyle(document.body).backgroundColor"
    visit(page, console)
    light = page.evaluate(ground)
    page.media(prefers_color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    for expected in (light, dark):  # auto -> light -> dark
        page.evaluate("document.getElementById('theme').click()")
        assert page.evaluate(ground) == expected
    page.media(prefers_color_scheme="light")
    visit(page, console)
    assert page.evaluate(ground) == dark
    page.evaluate("localStorage.clear()")


def test_the_keyboard_reaches_content_pages_and_chart_values(page: Page, console: Console, feeder: Feeder):
    visit(page, console)
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.evaluate("document.querySelector('nav a[href=\"#/market\"]').focus()")
    page.press("Enter")
    page.wait("document.querySelector('main .page-market') !== null")
    assert text(page, "nav [aria-current=page]").strip() == "Market"
    feeder.stop()
    slot = feeder.step // STEPS_PER_SLOT
    page.evaluate("document.querySelector('og-chart').focus()")
    page.press("ArrowLeft")
    hour, minute = divmod((T0 + 9 * 3600 + slot * 900) % 86400 // 60, 60)
    page.wait(f"document.querySelector('og-chart .reading').innerText.startsWith('{hour:02}:{minute:02}')")
    reading = text(page, "og-chart .reading.shown")
    assert reading.endswith("gwei/Wh")
    assert abs(float(reading.split()[-2]) - price_at(slot, 1) / GWEI) < 0.01
    page.press("Escape")
    assert text(page, "og-chart .reading.shown") == ""


def test_a_charts_table_holds_the_same_numbers_and_stays_open(page: Page, console: Console, feeder: Feeder):
    visit(page, console, "grid")
    page.evaluate("window.opened = document.querySelector('details.data'), window.opened.open = true, 1")
    before = feeder.step
    page.wait("document.querySelectorAll('details.data tbody tr').length > 5")
    while feeder.step < before + 4:
        time.sleep(0.02)
    assert page.evaluate("window.opened.open && window.opened.isConnected")
    slot = feeder.step // STEPS_PER_SLOT - 3
    clock_time = (T0 + 9 * 3600 + slot * 900) % 86400 // 60
    label = f"{clock_time // 60:02}:{clock_time % 60:02}"
    row = page.evaluate(
        f"[...document.querySelectorAll('details.data tbody tr')].find((r) => r.cells[0].innerText === '{label}')?.innerText"
    )
    imported, exported = slot_sums(slot, 1)

    def energy(wh: int) -> str:
        return f"{wh} Wh" if wh < 1000 else f"{wh / 1000:.2f} kWh"

    assert row.split("\t") == [label, energy(exported), energy(imported)]


def test_an_alarm_is_spoken_when_it_comes_and_not_when_the_page_opens(page: Page, console: Console, feeder: Feeder):
    console.board.event("meter", "an old alarm", "지난 경보", "alarm")
    visit(page, console)
    page.wait("document.querySelector('.events').innerText.includes('an old alarm')")
    assert text(page, "#say-now") == ""
    console.board.event("meter", "home-3 is silent", "home-3 무응답", "alarm")
    page.wait("document.getElementById('say-now').textContent === 'Alarm: home-3 is silent'")
    console.board.event("ppdl", "view change", "뷰 변경", "warning")
    page.wait("document.getElementById('say-polite').textContent === 'Warning: view change'")
    assert page.evaluate("document.getElementById('say-now').getAttribute('aria-live')") == "assertive"


def test_a_gap_is_told_and_no_sum_is_shown(page: Page, console: Console, feeder: Feeder):
    visit(page, console, "grid")
    assert "Sum published" in text(page, ".card")
    feeder.offline = frozenset({"home-3"})
    page.wait("document.querySelector('.card').innerText.includes('No sum published')")
    first = text(page, ".card")
    assert "waiting for: home-3" in first
    assert page.evaluate("document.querySelector('.card .figure:nth-of-type(3) dd').innerText") == "–"
    label = page.evaluate("document.querySelector('og-oneline svg').getAttribute('aria-label')")
    assert "offline: home-3" in label
    assert page.evaluate("document.querySelectorAll('og-oneline .offline').length") == 1
    go(page, "overview")
    page.wait("document.querySelector('#headline').innerText.startsWith('Needs a look: Meters, Slot sums')")


def test_groups_are_listed_and_a_closed_one_says_why(page: Page, console: Console):
    fill(console.board, PAST)
    grid = sections(PAST)["grid"]
    first = grid["microgrids"][0]
    shown = {"homes": 3, "slot": first["slot"], "meters": 3, "import_wh": 500, "export_wh": 0}
    closed = {"gap": ["home-5"], "reason": "no report from home-5", "left_out": True}
    first["groups"] = [
        {"number": 1, **shown, "gap": None, "reason": None, "left_out": False},
        {"number": 2, **shown, **closed},
    ]
    grid["microgrids"][1] |= {"small": {"present": 4, "needed": 5}}
    console.board.put("grid", grid)
    visit(page, console, "grid")
    cards = page.evaluate("[...document.querySelectorAll('.card')].slice(0, 2).map((card) => card.innerText)")
    assert "1 of 2 groups closed" in cards[0] and "left out of the slot, waiting for: home-5" in cards[0]
    assert page.evaluate("document.querySelectorAll('.card:first-child tbody tr').length") == 2
    assert "Group too small: 4 of 5 meters" in cards[1] and "No sum published" in cards[1]
    go(page, "overview")
    page.wait("document.querySelector('#headline').innerText.startsWith('Needs a look: Slot sums')")


def test_the_diagram_never_shows_a_homes_power(page: Page, console: Console, feeder: Feeder):
    visit(page, console, "grid")
    page.wait("document.querySelectorAll('og-oneline .home').length === 12")
    words = page.evaluate("[...document.querySelectorAll('og-oneline .home')].map((e) => e.textContent)")
    assert words == [f"home-{i}: Onlinehome-{i}" for i in range(1, 13)]
    assert page.evaluate("document.querySelectorAll('og-oneline .home .flow').length") == 0
    assert page.evaluate("document.querySelectorAll('og-oneline .feeder .flow').length") >= 1


def test_motion_stops_for_those_who_ask(page: Page, console: Console, feeder: Feeder):
    visit(page, console, "grid")
    name = "getComputedStyle(document.querySelector('.feeder .flow')).animationName"
    assert page.wait(name) == "flow"
    page.media(prefers_reduced_motion="reduce")
    assert page.evaluate(name) == "none"


def test_parts_the_hub_does_not_run_are_said_and_never_zero(page: Page, console: Console):
    visit(page, console)
    assert text(page, "#headline") == "Waiting for the first word from the hub."
    figures = page.evaluate("[...document.querySelectorAll('.node-figure, .tile-figure')].map((e) => e.innerText)")
    assert figures == ["–"] * 10
    for name in PAGES:
        go(page, name)
        assert "Not running." in text(page, "main")
        assert page.evaluate("document.querySelector('main').innerText.match(/\\b\\d+ (Wh|kWh|PETH)/)") is None
    console.board.put(
        "ppdl",
        {"height": 3, "view": 0, "view_changes": 0, "validators": [], "mempool": 0, "block_seconds": 0.5},
    )
    go(page, "overview")
    page.wait("document.querySelector('.chain li:nth-child(3) .node-figure').innerText.startsWith('3')")


def test_a_publisher_that_falls_silent_is_seen(page: Page, console: Console):
    fill(console.board, PAST)
    visit(page, console)
    assert text(page, "#headline").startswith("All 10")
    console.skew_s = 100.0
    feed_without_relay = {name: value for name, value in sections(PAST).items() if name != "relay"}
    for name, value in feed_without_relay.items():
        console.board.put(name, value)
    page.wait("document.querySelector('.chain li:nth-child(4)').innerText.includes('silent for 10')")
    assert text(page, "#headline") == "Needs a look: Relay."


def test_a_lost_hub_is_told_and_found_again(page: Page, console: Console):
    fill(console.board, PAST)
    visit(page, console)
    console.stop()
    page.wait("document.querySelector('#link.is-lost') !== null")
    assert "connection to the hub is lost" in text(page, "#banner")
    console.board.put("plasma", {**sections(PAST)["plasma"], "block": 777777})
    console.skew_s = 2.0  # so the alarm is younger than what was read before
    console.board.event("meter", "home-3 fell silent meanwhile", "그동안 home-3 무응답", "alarm")
    console.start()
    page.wait("document.querySelector('#link.is-live') !== null")
    page.wait("document.querySelector('.chain li:nth-child(5) .node-figure').innerText.startsWith('777,777')")
    assert text(page, "#banner") == ""
    page.wait("document.getElementById('say-now').textContent === 'Alarm: home-3 fell silent meanwhile'")
    page.errors.clear()  # the browser logs the refused connections


@pytest.mark.slow  # the page waits nine seconds before it calls a silent connection dead
def test_a_connection_that_dies_without_a_word_is_opened_anew(page: Page, console: Console, feeder: Feeder):
    visit(page, console)
    console.freeze(12)
    page.wait("document.querySelector('#link.is-lost') !== null")
    page.wait("document.querySelector('#link.is-live') !== null")
    assert sum(url.endswith("/api/events") for url in page.requests) == 2
    assert console.streams == 1
    block = "document.querySelector('.chain li:nth-child(5) .node-figure').innerText"
    page.wait(f"{block} !== {page.evaluate(block)!r}")


@pytest.mark.slow  # a day of slots, then every page twice
def test_a_page_left_open_does_not_grow(page: Page, console: Console):
    fill(console.board, PAST)
    visit(page, console)

    def use(first_step: int) -> dict[str, int]:
        for step, name in enumerate(PAGES, first_step):
            feed(console.board, step * STEPS_PER_SLOT)
            console.board.event("e", f"event {step}", f"이벤트 {step}", "warning")
            go(page, name)
            page.wait(f"document.querySelector('#say-polite').textContent.endsWith('event {step}')")
        return page.counters()

    # A day of slots and the events shown are on the screen first: after that, nothing may add up.
    for slot in range(PAST // STEPS_PER_SLOT, 120):
        feed(console.board, slot * STEPS_PER_SLOT)
    before = use(200)
    after = use(300)
    assert after["documents"] == before["documents"]
    assert after["jsEventListeners"] <= before["jsEventListeners"] + 5
    assert after["nodes"] <= before["nodes"] * 1.05


def test_names_of_javascript_itself_are_no_pages(page: Page, console: Console, feeder: Feeder):
    visit(page, console)
    for name in ("toString", "constructor", "__proto__", "%00"):
        page.evaluate(f"location.hash = '#/{name}'")
        page.wait("document.title.startsWith('Overview')")


def test_text_from_outside_never_becomes_markup(page: Page, console: Console):
    evil = "<img src=x onerror=\"document.title='owned'\"><script>1</script>"
    value = sections(PAST)
    value["grid"]["devices"][0]["name"] = evil
    value["learning"]["rejected"] = [{"device": evil, "reason": evil}]
    value["privacy"][0]["datum_en"] = evil
    value["privacy"][1]["status"] = "constructor"
    value["market"]["last_trades"][0]["kind"] = evil
    value["plasma"]["contracts"] = {evil: evil}
    for name, section in value.items():
        console.board.put(name, section)
    console.board.event("e", evil, evil, "alarm")
    visit(page, console)
    for name in PAGES:
        go(page, name)
        assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
    assert "owned" not in page.evaluate("document.title")
    go(page, "grid")
    assert evil in text(page, "main")


def test_what_is_unknown_or_not_yet_there_is_told_as_such(page: Page, console: Console):
    value = sections(PAST)
    value["overview"].update(phase="quiescent", speed=224.97)
    value["market"]["microgrids"][0].update(price_wei_per_wh=0, reserve_wh=0, reserve_peth_wei="0")
    value["market"]["last_trades"] = [
        {"t": block, "kind": "sell", "microgrid": 1, "amount_wh": 100, "peth_wei": "1"} for block in (70, 81)
    ]
    value["learning"].update(round=4, completed=3, participants=0, last_participants=9)
    del value["root"]["block"], value["zk"]["backend"]
    value["plasma"]["checkpoint_count"] = 17
    for name, section in value.items():
        console.board.put(name, section)
    visit(page, console)
    assert "225× time" in text(page, "#top") and "idle" in text(page, "#top")
    assert text(page, ".chain li:nth-child(6) .node-figure") == "17 checkpoints"
    assert "9 of 12 took part" in text(page, ".tiles") and "Round 3: 9 of 12" in text(page, ".story")
    assert "verified on the chain" in text(page, ".tiles")
    assert "in MG1" not in text(page, ".story") and "in MG2" in text(page, ".story")
    go(page, "market")
    assert text(page, ".hero") == "–" and "collar" not in text(page, ".card .card-head")
    times = page.evaluate("[...document.querySelectorAll('main .card:last-child tbody th')].map((e) => e.innerText)")
    assert times == ["block 81", "block 70"]


def test_the_forecast_says_its_hours_and_its_sign(page: Page, console: Console):
    value = sections(PAST)
    start = T0 + 8 * 3600  # 18:00 in Seoul
    answers = [-3946, -250] + [1000 * hour for hour in range(2, 24)]
    value["inference"]["last"].update(as_of_slot=start // 900 - 1, answers_wh=answers)
    console.board.put("inference", value["inference"])
    visit(page, console, "learning")
    page.evaluate("document.querySelector('details.data').open = true")
    rows = page.evaluate("[...document.querySelectorAll('details.data tr')].map((row) => row.innerText)")
    assert rows[0] == "Hour\tForecast of net import (below zero: export)"
    assert rows[-1] == "18:00\t-3.95 kWh" and rows[-2] == "19:00\t-250 Wh" and rows[1] == "17:00\t23.00 kWh"


def test_a_slot_that_stayed_closed_is_a_break_in_the_line(page: Page, console: Console):
    for name, section in sections(PAST).items():
        console.board.put(name, section)
    for g in (1, 2):
        for slot in (0, 1, 2, 5, 6):
            console.board.append(f"grid.mg{g}.import_wh", T0 + slot * 900, 500)
            console.board.append(f"grid.mg{g}.export_wh", T0 + slot * 900, 900)
    visit(page, console, "grid")
    paths = page.evaluate("[...document.querySelectorAll('og-chart path.line')].map((e) => e.getAttribute('d'))")
    assert len(paths) == 4 and all(path.count("M") == 2 for path in paths)


def test_what_only_starts_is_not_called_well_and_faults_come_first(page: Page, console: Console):
    value = sections(PAST)
    console.board.put("market", {**value["market"], "swaps": 0})
    console.board.put("ppdl", value["ppdl"])
    visit(page, console)
    assert text(page, "#headline") == "Starting: Market."
    for validator in value["ppdl"]["validators"][1:]:
        validator["online"] = False
    console.board.put("ppdl", value["ppdl"])
    value["market"]["microgrids"][0]["price_wei_per_wh"] = 50 * GWEI
    console.board.put("market", value["market"])
    page.wait("document.querySelector('#headline').innerText === 'Fault: PPDL chain. Needs a look: Market.'")


@pytest.mark.slow
def test_very_large_and_very_small_numbers_stay_in_their_boxes(page: Page, console: Console):
    value = sections(PAST)
    for pool, size in zip(value["market"]["microgrids"], (10**33, 3), strict=True):
        pool.update(reserve_peth_wei=str(size), reserve_wh=min(size, 10**15), price_wei_per_wh=str(size))
    value["ppdl"]["height"] = value["relay"]["height"] = value["relay"]["ppdl_height"] = 12_345_678_901
    value["plasma"].update(block=12_345_678_901, transactions=10**12, peth_supply_wei=str(10**36))
    value["learning"].update(registered=100_000, participants=99_999)
    for group in value["grid"]["microgrids"]:
        group.update(import_wh=10**15, export_wh=1, feeder_import_w=10**12)
    for name, section in value.items():
        console.board.put(name, section)
    spilt = """[...document.querySelectorAll('.node-figure, .tile-figure, .figure dd, .hero, .bars b')]
        .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.innerText)"""
    for width in (1440, 1024, 390):
        page.size(width, 844, mobile=width < 600)
        visit(page, console)
        for name in PAGES:
            go(page, name)
            assert page.evaluate(spilt) == [], f"{name} at {width} px"
