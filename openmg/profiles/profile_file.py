"""The tables of a profile's TOML file, as `openmg.config.load_toml` reads them.

Rules: each dataclass is one table, each check names its key first and says what to write instead. Checks that
need more than one table are in `profile`. Not here: what a profile is for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from openmg.profiles.registers import CONVENTIONS, FORMATS, ORDERS

SCHEMA = 1
GROUPS = ("fast", "slow")
"""`fast` points are read at every poll, `slow` ones (per-phase values) more seldom."""
TRANSPORTS = ("tcp", "rtu_over_tcp", "rtu")
PARITIES = ("N", "E", "O")
QUIRKS = ("single_register_type_code", "whole_values_only")
MAX_REGISTERS = 125
"""Modbus Application Protocol V1.1b3 section 6.4: most registers one answer can carry."""
MAX_POINTS = 512
MAX_PROBES = 8
MAX_SPANS = 16
MAX_DIVISOR = 1_000_000


def _one_of(key: str, value: str | None, allowed: tuple[str, ...] | dict[str, str]) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}")


def _within(key: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{key} is {value}; it must be {low} to {high}")


def _range(key: str, bounds: tuple[float, ...] | None) -> None:
    if bounds is not None and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ValueError(f"{key} is {list(bounds)}; it must be [low, high] with low < high")


@dataclass(frozen=True)
class Device:
    """Which meter the profile describes, where its registers were found and what nobody has checked on a device."""

    vendor: str
    model: str
    phases: int
    source: str
    unverified: str | None = None

    def __post_init__(self) -> None:
        _within("phases", self.phases, 0, 3)
        if not self.source:
            raise ValueError("source is empty; say where the registers were found")


@dataclass(frozen=True)
class Link:
    """Limits of the wire: transports, registers per request, silence after a time-out, the maker's serial settings."""

    transports: tuple[str, ...]
    max_registers: int
    drain_ms: int
    function_code: int
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    def __post_init__(self) -> None:
        if not self.transports:
            raise ValueError(f"transports is empty; allowed are {', '.join(TRANSPORTS)}")
        for transport in self.transports:
            _one_of("transports", transport, TRANSPORTS)
        _within("max_registers", self.max_registers, 1, MAX_REGISTERS)
        _within("drain_ms", self.drain_ms, 0, 10_000)
        _within("function_code", self.function_code, 3, 4)
        _within("baud", self.baud, 300, 921_600)
        _one_of("parity", self.parity, PARITIES)
        _within("stop_bits", self.stop_bits, 1, 2)


@dataclass(frozen=True)
class Defaults:
    """What every point has unless it says otherwise."""

    type: str | None = None
    order: str | None = None
    not_available: str = "none"

    def __post_init__(self) -> None:
        _one_of("type", self.type, FORMATS)
        _one_of("order", self.order, ORDERS)
        _one_of("not_available", self.not_available, CONVENTIONS)


@dataclass(frozen=True)
class PointFile:
    """A point as it is written: `unit` is what the meter counts in, `range` is in the project's unit."""

    address: int
    unit: str
    group: str
    range: tuple[float, ...]
    type: str | None = None
    order: str | None = None
    divisor: int = 1
    not_available: str | None = None
    unverified: str | None = None

    def __post_init__(self) -> None:
        _within("address", self.address, 0, 0xFFFF)
        _one_of("group", self.group, GROUPS)
        _range("range", self.range)
        _one_of("type", self.type, FORMATS)
        _one_of("order", self.order, ORDERS)
        _within("divisor", self.divisor, 1, MAX_DIVISOR)
        _one_of("not_available", self.not_available, CONVENTIONS)


@dataclass(frozen=True)
class ProbeFile:
    """A probe as it is written: `point` (with `range`, if tighter), or `address` with `values` or `text`."""

    point: str | None = None
    range: tuple[float, ...] | None = None
    address: int | None = None
    count: int = 1
    values: tuple[int, ...] = ()
    text: str | None = None
    unverified: str | None = None

    def __post_init__(self) -> None:
        _range("range", self.range)
        _within("count", self.count, 1, MAX_REGISTERS)
        if (self.point is None) == (self.address is None):
            raise ValueError("point or address must be given, and not both")
        if self.point is not None and (self.values or self.text):
            raise ValueError("point takes no values and no text; give an address instead")
        if self.address is not None:
            _within("address", self.address, 0, 0xFFFF)
            if bool(self.values) == bool(self.text):
                raise ValueError("address needs either values or text")
            if self.values and self.count != 1:
                raise ValueError("count must be 1 with values")


@dataclass(frozen=True)
class Simulation:
    """What only a simulated meter needs: its register spans, hard limit, identification and quirks."""

    exception_over: int
    spans: tuple[tuple[int, ...], ...] = ()
    quirks: tuple[str, ...] = ()
    type_code: int = 0
    rollover_kwh: int | None = None
    models: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _within("exception_over", self.exception_over, 1, MAX_REGISTERS)
        _within("type_code", self.type_code, 0, 0xFFFF)
        if len(self.spans) > MAX_SPANS:
            raise ValueError(f"spans has {len(self.spans)} items; at most {MAX_SPANS}")
        for span in self.spans:
            if len(span) != 2 or not 0 <= span[0] < span[1] <= 65_536:
                raise ValueError(f"spans holds {list(span)}; write [first address, address after the last]")
        for quirk in self.quirks:
            _one_of("quirks", quirk, QUIRKS)
        if self.rollover_kwh is not None:
            _within("rollover_kwh", self.rollover_kwh, 1, 10**12)


@dataclass(frozen=True)
class SunSpecOptions:
    """Where a SunSpec device may begin, and the sign of its meter's power (1: import is positive, -1: export)."""

    bases: tuple[int, ...] = (40_000, 0, 50_000)
    meter_sign: int = 1

    def __post_init__(self) -> None:
        if not self.bases or not all(0 <= base <= 65_530 for base in self.bases):
            raise ValueError("bases must hold register addresses from 0 to 65530")
        if self.meter_sign not in (1, -1):
            raise ValueError(f"meter_sign is {self.meter_sign}; it must be 1 or -1")


@dataclass(frozen=True)
class ProfileFile:
    """The whole file."""

    schema: int
    device: Device
    link: Link
    sim: Simulation
    defaults: Defaults = Defaults()
    points: dict[str, PointFile] = field(default_factory=dict)
    probe: tuple[ProbeFile, ...] = ()
    sunspec: SunSpecOptions | None = None

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}; this program reads no other version")
        if len(self.points) > MAX_POINTS:
            raise ValueError(f"points must hold at most {MAX_POINTS} quantities")
        if self.sunspec is not None and self.points:
            raise ValueError("points must not be given beside [sunspec], whose map is discovered")
        if self.sunspec is None and not self.points:
            raise ValueError("points must hold at least one quantity, or [sunspec] be given")
        if self.sunspec is None and not 1 <= len(self.probe) <= MAX_PROBES:
            raise ValueError(f"probe must be given 1 to {MAX_PROBES} times as [[probe]]")


def line_of(text: str, where: tuple[str, ...]) -> int:
    """The line on which a table, or a key of one, is written; 1 when it is not."""
    name = re.escape(".".join(where))
    key, table = re.escape(where[-1]), ".".join(where[:-1])
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if header:
            current = header.group(1)
            if re.fullmatch(name, current):
                return number
        elif current == table and re.match(rf"\s*{key}\s*=", line):
            return number
    return 1
