"""The vouched forecast and one training step written again, as slowly and plainly as they can be said.

`forecast_wh` knows only Python's unbounded integers and the calendar of the standard library; `adam_step` only floats
of double precision, row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from math import floor, isqrt, pi, sin, sqrt

ONE, LIMIT = 2**16, 2**24
LAYERS = ((115, 48), (48, 24), (24, 24))


def half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def clip(value: int) -> int:
    return max(-LIMIT, min(LIMIT, value))


def layers(flat: Sequence[float]) -> list[tuple[list[Sequence[float]], Sequence[float]]]:
    """Rows of the weight matrix [in][out] and bias of each layer."""
    result, place = [], 0
    for rows, columns in LAYERS:
        matrix = [flat[place + i * columns : place + (i + 1) * columns] for i in range(rows)]
        place += rows * columns
        result.append((matrix, flat[place : place + columns]))
        place += columns
    assert place == len(flat)
    return result


def network(master: Sequence[int], inputs: Sequence[int]) -> list[int]:
    activation = [clip(value) for value in inputs]
    for number, (matrix, bias) in enumerate(layers(master)):
        totals = [
            sum(value * int(row[j]) for value, row in zip(activation, matrix, strict=True)) + int(bias[j]) * 2**16
            for j in range(len(bias))
        ]
        activation = [clip(half_up(total, 2**20)) for total in totals]
        if number < 2:
            activation = [max(0, value) for value in activation]
    return activation


def calendar(origin_hour: int, holidays: Collection[int], offset: int) -> list[int]:
    first = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=origin_hour + offset)
    last = first + timedelta(hours=23)
    waves = [floor(ONE * sin(2 * pi * (first.hour + quarter) / 24) + 0.5) for quarter in (0, 6)]
    days = [int(moment.weekday() == day) * ONE for moment in (first, last) for day in range(7)]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return waves + days + [int((moment - epoch).days in holidays) * ONE for moment in (first, last)]


def forecast_wh(
    master: Sequence[int], history: Sequence[int], origin_hour: int, holidays: Collection[int], offset: int
) -> list[int]:
    latest = history[-672:]
    mean = half_up(sum(latest), len(latest))
    deviation = max(1, isqrt(sum((value - mean) ** 2 for value in latest) // len(latest)))
    values = [clip(half_up((value - mean) * ONE, deviation)) for value in history]
    end = len(values)
    level = half_up(sum(values[-168:]), 168)
    daily = [half_up(sum(values[end + hour - 24 * day] for day in range(1, 8)), 7) for hour in range(24)]
    weeks = range(1, min(4, end // 168) + 1)
    weekly = [half_up(sum(values[end + hour - 168 * week] for week in weeks), len(weeks)) for hour in range(24)]
    inputs = [value - level for value in values[-48:] + daily + weekly] + calendar(origin_hour, holidays, offset) + [level]
    base = [half_up(a + b, 2) for a, b in zip(daily, weekly, strict=True)]
    output = network(master, inputs)
    return [mean + half_up((a + b) * deviation, ONE) for a, b in zip(base, output, strict=True)]


def gradient(weights: Sequence[float], inputs: Sequence[Sequence[float]], target: Sequence[Sequence[float]]) -> list[float]:
    """Of the mean squared error over rows and hours."""
    total = [0.0] * len(weights)
    parts = layers(weights)
    for x, wanted in zip(inputs, target, strict=True):
        before, kept = list(x), []
        for number, (matrix, bias) in enumerate(parts):
            after = [bias[j] + sum(v * row[j] for v, row in zip(before, matrix, strict=True)) for j in range(len(bias))]
            kept.append(before)
            before = [max(0.0, v) for v in after] if number < 2 else after
        error = [2 * (a - b) / (len(inputs) * 24) for a, b in zip(before, wanted, strict=True)]
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
