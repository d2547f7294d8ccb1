"""Settings of the ingest service and what it tells about itself: frozen values, for console, report and tests."""

from __future__ import annotations

from dataclasses import dataclass

from openmg.messages.telemetry import Health
from openmg.mqtt import MqttAddress, MqttCounts
from openmg.mqtt_tls import TlsFiles


@dataclass(frozen=True)
class IngestSettings:
    """Broker, PPDL chain id that signatures name, the operator's key, and how rosters begin.

    first_slot: where a microgrid's first roster begins; None: the slot that runs when it is made.
    roster_wait_s: wall seconds to wait for every registered home before a roster is made without the absent ones.
    tls: files for a broker that is spoken to over TLS.
    """

    address: MqttAddress
    client_id: str
    chain_id: int
    operator_key: bytes
    first_slot: int | None = None
    roster_wait_s: float = 20.0
    tls: TlsFiles | None = None


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
    mqtt: MqttCounts
