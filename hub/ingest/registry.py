"""The devices that a hub listens to: name, address, microgrid and role, from its configuration.

Rules: only a registered device's signature counts; a feeder is never a member of a masked group. A registered device may be
refused for the time being, when its certificate was revoked: nothing of it counts, and no new group has it. Not here:
who registers devices, who is refused (`hub.devices.standing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openmg.messages.topics import DEVICE_NAME
from openmg.signing import SIGNATURE_BYTES
from openmg.units import ADDRESS_BYTES

HOME, FEEDER = "home", "feeder"
MAX_DEVICES = 10_000


@dataclass(frozen=True)
class Device:
    """A registered meter. `approval`: the utility's signature of its MeterApproval, for rosters; empty when it gave none."""

    name: str
    address: bytes
    microgrid: int
    role: str = HOME
    approval: bytes = b""

    def __post_init__(self) -> None:
        if not DEVICE_NAME.fullmatch(self.name):
            raise ValueError(f"device name {self.name!r} is not lower-case letters, digits and dashes")
        if len(self.address) != ADDRESS_BYTES or self.role not in (HOME, FEEDER):
            raise ValueError(f"device {self.name}: needs a 20-byte address and the role home or feeder")
        if len(self.approval) not in (0, SIGNATURE_BYTES):
            raise ValueError(f"device {self.name}: the utility's approval has {SIGNATURE_BYTES} bytes")


class Registry:
    """Devices by name; ValueError when names or addresses repeat.

    refusal(name): why a device is not listened to at this moment; None when it is.
    """

    def __init__(self, devices: Iterable[Device], refusal: Callable[[str], str | None] = lambda _name: None) -> None:
        self.refusal = refusal
        ordered = tuple(devices)
        self.by_name = {device.name: device for device in ordered}
        self.by_address = {device.address: device for device in ordered}
        if len(self.by_name) != len(ordered) or len(self.by_address) != len(ordered):
            raise ValueError("a device name or address is registered twice")
        if len(ordered) > MAX_DEVICES:
            raise ValueError(f"{len(ordered)} devices are registered; at most {MAX_DEVICES} fit one hub")

    def homes(self, microgrid: int) -> tuple[Device, ...]:
        """The masked members of a microgrid, without those that are refused now."""
        homes = (d for d in self.by_name.values() if d.microgrid == microgrid and d.role == HOME)
        return tuple(d for d in homes if self.refusal(d.name) is None)

    def has_feeder(self, microgrid: int) -> bool:
        """Whether a feeder of the microgrid is read in clear."""
        return any(d.microgrid == microgrid and d.role == FEEDER for d in self.by_name.values())

    def microgrids(self) -> tuple[int, ...]:
        return tuple(sorted({device.microgrid for device in self.by_name.values()}))
