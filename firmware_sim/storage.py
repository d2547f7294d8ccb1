"""A home battery that stores the home's own surplus: power and stored energy of every step.

Rules: whole numbers; what is charged and what is stored agree to the watt-second (`_IN` of what goes in is stored,
what comes out takes `1 / _OUT` of it away), the store stays between reserve and capacity, and the course follows from
the home alone: it begins at the reserve and each step follows from the one before. It charges from surplus only and
discharges into the home's load only, so it never buys or sells by itself.
Not here: the home's load and sun (`homes`, `sun`), cars (`car`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.homes import STEP_SECONDS

_IN = (95, 100)
"""Share of the charged energy that is stored; the same share of the stored energy comes out."""
_RESERVE_SHARE = (1, 10)


@dataclass(frozen=True)
class Battery:
    """Size and strength of a home battery."""

    capacity_wh: int
    limit_w: int

    def __post_init__(self) -> None:
        if self.capacity_wh <= 0 or self.limit_w <= 0:
            raise ValueError("battery_wh and its power limit must be above 0")

    @property
    def capacity_ws(self) -> int:
        """Most stored energy in watt-seconds."""
        return self.capacity_wh * 3600

    @property
    def reserve_ws(self) -> int:
        """Least stored energy in watt-seconds."""
        return self.capacity_ws * _RESERVE_SHARE[0] // _RESERVE_SHARE[1]

    def charge_w(self, stored_ws: int, net_w: int) -> int:
        """Power into the battery (W, negative: out of it) in a step in which the home's net import is `net_w`."""
        if net_w < 0:
            room_ws = (self.capacity_ws - stored_ws) * _IN[1] // _IN[0]
            return min(-net_w, self.limit_w, room_ws // STEP_SECONDS)
        usable_ws = (stored_ws - self.reserve_ws) * _IN[0] // _IN[1]
        return -min(net_w, self.limit_w, usable_ws // STEP_SECONDS)

    def stored_after_ws(self, stored_ws: int, charge_w: int) -> int:
        """Stored energy after a step with that power; losses are rounded against the battery."""
        energy_ws = charge_w * STEP_SECONDS
        if energy_ws >= 0:
            return stored_ws + energy_ws * _IN[0] // _IN[1]
        return stored_ws - -(energy_ws * _IN[1] // _IN[0])


class BatteryCourse:
    """The course of a battery from a first step on; steps may be asked in any order.

    Holds 12 bytes for each step since the first, 6 KB a day.
    """

    def __init__(self, battery: Battery, net_w: Callable[[int], int], first_step: int) -> None:
        self.battery = battery
        self._net_w, self._first = net_w, first_step
        self._charge_w, self._stored_ws = array("i"), array("q", [battery.reserve_ws])

    def charge_w(self, step: int) -> int:
        """Power into the battery (W) in the step; ValueError for one before the first."""
        return self._charge_w[self._until(step)]

    def stored_ws(self, step: int) -> int:
        """Stored energy (watt-seconds) at the beginning of the step."""
        return self._stored_ws[self._until(step)]

    def state_of_charge_percent(self, step: int) -> float:
        """Stored energy at the beginning of the step, as a share of the capacity."""
        return 100 * self.stored_ws(step) / self.battery.capacity_ws

    def _until(self, step: int) -> int:
        index = step - self._first
        if index < 0:
            raise ValueError(f"the battery's course begins at step {self._first}, not at {step}")
        while len(self._charge_w) <= index:
            stored = self._stored_ws[-1]
            power = self.battery.charge_w(stored, self._net_w(self._first + len(self._charge_w)))
            self._charge_w.append(power)
            self._stored_ws.append(self.battery.stored_after_ws(stored, power))
        return index
