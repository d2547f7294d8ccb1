"""The registers of a simulated SunSpec device: marker, models one after the other, end.

Rules: pure but for the models' data files; the layout is fixed when the device is made, the scale factors are chosen
anew for every image, as fine as the numbers allow, so that a reader that takes them from another request reads wrong.
Points that nothing is known of carry the code for "not implemented". Accumulators roll over at 2^32.
Not here: answering requests (`pdu`), which models a home's device has (`neighbourhood`).
Source: SunSpec Information Model Specification V1.9 sections 4 to 6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firmware_sim.image import Image, RawSpan
from openmg.profiles.profile_file import SunSpecOptions
from openmg.profiles.quantities import QUANTITIES
from openmg.profiles.registers import encode, encode_text, limits, no_value
from openmg.profiles.sunspec import END_ID, HEADER, INVERTER_IDS, MARKER, METER_IDS, turned
from openmg.profiles.sunspec_models import NUMBER_TYPES, Model, ModelPoint, Term, models

FINEST_EXPONENT, COARSEST_EXPONENT = -3, 6
MPPT_SHARES = (0.55, 0.45)
"""Two strings of panels, one a little longer."""
_STATES = {"asleep": 2, "mppt": 4}
"""Inverter states SLEEPING and MPPT of models 101 to 113."""
_CONVERSION = 0.97
"""AC power out of DC power in."""
_STRING_VOLTAGE_V = 380.0
Values = Mapping[str, float | None]
Direct = Mapping[str, float | str | None]
"""Values by the names of a model's points, in their units."""


@dataclass(frozen=True)
class NamePlate:
    """What model 1 says."""

    model: str
    serial: str
    unit: int


class SunSpecCoder:
    """Encodes the values of one device; `model_ids` in the order in which its map shows them."""

    limits_kwh = dict.fromkeys(("energy_import_kwh", "energy_export_kwh", "generation_energy_kwh"), 2**32 / 1000)
    """Accumulators count Wh here."""
    can_miss = frozenset(name for name, quantity in QUANTITIES.items() if quantity.kind == "gauge")
    refresh_s = 1.0
    """Simulated seconds for which an image stands, as such devices measure about once a second."""

    def __init__(self, model_ids: Sequence[int], options: SunSpecOptions, plate: NamePlate, base: int | None = None) -> None:
        unknown = [str(model_id) for model_id in model_ids if model_id not in models()]
        if unknown:
            raise ValueError(f"SunSpec model {', '.join(unknown)} is unknown; use {', '.join(map(str, sorted(models())))}")
        self.model_ids, self.options, self.plate = tuple(model_ids), options, plate
        self.base = options.bases[0] if base is None else base
        self._with_meter = any(model_id in METER_IDS for model_id in model_ids)

    def image(self, values: Values) -> Image:
        """The registers of a device that shows these values."""
        registers = list(MARKER)
        for model_id in self.model_ids:
            registers += self._block(model_id, values)
        registers += (END_ID, 0)
        return (RawSpan(self.base, struct.pack(f">{len(registers)}H", *registers)),)

    def _block(self, model_id: int, values: Values) -> list[int]:
        model = models()[model_id]
        shown = inverter_values(values) if model_id in INVERTER_IDS else values
        wanted = dict(model.quantities)
        if not self._with_meter:
            wanted |= model.without_meter
        elif model_id in INVERTER_IDS:
            wanted = {**model.without_meter, **wanted}
        direct = {**_by_point(wanted, shown, self.options), **self._known(model_id, shown)}
        modules = [_by_point(_of_place(model, i + 1), values, self.options) for i in range(int(direct.get("N") or 0))]
        return _registers(model_id, model, direct, modules)

    def _known(self, model_id: int, values: Values) -> dict[str, float | str | None]:
        """Points that are no quantities but that a device of that model has."""
        currents = [values.get(f"current_l{phase}_a") for phase in (1, 2, 3)]
        total_a = sum(current for current in currents if current is not None)
        if model_id == 1:
            return {"Mn": "Enhanced Open MG", "Md": self.plate.model, "Vr": "1", "SN": self.plate.serial, "DA": self.plate.unit}
        if model_id in METER_IDS:
            return {"A": total_a, "Evt": 0}
        if model_id in INVERTER_IDS:
            state = _STATES["mppt" if (values.get("generation_power_w") or 0) > 0 else "asleep"]
            return {"A": total_a, "St": state, "Evt1": 0, "Evt2": 0}
        if model_id == 160:
            return {"N": len(MPPT_SHARES), "Evt": 0}
        if model_id == 124:
            return {"WChaMax": values.get("battery_limit_w"), "StorCtl_Mod": 0}
        limit = values.get("battery_limit_w")
        return {"WChaRteMax": limit, "WDisChaRteMax": limit, "LocRemCtl": 0, "Typ": 4, "State": 3, "Evt1": 0, "Evt2": 0}


def inverter_values(values: Values) -> dict[str, float | None]:
    """What the inverter of a home shows on its own AC side: export only, at the home's voltage and frequency."""
    made_w, made_kwh = values.get("generation_power_w"), values.get("generation_energy_kwh")
    shown = {name: value for name, value in values.items() if name.startswith(("voltage_", "frequency", "generation_", "dc_"))}
    if made_w is None:
        return shown
    voltages = [value for name in ("l1", "l2", "l3") if (value := values.get(f"voltage_{name}_v")) is not None]
    for phase, voltage in enumerate(voltages, 1):
        shown[f"current_l{phase}_a"] = made_w / len(voltages) / voltage
    shown |= {"power_total_w": -made_w, "energy_export_kwh": made_kwh, "apparent_total_va": made_w, "power_factor_total": 1.0}
    return shown


def panel_values(made_w: float, made_kwh: float) -> dict[str, float | None]:
    """DC side of a plant that makes this AC power, and the inputs of its inverter."""
    dc_w = made_w / _CONVERSION
    volts = _STRING_VOLTAGE_V if made_w else 0.0
    found: dict[str, float | None] = {"dc_power_w": dc_w, "dc_voltage_v": volts, "dc_current_a": dc_w / _STRING_VOLTAGE_V}
    for place, share in enumerate(MPPT_SHARES, 1):
        found |= {
            f"mppt{place}_power_w": dc_w * share,
            f"mppt{place}_voltage_v": volts,
            f"mppt{place}_current_a": dc_w * share / _STRING_VOLTAGE_V,
            f"mppt{place}_energy_kwh": made_kwh / _CONVERSION * share,
        }
    return found


def _of_place(model: Model, place: int) -> dict[str, tuple[Term, ...]]:
    return {name: terms for name, terms in model.module_quantities.items() if name.startswith(f"mppt{place}_")}


def _by_point(wanted: Mapping[str, tuple[Term, ...]], values: Values, options: SunSpecOptions) -> dict[str, float | str | None]:
    """Values by point; of a sum all lies in the first point and nothing in the others."""
    found: dict[str, float | str | None] = {}
    for name, terms in wanted.items():
        value = values.get(name)
        if value is None:
            continue
        found[terms[0].point] = value / terms[0].factor * turned(terms[0], options)
        found |= dict.fromkeys((term.point for term in terms[1:]), 0.0)
    return found


def _registers(model_id: int, model: Model, direct: Direct, modules: Sequence[Direct]) -> list[int]:
    exponents = _exponents([(model.points, direct), *((model.module_points, module) for module in modules)])
    factors = {name: exponents.get(name) for name, point in model.points.items() if point.type == "sunssf"}
    fixed = _part(model.points, HEADER + model.length, {**direct, **factors}, exponents)
    fixed[:HEADER] = [model_id, model.length + model.module_length * len(modules)]
    for place, module in enumerate(modules, 1):
        fixed += _part(model.module_points, model.module_length, {**module, "ID": place}, exponents)
    return fixed


def _exponents(parts: Sequence[tuple[Mapping[str, ModelPoint], Direct]]) -> dict[str, int]:
    """For each scale factor the smallest exponent with which all its numbers fit."""
    found: dict[str, int] = {}
    for points, direct in parts:
        for name, number in direct.items():
            point = points[name]
            if point.sf is not None and isinstance(number, int | float):
                found[point.sf] = max(found.get(point.sf, FINEST_EXPONENT), _exponent(point, number))
    return found


def _exponent(point: ModelPoint, number: float) -> int:
    if point.type == "acc32":
        return 0
    kind = NUMBER_TYPES[point.type]
    low, high = limits(kind)
    taken = no_value(kind, "sunspec")
    for exponent in range(FINEST_EXPONENT, COARSEST_EXPONENT + 1):
        if low <= (raw := round(number / 10.0**exponent)) <= high and raw != taken:
            return exponent
    raise OverflowError(f"{number} does not fit SunSpec point {point.name}")


def _part(points: Mapping[str, ModelPoint], size: int, direct: Direct, exponents: Mapping[str, int]) -> list[int]:
    registers = [0] * size
    for name, point in points.items():
        registers[point.at : point.at + point.size] = _encoded(point, direct.get(name), exponents)
    return registers


def _encoded(point: ModelPoint, number: float | str | None, exponents: Mapping[str, int]) -> tuple[int, ...]:
    if point.type == "string":
        return encode_text(str(number or ""), point.size)
    kind = NUMBER_TYPES[point.type]
    if point.type == "acc32":
        return encode(kind, "ABCD", round(float(number or 0)) % (1 << 32))
    if number is None:
        return encode(kind, "ABCD", None, "sunspec")
    scaled = float(number) / 10.0 ** exponents.get(point.sf or "", 0)
    return encode(kind, "ABCD", scaled if kind == "float32" else round(scaled))
