"""A meter profile: registers, types, orders, limits and quirks of one meter model, read from one TOML file.

Rules: addresses are PDU addresses (0-based, as on the wire; manuals print one more). Every point has a
plausible range, because an address that is off by one reads a plausible wrong value; the profile names its
source. An unknown key, a missing one, an overlap or an impossible value is a ProfileError with file, place
and remedy.
Not here: reading a meter (`edge_agent.modbus`) or being one (`firmware_sim`).
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmg.profiles.registers import FORMATS, ORDERS, width

SCHEMA = 1
GROUPS = ("fast", "slow")
"""`fast` points are read at every poll, `slow` ones (per-phase values) more seldom."""
KINDS = ("gauge", "counter")
TRANSPORTS = ("tcp", "rtu_over_tcp")
QUIRKS = ("single_register_type_code", "whole_values_only")
MAX_REGISTERS = 125
"""Modbus Application Protocol V1.1b3 section 6.4: most registers one answer can carry."""
MAX_POINTS = 512
_FOLDER = Path(__file__).parent


class ProfileError(Exception):
    """The profile cannot be used; the text says which file, what and how to mend it."""


@dataclass(frozen=True)
class Device:
    """Which meter the profile describes and where its registers were found."""

    id: str
    vendor: str
    model: str
    phases: int
    source: str


@dataclass(frozen=True)
class Link:
    """Limits of the wire: transports, registers per request and silence after a time-out."""

    transports: tuple[str, ...]
    max_registers: int
    drain_ms: int
    function_code: int


@dataclass(frozen=True)
class Point:
    """One measured quantity: where it lies, how it is coded, its unit and its plausible range."""

    name: str
    address: int
    type: str
    order: str
    unit: str
    group: str
    kind: str
    low: float
    high: float

    @property
    def end(self) -> int:
        """First address after the point."""
        return self.address + width(self.type)


@dataclass(frozen=True)
class Simulation:
    """What only a simulated meter needs: its register span, hard limit and quirks."""

    span: int
    exception_over: int
    type_code: int
    quirks: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """One meter model; `points` are ordered by address, `detect` names the point that proves the model."""

    device: Device
    link: Link
    detect: str
    points: tuple[Point, ...]
    sim: Simulation

    def point(self, name: str) -> Point:
        """The point of that name; KeyError when the meter has none."""
        for point in self.points:
            if point.name == name:
                return point
        raise KeyError(f"profile {self.device.id} has no point {name!r}")

    def group(self, name: str) -> tuple[Point, ...]:
        """All points of a read group, by address."""
        return tuple(point for point in self.points if point.group == name)


def bundled() -> tuple[str, ...]:
    """Names of the profiles that come with the project."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_profile(name: str | Path) -> Profile:
    """The bundled profile of that name, or the profile in the file of that path."""
    path = Path(name)
    if path.suffix != ".toml":
        path = _FOLDER / f"{name}.toml"
        if str(name) not in bundled():
            known = ", ".join(bundled())
            raise ProfileError(f"meter profile {str(name)!r} is unknown; use one of {known}, or the path of a .toml file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"meter profile {path} cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"meter profile {path} is not valid TOML: {error}") from error
    return parse_profile(table, str(path))


def parse_profile(table: Mapping[str, Any], where: str) -> Profile:
    """The profile in a parsed TOML table; `where` names it in errors."""
    top = _Table(table, where, "")
    if top.take("schema", int) != SCHEMA:
        raise top.error("schema", f"must be {SCHEMA}; this program reads no other version")
    device = top.record("device", Device)
    link = _link(top)
    defaults = top.table("defaults")
    kind, order = defaults.choice("type", FORMATS), defaults.choice("order", ORDERS)
    defaults.finish()
    points_table = top.table("points")
    names = tuple(points_table.rest())
    if not 0 < len(names) <= MAX_POINTS:
        raise top.error("points", f"must hold 1 to {MAX_POINTS} tables")
    points = tuple(sorted((_point(points_table, n, kind, order) for n in names), key=lambda p: p.address))
    detect, sim = str(top.take("detect", str)), _simulation(top)
    top.finish()
    profile = Profile(device, link, detect, points, sim)
    _check(profile, where)
    return profile


class _Table:
    """A TOML table that gives each key out once and complains about the ones nobody asked for."""

    def __init__(self, values: Mapping[str, Any], where: str, name: str) -> None:
        self._values, self.where, self.name = dict(values), where, name

    def error(self, key: str, problem: str) -> ProfileError:
        return ProfileError(f"meter profile {self.where}: {f'{self.name}.{key}'.lstrip('.')} {problem}")

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        if key not in self._values and default is None:
            raise self.error(key, "is missing")
        value = self._values.pop(key, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"is {value!r}; it must be {kind.__name__}")
        return value

    def choice(self, key: str, allowed: Any, default: str | None = None) -> str:
        value = str(self.take(key, str, default))
        if value not in allowed:
            raise self.error(key, f"is {value!r}; it must be one of {', '.join(allowed)}")
        return value

    def choices(self, key: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        values = self.take(key, list)
        for value in values:
            if value not in allowed:
                raise self.error(key, f"holds {value!r}; allowed are {', '.join(allowed)}")
        return tuple(values)

    def within(self, key: str, low: int, high: int) -> int:
        value = int(self.take(key, int))
        if not low <= value <= high:
            raise self.error(key, f"is {value}; it must be {low} to {high}")
        return value

    def table(self, key: str) -> _Table:
        return _Table(self.take(key, dict), self.where, f"{self.name}.{key}".lstrip("."))

    def record(self, key: str, cls: type[Any]) -> Any:
        table = self.table(key)
        hints = {"str": str, "int": int}
        values = {f.name: table.take(f.name, hints[str(f.type)]) for f in dataclasses.fields(cls)}
        table.finish()
        return cls(**values)

    def rest(self) -> list[str]:
        return list(self._values)

    def finish(self) -> None:
        for key in self._values:
            raise self.error(key, "is an unknown key; remove it")


def _link(top: _Table) -> Link:
    table = top.table("link")
    link = Link(
        transports=table.choices("transports", TRANSPORTS),
        max_registers=table.within("max_registers", 1, MAX_REGISTERS),
        drain_ms=table.within("drain_ms", 0, 10_000),
        function_code=table.within("function_code", 3, 4),
    )
    table.finish()
    return link


def _simulation(top: _Table) -> Simulation:
    table = top.table("sim")
    sim = Simulation(
        span=table.within("span", 1, 65_536),
        exception_over=table.within("exception_over", 1, MAX_REGISTERS),
        type_code=table.within("type_code", 0, 0xFFFF),
        quirks=table.choices("quirks", QUIRKS),
    )
    table.finish()
    return sim


def _point(parent: _Table, name: str, kind: str, order: str) -> Point:
    table = parent.table(name)
    bounds = table.take("range", list)
    if len(bounds) != 2 or not all(isinstance(b, int | float) for b in bounds) or not bounds[0] < bounds[1]:
        raise table.error("range", f"is {bounds!r}; it must be [low, high] with low < high")
    point = Point(
        name=name,
        address=table.within("address", 0, 0xFFFF),
        type=table.choice("type", FORMATS, kind),
        order=table.choice("order", ORDERS, order),
        unit=str(table.take("unit", str)),
        group=table.choice("group", GROUPS),
        kind=table.choice("kind", KINDS, "gauge"),
        low=float(bounds[0]),
        high=float(bounds[1]),
    )
    table.finish()
    return point


def _check(profile: Profile, where: str) -> None:
    for before, after in zip(profile.points, profile.points[1:], strict=False):
        if before.end > after.address:
            raise ProfileError(f"meter profile {where}: points {before.name} and {after.name} overlap; mend one address")
    if profile.points[-1].end > profile.sim.span:
        raise ProfileError(f"meter profile {where}: sim.span ends before point {profile.points[-1].name}; raise it")
    if profile.detect not in {point.name for point in profile.points}:
        raise ProfileError(f"meter profile {where}: detect names no point; use the name of one of [points]")
    if any(width(point.type) > profile.link.max_registers for point in profile.points):
        raise ProfileError(f"meter profile {where}: link.max_registers is smaller than one value; raise it")
