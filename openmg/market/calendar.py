"""Slots, days, tariff bands and billing periods, as the energy registry counts them.

Definitions: day = (slot + utc offset) / 96, hour = ((slot + utc offset) % 96) / 4, band = the tariff band of that local hour,
key = day * 256 + band (what pools and energy assets are named by), period = day / days of a period; all divisions round down.
Pure. Not here: the windows in which something may be done with a slot or key (`edge_agent.market.planner`).
Source: `EnergyRegistry.sol`, whose Calendar this mirrors.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmg.units import SLOTS_PER_DAY, SLOTS_PER_HOUR

HOURS_PER_DAY = 24
BANDS = 256
"""A band is one byte."""


@dataclass(frozen=True)
class Calendar:
    """`band_of_hour` has one byte for each local hour. ValueError for an impossible one."""

    utc_offset_slots: int
    period_days: int
    band_of_hour: bytes

    def __post_init__(self) -> None:
        if abs(self.utc_offset_slots) > SLOTS_PER_DAY:
            raise ValueError(f"utc_offset_slots is {self.utc_offset_slots}; a time zone is at most a day away")
        if self.period_days < 1:
            raise ValueError(f"period_days is {self.period_days}; a billing period has at least one day")
        if len(self.band_of_hour) != HOURS_PER_DAY:
            raise ValueError(f"band_of_hour has {len(self.band_of_hour)} bytes; a day has {HOURS_PER_DAY} hours")

    def day_of(self, slot: int) -> int:
        return (slot + self.utc_offset_slots) // SLOTS_PER_DAY

    def band_of(self, slot: int) -> int:
        return self.band_of_hour[(slot + self.utc_offset_slots) % SLOTS_PER_DAY // SLOTS_PER_HOUR]

    def key_of(self, slot: int) -> int:
        """Day and band of the slot, as one number."""
        return self.day_of(slot) * BANDS + self.band_of(slot)

    def period_of(self, slot: int) -> int:
        return self.day_of(slot) // self.period_days

    def first_slot_of(self, key: int) -> int:
        """The first slot of the key's day, whatever its band."""
        return key // BANDS * SLOTS_PER_DAY - self.utc_offset_slots

    def last_slot_of(self, key: int) -> int:
        """The last slot of the key's day, whatever its band."""
        return self.first_slot_of(key) + SLOTS_PER_DAY - 1

    def first_slot_of_period(self, period: int) -> int:
        return period * self.period_days * SLOTS_PER_DAY - self.utc_offset_slots

    def slots_of_period(self, period: int) -> range:
        """Every slot of a billing period."""
        return range(self.first_slot_of_period(period), self.first_slot_of_period(period + 1))
