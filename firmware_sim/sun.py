"""Photovoltaic power: the sun's height over the site, the clouds of the day, the size of the plant.

Rules: pure functions of (seed, time); neighbours share the same clouds except for a small local part, so that
their output is as correlated as in a street. One local day can be declared clear (the day a demonstration
starts).
Source: declination and hour angle after Cooper (Solar Energy 12, 1969); output grows with the sine of the
elevation.
Not here: temperature, panel tilt and shading, whose effect is in one efficiency constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from firmware_sim.homes import DAY_SECONDS, KOREA_UTC_OFFSET, STEP_SECONDS, STEPS_PER_DAY, Home, step_of
from firmware_sim.noise import between, unit

_EFFICIENCY = 0.86
"""Share of the plate power left after inverter, wiring, dust and heat."""
_AIR_EXPONENT = 1.15
"""Loss in the longer way through the air when the sun is low."""
_CLOUD_KNOT_SECONDS = 1500
"""Clouds change over about 25 minutes."""
_CACHED_DAYS = 512
"""Days kept, of the sky and of each plant (as `homes` does)."""
_CACHED_SKY_DAYS = 64
"""Neighbours share the sky, so few of its days serve many plants; 60 KB each."""
_CACHED_KNOTS = 4096


@dataclass(frozen=True)
class Sky:
    """The sky over a site (Seoul); clouds come from the seed; `clear_day` counts local days since 1970."""

    seed: int
    clear_day: int
    latitude_deg: float = 37.57
    longitude_deg: float = 126.98
    utc_offset: int = KOREA_UTC_OFFSET


def local_day(sim_time: float, utc_offset: int = KOREA_UTC_OFFSET) -> int:
    """Number of the local day that contains the simulated Unix time."""
    return int((sim_time + utc_offset) // DAY_SECONDS)


def sine_of_elevation(sky: Sky, sim_time: float) -> float:
    """Sine of the sun's height over the horizon, 0 at night."""
    day_of_year = (sim_time / DAY_SECONDS) % 365.2425
    declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day_of_year + 1) / 365.2425)
    solar_hours = (sim_time % DAY_SECONDS) / 3600 + sky.longitude_deg / 15
    hour_angle = math.radians(15 * (solar_hours - 12))
    latitude = math.radians(sky.latitude_deg)
    sine = math.sin(latitude) * math.sin(declination)
    sine += math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    return max(0.0, sine)


@lru_cache(maxsize=_CACHED_DAYS)
def _clearness(sky: Sky, day: int) -> tuple[float, float]:
    """(mean share of light that passes, swing around it) of a local day."""
    if day == sky.clear_day:
        return 0.99, 0.01
    kind = unit(sky.seed, day, 1)
    if kind < 0.5:
        return between(0.92, 0.99, sky.seed, day, 2), 0.03
    if kind < 0.8:
        return between(0.55, 0.75, sky.seed, day, 2), 0.30
    return between(0.18, 0.35, sky.seed, day, 2), 0.10


@lru_cache(maxsize=_CACHED_KNOTS)
def _knot(seed: int, knot: int) -> float:
    return between(-1, 1, seed, knot, 5)


def _drift(seed: int, sim_time: float) -> float:
    """Smooth noise in [-1, 1] that turns over in about 25 minutes."""
    knot, part = divmod(sim_time, _CLOUD_KNOT_SECONDS)
    ease = (1 - math.cos(math.pi * part / _CLOUD_KNOT_SECONDS)) / 2
    left, right = _knot(seed, int(knot)), _knot(seed, int(knot) + 1)
    return left + (right - left) * ease


@lru_cache(maxsize=_CACHED_SKY_DAYS)
def _day_of_sky(sky: Sky, day: int) -> tuple[tuple[float, float, float], ...]:
    """(middle of the step, sine of the sun's height, drift of the clouds) of each step of a local day."""
    found = []
    for step in range(STEPS_PER_DAY):
        middle = day * DAY_SECONDS + (step + 0.5) * STEP_SECONDS - sky.utc_offset
        sine = sine_of_elevation(sky, middle)
        found.append((middle, sine, _drift(sky.seed, middle) if sine > 0.0 else 0.0))
    return tuple(found)


def pv_w(home: Home, sky: Sky, sim_time: float) -> int:
    """Power of the home's PV plant (W, >= 0) at the simulated Unix time, constant within a step."""
    if home.pv_peak_w == 0:
        return 0
    local_step = step_of(sim_time + sky.utc_offset)
    return _day_of_pv(home, sky, local_step // STEPS_PER_DAY)[local_step % STEPS_PER_DAY]


@lru_cache(maxsize=_CACHED_DAYS)
def _day_of_pv(home: Home, sky: Sky, day: int) -> tuple[int, ...]:
    """Watts of each step of a local day, taken at the middle of the step."""
    mean, swing = _clearness(sky, day)
    watts = []
    for middle, sine, drift in _day_of_sky(sky, day):
        if sine > 0.0:
            clouds = mean + swing * (0.8 * drift + 0.2 * _drift(home.seed, middle))
            sine = sine**_AIR_EXPONENT * min(1.0, max(0.05, clouds))
        watts.append(round(home.pv_peak_w * _EFFICIENCY * sine))
    return tuple(watts)
