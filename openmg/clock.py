"""The one virtual clock: `sim = t0 + (wall - w0) * speed`.

Every program of a microgrid is given the same three numbers, so that a laptop can live through a day in
minutes while meters, market and learning keep their real slot length of 900 s. Production has speed 1 and
`t0 == w0`. Network deadlines and certificates use wall time and do not come here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from openmg.units import SLOT_SECONDS


def slot_of(sim_seconds: float) -> int:
    """The index of the slot that contains the simulated time (Unix seconds)."""
    return int(sim_seconds // SLOT_SECONDS)


def slot_start(slot: int) -> int:
    """Simulated Unix second at which the slot begins."""
    return slot * SLOT_SECONDS


@dataclass(frozen=True)
class VirtualClock:
    """Maps wall time to simulated time; both in Unix seconds."""

    t0: int
    w0: float
    speed: float

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError(f"clock speed is {self.speed}; it must be above 0")

    @staticmethod
    def real() -> VirtualClock:
        """The clock of production: simulated time is wall time."""
        return VirtualClock(t0=0, w0=0.0, speed=1.0)

    def now(self) -> float:
        """Simulated Unix seconds at this moment."""
        return self.at(time.time())

    def at(self, wall_seconds: float) -> float:
        """Simulated Unix seconds at the given wall time."""
        return self.t0 + (wall_seconds - self.w0) * self.speed

    def wall_at(self, sim_seconds: float) -> float:
        """Wall time (Unix seconds) at which the simulated time is reached."""
        return self.w0 + (sim_seconds - self.t0) / self.speed

    def slot(self) -> int:
        """Index of the current slot."""
        return slot_of(self.now())

    def slot_wall_seconds(self) -> float:
        """How long one slot lasts on the wall clock."""
        return SLOT_SECONDS / self.speed

    def wall_until(self, sim_seconds: float) -> float:
        """Wall seconds from now until the simulated time; 0 when it has passed."""
        return max(0.0, self.wall_at(sim_seconds) - time.time())
