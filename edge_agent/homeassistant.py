"""A home's own Home Assistant: the meter as a device found by MQTT discovery, with power in W and energy in kWh.

Rules: a connection of its own to the home's broker, never the hub's. The device is announced in one retained message under
`<discovery_prefix>/device/<id>/config` (Home Assistant 2024.11 and later: the documentation of its MQTT integration, "Device
discovery payload"); energies are counters, of class `total_increasing`, as its energy dashboard wants them. Values are
not retained, so that the broker's disk keeps none; one that is not renewed expires in Home Assistant, and the whole device
becomes unavailable by the broker's will when the agent vanishes. Nothing here delays a poll: what cannot be sent is left out.
Not here: the section of the configuration (`homeassistant_section`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_agent.homeassistant_section import HomeAssistantSection
from edge_agent.store import RawReading
from openmg import __version__
from openmg.mqtt import MqttLink, Will
from openmg.profiles.profile import Profile

if TYPE_CHECKING:
    from edge_agent.services import AgentContext

ONLINE, OFFLINE = b"online", b"offline"
EXPIRES_AFTER_STATES = 6
"""A value that was not renewed for so many times `every_seconds` is unknown: the meter gives none."""
MIN_EXPIRES_S = 60
ORIGIN = "openmg-agent"


def object_id(device: str) -> str:
    """The device's id in Home Assistant's topics: letters, digits, dashes and underscores."""
    return f"openmg-{device}"


def state_topic(device: str) -> str:
    return f"openmg/{device}/state"


def availability_topic(device: str) -> str:
    return f"openmg/{device}/availability"


def config_topic(prefix: str, device: str) -> str:
    return f"{prefix}/device/{object_id(device)}/config"


def discovery(section: HomeAssistantSection, device: str, profile: Profile) -> dict[str, Any]:
    """The announcement: one device with three sensors, which share its topics."""
    expires_s = max(MIN_EXPIRES_S, round(section.every_seconds * EXPIRES_AFTER_STATES))

    def sensor(name: str, field: str, device_class: str, state_class: str, unit: str) -> dict[str, Any]:
        return {
            "platform": "sensor",
            "unique_id": f"{object_id(device)}-{field}",
            "name": name,
            "device_class": device_class,
            "state_class": state_class,
            "unit_of_measurement": unit,
            "value_template": f"{{{{ value_json.{field} }}}}",
            "expire_after": expires_s,
        }

    return {
        "device": {
            "identifiers": [object_id(device)],
            "name": section.name or device,
            "manufacturer": profile.device.vendor,
            "model": profile.device.model,
            "sw_version": __version__,
        },
        "origin": {"name": ORIGIN, "sw_version": __version__},
        "state_topic": state_topic(device),
        "availability_topic": availability_topic(device),
        "qos": 1,
        "components": {
            "power": sensor("Power", "power_w", "power", "measurement", "W"),
            "energy_import": sensor("Energy imported", "energy_import_kwh", "energy", "total_increasing", "kWh"),
            "energy_export": sensor("Energy exported", "energy_export_kwh", "energy", "total_increasing", "kWh"),
        },
    }


def state(reading: RawReading) -> dict[str, float]:
    """One reading as Home Assistant shows it; power is positive for import, energies are the meter's counters."""
    return {
        "power_w": reading.power_w,
        "energy_import_kwh": reading.import_total_wh / 1000,
        "energy_export_kwh": reading.export_total_wh / 1000,
    }


class HomeAssistantService:
    """Tells the home's broker each reading, at most one in `every_seconds`."""

    name = "homeassistant"

    def __init__(
        self, section: HomeAssistantSection, device: str, profile: Profile, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._section, self._device, self._now = section, device, now
        self._announcement = json.dumps(discovery(section, device, profile)).encode()
        self._due = now()
        will = Will(availability_topic(device), OFFLINE)
        self.link = MqttLink(section.address, object_id(device), _ignore, self._on_connected, will, section.credentials)

    async def start(self, context: AgentContext) -> None:
        """Begins to connect; the broker need not be there."""
        self.link.start()

    async def stop(self) -> None:
        """Says that the device is gone, and disconnects."""
        await self.link.stop()

    async def on_message(self, topic: str, payload: bytes) -> None:
        """Nothing is subscribed."""

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """Slots are the hub's matter; Home Assistant sums counters itself."""

    def on_reading(self, reading: RawReading) -> None:
        """Publishes a reading when one is due and the broker is there."""
        if self.link.connected and self._now() >= self._due:
            self._due = self._now() + self._section.every_seconds
            self.link.publish(state_topic(self._device), json.dumps(state(reading)).encode())

    def _on_connected(self) -> None:
        self.link.publish(config_topic(self._section.discovery_prefix, self._device), self._announcement, retain=True)
        self.link.publish(availability_topic(self._device), ONLINE, retain=True)
        self._due = self._now()


def _ignore(_topic: str, _payload: bytes) -> None:
    """For a connection without subscriptions."""
