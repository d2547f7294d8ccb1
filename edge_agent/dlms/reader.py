"""Reads a DLMS/COSEM meter's power and counters, in the words that all readers share.

Rules: as `edge_agent.modbus.reader`: no implausible value is passed on, and each is counted. Whole W and Wh come from the
registers; a reading's kWh are those Wh. A register that the owner's file leaves empty is one that the meter does not have
because nothing flows that way: it is 0. Not here: the wire (`link`), when to poll (`edge_agent.meter`).
"""

from __future__ import annotations

from edge_agent.dlms.link import DlmsLink
from edge_agent.dlms.values import WATT, WATT_HOUR
from edge_agent.dlms_section import DlmsSection, obis
from edge_agent.modbus.reader import Reading
from openmg.profiles.profile import Profile

MAX_POWER_W = 150_000.0
"""As for SunSpec devices: what a home's meter measures at the most, and how fast its counters may go."""
MAX_ENERGY_WH = 10_000_000_000
KEYS = (("import_energy", WATT_HOUR), ("export_energy", WATT_HOUR), ("import_power", WATT), ("export_power", WATT))


class DlmsReader:
    """A meter and the registers that stand in the owner's file."""

    def __init__(self, link: DlmsLink, section: DlmsSection, profile: Profile) -> None:
        self.link, self.profile = link, profile
        self.implausible = 0
        self.max_power_w = MAX_POWER_W
        keys = KEYS if not section.net_power else (*KEYS[:2], ("net_power", WATT))
        self._registers = {key: (obis(key, getattr(section, key)), unit) for key, unit in keys if getattr(section, key)}

    @property
    def unit(self) -> DlmsLink:
        """Whose name the meter has."""
        return self.link

    async def read_group(self, _group: str) -> Reading:
        """Power and both counters, for either group; raises LinkDown or BadAnswer."""
        read = dict(zip(self._registers, await self.link.read(list(self._registers.values())), strict=True))
        power_w = read["net_power"] if "net_power" in read else read["import_power"] - read.get("export_power", 0)
        values: dict[str, float | None] = {}
        rejected: dict[str, str] = {}
        for name, value, low, high, unit in (
            ("power_total_w", power_w, -MAX_POWER_W, MAX_POWER_W, 1),
            ("energy_import_kwh", read["import_energy"], 0, MAX_ENERGY_WH, 1000),
            ("energy_export_kwh", read.get("export_energy", 0), 0, MAX_ENERGY_WH, 1000),
        ):
            values[name] = value / unit
            if not low <= value <= high:
                self.implausible += 1
                values[name] = None
                rejected[name] = (
                    f"meter {self.link}: {name} is {value / unit:g}, outside {low / unit:g} to {high / unit:g}; check its code"
                )
        return Reading(values, rejected)

    async def detect(self) -> tuple[str, float]:
        """The import counter, which every such meter has."""
        return "energy_import_kwh", (await self.read_group("fast")).number("energy_import_kwh")
