"""The electricity behind one meter: exact counters and three-phase values that agree with each other.

Rules: net power is a whole number of watts, constant in a step, so counters are exact integers of
watt-seconds; they only grow, and what a meter shows is a function of time alone. Phases share the power by
fixed shares, so phase values add up to the total. Import is positive. Not here: Modbus (`pdu`, `server`),
homes, clocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from firmware_sim.homes import STEP_SECONDS
from firmware_sim.noise import between

WS_PER_WH = 3600
NOMINAL_VOLTAGE_V = 220.0
NOMINAL_FREQUENCY_HZ = 60.0
_VOLT_PER_WATT = 0.0006
"""Voltage falls with import and rises with export on a usual service line (0.1 to 0.2 ohm per phase)."""
NetPower = Callable[[int], int]
"""Net power (W, import positive) of the step with that index."""


@dataclass(frozen=True)
class Counters:
    """Energy through a meter since its counters began, in watt-seconds."""

    import_ws: int
    export_ws: int

    @property
    def import_wh(self) -> int:
        """Imported energy, rounded to the nearest Wh as a reader of the kWh register sees it."""
        return (self.import_ws + WS_PER_WH // 2) // WS_PER_WH

    @property
    def export_wh(self) -> int:
        """Exported energy, rounded to the nearest Wh."""
        return (self.export_ws + WS_PER_WH // 2) // WS_PER_WH


class Meter:
    """A three-phase meter on a given net power; counters are zero at the simulated time `since`."""

    def __init__(self, net_power: NetPower, since: int, seed: int) -> None:
        if since % STEP_SECONDS:
            raise ValueError(f"a meter must begin at a multiple of {STEP_SECONDS} s, not at {since}")
        self._net_power = net_power
        self._step = since // STEP_SECONDS
        self._base = Counters(0, 0)
        self._seed = seed
        shares = [between(0.7, 1.3, seed, 101, phase) for phase in range(3)]
        self._shares = tuple(share / sum(shares) for share in shares)
        self._tan_load = math.tan(math.acos(between(0.93, 0.985, seed, 102)))
        self._tan_export = math.tan(math.acos(between(0.992, 0.999, seed, 103)))

    @property
    def earliest(self) -> int:
        """The earliest simulated second that can still be asked for."""
        return self._step * STEP_SECONDS

    def power_w(self, sim_time: float) -> int:
        """Net power (W) at the simulated time."""
        return self._net_power(int(sim_time // STEP_SECONDS))

    def counters(self, sim_time: float) -> Counters:
        """Exact counters at the simulated time, which must not lie before an earlier call's step."""
        step = int(sim_time // STEP_SECONDS)
        if step < self._step:
            raise ValueError("a meter's time does not run backwards")
        imported, exported = self._base.import_ws, self._base.export_ws
        for passed in range(self._step, step):
            energy_ws = self._net_power(passed) * STEP_SECONDS
            imported, exported = imported + max(energy_ws, 0), exported + max(-energy_ws, 0)
        self._step, self._base = step, Counters(imported, exported)
        energy_ws = int(self._net_power(step) * (sim_time - step * STEP_SECONDS))
        return Counters(imported + max(energy_ws, 0), exported + max(-energy_ws, 0))

    def values(self, sim_time: float) -> Mapping[str, float]:
        """What the meter displays, by the point names and units of the meter profiles."""
        counters, power_w = self.counters(sim_time), self.power_w(sim_time)
        imported_kwh = counters.import_ws / WS_PER_WH / 1000
        exported_kwh = counters.export_ws / WS_PER_WH / 1000
        tangent = self._tan_load if power_w >= 0 else self._tan_export
        shown: dict[str, float] = {
            "power_total_w": float(power_w),
            "frequency_hz": NOMINAL_FREQUENCY_HZ + between(-0.02, 0.02, 60, self._step),
            "energy_import_kwh": imported_kwh,
            "energy_export_kwh": exported_kwh,
            "energy_sum_kwh": imported_kwh + exported_kwh,
            "reactive_import_kvarh": imported_kwh * self._tan_load,
            "reactive_export_kvarh": exported_kwh * self._tan_export,
        }
        shown |= _totals(power_w, tangent)
        for phase, share in enumerate(self._shares, 1):
            shown |= self._phase(phase, power_w * share, tangent)
            shown[f"energy_import_l{phase}_kwh"] = imported_kwh * share
            shown[f"energy_export_l{phase}_kwh"] = exported_kwh * share
        return shown

    def _phase(self, phase: int, power_w: float, tangent: float) -> dict[str, float]:
        """Voltage, current, powers and angle of a phase, consistent by U * I = S and S^2 = P^2 + Q^2."""
        voltage = NOMINAL_VOLTAGE_V + between(-1.5, 1.5, self._seed, self._step, phase) - power_w * _VOLT_PER_WATT
        reactive = power_w * tangent
        apparent = math.hypot(power_w, reactive)
        return {
            f"voltage_l{phase}_v": voltage,
            f"current_l{phase}_a": apparent / voltage,
            f"power_l{phase}_w": power_w,
            f"apparent_l{phase}_va": apparent,
            f"reactive_l{phase}_var": reactive,
            f"power_factor_l{phase}": power_w / apparent if apparent else 1.0,
            f"phase_angle_l{phase}_deg": math.degrees(math.atan2(reactive, power_w)) if apparent else 0.0,
        }


def _totals(power_w: int, tangent: float) -> dict[str, float]:
    reactive = power_w * tangent
    apparent = math.hypot(power_w, reactive)
    return {
        "apparent_total_va": apparent,
        "reactive_total_var": reactive,
        "power_factor_total": power_w / apparent if apparent else 1.0,
        "phase_angle_total_deg": math.degrees(math.atan2(reactive, power_w)) if apparent else 0.0,
    }
