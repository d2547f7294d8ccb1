"""A small file of households for tests of `openmg ppdl train`: a hundred days of half hours, seeded."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2021, 3, 1)
DAYS = 100
ROWS_PER_DAY = 48
SPLIT = "2021-05-20"


def household(seed: int) -> np.ndarray:
    """kWh of each half hour: an evening peak, weekends, ragged use."""
    random = np.random.default_rng(seed)
    row = np.arange(DAYS * ROWS_PER_DAY)
    hour, day = row % ROWS_PER_DAY / 2, row // ROWS_PER_DAY
    evening = np.exp(-((hour - random.uniform(18, 20)) ** 2) / 4)
    weekend = (day % 7 >= 5) * np.exp(-((hour - 12) ** 2) / 9)
    return (0.05 + 0.5 * evening + 0.3 * weekend) * random.lognormal(sigma=0.5, size=len(row))


def write_households(path: Path, homes: int, holes: int = 0, empty: int = 0) -> Path:
    """`homes` usual columns h0.., then `holes` that are half unknown and `empty` that use nothing."""
    columns = [household(number) for number in range(homes)]
    columns += [np.where(np.arange(DAYS * ROWS_PER_DAY) % 2, np.nan, household(100 + n)) for n in range(holes)]
    columns += [np.zeros(DAYS * ROWS_PER_DAY) for _ in range(empty)]
    lines = [",".join(["time", *(f"h{number}" for number in range(len(columns)))])]
    for row, values in enumerate(np.stack(columns, 1)):
        cells = ("" if np.isnan(value) else f"{value:.3f}" for value in values)
        lines.append(",".join([(START + timedelta(minutes=30 * row)).isoformat(), *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
