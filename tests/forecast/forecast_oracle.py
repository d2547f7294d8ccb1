"""The vouched forecast and one training step written again, as slowly and plainly as they can be said.

`forecast_wh` knows only Python's unbounded integers and the calendar of the standard library; `gradient` and
`adam_step` only floats of double precision, row by row. Of a spec they read the numbers it was made from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from math import floor, isqrt, pi, sin, sqrt
from typing import Protocol

ONE, LIMIT, WEIGHT_LIMIT = 2**16, 2**24, 2**27
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEVELS = (0.1, 0.5, 0.9)


class Spec(Protocol):
    """The numbers of a forecaster without channels."""

    @property
    def resolution_minutes(self) -> int: ...
    @property
    def horizon_hours(self) -> int: ...
    @property
    def lag_hours(self) -> int: ...
    @property
    def hidden(self) -> tuple[int, int]: ...
    @property
    def level(self) -> bool: ...


def half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def clip(value: int) -> int:
    return max(-LIMIT, min(LIMIT, value))


def steps(spec: Spec, hours: int) -> int:
    return hours * 60 // spec.resolution_minutes


def widths(spec: Spec) -> list[int]:
    """Inputs, both hidden layers, outputs: lags, two profiles of a day, one of the target, 2 + 14 + days + 1; 4 heads."""
    days = {24: 2, 48: 3, 72: 4}[spec.horizon_hours]
    inputs = steps(spec, spec.lag_hours + 24 + 24 + spec.horizon_hours) + 2 + 14 + days + 1
    return [inputs, *spec.hidden, 4 * steps(spec, spec.horizon_hours)]


def layers(spec: Spec, flat: Sequence[float]) -> list[tuple[list[Sequence[float]], Sequence[float]]]:
    """Rows of the weight matrix [in][out] and bias of each layer."""
    result, place, sizes = [], 0, widths(spec)
    for rows, columns in zip(sizes, sizes[1:], strict=False):
        matrix = [flat[place + i * columns : place + (i + 1) * columns] for i in range(rows)]
        place += rows * columns
        result.append((matrix, flat[place : place + columns]))
        place += columns
    assert place == len(flat)
    return result


def network(spec: Spec, master: Sequence[int], inputs: Sequence[int]) -> list[int]:
    weights = [max(-WEIGHT_LIMIT, min(WEIGHT_LIMIT, int(w))) for w in master]
    activation = [clip(value) for value in inputs]
    for number, (matrix, bias) in enumerate(layers(spec, weights)):
        totals = [int(b) * 2**16 for b in bias]
        for value, row in zip(activation, matrix, strict=True):
            totals = [total + value * int(w) for total, w in zip(totals, row, strict=True)]
        activation = [clip(half_up(total, 2**20)) for total in totals]
        if number < 2:
            activation = [max(0, value) for value in activation]
    return activation


def calendar(spec: Spec, origin_step: int, holidays: Collection[int], offset: int) -> list[int]:
    first = EPOCH + timedelta(minutes=origin_step * spec.resolution_minutes + 60 * offset)
    last = first + timedelta(hours=spec.horizon_hours) - timedelta(minutes=spec.resolution_minutes)
    day_part = (first.hour * 60 + first.minute) / 1440
    waves = [floor(ONE * sin(2 * pi * (day_part + quarter)) + 0.5) for quarter in (0, 0.25)]
    weekdays = [int(moment.weekday() == day) * ONE for moment in (first, last) for day in range(7)]
    touched = [(first + timedelta(days=ahead)).date() for ahead in range(spec.horizon_hours // 24 + 1)]
    flags = [int((min(day, last.date()) - EPOCH.date()).days in holidays) * ONE for day in touched]
    return waves + weekdays + flags


def forecast_wh(
    spec: Spec, master: Sequence[int], history: Sequence[int], origin_step: int, holidays: Collection[int], offset: int
) -> list[list[int]]:
    """The mean, P10, P50 and P90 of the steps ahead, in Wh."""
    day, week, horizon = steps(spec, 24), steps(spec, 168), steps(spec, spec.horizon_hours)
    latest = history[-4 * week :]
    mean = half_up(sum(latest), len(latest))
    deviation = max(1, isqrt(sum((value - mean) ** 2 for value in latest) // len(latest)))
    values = [clip(half_up((value - mean) * ONE, deviation)) for value in history]
    end = len(values)
    level = half_up(sum(values[-week:]), week)
    columns = [[values[end + step - day * back] for back in range(1, 8)] for step in range(day)]
    daily = [half_up(sum(column), 7) for column in columns]
    spread = [half_up(sum(abs(v - centre) for v in column), 7) for column, centre in zip(columns, daily, strict=True)]
    weeks = range(1, min(4, end // week) + 1)
    weekly = [half_up(sum(values[end + step - week * w] for w in weeks), len(weeks)) for step in range(horizon)]
    inputs = [value - level for value in values[-steps(spec, spec.lag_hours) :] + daily]
    inputs += (
        spread
        + [value - level for value in weekly]
        + calendar(spec, origin_step, holidays, offset)
        + [level if spec.level else 0]
    )
    base = [half_up(daily[step % day] + weekly[step], 2) for step in range(horizon)]
    output = network(spec, master, inputs)
    rows = [output[head * horizon : (head + 1) * horizon] for head in range(4)]
    columns = [sorted(column) for column in zip(*rows[1:], strict=True)]
    rows[1:] = [[column[place] for column in columns] for place in range(3)]
    return [[mean + half_up((a + b) * deviation, ONE) for a, b in zip(base, row, strict=True)] for row in rows]


def output_loss(output: Sequence[float], wanted: Sequence[float]) -> float:
    """One row's loss, summed over its steps: squared error of the mean, a third of each quantile's pinball loss."""
    horizon, total = len(wanted), 0.0
    for step, value in enumerate(wanted):
        total += (output[step] - value) ** 2
        for number, level in enumerate(LEVELS, 1):
            short = value - output[number * horizon + step]
            total += (level * short if short > 0 else (level - 1) * short) / 3
    return total


def output_slope(output: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """The derivative of `output_loss` by each output."""
    horizon = len(wanted)
    slope = [2 * (output[step] - value) for step, value in enumerate(wanted)]
    for number, level in enumerate(LEVELS, 1):
        above = [output[number * horizon + step] > value for step, value in enumerate(wanted)]
        slope += [(1 - level if over else -level) / 3 for over in above]
    return slope


def gradient(
    spec: Spec, weights: Sequence[float], inputs: Sequence[Sequence[float]], target: Sequence[Sequence[float]]
) -> list[float]:
    """Of the loss of both heads, a mean over rows and steps."""
    total = [0.0] * len(weights)
    parts = layers(spec, weights)
    for x, wanted in zip(inputs, target, strict=True):
        before, kept = list(x), []
        for number, (matrix, bias) in enumerate(parts):
            after = [bias[j] + sum(v * row[j] for v, row in zip(before, matrix, strict=True)) for j in range(len(bias))]
            kept.append(before)
            before = [max(0.0, v) for v in after] if number < 2 else after
        error = [slope / (len(inputs) * len(wanted)) for slope in output_slope(before, wanted)]
        place = len(weights)
        for (matrix, bias), below in reversed(list(zip(parts, kept, strict=True))):
            place -= len(bias)
            for j, slope in enumerate(error):
                total[place + j] += slope
            place -= len(below) * len(bias)
            for i, value in enumerate(below):
                for j, slope in enumerate(error):
                    total[place + i * len(bias) + j] += value * slope
            error = [
                sum(slope * row[j] for j, slope in enumerate(error)) if value > 0 else 0.0
                for value, row in zip(below, matrix, strict=True)
            ]
    return total


def adam_step(
    state: tuple[list[float], list[float], list[float]], slope: Sequence[float], number: int, rate: float
) -> tuple[list[float], list[float], list[float]]:
    """Weights and both moments after step `number` (from 1), in the form of Kingma and Ba's section 2 (epsilon hat)."""
    first = [0.9 * m + 0.1 * g for m, g in zip(state[1], slope, strict=True)]
    second = [0.999 * v + 0.001 * g * g for v, g in zip(state[2], slope, strict=True)]
    size = rate * sqrt(1 - 0.999**number) / (1 - 0.9**number)
    weights = [w - size * m / (sqrt(v) + 1e-8) for w, m, v in zip(state[0], first, second, strict=True)]
    return weights, first, second
