"""Synthetic homes of real daily shape: who lives there and what power the household draws at any moment.

Rules: pure functions of (home, simulated time); power is a whole number of watts and constant within a step
of 180 s, so that energy is an exact integer of watt-seconds. Shape: standby and refrigerator, morning and
evening peaks that move on weekends, cooking and washing at the home's own habits, a little cooling in summer,
noise; about 6 to 14 kWh a day, as Korean flats use. Not here: sun and clouds (`sun`), batteries (`storage`), cars
(`car`), measured homes (`dataset`), meters (`meter`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from firmware_sim.noise import between, mix, unit

STEP_SECONDS = 180
"""Power is constant this long: 5 steps in a slot, short enough that a live screen moves."""
DAY_SECONDS = 86_400
STEPS_PER_DAY = DAY_SECONDS // STEP_SECONDS
STEPS_PER_SLOT = 5
KOREA_UTC_OFFSET = 9 * 3600
"""Asia/Seoul keeps one offset all year, so no time zone data is needed."""
KINDS = ("prosumer", "producer", "consumer", "battery", "ev")
"""`battery` is a prosumer with a home battery, `ev` a consumer (or, with PV, a prosumer) with an electric car."""
_STREET_KINDS = ("prosumer", "consumer", "battery", "prosumer", "ev", "consumer")
DEFAULT_BATTERY_WH = 10_000
_CACHED_DAYS = 512
"""Days of load kept: 14 homes over 36 days, or 500 homes today; 17 KB each."""
_MAX_HOMES = 10_000
_PROSUMER_PEAKS_W = (3000, 350, 4500, 2500, 700, 3500, 350, 1400, 5000)
"""Usual sizes in Korea: rooftops, and balcony panels of 350 or 700 W that leave a home short at times."""
_PRODUCER_PEAK_W = 12_000


@dataclass(frozen=True)
class Home:
    """One home: its kind and place, its installed PV (W peak), the seed of its habits, its battery's size (Wh)."""

    name: str
    kind: str
    microgrid: int
    seed: int
    pv_peak_w: int
    battery_wh: int = 0

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty; give the home a name")
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        if self.pv_peak_w < 0:
            raise ValueError(f"pv_peak_w is {self.pv_peak_w}; it must be 0 or more")
        if self.battery_wh < 0 or (self.battery_wh > 0) != (self.kind == "battery"):
            raise ValueError(f"battery_wh is {self.battery_wh}; it must be above 0 for kind 'battery' and 0 for others")


def step_of(sim_time: float) -> int:
    """Index of the power step that contains the simulated time."""
    return int(sim_time // STEP_SECONDS)


def fleet(count: int, seed: int) -> tuple[Home, ...]:
    """`count` homes: mostly prosumers, a sixth consumers, a twelfth producers (12: nine, two and one).

    From ten homes on the first half is microgrid 1 and the rest microgrid 2; each half gets a consumer.
    """
    if count < 1:
        raise ValueError(f"homes is {count}; it must be 1 or more")
    kinds = ["prosumer"] * count
    consumers = max(1, count // 6) if count > 1 else 0
    for i in range(consumers):
        kinds[(i + 1) * count // (consumers + 1) - 1] = "consumer"
    for i in range(max(1, count // 12) if count >= 6 else 0):
        place = (count // 2 - 1 + i * 12) % count
        while kinds[place] != "prosumer":
            place = (place + 1) % count
        kinds[place] = "producer"
    return tuple(
        Home(
            name=f"home-{i + 1}",
            kind=kind,
            microgrid=1 if count < 10 or i < count // 2 else 2,
            seed=mix(seed, i + 1) >> 1,
            pv_peak_w=_pv_peak_w(kind, i, seed),
        )
        for i, kind in enumerate(kinds)
    )


def street(count: int, seed: int) -> tuple[Home, ...]:
    """`count` homes of all kinds in turn, all in microgrid 1; every twelfth is a producer."""
    if count < 1:
        raise ValueError(f"meters is {count}; it must be 1 or more")
    homes = []
    for i in range(count):
        kind = "producer" if i % 12 == 11 else _STREET_KINDS[i % len(_STREET_KINDS)]
        peak_w = _pv_peak_w("consumer" if kind == "ev" else kind, i, seed)
        battery_wh = DEFAULT_BATTERY_WH if kind == "battery" else 0
        homes.append(Home(f"meter-{i + 1}", kind, 1, mix(seed, i + 1) >> 1, peak_w, battery_wh))
    return tuple(homes)


def _pv_peak_w(kind: str, index: int, seed: int) -> int:
    if kind == "consumer":
        return 0
    if kind == "producer":
        return _PRODUCER_PEAK_W
    peak_w = _PROSUMER_PEAKS_W[index % len(_PROSUMER_PEAKS_W)]
    return peak_w + round(peak_w * between(-0.08, 0.08, seed, index, 77) / 10) * 10


def household_load_w(home: Home, sim_time: float, utc_offset: int = KOREA_UTC_OFFSET) -> int:
    """Power that the household draws (W, >= 0) at the simulated Unix time."""
    local_step = step_of(sim_time + utc_offset)
    return _day_of_load(home, local_step // STEPS_PER_DAY)[local_step % STEPS_PER_DAY]


def _bump(hour: float, centre: float, spread: float) -> float:
    """A bell of height 1 around an hour of the day, closed over midnight."""
    distance = abs(hour - centre)
    distance = min(distance, 24 - distance)
    return math.exp(-0.5 * (distance / spread) ** 2) if distance < 4 * spread else 0.0


@lru_cache(maxsize=1)
def _fixed_bumps() -> tuple[tuple[float, float, float], ...]:
    """(hour, bell of the middle of the day, bells of cooling) of each step: the same in all homes."""
    hours = [(step + 0.5) * 24 / STEPS_PER_DAY for step in range(STEPS_PER_DAY)]
    return tuple((h, _bump(h, 13.0, 2.2), _bump(h, 15.5, 2.4) + 0.7 * _bump(h, 21.5, 1.6)) for h in hours)


def _is_weekend(day: int) -> bool:
    return (day + 3) % 7 >= 5  # day 0, 1 January 1970, was a Thursday


def _warmth(day: int) -> float:
    """0 from autumn to spring, 1 at the height of summer (day of the year about 213)."""
    return max(0.0, math.cos(2 * math.pi * ((day % 365.2425) - 213) / 365.2425)) ** 3


@dataclass(frozen=True)
class _Habits:
    """What the people of a home do every day, drawn once from its seed."""

    scale: float
    standby_w: float
    morning: float
    evening: float
    morning_w: float
    evening_w: float
    daytime_w: float
    cooling_w: float


@lru_cache(maxsize=_MAX_HOMES)
def _habits(seed: int) -> _Habits:
    return _Habits(
        scale=between(0.75, 1.3, seed, 1),
        standby_w=between(55, 130, seed, 2),
        morning=between(6.4, 8.2, seed, 3),
        evening=between(18.6, 21.2, seed, 4),
        morning_w=between(150, 420, seed, 5),
        evening_w=between(350, 850, seed, 6),
        daytime_w=between(0, 1, seed, 7) ** 2 * 350,
        cooling_w=between(200, 800, seed, 8),
    )


@lru_cache(maxsize=_CACHED_DAYS)
def _day_of_load(home: Home, day: int) -> tuple[int, ...]:
    """Watts of each step of a local day."""
    if home.kind == "producer":  # an inverter hall: standby only
        return tuple(8 + mix(home.seed, day, step) % 5 for step in range(STEPS_PER_DAY))
    habits, weekend = _habits(home.seed), _is_weekend(day)
    level = habits.scale * between(0.88, 1.12, home.seed, day, 11)
    cooling = habits.cooling_w * _warmth(day) * between(0.3, 1.0, home.seed, day, 12)
    appliances = _appliances(home.seed, day, habits, weekend)
    morning = habits.morning + (1.6 if weekend else 0.0)
    daytime = habits.daytime_w + (180.0 if weekend else 0.0)
    fridge_phase = mix(home.seed, 13)
    watts = []
    for step, (hour, midday_bump, cooling_bump) in enumerate(_fixed_bumps()):
        power = habits.standby_w + habits.morning_w * _bump(hour, morning, 0.9)
        power += habits.evening_w * _bump(hour, habits.evening, 1.9) + daytime * midday_bump
        power += cooling * cooling_bump
        power *= level * between(0.92, 1.08, home.seed, day, step)
        if (day * STEPS_PER_DAY + step + fridge_phase) % 15 < 5:  # on 15 of every 45 minutes
            power += 95
        watts.append(round(power + appliances[step]))
    return tuple(watts)


def _appliances(seed: int, day: int, habits: _Habits, weekend: bool) -> list[float]:
    """Watts of cooking and washing for each step of the day."""
    watts = [0.0] * STEPS_PER_DAY
    runs = [(habits.morning + 0.3, 1100, 12, 0.85), (habits.evening - 0.8, 1700, 24, 0.9)]
    runs.append((12.4, 1300, 15, 0.7 if weekend else 0.25))
    washing_hour = 10.3 if weekend else habits.evening + 1.0
    runs.append((washing_hour, 480, 54, 0.45 if mix(seed, 14) % 7 != day % 7 else 0.9))
    for number, (hour, power_w, minutes, chance) in enumerate(runs):
        if unit(seed, day, 20 + number) >= chance:
            continue
        start = hour + between(-0.5, 0.5, seed, day, 30 + number)
        first = int(start * STEPS_PER_DAY / 24)
        for step in range(first, first + minutes * 60 // STEP_SECONDS):
            if step < STEPS_PER_DAY:
                watts[step] += power_w
    return watts
