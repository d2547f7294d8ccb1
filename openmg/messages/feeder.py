"""The feeder meter of a microgrid, which is read in clear: it shows the sum of all homes behind it.

Rules: a slot report goes through the meter's outbox like a masked one, with the same (device, seq) key and
acknowledgement; the live value is sent at every poll and may be lost. Not here: masked reports (`telemetry`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.messages.telemetry import MAX_COUNT, Health
from openmg.messages.topics import DEVICE_NAME
from openmg.units import MAX_SLOT_WH

FEEDER = "feeder"  # leaf of a meter's branch: signed FeederReport
FEEDER_LIVE = "feeder-live"  # signed FeederLive, QoS 0


@dataclass(frozen=True)
class FeederReport:
    """Energy through the feeder in one slot, in clear. Signed by the device key."""

    PURPOSE: ClassVar[str] = "feeder"
    device: str
    seq: int
    slot: int
    import_wh: int
    export_wh: int
    health: Health

    def __post_init__(self) -> None:
        if not (DEVICE_NAME.fullmatch(self.device) and 1 <= self.seq < MAX_COUNT and 0 <= self.slot < MAX_COUNT):
            raise ValueError("a feeder report has a device name, a seq from 1 and a slot")
        if not (0 <= self.import_wh <= MAX_SLOT_WH and 0 <= self.export_wh <= MAX_SLOT_WH):
            raise ValueError(f"a slot's energy lies in 0..{MAX_SLOT_WH} Wh")


@dataclass(frozen=True)
class FeederLive:
    """Power through the feeder (W, import positive) at a simulated second. Signed by the device key."""

    PURPOSE: ClassVar[str] = "feeder-live"
    device: str
    sim_time: int
    power_w: int

    def __post_init__(self) -> None:
        if not DEVICE_NAME.fullmatch(self.device) or not 0 <= self.sim_time < MAX_COUNT or abs(self.power_w) >= 2**40:
            raise ValueError("a live value has a device name, a time and a power below 2^40 W")
