"""The electricity behind one meter: exact counters and values of one or three phases that agree with each other.

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
_MAX_VOLTAGE_SHIFT_V = 22.0
"""A tenth of the nominal voltage, as EN 50160 allows: a larger customer has a stronger line."""
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
    """A meter of one or three phases on a given net power; counters are zero at the simulated time `since`."""

    def __init__(self, net_power: NetPower, since: int, seed: int, phases: int = 3) -> None:
        if phases not in (1, 3):
            raise ValueError(f"phases is {phases}; a meter has 1 or 3")
        if since % STEP_SECONDS:
            raise ValueError(f"a meter must begin at a multiple of {STEP_SECONDS} s, not at {since}")
        self._net_power = net_power
        self._step = since // STEP_SECONDS
        self._base = Counters(0, 0)
        self._seed = seed
        self._shown_step, self._shown = -1, dict[str, float | None]()
        shares = [between(0.7, 1.3, seed, 101, phase) for phase in range(phases)]
        self._shares = tuple(share / sum(shares) for share in shares)
        self._tan_load = math.tan(math.acos(between(0.93, 0.985, seed, 102)))
        self._tan_export = math.tan(math.acos(between(0.992, 0.999, seed, 103)))

    @property
    def earliest(self) -> int:
        """The earliest simulated second that can still be asked for."""
        return self._step * STEP_SECONDS

    @property
    def step(self) -> int:
        """The step that was asked for last."""
        return self._step

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

    def values(self, sim_time: float) -> dict[str, float | None]:
        """What the meter displays, by the names and units of `openmg.profiles.quantities`."""
        counters = self.counters(sim_time)
        if self._shown_step != self._step:
            self._shown_step, self._shown = self._step, self._gauges(self._net_power(self._step))
        imported_kwh = counters.import_ws / WS_PER_WH / 1000
        exported_kwh = counters.export_ws / WS_PER_WH / 1000
        shown = self._shown | self._counters("", imported_kwh, exported_kwh)
        for phase, share in enumerate(self._shares, 1):
            shown |= self._counters(f"_l{phase}", imported_kwh * share, exported_kwh * share)
        return shown

    def _gauges(self, power_w: int) -> dict[str, float | None]:
        """Everything but counters; constant within a step."""
        tangent = self._tan_load if power_w >= 0 else self._tan_export
        shown: dict[str, float | None] = {
            "frequency_hz": NOMINAL_FREQUENCY_HZ + between(-0.02, 0.02, 60, self._step),
            **_electrical("total", power_w, tangent),
        }
        voltages, currents = [], []
        for phase, share in enumerate(self._shares, 1):
            voltage, apparent = self._voltage(phase, power_w * share), abs(power_w * share) * math.hypot(1, tangent)
            voltages.append(voltage)
            currents.append(apparent / voltage)
            shown[f"voltage_l{phase}_v"], shown[f"current_l{phase}_a"] = voltage, currents[-1]
            shown[f"thd_voltage_l{phase}_percent"] = between(1.2, 2.8, self._seed, self._step, 200 + phase)
            shown |= _electrical(f"l{phase}", power_w * share, tangent)
        return shown | _means(voltages, currents, shown)

    def _voltage(self, phase: int, power_w: float) -> float:
        shift = min(_MAX_VOLTAGE_SHIFT_V, max(-_MAX_VOLTAGE_SHIFT_V, power_w * _VOLT_PER_WATT))
        return NOMINAL_VOLTAGE_V + between(-1.5, 1.5, self._seed, self._step, phase) - shift

    def _counters(self, phase: str, imported_kwh: float, exported_kwh: float) -> dict[str, float]:
        reactive_import, reactive_export = imported_kwh * self._tan_load, exported_kwh * self._tan_export
        return {
            f"energy_import{phase}_kwh": imported_kwh,
            f"energy_export{phase}_kwh": exported_kwh,
            f"energy_sum{phase}_kwh": imported_kwh + exported_kwh,
            f"reactive_import{phase}_kvarh": reactive_import,
            f"reactive_export{phase}_kvarh": reactive_export,
            f"reactive_sum{phase}_kvarh": reactive_import + reactive_export,
        }


def _electrical(where: str, power_w: float, tangent: float) -> dict[str, float]:
    """Powers, factor and angle of a phase or of all, consistent by S^2 = P^2 + Q^2."""
    reactive = power_w * tangent
    apparent = math.hypot(power_w, reactive)
    return {
        f"power_{where}_w": float(power_w),
        f"apparent_{where}_va": apparent,
        f"reactive_{where}_var": reactive,
        f"power_factor_{where}": power_w / apparent if apparent else 1.0,
        f"phase_angle_{where}_deg": math.degrees(math.atan2(reactive, power_w)) if apparent else 0.0,
    }


def _means(voltages: list[float], currents: list[float], shown: Mapping[str, float | None]) -> dict[str, float | None]:
    """Means over the phases, and the voltages between phases that stand 120 degrees apart."""
    phases = len(voltages)
    distortions = [shown[f"thd_voltage_l{phase}_percent"] or 0.0 for phase in range(1, phases + 1)]
    means: dict[str, float | None] = {
        "voltage_mean_v": sum(voltages) / phases,
        "current_mean_a": sum(currents) / phases,
        "thd_voltage_mean_percent": sum(distortions) / phases,
    }
    for first in range(phases if phases == 3 else 0):
        a, b = voltages[first], voltages[(first + 1) % 3]
        means[f"voltage_l{first + 1}_l{(first + 1) % 3 + 1}_v"] = math.sqrt(a * a + b * b + a * b)
    return means
