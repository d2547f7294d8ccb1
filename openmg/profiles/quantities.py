"""The names of all quantities that any meter may give, with unit and kind: the words that profiles share.

Signs, stated once for every profile: power and energy that flow from the grid into the home are positive and
`import`, power that flows out is negative and its energy `export`; counters never fall. A battery's power is
positive while it charges. `generation_*` is what an inverter makes (positive), `dc_*` and `mppt*_*` its panels.
Units are in the names: W, kWh, kvarh, V, A, Hz, degrees, percent. Phases are l1, l2, l3; a single-phase meter
gives `voltage_l1_v` and `current_l1_a`, and its only power as `power_total_w`.
Not here: where a meter keeps them (`profile`).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_MPPT = 5
"""Inputs of one inverter that have names: as many as SunSpec model 160 carries in one request."""
FACTORS = {
    ("kW", "W"): 1000.0, ("kvar", "var"): 1000.0, ("kVA", "VA"): 1000.0, ("mA", "A"): 0.001, ("mV", "V"): 0.001,
    ("Wh", "kWh"): 0.001, ("MWh", "kWh"): 1000.0, ("varh", "kvarh"): 0.001, ("Mvarh", "kvarh"): 1000.0,
    ("%", "1"): 0.01, ("mHz", "Hz"): 0.001,
}  # fmt: skip
"""What a number in the meter's unit (first) is multiplied by to get ours (second)."""
_UNITS = {
    "_w": "W", "_var": "var", "_va": "VA", "_v": "V", "_a": "A", "_hz": "Hz", "_kwh": "kWh", "_kvarh": "kvarh",
    "_deg": "deg", "_percent": "%", "_wh": "Wh", "_c": "C",
}  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """A name, the unit its values have everywhere in this project, and `gauge` or `counter`."""

    name: str
    unit: str
    kind: str


def _names() -> list[str]:
    phases = ("l1", "l2", "l3")
    names = ["frequency_hz", "energy_sum_kwh", "reactive_sum_kvarh", "voltage_mean_v", "current_mean_a", "temperature_c"]
    for where in ("total", *phases):
        names += [f"power_{where}_w", f"apparent_{where}_va", f"reactive_{where}_var", f"power_factor_{where}"]
        names += [f"phase_angle_{where}_deg"]
    for phase in phases:
        names += [f"voltage_{phase}_v", f"current_{phase}_a", f"thd_voltage_{phase}_percent"]
    names += ["voltage_l1_l2_v", "voltage_l2_l3_v", "voltage_l3_l1_v", "thd_voltage_mean_percent"]
    for direction in ("import", "export"):
        names += [f"energy_{direction}_kwh", f"reactive_{direction}_kvarh"]
        names += [f"energy_{direction}_{phase}_kwh" for phase in phases]
        names += [f"reactive_{direction}_{phase}_kvarh" for phase in phases]
    names += [f"energy_sum_{phase}_kwh" for phase in phases]
    names += ["generation_power_w", "generation_energy_kwh", "dc_power_w", "dc_voltage_v", "dc_current_a"]
    names += ["battery_power_w", "battery_voltage_v", "battery_current_a"]
    names += ["battery_soc_percent", "battery_soh_percent", "battery_capacity_wh"]
    for place in range(1, MAX_MPPT + 1):
        names += [f"mppt{place}_{what}" for what in ("power_w", "voltage_v", "current_a", "energy_kwh")]
    return names


def _quantity(name: str) -> Quantity:
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "1")
    return Quantity(name, unit, "counter" if unit in ("kWh", "kvarh") else "gauge")


QUANTITIES = {name: _quantity(name) for name in _names()}
BILLING = ("power_total_w", "energy_import_kwh", "energy_export_kwh")
"""What every meter that may stand at a home's connection must give."""


def factor(meter_unit: str, unit: str) -> float:
    """Multiplier from the meter's unit to ours; KeyError when no conversion is known."""
    return 1.0 if meter_unit == unit else FACTORS[meter_unit, unit]
