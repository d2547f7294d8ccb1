"""Reads a SunSpec device: finds its models once, then each in one request, since their scale factors may change between two.

Rules: as `reader`. A device that changed is looked over anew at the next reading. Not here: what the models are and mean
(`openmg.profiles.sunspec`).
"""

from __future__ import annotations

from edge_agent.modbus.errors import BadAnswer, Refused
from edge_agent.modbus.link import ModbusLink, Unit
from edge_agent.modbus.reader import Reading
from openmg.profiles.profile import Profile, SunSpecOptions
from openmg.profiles.sunspec import NotSunSpec, SunSpecDevice, discover, values

HOLDING_REGISTERS = 3
MAX_POWER_W = 150_000.0
"""What a home's meter measures at the most, as in the other profiles: a counter that goes faster is not believed."""


class SunSpecReader:
    """A unit that speaks SunSpec."""

    def __init__(self, unit: Unit, profile: Profile) -> None:
        self.unit, self.profile = unit, profile
        self.implausible = 0
        self.max_power_w = MAX_POWER_W
        self._options = profile.sunspec or SunSpecOptions()
        self._device: SunSpecDevice | None = None

    @property
    def link(self) -> ModbusLink:
        """The bus that the unit is on."""
        return self.unit.link

    async def read_group(self, group: str) -> Reading:
        """The quantities of a read group; raises LinkDown, Refused or BadAnswer."""
        device = await self.discover()
        answers = {}
        for block in device.group(group):
            answers[block] = await self.unit.read(HOLDING_REGISTERS, block.read.address, block.read.count)
        try:
            return Reading(values(device, answers, self._options))
        except NotSunSpec as error:
            self._device = None
            self.implausible += 1
            raise BadAnswer(f"meter {self.unit}: {error}") from error

    async def detect(self) -> tuple[str, float]:
        """A quantity that every such device has, and its value."""
        return "frequency_hz", (await self.read_group("fast")).number("frequency_hz")

    async def discover(self) -> SunSpecDevice:
        """What models the device has; raises LinkDown, or BadAnswer when it is none."""
        if self._device is None:
            search = discover(self._options)
            try:
                wanted = next(search)
                while True:
                    wanted = search.send(await self._registers(wanted.address, wanted.count))
            except StopIteration as found:
                self._device = found.value
            except NotSunSpec as error:
                raise BadAnswer(f"meter {self.unit}: {error}") from error
        assert self._device is not None
        return self._device

    async def _registers(self, address: int, count: int) -> tuple[int, ...] | None:
        try:
            return await self.unit.read(HOLDING_REGISTERS, address, count)
        except Refused:
            return None
