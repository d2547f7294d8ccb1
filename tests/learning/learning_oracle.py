"""Aggregation written again in plain Python integers and lists, as slowly and plainly as it can be said."""

from __future__ import annotations

from math import isqrt

Rows = list[list[int]]


def half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def lower_median(values: list[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]


def squared_distance(a: list[int], b: list[int]) -> int:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def capped(rows: Rows, cap_num: int, cap_den: int) -> Rows:
    return shortened(rows, lower_median(norms(rows)) * cap_num // cap_den)


def norms(rows: Rows) -> list[int]:
    return [isqrt(sum(v * v for v in row)) for row in rows]


def shortened(rows: Rows, cap: int) -> Rows:
    result = []
    for row, norm in zip(rows, norms(rows), strict=True):
        short = [abs(v) * cap // norm * (1 if v > 0 else -1) for v in row] if norm > cap else row
        result.append(short)
    return result


def trimmed(rows: Rows, hostile: int, divisor: int = 1) -> list[int]:
    step = []
    for column in zip(*rows, strict=True):
        kept = sorted(column)[hostile : len(rows) - hostile]
        step.append(half_up(sum(kept), len(kept) * divisor))
    return step


def mostly_trimmed(rows: Rows, hostile: int) -> list[int]:
    """Rows in the middle of fewer than half as many columns as (n - 2f)/n of them."""
    times = [0] * len(rows)
    for column in zip(*rows, strict=True):
        middle = sorted(column)[hostile : len(rows) - hostile]
        for index, value in enumerate(column):
            times[index] += middle[0] <= value <= middle[-1]
    expected = len(rows[0]) * (len(rows) - 2 * hostile)
    return [index for index, count in enumerate(times) if 2 * len(rows) * count < expected]


def median(rows: Rows) -> list[int]:
    step = []
    for column in zip(*rows, strict=True):
        ordered = sorted(column)
        step.append((ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2] + 1) // 2)
    return step


def longest_shortened(rows: Rows, hostile: int) -> Rows:
    """The floor(2f(n - f)/n) longest rows, to the norm of the next one."""
    descending = sorted(norms(rows), reverse=True)
    return shortened(rows, descending[2 * hostile * (len(rows) - hostile) // len(rows)])


def nearest(rows: Rows, centre: list[int], count: int) -> list[int]:
    return [i for _, i in sorted((squared_distance(centre, other), i) for i, other in enumerate(rows))[:count]]


def nearest_mixed(rows: Rows, hostile: int) -> Rows:
    mixed = []
    for row in rows:
        near = [rows[i] for i in nearest(rows, row, len(rows) - hostile)]
        mixed.append([sum(column) for column in zip(*near, strict=True)])
    return mixed


def few_neighbours(rows: Rows, hostile: int) -> list[int]:
    times = [0] * len(rows)
    for row in rows:
        furthest = squared_distance(row, rows[nearest(rows, row, len(rows) - hostile)[-1]])
        for index, other in enumerate(rows):
            times[index] += squared_distance(row, other) <= 2 * furthest
    return [index for index, count in enumerate(times) if 2 * count < len(rows)]


def krum_choice(rows: Rows, hostile: int, chosen: int) -> list[int]:
    scores = []
    for index, row in enumerate(rows):
        others = sorted(squared_distance(row, other) for i, other in enumerate(rows) if i != index)
        scores.append((sum(others[: max(1, len(rows) - hostile - 2)]), index))
    return [index for _, index in sorted(scores)[:chosen]]


def distances_q16(rows: Rows, centre: list[int]) -> list[int]:
    """In units of 2^-16."""
    return [isqrt(squared_distance(row, centre) * 2**32) for row in rows]


def low_weights(weights: list[int]) -> list[int]:
    return [index for index, weight in enumerate(weights) if 2 * weight < lower_median(weights)]


def clipped_walk(rows: Rows, iterations: int, radius_num: int, radius_den: int) -> tuple[list[int], list[int]]:
    centre, weights = median(rows), [2**16] * len(rows)
    for _ in range(iterations):
        distances = distances_q16(rows, centre)
        radius = lower_median(distances) * radius_num // radius_den
        weights = [2**16 if d <= radius else 2**16 * radius // d for d in distances]
        for place, column in enumerate(zip(*rows, strict=True)):
            pull = sum(w * (value - centre[place]) for w, value in zip(weights, column, strict=True))
            centre[place] += half_up(pull, len(rows) * 2**16)
    return centre, low_weights(weights)


def weiszfeld(rows: Rows, iterations: int) -> tuple[list[int], list[int]]:
    centre, weights = median(rows), [1] * len(rows)
    for _ in range(iterations):
        distances = [max(2**16, d) for d in distances_q16(rows, centre)]
        weights = [2**24 * min(distances) // d for d in distances]
        centre = [
            half_up(sum(w * value for w, value in zip(weights, column, strict=True)), sum(weights))
            for column in zip(*rows, strict=True)
        ]
    return centre, low_weights(weights)


def of_rule(rows: Rows, rule: str, hostile: int, iterations: int) -> tuple[list[int], list[int]]:
    """The step and the indices found far off."""
    everyone = range(len(rows))
    if rule == "mean":
        return trimmed(rows, 0), []
    if rule == "median":
        return median(rows), mostly_trimmed(rows, hostile)
    if rule == "trimmed_mean":
        return trimmed(rows, hostile), mostly_trimmed(rows, hostile)
    if rule in ("krum", "multi_krum"):
        chosen = krum_choice(rows, hostile, 1 if rule == "krum" else len(rows) - hostile)
        return trimmed([rows[i] for i in chosen], 0), [i for i in everyone if i not in chosen]
    if rule == "centred_clipping":
        return clipped_walk(rows, iterations, 1, 1)
    if rule == "geometric_median":
        return weiszfeld(rows, iterations)
    assert rule == "nnm_trimmed_mean"
    step = trimmed(nearest_mixed(longest_shortened(rows, hostile), hostile), hostile, len(rows) - hostile)
    return step, few_neighbours(rows, hostile)


def outcome(
    updates: dict[bytes, list[int]], rule: str, f_registered: int, cap_num: int, cap_den: int, iterations: int = 8
) -> tuple[list[int], list[bytes]]:
    """The step, and the devices found far off."""
    order = sorted(updates)
    rows = capped([updates[device] for device in order], cap_num, cap_den)
    step, far = of_rule(rows, rule, min(f_registered, (len(rows) - 1) // 2), iterations)
    return step, [order[index] for index in far]
