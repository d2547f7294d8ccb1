"""An electric car that is charged at home in the evening: power of every step.

Rules: a pure function of the home and the time; a session begins when the car comes home (17 to 21 o'clock), puts in
what the day's trips have used, and ends: its energy is exact, the last step being weaker. On some days the car stays
away. Not here: tariffs and smart charging.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from firmware_sim.homes import KOREA_UTC_OFFSET, STEP_SECONDS, STEPS_PER_DAY, Home, step_of
from firmware_sim.noise import between, unit

CHARGER_W = 7_000
"""A single-phase wall box of 32 A."""
_WH_PER_KM = 165
_STAYS_AWAY = 0.2
"""One day in five, as cars stand unused or are charged elsewhere."""
_CACHED_DAYS = 2048


@dataclass(frozen=True)
class Session:
    """A charge: its first step (of the local day), and whole watts of each of its steps."""

    first_step: int
    watts: tuple[int, ...]

    @property
    def energy_wh(self) -> float:
        """Energy drawn over the session."""
        return sum(self.watts) * STEP_SECONDS / 3600


@lru_cache(maxsize=_CACHED_DAYS)
def session(home: Home, day: int) -> Session | None:
    """The charge that begins on that local day (days since 1970), if there is one."""
    if home.kind != "ev" or unit(home.seed, day, 401) < _STAYS_AWAY:
        return None
    need_wh = round(between(15, 70, home.seed, day, 402) * _WH_PER_KM)
    whole, rest_ws = divmod(need_wh * 3600, CHARGER_W * STEP_SECONDS)
    last_w = rest_ws // STEP_SECONDS
    first = int(between(17.0, 21.0, home.seed, day, 403) * 3600) // STEP_SECONDS
    return Session(first, (CHARGER_W,) * whole + ((last_w,) if last_w else ()))


def car_w(home: Home, sim_time: float, utc_offset: int = KOREA_UTC_OFFSET) -> int:
    """Power into the home's car (W) at the simulated Unix time."""
    local_step = step_of(sim_time + utc_offset)
    day, step = divmod(local_step, STEPS_PER_DAY)
    for begun, passed in ((day, step), (day - 1, step + STEPS_PER_DAY)):  # a session may last past midnight
        charge = session(home, begun)
        if charge is not None and 0 <= passed - charge.first_step < len(charge.watts):
            return charge.watts[passed - charge.first_step]
    return 0
