"""The demo's homes and their parts in the market, on top of the simulator's fleet.

In each microgrid the home with the largest roof opens the pool with its first energy. With two microgrids the next
largest roof of the first shares a part of its surplus with a consumer of the second, so that energy crosses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from firmware_sim.homes import Home, fleet
from workbench.demo.options import DemoOptions

CAP_IMPORT_WH, CAP_EXPORT_WH = 6_000, 4_000
"""Capacities that a meter is registered with, per slot: a 24 kW connection and a 16 kW inverter."""
PRODUCER_STANDBY_WH = 50
"""What a pure producer may import in a slot: its inverter at night."""


@dataclass(frozen=True)
class DemoHome:
    """One home: `number` counts from 1; `shares_with` is the number of the home it gives surplus to, or 0."""

    number: int
    home: Home
    provides_liquidity: bool = False
    shares_with: int = 0

    @property
    def name(self) -> str:
        return self.home.name

    @property
    def microgrid(self) -> int:
        return self.home.microgrid

    @property
    def cap_import_wh(self) -> int:
        return PRODUCER_STANDBY_WH if self.home.kind == "producer" else CAP_IMPORT_WH

    @property
    def cap_export_wh(self) -> int:
        return 0 if self.home.kind == "consumer" else CAP_EXPORT_WH


def plan_homes(options: DemoOptions) -> tuple[DemoHome, ...]:
    """The homes of the demo in order of their number."""
    homes = [DemoHome(i, replace(home, name=f"agent-{i}")) for i, home in enumerate(fleet(options.homes, options.seed), 1)]
    roofs = sorted(homes, key=lambda item: (-item.home.pv_peak_w, item.number))
    opened: set[int] = set()
    for item in roofs:
        if item.microgrid not in opened and item.home.pv_peak_w:
            opened.add(item.microgrid)
            homes[item.number - 1] = replace(item, provides_liquidity=True)
    consumers = [item.number for item in homes if item.microgrid == 2 and item.home.kind == "consumer"]
    givers = [item for item in roofs if item.microgrid == 1 and not homes[item.number - 1].provides_liquidity]
    if consumers and givers:
        homes[givers[0].number - 1] = replace(givers[0], shares_with=consumers[0])
    return tuple(homes)
