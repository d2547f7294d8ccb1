"""The SunSpec information models this project knows, read from the data files in `sunspec_models/`.

Rules: one file is one layout, which several model ids may share; it says of every point where it lies, and of the
quantities which point gives them. In a quantity's text two names are added up, "-" turns the sign and "~" turns it
when the profile says that its meter counts export as positive.
Not here: finding models on a device, and values (`sunspec`).
Source: SunSpec Alliance, Information Model Specification V1.9 and models 1, 101-103, 111-113, 124, 160, 201-204, 802.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from openmg.profiles.quantities import MAX_MPPT, QUANTITIES, factor
from openmg.profiles.registers import width

_FOLDER = Path(__file__).parent / "sunspec_models"
NUMBER_TYPES = {
    "uint16": "uint16", "int16": "int16", "uint32": "uint32", "acc32": "acc32", "float32": "float32", "sunssf": "int16",
    "enum16": "uint16", "bitfield16": "uint16", "bitfield32": "uint32", "count": "uint16", "pad": "uint16",
}  # fmt: skip
"""The number behind each SunSpec type; a string is the only other one."""


@dataclass(frozen=True)
class ModelPoint:
    """A point of a model: its place from the model's (or module's) first register, type, scale factor and unit."""

    name: str
    at: int
    type: str
    size: int
    sf: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class Term:
    """A point that gives (part of) a quantity, and how its sign turns: "", "-" or "~"."""

    point: str
    turn: str
    factor: float


@dataclass(frozen=True)
class Model:
    """One layout: the ids that have it, `length` registers after ID and L, and a module that may be repeated."""

    ids: tuple[int, ...]
    label: str
    length: int
    points: Mapping[str, ModelPoint]
    quantities: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)
    without_meter: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)
    module_length: int = 0
    module_points: Mapping[str, ModelPoint] = field(default_factory=dict)
    module_quantities: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)


@lru_cache(maxsize=1)
def models() -> Mapping[int, Model]:
    """All known models by id."""
    found: dict[int, Model] = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        model = _model(tomllib.loads(path.read_text(encoding="utf-8")))
        found |= dict.fromkeys(model.ids, model)
    return found


def _model(table: Mapping[str, Any]) -> Model:
    points, module = _points(table["points"]), table.get("module", {})
    module_points = _points(module.get("points", {}))
    repeated = {
        name.format(n=place): text for name, text in module.get("quantities", {}).items() for place in range(1, MAX_MPPT + 1)
    }
    return Model(
        ids=tuple(table["ids"]),
        label=table["label"],
        length=table["length"],
        points=points,
        quantities=_quantities(table.get("quantities", {}), points),
        without_meter=_quantities(table.get("without_meter", {}), points),
        module_length=module.get("length", 0),
        module_points=module_points,
        module_quantities=_quantities(repeated, module_points),
    )


def _points(table: Mapping[str, Any]) -> dict[str, ModelPoint]:
    points = {}
    for name, entry in table.items():
        kind = entry["type"]
        size = entry["size"] if kind == "string" else width(NUMBER_TYPES[kind])
        points[name] = ModelPoint(name, entry["at"], kind, size, entry.get("sf"), entry.get("unit", ""))
    return points


def _quantities(table: Mapping[str, str], points: Mapping[str, ModelPoint]) -> dict[str, tuple[Term, ...]]:
    return {name: tuple(_term(part, QUANTITIES[name].unit, points) for part in text.split()) for name, text in table.items()}


def _term(text: str, unit: str, points: Mapping[str, ModelPoint]) -> Term:
    name = text.lstrip("-~")
    turn = text[: len(text) - len(name)]
    return Term(name, turn, factor(points[name].unit, unit) if points[name].unit else 1.0)
