"""What scripts get: the page's sections as JSON values and CSV. Pure.

Rules: energy in Wh, power in W, times in simulated Unix seconds unless the name says wall; wei are decimal text, for they pass
2^53; what is unknown is null, with `unknown` as {key, names, text} of the section. CSV names units in its header, and an
unknown value is an empty cell. Not here: HTTP (`pages`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from edge_agent.page.energy import Day
from edge_agent.page.home import Energy, Statements
from edge_agent.page.hours import Cheapest
from edge_agent.page.reasons import Unknown
from edge_agent.page.statements import Line
from edge_agent.page.text import LANGUAGES

Json = dict[str, Any]
LINE_COLUMNS = {
    "import_wh": "import_wh",
    "export_wh": "export_wh",
    "minted_wh": "minted_wh",
    "sold_wh": "sold_wh",
    "received_wei": "received_wei",
    "bought_wh": "bought_wh",
    "paid_wei": "paid_wei",
    "burned_wh": "burned_wh",
    "under_way": "orders_under_way",
}
DAY_COLUMNS = ("day", "import_wh", "export_wh", "intervals_metered", "intervals_expected")


def sentence(unknown: Unknown, texts: dict[str, str]) -> str:
    """Why something is not known."""
    return texts[f"reason_{unknown.key}"].format(**unknown.names)


def why(unknown: Unknown | None, language: str) -> Json | None:
    if unknown is None:
        return None
    return {"key": unknown.key, "names": unknown.names, "text": sentence(unknown, LANGUAGES[language])}


def unknown_of(table: Json | None) -> Unknown | None:
    """The reason in a forecast's answer."""
    return None if table is None else Unknown(table["key"], table["names"])


def now(energy: Energy, language: str) -> Json:
    last = energy.now
    return {"power_w": last.power_w, "read_at_wall": last.wall, "unknown": why(last.unknown, language)}


def energy(found: Energy, language: str) -> Json:
    return {
        "today": [{"start": it.start, "import_wh": it.import_wh, "export_wh": it.export_wh} for it in found.today],
        "days": [
            {"day": it.day.isoformat(), "import_wh": it.import_wh, "export_wh": it.export_wh}
            | {"intervals_metered": it.known, "intervals_expected": it.expected}
            for it in found.days
        ],
        "unknown": why(found.unknown, language),
    }


def forecast(answer: Json, language: str) -> Json:
    names = ("start", "mean_wh", "p10_wh", "p50_wh", "p90_wh")
    rows = {part: [dict(zip(names, row, strict=True)) for row in answer[part]] for part in ("next", "yesterday")}
    actual = [{"start": start, "wh": value} for start, value in answer["actual"]]
    reasons = {key: why(unknown_of(answer[key]), language) for key in ("unknown", "yesterday_unknown")}
    return answer | rows | {"actual": actual} | reasons


def cheapest(found: Cheapest, language: str) -> Json:
    return {
        "floor_wei_per_kwh": _text(found.floor_wei_per_kwh),
        "cap_wei_per_kwh": _text(found.cap_wei_per_kwh),
        "hours": [
            {"start": it.start, "usual_wei_per_kwh": _text(it.wei_per_kwh), "net_wh": it.net_wh, "covered_wh": it.covered_wh}
            | {"cost_wei_per_kwh": _text(it.cost_wei)}
            for it in found.hours
        ],
        "windows": [
            {"hours": it.hours, "start": it.start, "cost_wei_per_kwh": _text(it.wei_per_kwh), "covered_wh": it.covered_wh}
            | {"all_hours_have_a_price": it.estimated}
            for it in found.windows
        ],
        "no_price": why(found.no_price, language),
        "unknown": why(found.no_window, language),
    }


def statements(found: Statements, language: str) -> Json:
    return {
        "days": [_line(line) for line in found.days],
        "periods": [_line(line) for line in found.periods],
        "unknown": why(found.unknown, language),
    }


def _line(line: Line) -> Json:
    amounts = {name: getattr(line.amounts, field) for field, name in LINE_COLUMNS.items()}
    plain = {name: _text(value) if name.endswith("_wei") else value for name, value in amounts.items()}
    return {"first_day": line.first.isoformat(), "last_day": line.last.isoformat(), **plain}


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


def lines_csv(lines: Sequence[Line]) -> str:
    """Statements, one line a day or billing period."""
    rows = [[line.first, line.last, *(getattr(line.amounts, field) for field in LINE_COLUMNS)] for line in lines]
    return _csv(("first_day", "last_day", *LINE_COLUMNS.values()), rows)


def days_csv(days: Sequence[Day]) -> str:
    """Metered energy, one line a day."""
    return _csv(DAY_COLUMNS, [[it.day, it.import_wh, it.export_wh, it.known, it.expected] for it in days])


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\r\n")  # RFC 4180
    writer.writerow(columns)
    writer.writerows(rows)
    return output.getvalue()
