"""What stands in a home behind its meter: demand, panels, a battery; and the meter that sees all of them together.

Rules: pure functions of the step; the home's net import is demand, less what the panels make, plus what goes into the
battery. Not here: where demand comes from (`homes`, `dataset`, `car`), registers (`image`, `sunspec_image`).
"""

from __future__ import annotations

from firmware_sim.meter import Meter, NetPower
from firmware_sim.storage import Battery, BatteryCourse
from firmware_sim.sunspec_image import panel_values

HOURS_TO_FILL = 2
"""A home battery is filled in about two hours at full power."""
_BATTERY_VOLTAGE_V = 51.2


class Installation:
    """A home's parts by step; `battery_wh` is 0 without a battery, `made_w` None without panels."""

    def __init__(self, demand_w: NetPower, made_w: NetPower | None, battery_wh: int, first_step: int) -> None:
        self._demand_w, self.made_w = demand_w, made_w
        self.battery: BatteryCourse | None = None
        if battery_wh:
            self.battery = BatteryCourse(Battery(battery_wh, battery_wh // HOURS_TO_FILL), self._before_battery_w, first_step)

    def net_w(self, step: int) -> int:
        """Net import of the home (W) in the step."""
        charge_w = self.battery.charge_w(step) if self.battery is not None else 0
        return self._before_battery_w(step) + charge_w

    def _before_battery_w(self, step: int) -> int:
        return self._demand_w(step) - (self.made_w(step) if self.made_w is not None else 0)

    def battery_values(self, step: int) -> dict[str, float | None]:
        """What the battery's own display shows; empty without one."""
        if self.battery is None:
            return {}
        size, power_w = self.battery.battery, self.battery.charge_w(step)
        return {
            "battery_power_w": float(power_w),
            "battery_soc_percent": self.battery.state_of_charge_percent(step),
            "battery_capacity_wh": float(size.capacity_wh),
            "battery_limit_w": float(size.limit_w),
            "battery_voltage_v": _BATTERY_VOLTAGE_V,
            "battery_current_a": power_w / _BATTERY_VOLTAGE_V,
        }


class HomeMeter(Meter):
    """The meter of a home that also knows, for a SunSpec device, what its panels and battery do."""

    def __init__(self, installation: Installation, since: int, seed: int, phases: int = 3) -> None:
        super().__init__(installation.net_w, since, seed, phases)
        self.installation = installation
        self._panels: Meter | None = None
        if (made_w := installation.made_w) is not None:
            self._panels = Meter(lambda step: -made_w(step), since, seed, phases)

    def all_values(self, sim_time: float) -> dict[str, float | None]:
        """`values` and those of panels and battery."""
        shown = self.values(sim_time) | self.installation.battery_values(self.step)
        if self._panels is not None:
            made_kwh = self._panels.counters(sim_time).export_ws / 3_600_000
            made_w = float(-self._panels.power_w(sim_time))
            shown |= {"generation_power_w": made_w, "generation_energy_kwh": made_kwh, **panel_values(made_w, made_kwh)}
        return shown
