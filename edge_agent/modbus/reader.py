"""Reads a meter's points by its profile and passes no implausible value on.

Rules: a value outside the profile's range means a wrong register, a wrong byte order or a broken answer; it is None in the
reading, with the reason beside it, and counted. Who must have it asks with `Reading.number`, which refuses. A unit that
answers a long request with exception 2 is asked in shorter ones from then on; a length that it has answered before is not
what it refuses, and so is split for this reading only. That limit lives as long as the reader and is on no disk: finding it
again costs a start one or two refused requests, and a meter that is exchanged would inherit it for ever.
Not here: connections (`link`), when to poll (`edge_agent.agent`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_agent.modbus.errors import BadAnswer, Refused
from edge_agent.modbus.link import ModbusLink, Unit
from edge_agent.modbus.plan import Block, plan_blocks
from openmg.profiles.profile import Point, Profile

log = logging.getLogger(__name__)
ILLEGAL_ADDRESS = 2


@dataclass(frozen=True)
class Reading:
    """Values by point name in the profile's units; None where the meter has no value, or `rejected` says why not."""

    values: Mapping[str, float | None]
    rejected: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """The value of a point that must be there; BadAnswer when it is not."""
        value = self.values.get(name)
        if value is None:
            raise BadAnswer(self.rejected.get(name) or f"the meter has no value for {name}; check its profile")
        return value


class MeterLink(Protocol):
    """What the agent needs of the way to a meter, whatever is spoken there."""

    served: int

    def open(self) -> None:
        """Starts it; nobody need be there yet."""

    async def close(self) -> None:
        """Ends it."""

    def is_away(self, unit: int, /) -> bool:
        """Whether the unit gave no answer when it was asked last."""

    def status(self, of: int | None = None) -> dict[str, Any]:
        """Counts, and what is wrong."""


class Reader(Protocol):
    """What the agent needs of a meter, whatever finds its values."""

    profile: Profile
    implausible: int
    max_power_w: float

    @property
    def unit(self) -> object:
        """The meter; its text names it."""

    @property
    def link(self) -> MeterLink:
        """The way to the meter."""

    async def read_group(self, group: str) -> Reading:
        """All values of a read group (`fast` or `slow`); raises LinkDown, Refused or BadAnswer."""

    async def detect(self) -> tuple[str, float]:
        """A quantity that proves the model, and its value; raises as `read_group` when this is not such a meter."""


class MeterReader:
    """A unit and its profile."""

    def __init__(self, unit: Unit, profile: Profile) -> None:
        self.unit, self.profile = unit, profile
        self.max_registers = profile.link.max_registers
        self._longest_answered = 0
        self._plans: dict[tuple[str, int], tuple[Block, ...]] = {}
        """The requests of a read group at a limit: the same for each poll."""
        self.implausible = 0
        """Values that were not passed on."""
        power = profile.point("power_total_w")
        self.max_power_w = max(-power.low, power.high)

    @property
    def link(self) -> ModbusLink:
        """The bus that the unit is on."""
        return self.unit.link

    async def read(self, points: tuple[Point, ...]) -> Reading:
        """All points, checked; raises LinkDown, Refused or BadAnswer."""
        return await self._read(plan_blocks(points, self.max_registers))

    async def _read(self, blocks: tuple[Block, ...]) -> Reading:
        values: dict[str, float | None] = {}
        rejected: dict[str, str] = {}
        pending = list(blocks)
        while pending:
            block = pending.pop(0)
            try:
                registers = await self.unit.read(self.profile.link.function_code, block.address, block.count)
            except Refused as error:
                pending[:0] = self._shorter(block, error)
                continue
            self._longest_answered = max(self._longest_answered, block.count)
            for point in block.points:
                value = _decoded(point, block, registers)
                problem = None if value is None else _implausible(point, value)
                if problem is not None:
                    self.implausible += 1
                    rejected[point.name] = f"meter {self.unit}: {problem}"
                values[point.name] = value if problem is None else None
        return Reading(values, rejected)

    async def read_group(self, group: str) -> Reading:
        """All points of a read group (`fast` or `slow`)."""
        key = group, self.max_registers
        if key not in self._plans:
            self._plans[key] = plan_blocks(self.profile.group(group), self.max_registers)
        return await self._read(self._plans[key])

    async def detect(self) -> tuple[str, float]:
        """Name and value of the profile's first probe; raises as `read` when this is not such a meter."""
        probe = self.profile.point(self.profile.detect)
        return probe.name, (await self.read((probe,))).number(probe.name)

    def _shorter(self, block: Block, error: Refused) -> tuple[Block, ...]:
        widest = max(point.width for point in block.points)
        limit = max(block.count // 2, widest)
        if error.code != ILLEGAL_ADDRESS or len(block.points) < 2:
            raise error
        if block.count > self._longest_answered:
            self.max_registers = min(self.max_registers, limit)
            log.info("meter %s refuses %d registers at once; asking for %d", self.unit, block.count, limit)
        return plan_blocks(block.points, limit)


def _decoded(point: Point, block: Block, registers: tuple[int, ...]) -> float | None:
    start = point.address - block.address
    return point.decode(registers[start : start + point.width])


def _implausible(point: Point, value: float) -> str | None:
    if point.plausible(value):
        return None
    text = f"{point.name} is {value:g} {point.unit}, outside {point.low:g} to {point.high:g}"
    return f"{text}; check the profile's address and order"
