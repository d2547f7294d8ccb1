"""Cases of the vouched forecast, answered by the oracle: `python tests/forecast/forecast_vectors.py` writes the file.

Rule: the answers come from `forecast_oracle` alone, never from the module they test.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import sys
from math import pi, sin
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import forecast_oracle

from openmg.forecast.spec import NET_ENERGY, ForecastSpec

FILE = Path(__file__).parent / "vectors" / "forecast.json"
ABOUT = (
    "Vouched forecasts: integer inputs and answers of openmg.forecast.fixedpoint.forecast_wh. The model's weights are the"
    " little-endian int32 words of SHAKE-256(model_seed), each shifted right (arithmetically) by model_shift bits."
)


def feeder(seed: int, days: float, steps_per_day: int, scale_wh: int) -> list[int]:
    """A daily and a weekly wave with noise; from the standard library's generator, the same in every version."""
    noise = random.Random(seed)
    waves = (sin(2 * pi * k / steps_per_day) - 0.4 * sin(2 * pi * k / steps_per_day / 7) for k in range(10**6))
    count = round(days * steps_per_day)
    return [round(scale_wh * (wave + 0.6 * noise.random() - 0.3)) for wave, _ in zip(waves, range(count), strict=False)]


def weights(spec: ForecastSpec, seed: str, shift: int) -> list[int]:
    count = sum((a + 1) * b for a, b in zip(forecast_oracle.widths(spec), forecast_oracle.widths(spec)[1:], strict=False))
    words = struct.unpack(f"<{count}i", hashlib.shake_256(seed.encode("ascii")).digest(4 * count))
    return [word >> shift for word in words]


def case(
    name: str, spec: ForecastSpec, history: list[int], origin: int, holidays: list[int], offset: int, shift: int = 13
) -> dict[str, Any]:
    numbers = (spec.resolution_minutes, spec.horizon_hours, spec.lag_hours, *spec.hidden)
    answer = forecast_oracle.forecast_wh(spec, weights(spec, name, shift), history, origin, holidays, offset)
    return {
        "name": name,
        **dict(zip(("resolution_minutes", "horizon_hours", "lag_hours", "hidden_1", "hidden_2"), numbers, strict=True)),
        "model_seed": name,
        "model_shift": shift,
        "origin_step": origin,
        "holiday_days": holidays,
        "utc_offset_hours": offset,
        "history_wh": history,
        **dict(zip(("mean_wh", "p10_wh", "p50_wh", "p90_wh"), answer, strict=True)),
    }


def cases() -> list[dict[str, Any]]:
    hourly, largest = NET_ENERGY, [2**40, -(2**40)] * 84
    two_days = ForecastSpec(horizon_hours=48, lag_hours=24, hidden=(9, 7))
    quarters = ForecastSpec(resolution_minutes=15, horizon_hours=72, lag_hours=6, hidden=(6, 5))
    halves = ForecastSpec(resolution_minutes=30, lag_hours=168, hidden=(7, 3))
    fine = ForecastSpec(resolution_minutes=5, lag_hours=12, hidden=(5, 4))
    return [
        case("five weeks of a feeder with panels", hourly, feeder(1, 35, 24, 12_000), 494_857, [20_619], 9),
        case("exactly one week", hourly, feeder(2, 7, 24, 1_000), 494_000, [], 9),
        case("two weeks, west, holiday ahead", two_days, feeder(3, 350 / 24, 24, 200), 493_990, [20_583, 20_584], -5),
        case("a flat history", hourly, [-750] * 200, 494_001, [], 9),
        case("the largest energies", hourly, largest, 494_002, [], 14),
        case("a model of extreme weights", hourly, feeder(4, 200 / 24, 24, 9_000), 494_003, [], 0, shift=0),
        case("quarters of an hour for three days", quarters, feeder(5, 8, 96, 3_000), 1_979_430, [20_620], 9),
        case("half hours and a week of lags", halves, feeder(6, 7.5, 48, 5_000), 989_715, [], 9),
        case("five minutes", fine, feeder(7, 7, 288, 400), 5_938_291, [20_619], -12),
    ]


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(item) for item in cases())
    FILE.write_text('{"about": ' + json.dumps(ABOUT) + ',\n"cases": [\n' + lines + "\n]}\n", encoding="utf-8")
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")
