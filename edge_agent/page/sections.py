"""The page's sections as HTML: a drawing, the words around it, and the same data as a table. Pure.

Rules: what is unknown says so, with its reason; a table never has nought for it. Not here: the page around them (`views`),
drawing (`drawings`), the numbers (`home`, `hours`, `statements`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from edge_agent.page import drawings
from edge_agent.page.answers import sentence, unknown_of
from edge_agent.page.drawings import Band, Column, Label, Priced
from edge_agent.page.energy import Day, Interval
from edge_agent.page.format import clock_time, kwh, moment, peth, whole
from edge_agent.page.home import Energy, Statements
from edge_agent.page.hours import Cheapest, Hour, Window
from edge_agent.page.markup import Markup, element, joined
from edge_agent.page.reasons import Unknown
from edge_agent.page.statements import Line
from openmg.units import SLOTS_PER_DAY, WH_PER_KWH

HOUR_SECONDS = 3600
DRAWN_DAYS = 30
MARKED_HOURS = 4


class Sections:
    """Those of one language and time zone."""

    def __init__(self, texts: dict[str, str], zone: ZoneInfo) -> None:
        self._texts, self._zone = texts, zone

    def say(self, key: str, **names: object) -> str:
        return self._texts[key].format(**names)

    # Parts

    def _card(self, key: str, *children: str) -> Markup:
        return element("section", element("h2", self.say(key), id=key), *children, class_="card", aria_labelledby=key)

    def _why(self, unknown: Unknown) -> Markup:
        text = f"{self.say('unknown')}: {sentence(unknown, self._texts)}"
        return element("p", text, class_="unknown")

    def _table(self, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
        """Folded away; the first cell of a row names it."""
        heads = element("tr", *(element("th", text, scope="col") for text in head))
        body = [element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows]
        table = element("table", element("caption", caption), element("thead", heads), element("tbody", *body))
        inside = element("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)
        return element("details", element("summary", self.say("table")), inside)

    def _legend(self, *items: tuple[str, str]) -> Markup:
        found = [element("li", element("span", class_=f"key {kind}"), self.say(key)) for kind, key in items]
        return element("ul", *found, class_="legend")

    def _figure(self, key: str, value: str, note: str = "", kind: str = "") -> Markup:
        parts = [element("dt", self.say(key)), element("dd", value, class_=kind or None)]
        return element("div", *parts, *([element("dd", note, class_="note")] if note else []))

    def _kwh(self, energy_wh: int | None) -> str:
        return self.say("unknown") if energy_wh is None else kwh(energy_wh)

    def _wh(self, energy_wh: int | None) -> str:
        return self.say("unknown") if energy_wh is None else whole(energy_wh)

    def _peth(self, wei: int | None) -> str:
        return self.say("unknown") if wei is None else peth(wei)

    def _time(self, seconds: int) -> str:
        return clock_time(seconds, self._zone)

    # Now and today

    def now(self, energy: Energy) -> Markup:
        if energy.unknown is not None:
            return self._card("now_title", self._why(energy.unknown))
        today = energy.days[-1]
        figures = element("dl", self._power(energy), *self._sums(today), class_="figures")
        title = self.say("today_drawing")
        labels = [Label(4 * hour, f"{hour}:00") for hour in (0, 6, 12, 18)]
        steps = [Column(it.import_wh, it.export_wh, self._interval(it)) for it in energy.today]
        steps += [Column(0, 0, "")] * (SLOTS_PER_DAY - len(steps))
        rows = [(self._time(it.start), self._wh(it.import_wh), self._wh(it.export_wh)) for it in energy.today]
        head = [self.say(key) for key in ("time", "import_wh", "export_wh")]
        drawing = drawings.columns(title, steps, labels, lambda value: _wh_axis(abs(value)))
        legend = self._legend(("above", "import"), ("below", "export"), ("unknown", "unknown"))
        return self._card("now_title", figures, drawing, legend, self._table(title, head, rows))

    def power(self, energy: Energy) -> tuple[str, tuple[str, str, str]]:
        """How it is coloured; what it is called, the power itself, and as of when it is or why it is unknown."""
        now = energy.now
        if now.power_w is None:
            reason = "" if now.unknown is None else sentence(now.unknown, self._texts)
            return "unknown", (self.say("now_unknown"), self.say("unknown"), reason)
        key = "now_import" if now.power_w > 0 else "now_export" if now.power_w < 0 else "now_zero"
        note = self.say("read_at", time=self._time(round(now.wall or 0)))
        return "import" if now.power_w > 0 else "export", (self.say(key), f"{whole(abs(now.power_w))} W", note)

    def _power(self, energy: Energy) -> Markup:
        kind, (name, value, note) = self.power(energy)
        parts = [element("dt", name), element("dd", value, class_=kind), element("dd", note, class_="note")]
        return element("div", *parts, id="power")

    def _sums(self, today: Day) -> list[Markup]:
        note = "" if today.is_complete else self._of(today)
        return [
            self._figure("today_import", self._with_unit(today.import_wh), note, "import"),
            self._figure("today_export", self._with_unit(today.export_wh), note, "export"),
        ]

    def _with_unit(self, energy_wh: int | None) -> str:
        return self.say("unknown") if energy_wh is None else f"{kwh(energy_wh)} kWh"

    def _of(self, day: Day) -> str:
        return f"{self.say('metered')}: {self.say('metered_of', known=day.known, expected=day.expected)}"

    def _interval(self, item: Interval) -> str:
        return f"{self._time(item.start)} {self._pair(item.import_wh, item.export_wh, 'Wh', whole)}"

    def _pair(self, imported: int | None, exported: int | None, unit: str, written: Any) -> str:
        if imported is None or exported is None:
            return self.say("unknown")
        return f"{self.say('import')} {written(imported)} {unit}, {self.say('export')} {written(exported)} {unit}"

    # Days

    def days(self, energy: Energy) -> Markup:
        if energy.unknown is not None:
            return self._card("days_title", self._why(energy.unknown))
        title = self.say("days_drawing")
        steps = [
            Column(it.import_wh, it.export_wh, f"{it.day} {self._pair(it.import_wh, it.export_wh, 'kWh', kwh)}")
            for it in energy.days
        ]
        head = [self.say(key) for key in ("day", "import_kwh", "export_kwh", "metered")]
        rows = [
            (
                str(it.day),
                self._kwh(it.import_wh),
                self._kwh(it.export_wh),
                self.say("metered_of", known=it.known, expected=it.expected),
            )
            for it in reversed(energy.days)
        ]
        drawing = drawings.columns(title, steps, _day_labels([it.day for it in energy.days]), _kwh_axis)
        legend = self._legend(("above", "import"), ("below", "export"), ("unknown", "unknown"))
        link = element("a", self.say("csv_energy"), href="/energy.csv", download=True)
        return self._card("days_title", drawing, legend, self._table(title, head, rows), element("p", link))

    # Forecast

    def forecast(self, answer: dict[str, Any]) -> Markup:
        unknown = unknown_of(answer["unknown"])
        if unknown is not None:
            return self._card("forecast_title", self._why(unknown))
        return self._card("forecast_title", *self._following(answer), *self._yesterday(answer))

    def _following(self, answer: dict[str, Any]) -> list[Markup]:
        personal = self.say("forecast_personal") if answer["personal"] else ""
        notes = [self.say("forecast_made", round=answer["round"], personal=personal)]
        if answer["stand_ins"]:
            hours = answer["stand_ins"] * answer["step_seconds"] // HOUR_SECONDS
            notes.append(self.say("forecast_stand_ins", count=max(1, hours)))
        total = sum(row[1] for row in answer["next"])
        figure = self._figure("forecast_expected", f"{kwh(total)} kWh", self.say(f"quantity_{answer['quantity']}"))
        title = self.say("forecast_drawing")
        return [
            element("h3", self.say("forecast_next")),
            element("dl", figure, class_="figures"),
            self._band(title, answer["next"], ()),
            self._legend(("band", "band"), ("middle", "middle")),
            element("p", " ".join(notes), class_="note"),
            self._table(
                title, [self.say(key) for key in ("time", "p10", "p50", "p90")], [self._row(row) for row in answer["next"]]
            ),
        ]

    def _yesterday(self, answer: dict[str, Any]) -> list[Markup]:
        heading = element("h3", self.say("forecast_yesterday"))
        unknown = unknown_of(answer["yesterday_unknown"])
        if unknown is not None:
            return [heading, self._why(unknown)]
        title, actual = self.say("forecast_yesterday_drawing"), [value for _, value in answer["actual"]]
        rows = [(*self._row(row), self._wh(value)) for row, value in zip(answer["yesterday"], actual, strict=False)]
        head = [self.say(key) for key in ("time", "p10", "p50", "p90", "actual_wh")]
        return [
            heading,
            self._band(title, answer["yesterday"], actual),
            self._legend(("band", "band"), ("middle", "middle"), ("actual", "actual")),
            element("p", self.say("forecast_as_of"), class_="note"),
            self._table(title, head, rows),
        ]

    def _row(self, row: Sequence[int]) -> tuple[str, ...]:
        return (moment(row[0], self._zone), *(whole(value) for value in row[2:]))

    def _band(self, title: str, rows: Sequence[Sequence[int]], actual: Sequence[int | None]) -> Markup:
        labels = [Label(number, self._time(row[0])) for number, row in enumerate(rows) if number % max(1, len(rows) // 4) == 0]
        texts = []
        for number, row in enumerate(rows):
            came = f", {self.say('actual')} {self._wh(actual[number])} Wh" if number < len(actual) else ""
            texts.append(f"{self._time(row[0])} P10 {whole(row[2])}, P50 {whole(row[3])}, P90 {whole(row[4])} Wh{came}")
        data = Band([(row[2], row[3], row[4]) for row in rows], actual)
        return drawings.band(title, data, labels, texts, _wh_axis)

    # Cheapest hours

    def hours(self, found: Cheapest) -> Markup:
        parts: list[Markup] = []
        if found.no_window is not None:
            parts.append(self._why(found.no_window))
            if found.no_price is not None:
                parts.append(self._why(found.no_price))
            return self._card("hours_title", *parts)
        parts.append(element("dl", *(self._window(item) for item in found.windows), class_="figures windows"))
        if found.no_price is not None:
            reason = sentence(found.no_price, self._texts)
            parts.append(element("p", self.say("hours_no_price", reason=reason), class_="unknown"))
        elif found.floor_wei_per_kwh is not None and found.cap_wei_per_kwh is not None:
            limits = self.say("hours_limits", floor=peth(found.floor_wei_per_kwh), cap=peth(found.cap_wei_per_kwh))
            parts += [self._strip(found), element("p", f"{limits} {self.say('hours_rule')}", class_="note")]
        head = [self.say(key) for key in ("time", "expected_price", "surplus", "cost")]
        rows = [
            (moment(it.start, self._zone), self._peth(it.wei_per_kwh), self._wh(_surplus(it)), self._peth(it.cost_wei))
            for it in found.hours
        ]
        return self._card("hours_title", *parts, self._table(self.say("hours_drawing"), head, rows))

    def _window(self, item: Window) -> Markup:
        end = item.start + item.hours * HOUR_SECONDS
        notes = []
        if item.wei_per_kwh is not None:
            notes.append(self.say("window_price", price=peth(item.wei_per_kwh)))
        if item.covered_wh:
            notes.append(self.say("window_covered", energy=f"{kwh(item.covered_wh)} kWh"))
        if item.wei_per_kwh is not None and not item.estimated:
            notes.append(self.say("window_cap"))
        value = self.say("window_time", start=self._time(item.start), end=self._time(end))
        parts = [
            element("dt", self.say("window", hours=item.hours)),
            element("dd", value),
            element("dd", ", ".join(notes), class_="note"),
        ]
        return element("div", *parts)

    def _strip(self, found: Cheapest) -> Markup:
        best = next((it for it in found.windows if it.hours == MARKED_HOURS), None)
        marked = range(best.start, best.start + best.hours * HOUR_SECONDS) if best is not None else range(0)
        hours = [
            Priced(it.cost_wei, it.start in marked, f"{self._time(it.start)} {self._peth(it.cost_wei)}") for it in found.hours
        ]
        labels = [Label(number, self._time(it.start)) for number, it in enumerate(found.hours) if number % 6 == 0]
        unit = "PETH" if (found.cap_wei_per_kwh or 0) >= 10**14 else "gwei"
        by = 10**18 if unit == "PETH" else 10**9
        return drawings.strip(self.say("hours_drawing"), hours, labels, lambda value: f"{value / by:.3g}", unit)

    # Statements

    def statements(self, found: Statements) -> Markup:
        if found.unknown is not None:
            return self._card("statements_title", self._why(found.unknown))
        drawn = list(reversed(found.days[:DRAWN_DAYS]))
        steps = [Column(it.amounts.sold_wh, it.amounts.bought_wh, f"{it.first} {self._traded(it)}") for it in drawn]
        title = self.say("statements_drawing")
        drawing = drawings.columns(title, steps, _day_labels([it.first for it in drawn]), _kwh_axis)
        legend = self._legend(("above", "sold_short"), ("below", "bought_short"), ("unknown", "unknown"))
        parts = [drawing, legend]
        for key, first, lines in (("statements_periods", "period", found.periods), ("statements_days", "day", found.days)):
            parts.append(self._lines(self.say(key), self.say(first), lines))
        links = [
            element("a", self.say(f"csv_{by}"), href=f"/statements.csv?by={by}", download=True) for by in ("days", "periods")
        ]
        return self._card("statements_title", *parts, element("p", links[0], " · ", links[1]))

    def _traded(self, line: Line) -> str:
        sold, bought = line.amounts.sold_wh, line.amounts.bought_wh
        return f"{self.say('sold_short')} {self._kwh(sold)}, {self.say('bought_short')} {self._kwh(bought)} kWh"

    def _lines(self, caption: str, first: str, lines: Sequence[Line]) -> Markup:
        head = [first, *(self.say(key) for key in ("minted", "sold", "received", "bought", "paid", "burned", "under_way"))]
        rows = []
        for line in lines:
            a = line.amounts
            name = str(line.first) if line.first == line.last else f"{line.first} – {line.last}"
            energies = [self._kwh(a.minted_wh), self._kwh(a.sold_wh), self._peth(a.received_wei)]
            rows.append(
                (name, *energies, self._kwh(a.bought_wh), self._peth(a.paid_wei), self._kwh(a.burned_wh), self._wh(a.under_way))
            )
        return joined(element("h3", caption), self._table(caption, head, rows))


def _surplus(hour: Hour) -> int | None:
    return None if hour.net_wh is None else max(0, -hour.net_wh)


def _wh_axis(value: int) -> str:
    """In kWh from a thousand on: the labels have little room."""
    return f"{value} Wh" if abs(value) < WH_PER_KWH else f"{value / WH_PER_KWH:g} kWh"


def _kwh_axis(value: int) -> str:
    return f"{abs(value) / WH_PER_KWH:g} kWh"


def _day_labels(days: Sequence[Any]) -> list[Label]:
    """The first, the middle and the last."""
    places = sorted({0, len(days) // 2, len(days) - 1}) if days else []
    return [Label(place, days[place].strftime("%m-%d")) for place in places]
