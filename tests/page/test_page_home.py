"""What a home's page says, held against what was put into its files."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sqlite3
import time
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from page_kit import (
    CAP,
    DAY,
    FLOOR,
    GAP_SLOTS,
    SLOT,
    T0,
    TRADED_DAYS,
    PageProcess,
    energies,
    fill_store,
    keep_model,
    reset_slot,
    trade,
    write_config,
)

from edge_agent.config import AgentConfig
from edge_agent.page import answers
from edge_agent.page.history import History
from edge_agent.page.home import Home
from edge_agent.page.outlook import outlook
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import Store
from openmg.config import load_toml
from openmg.member.spans import LearnerNotReady
from openmg.units import SLOTS_PER_DAY

TODAY = range(SLOT - 46, SLOT)
"""From midnight in Seoul, 46 quarters of an hour."""
SEOUL = ZoneInfo("Asia/Seoul")
EPOCH = date(1970, 1, 1)


def sums(slots: range) -> list[int]:
    found = [energies(slot) for slot in slots if slot not in GAP_SLOTS]
    return [sum(item[0] for item in found), sum(item[1] for item in found)]


def day_slots(ago: int) -> range:
    first = TODAY.start - ago * SLOTS_PER_DAY
    return range(first, first + SLOTS_PER_DAY)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_now_and_today_are_the_stores(full_page: PageProcess) -> None:
    found = full_page.ask("/api/energy").json
    assert [(it["import_wh"], it["export_wh"]) for it in found["today"]] == [energies(slot) for slot in TODAY]
    assert [it["start"] for it in found["today"]] == [slot * 900 for slot in TODAY]
    days = found["days"]
    assert len(days) == 30 and days[-1]["day"] == "2026-06-15" and days[0]["day"] == "2026-05-17"
    assert [days[-1]["import_wh"], days[-1]["export_wh"]] == sums(TODAY) and days[-1]["intervals_expected"] == 46
    assert [days[-2]["import_wh"], days[-2]["export_wh"]] == sums(day_slots(1))


def test_a_gap_is_told_and_not_counted_as_nought(full_page: PageProcess) -> None:
    day = full_page.ask("/api/energy").json["days"][-11]
    assert (day["intervals_metered"], day["intervals_expected"]) == (96 - len(GAP_SLOTS), 96)
    assert [day["import_wh"], day["export_wh"]] == sums(day_slots(10))
    assert "88 of 96" in full_page.ask("/?lang=en").text


def test_the_days_are_a_table_for_a_script(full_page: PageProcess) -> None:
    answer = full_page.ask("/energy.csv")
    rows = rows_of(answer.text)
    assert answer.headers["content-disposition"] == 'attachment; filename="energy.csv"' and len(rows) == 30
    assert [int(rows[-2][key]) for key in ("import_wh", "export_wh")] == sums(day_slots(1))


def test_the_forecast_is_a_day_in_order_and_yesterday_has_its_actual(full_page: PageProcess) -> None:
    found = full_page.ask("/api/forecast").json
    assert found["unknown"] is None and found["round"] == 3 and found["quantity"] == "net_energy"
    assert [row["start"] for row in found["next"]] == [T0 // 3600 * 3600 + ahead * 3600 for ahead in range(24)]
    assert all(row["p10_wh"] <= row["p50_wh"] <= row["p90_wh"] for row in found["next"] + found["yesterday"])
    hours = [range(first, first + 4) for first in day_slots(1)[::4]]
    nets = [imported - exported for imported, exported in map(sums, hours)]
    assert [item["wh"] for item in found["actual"]] == nets
    errors = [abs(row["mean_wh"] - net) for row, net in zip(found["yesterday"], nets, strict=True)]
    mean = sum(nets) / len(nets)
    assert sum(errors) < sum(abs(net - mean) for net in nets), "it knows more than the mean of the day that came"


def test_yesterdays_forecast_knows_nothing_of_yesterday(tmp_path: Path, full_home: Path) -> None:
    """Two homes that differ from yesterday's midnight on."""
    answers = []
    for name, extra in (("a", 0), ("b", 700)):
        folder = tmp_path / name
        folder.mkdir()
        store = Store(folder / "store.sqlite", first_seq=1)
        first = SLOT - 42 * SLOTS_PER_DAY
        slots = [
            ClosedSlot(slot, energies(slot)[0] + (extra if slot >= day_slots(1).start else 0), energies(slot)[1], 0)
            for slot in range(first, SLOT)
        ]
        store.import_slots(slots, Baseline(SLOT, 0, 0))
        store.close()
        for model in (full_home.parent / "state").glob("*.agreed"):
            shutil.copy(model, folder)
        with History(folder / "store.sqlite") as history:
            answers.append(outlook(history, folder, SEOUL, float(T0)))
    assert answers[0]["yesterday"] == answers[1]["yesterday"] != []
    assert answers[0]["next"] != answers[1]["next"] and answers[0]["actual"] != answers[1]["actual"]


def test_the_best_hours_follow_price_and_surplus(full_page: PageProcess) -> None:
    found = full_page.ask("/api/cheapest").json
    assert (found["floor_wei_per_kwh"], found["cap_wei_per_kwh"]) == (str(FLOOR), str(CAP)) and len(found["hours"]) == 23
    costs = [int(hour["cost_wei_per_kwh"]) for hour in found["hours"]]
    for window in found["windows"]:
        length = window["hours"]
        sums_wei = [sum(costs[first : first + length]) for first in range(23 - length + 1)]
        assert int(window["cost_wei_per_kwh"]) == min(sums_wei) // length
        assert found["hours"][sums_wei.index(min(sums_wei))]["start"] <= window["start"]
    late = [hour for hour in found["hours"] if (hour["start"] // 3600 + 9) % 24 in (22, 23)]
    assert len(late) == 2 and all(hour["usual_wei_per_kwh"] is None for hour in late), "no price was ever heard then"
    assert all(int(hour["cost_wei_per_kwh"]) == CAP for hour in late if not hour["covered_wh"])


def test_statements_are_what_was_traded(full_page: PageProcess) -> None:
    rows = rows_of(full_page.ask("/statements.csv?by=days").text)
    assert len(rows) == TRADED_DAYS and list(rows[0])[:4] == ["first_day", "last_day", "import_wh", "export_wh"]
    for row in rows:
        day = (date.fromisoformat(row["first_day"]) - EPOCH).days
        sold, bought = 40 + day % 7, (10 + day % 5) * 80
        whole = day < DAY - 1
        assert int(row["sold_wh"]) == (sold * 100 if whole else 0) and int(row["orders_under_way"]) == (not whole)
        assert int(row["received_wei"]) == (sold * 100 * FLOOR // 1000 * 2 if whole else 0)
        assert int(row["bought_wh"]) == bought and int(row["paid_wei"]) == bought * (FLOOR + CAP) // 2000
        assert int(row["burned_wh"]) == (bought if day < DAY - 2 else 0)
        assert row["minted_wh"] == row["export_wh"]
    periods = rows_of(full_page.ask("/statements.csv?by=periods").text)
    assert len(periods) == 2
    for name in ("sold_wh", "paid_wei", "burned_wh", "minted_wh"):
        assert sum(int(row[name]) for row in periods) == sum(int(row[name]) for row in rows)
    lasts = [date.fromisoformat(row["last_day"]) - date.fromisoformat(row["first_day"]) for row in periods]
    assert lasts == [timedelta(27)] * 2
    assert full_page.ask("/statements.csv?by=year").status == 400
    said = full_page.ask("/api/statements").json
    assert said["unknown"] is None and said["days"][1]["received_wei"] == rows[1]["received_wei"]


def test_a_note_that_is_missing_makes_its_sums_unknown(tmp_path: Path) -> None:
    """Not nought: a payment whose notes a restored wallet does not have."""
    state = tmp_path / "state"
    state.mkdir()
    trade(state, days=2)
    with sqlite3.connect(state / "wallet.sqlite") as db:
        (payment,) = db.execute("SELECT number FROM payments WHERE purpose LIKE 'buy%' ORDER BY number LIMIT 1").fetchone()
        sql = "DELETE FROM notes WHERE position IN (SELECT position FROM payment_inputs WHERE payment=?)"
        assert db.execute(sql, (payment,)).rowcount == 1
    db.close()
    home = Home(load_toml(write_config(tmp_path, market=True), AgentConfig))
    lines = home.statements(time.time())
    found = answers.statements(lines, "en")
    assert [day["paid_wei"] is None for day in found["days"]] == [False, True] and found["periods"][0]["paid_wei"] is None
    assert rows_of(answers.lines_csv(lines.days))[1]["paid_wei"] == "" and found["days"][1]["bought_wh"] > 0


def test_an_empty_home_says_of_everything_why_it_is_unknown(tmp_path: Path, start_page) -> None:
    page = start_page(write_config(tmp_path))
    page.login()
    reasons = {name: page.ask(f"/api/{name}").json for name in ("now", "energy", "forecast", "cheapest", "statements")}
    keys = {name: answer["unknown"]["key"] for name, answer in reasons.items()}
    assert keys == {
        "now": "no_store",
        "energy": "no_store",
        "forecast": "no_store",
        "cheapest": "no_window",
        "statements": "no_market",
    }
    assert reasons["now"]["power_w"] is None and reasons["cheapest"]["no_price"]["key"] == "no_wallet"
    english, korean = page.ask("/?lang=en"), page.ask("/?lang=ko")
    assert english.status == korean.status == 200
    assert english.text.count("unknown: ") >= 5 and korean.text.count("알 수 없음: ") >= 5
    assert not re.search(r">0(\.0+)? (kWh|W|Wh|PETH|wei)<", english.text)
    assert rows_of(page.ask("/energy.csv").text) == [] and not (tmp_path / "state/store.sqlite").exists()


def test_an_old_reading_a_reset_meter_and_a_short_past_are_unknown(tmp_path: Path, start_page) -> None:
    state = tmp_path / "state"
    state.mkdir()
    store = fill_store(state, days=2, wall=1_700_000_000)
    store.import_slots([reset_slot(SLOT - 3 * SLOTS_PER_DAY)], Baseline(SLOT, 0, 0))
    with pytest.raises(LearnerNotReady):  # it takes no part in the round, and keeps the model all the same
        keep_model(state, store)
    store.close()
    page = start_page(write_config(tmp_path, wallet=True))
    page.login()
    now = page.ask("/api/now").json
    assert now["power_w"] is None and now["unknown"]["key"] == "no_agent" and now["read_at_wall"] == 1_700_000_000
    days = page.ask("/api/energy").json["days"]
    assert [day["import_wh"] for day in days[:-4]] == [None] * 26 and days[-4]["import_wh"] is None
    forecast = page.ask("/api/forecast?lang=ko").json
    assert forecast["unknown"]["key"] == "no_week" and forecast["unknown"]["text"].startswith("지난주의 계량값이 부족합니다")
    assert page.ask("/api/statements").json["unknown"]["key"] == "public_market"
    assert page.ask("/api/cheapest").json["no_price"]["key"] == "no_price_yet"


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_both_languages_show_every_part_with_a_table_beside_each_drawing(full_page: PageProcess, lang: str) -> None:
    text = full_page.ask(f"/?lang={lang}").text
    assert f'<html lang="{lang}">' in text and text.count("<section") == 5
    drawings = text.count('<svg role="img" aria-label=')
    assert drawings == 6 and text.count("<table>") >= drawings and text.count("<caption>") == text.count("<table>")
    assert not re.search(r">[^<]*\{[a-z]+\}", text), "no name is left to be filled in"
    asked = full_page.ask("/", Accept_Language=f"{lang}-KR,x;q=0.5").text
    assert f'<html lang="{lang}">' in asked
