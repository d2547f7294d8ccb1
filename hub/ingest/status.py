"""Settings of the ingest service and what it tells about itself: frozen values, for console, report and tests."""

from __future__ import annotations

from dataclasses import dataclass

from openmg.masking import DEFAULT_GROUP, MIN_GROUP
from openmg.messages.telemetry import Health
from openmg.mqtt import MqttAddress, MqttCounts
from openmg.mqtt_tls import TlsFiles


@dataclass(frozen=True)
class IngestSettings:
    """Broker, PPDL chain id that signatures name, the operator's key, and how rosters begin.

    first_slot: where a microgrid's first roster begins; None: the slot that runs when it is made.
    roster_wait_s: wall seconds to wait for every registered home before a roster is made without the absent ones.
    group_size: homes of a group, at least; it has up to twice as many less one, where so many are there.
    tls: files for a broker that is spoken to over TLS.
    """

    address: MqttAddress
    client_id: str
    chain_id: int
    operator_key: bytes
    first_slot: int | None = None
    roster_wait_s: float = 20.0
    tls: TlsFiles | None = None
    group_size: int = DEFAULT_GROUP


@dataclass(frozen=True)
class DeviceStatus:
    """What the hub knows of a meter; `last_seen` is wall time (Unix s), 0 when never."""

    name: str
    address: bytes
    microgrid: int
    role: str
    online: bool
    born: bool
    last_seen: float
    last_slot: int
    high_water: int
    health: Health | None


@dataclass(frozen=True)
class IngestStats:
    """Counted since the service started; `stored` and `lost` over the whole database.

    late: reports that came after their slot's survivor set was fixed. opened_without: groups opened although members were
    missing. left_out: groups that stayed closed while others of their slot were opened. small_groups: "group too small: 4 of
    5 meters" by microgrid.
    malformed: messages that were wrong. failed: messages that this program could not handle, though it found nothing wrong.
    """

    stored: int
    lost: int
    duplicates_ignored: int
    conflicts: int
    malformed: int
    overflow: int
    failed: int
    groups_opened: int
    gaps: int
    late: int
    opened_without: int
    left_out: int
    small_groups: dict[int, str]
    mqtt: MqttCounts


def small_group(present: int) -> str:
    """What is said of a microgrid with so few homes."""
    return f"group too small: {present} of {MIN_GROUP} meters"


class Seen:
    """What is noted of a meter while the service runs."""

    def __init__(self) -> None:
        self.online = False
        self.state_at = 0
        self.last_seen = 0.0
        self.last_slot = 0
        self.high_water = 0
        self.health: Health | None = None
