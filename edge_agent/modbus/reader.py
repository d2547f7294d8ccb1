"""Reads a meter's points by its profile and believes no implausible value.

Rules: a reading is whole or fails: a value outside the profile's range means a wrong register, a wrong byte
order or a broken answer, and none of its neighbours can be trusted. A unit that refuses long requests with
exception 2 is asked in shorter ones from then on. Not here: connections (`link`), when to poll
(`edge_agent.agent`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.modbus.link import BadAnswer, ModbusLink, Refused
from edge_agent.modbus.plan import Block, plan_blocks
from openmg.profiles.profile import Point, Profile

log = logging.getLogger(__name__)
ILLEGAL_ADDRESS = 2


@dataclass(frozen=True)
class Reading:
    """Values by point name in the profile's units; None where the meter has no value."""

    values: Mapping[str, float | None]

    def number(self, name: str) -> float:
        """The value of a point that must be there; BadAnswer when it is not."""
        value = self.values.get(name)
        if value is None:
            raise BadAnswer(f"the meter has no value for {name}; check its profile")
        return value


class MeterReader:
    """A link and a profile."""

    def __init__(self, link: ModbusLink, profile: Profile) -> None:
        self.link, self.profile = link, profile
        self.max_registers = profile.link.max_registers

    async def read(self, points: tuple[Point, ...]) -> Reading:
        """All points, checked; raises LinkDown, Refused or BadAnswer."""
        values: dict[str, float | None] = {}
        pending = list(plan_blocks(points, self.max_registers))
        while pending:
            block = pending.pop(0)
            try:
                registers = await self.link.read(self.profile.link.function_code, block.address, block.count)
            except Refused as error:
                pending[:0] = self._shorter(block, error)
                continue
            for point in block.points:
                values[point.name] = self._value(point, block, registers)
        return Reading(values)

    async def read_group(self, group: str) -> Reading:
        """All points of a read group (`fast` or `slow`)."""
        return await self.read(self.profile.group(group))

    async def detect(self) -> float:
        """The value of the profile's probe; raises as `read` when this is not such a meter."""
        probe = self.profile.point(self.profile.detect)
        return (await self.read((probe,))).number(probe.name)

    def _shorter(self, block: Block, error: Refused) -> tuple[Block, ...]:
        widest = max(point.width for point in block.points)
        limit = max(block.count // 2, widest)
        if error.code != ILLEGAL_ADDRESS or len(block.points) < 2:
            raise error
        self.max_registers = min(self.max_registers, limit)
        log.info("meter %s refuses %d registers at once; asking for %d", self.link.target, block.count, limit)
        return plan_blocks(block.points, limit)

    def _value(self, point: Point, block: Block, registers: tuple[int, ...]) -> float | None:
        start = point.address - block.address
        value = point.decode(registers[start : start + point.width])
        if value is not None and not point.plausible(value):
            raise BadAnswer(
                f"meter {self.link.target}: {point.name} is {value:g} {point.unit}, outside {point.low:g} to "
                f"{point.high:g}; check the profile's address and order"
            )
        return value
