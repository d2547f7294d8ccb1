"""The page's drawings: SVG that needs no script, sized by the page, coloured by its style sheet. Pure.

Rules: a drawing has a title for screen readers, and the same data stands beside it in a table (`sections`). What is unknown is
a mark on the zero line, never a bar of nought and never a bridged line. Not here: tables, colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_agent.page.format import signed
from edge_agent.page.markup import Markup, element

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 6, 24, 22
"""Room for the labels of the axes, in units of the drawing; letters are 11 of them high."""
MARK = 3.0
MIN_SPAN = 1
NICE_TENTHS = (10, 15, 20, 25, 30, 40, 50, 60, 80, 100)
"""Ends of a scale, in tenths of a power of ten."""


@dataclass(frozen=True)
class Column:
    """One step: what stands above and below the line (None: unknown), and what is said when it is pointed at."""

    above: int | None
    below: int | None
    text: str


@dataclass(frozen=True)
class Label:
    """A label of the horizontal axis, at the place of a step."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """From a quantity to a height in the drawing."""

    low: int
    high: int

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def scale_of(values: Sequence[int]) -> Scale:
    """Nought and all the values, with round ends."""
    return Scale(-_round_up(-min(0, *values, 0)), _round_up(max(MIN_SPAN, *values, 0)))


def _round_up(value: int) -> int:
    """The next of NICE_TENTHS of its power of ten; nought stays."""
    if value <= 0:
        return 0
    power: int = 10 ** (len(str(value)) - 1)
    return next(step * power // 10 for step in NICE_TENTHS if step * power // 10 >= value)


def columns(title: str, steps: Sequence[Column], labels: Sequence[Label], unit: Callable[[int], str]) -> Markup:
    """Bars above and below a line; both amounts are positive. `unit` writes a label of the vertical axis."""
    known = [step for step in steps if step.above is not None and step.below is not None]
    scale = scale_of([*(step.above or 0 for step in known), *(-(step.below or 0) for step in known)])
    width = (WIDTH - LEFT - RIGHT) / max(1, len(steps))
    parts = []
    for number, step in enumerate(steps):
        place = LEFT + number * width
        bars = [_bar("unknown", place, width, scale.y(0) - MARK, scale.y(0) + MARK)]
        if step.above is not None and step.below is not None:
            bars = [
                _bar("above", place, width, scale.y(step.above), scale.y(0)),
                _bar("below", place, width, scale.y(0), scale.y(-step.below)),
            ]
        parts.append(element("g", element("title", step.text), *bars))
    return _drawing(title, scale, labels, width, unit, parts)


@dataclass(frozen=True)
class Band:
    """Rows of a band: (low, middle, high) of each step, and beside them what came (None: unknown, or nothing is shown)."""

    rows: Sequence[tuple[int, int, int]]
    actual: Sequence[int | None] = ()


def band(title: str, data: Band, labels: Sequence[Label], texts: Sequence[str], unit: Callable[[int], str]) -> Markup:
    """A band with its middle, and what came as dots and lines."""
    values = [value for row in data.rows for value in row] + [value for value in data.actual if value is not None]
    scale = scale_of(values)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(data.rows))
    xs = [LEFT + (number + 0.5) * width for number in range(len(data.rows))]
    edge = [(x, row[2]) for x, row in zip(xs, data.rows, strict=True)]
    edge += [(x, row[0]) for x, row in reversed(list(zip(xs, data.rows, strict=True)))]
    parts = [element("polygon", class_="band", points=_points(edge, scale))]
    middle = [(x, row[1]) for x, row in zip(xs, data.rows, strict=True)]
    parts.append(element("polyline", class_="middle", points=_points(middle, scale)))
    for run in _runs(xs, data.actual):
        parts.append(element("polyline", class_="actual", points=_points(run, scale)))
        parts += [element("circle", class_="actual", cx=f"{x:.1f}", cy=f"{scale.y(value):.1f}", r="1.8") for x, value in run]
    for number, text in enumerate(texts):
        parts.append(_pointed(text, LEFT + number * width, width))
    return _drawing(title, scale, labels, width, unit, parts)


@dataclass(frozen=True)
class Priced:
    """An hour's cost (None: unknown), whether it is one of the best, and what is said when it is pointed at."""

    cost: int | None
    best: bool
    text: str


def strip(title: str, hours: Sequence[Priced], labels: Sequence[Label], unit: Callable[[int], str], corner: str) -> Markup:
    """Bars of what hours cost, the best marked by colour and by a dot above. `corner`: the unit, for which labels lack room."""
    scale = scale_of([hour.cost for hour in hours if hour.cost is not None] or [MIN_SPAN])
    width = (WIDTH - LEFT - RIGHT) / max(1, len(hours))
    parts = []
    for number, hour in enumerate(hours):
        place = LEFT + number * width
        bars = [_bar("unknown", place, width, scale.y(0) - MARK, scale.y(0))]
        if hour.cost is not None:
            bars = [_bar("best" if hour.best else "price", place, width, scale.y(hour.cost), scale.y(0))]
        if hour.best:
            bars.append(element("circle", class_="best", cx=f"{place + width / 2:.1f}", cy=TOP - 8, r="3"))
        parts.append(element("g", element("title", hour.text), *bars))
    parts.append(element("text", corner, x=LEFT - 4, y=11, text_anchor="end"))
    return _drawing(title, scale, labels, width, unit, parts)


def _bar(kind: str, place: float, width: float, top: float, bottom: float) -> Markup:
    thick = max(0.5, width - max(0.4, width * 0.15))
    height = max(0.0, bottom - top)
    return element("rect", class_=kind, x=f"{place:.2f}", y=f"{top:.2f}", width=f"{thick:.2f}", height=f"{height:.2f}")


def _pointed(text: str, place: float, width: float) -> Markup:
    """An area that says its text when it is pointed at."""
    box = {"x": f"{place:.2f}", "y": TOP, "width": f"{width:.2f}", "height": HEIGHT - TOP - BOTTOM}
    return element("g", element("title", text), element("rect", class_="touch", **box))


def _runs(xs: Sequence[float], values: Sequence[int | None]) -> list[list[tuple[float, int]]]:
    """Stretches without an unknown value."""
    runs: list[list[tuple[float, int]]] = [[]]
    for x, value in zip(xs, values, strict=False):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x, value))
    return [run for run in runs if run]


def _points(places: Sequence[tuple[float, int]], scale: Scale) -> str:
    return " ".join(f"{x:.1f},{scale.y(value):.1f}" for x, value in places)


def _drawing(
    title: str, scale: Scale, labels: Sequence[Label], width: float, unit: Callable[[int], str], parts: Sequence[Markup]
) -> Markup:
    axes = []
    for value in sorted({scale.low, 0, scale.high}):
        y = scale.y(value)
        kind = "zero" if value == 0 else "grid"
        axes.append(element("line", class_=kind, x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}"))
        axes.append(element("text", signed(unit(value)), x=LEFT - 4, y=f"{y + 4:.1f}", text_anchor="end"))
    for label in labels:
        x = LEFT + label.at * width
        anchor = "start" if label.at == 0 else "end" if x > WIDTH - RIGHT - 20 else "middle"
        axes.append(element("text", label.text, x=f"{x:.1f}", y=HEIGHT - 6, text_anchor=anchor))
    return element("svg", *axes, *parts, role="img", aria_label=title, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="drawing")
