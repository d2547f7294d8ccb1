"""Aggregation written again in plain Python integers and lists, as slowly and plainly as it can be said."""

from __future__ import annotations

from math import isqrt

Rows = list[list[int]]


def half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def capped(rows: Rows, cap_num: int, cap_den: int) -> Rows:
    norms = [isqrt(sum(v * v for v in row)) for row in rows]
    cap = sorted(norms)[(len(norms) - 1) // 2] * cap_num // cap_den
    result = []
    for row, norm in zip(rows, norms, strict=True):
        short = [abs(v) * cap // norm * (1 if v > 0 else -1) for v in row] if norm > cap else row
        result.append(short)
    return result


def trimmed(rows: Rows, hostile: int, divisor: int = 1) -> list[int]:
    step = []
    for column in zip(*rows, strict=True):
        kept = sorted(column)[hostile : len(rows) - hostile]
        step.append(half_up(sum(kept), len(kept) * divisor))
    return step


def nearest_mixed(rows: Rows, hostile: int) -> Rows:
    mixed = []
    for row in rows:
        far = [(sum((a - b) ** 2 for a, b in zip(row, other, strict=True)), i) for i, other in enumerate(rows)]
        near = [rows[i] for _, i in sorted(far)[: len(rows) - hostile]]
        mixed.append([sum(column) for column in zip(*near, strict=True)])
    return mixed


def step(updates: dict[bytes, list[int]], rule: str, f_registered: int, cap_num: int, cap_den: int) -> list[int]:
    rows = capped([updates[device] for device in sorted(updates)], cap_num, cap_den)
    hostile = min(f_registered, (len(rows) - 1) // 2)
    if rule == "mean":
        return trimmed(rows, 0)
    if rule == "trimmed_mean":
        return trimmed(rows, hostile)
    return trimmed(nearest_mixed(rows, hostile), hostile, len(rows) - hostile)
