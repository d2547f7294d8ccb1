"""[homeassistant] of the agent's configuration: whether a home's values are also told to its own Home Assistant.

Rules: off unless it is switched on, because it publishes the home's consumption as it is read to whoever can read the broker
named here. That broker must be the home's own: the hub's, which never sees a single home's values, is refused by
`AgentConfig`. Not here: what is published (`homeassistant`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from openmg.mqtt import Credentials, MqttAddress

_PREFIX = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class HomeAssistantSection:
    """url: the home's own broker. every_seconds: at most one state in so many. name: shown in Home Assistant; default: the
    device's. discovery_prefix: as set in Home Assistant.
    """

    enabled: bool = False
    url: str = ""
    username: str = ""
    password_file: Path | None = None
    every_seconds: float = 10.0
    name: str = ""
    discovery_prefix: str = "homeassistant"

    def __post_init__(self) -> None:
        if self.url or self.enabled:
            MqttAddress.parse(self.url)
        if not 1 <= self.every_seconds <= 3600:
            raise ValueError(f"every_seconds is {self.every_seconds}; it must be 1 to 3600")
        if not _PREFIX.fullmatch(self.discovery_prefix):
            raise ValueError(f"discovery_prefix is {self.discovery_prefix!r}; write the one set in Home Assistant")
        if self.enabled:
            self.credentials.require_readable()

    @property
    def address(self) -> MqttAddress:
        return MqttAddress.parse(self.url)

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.username, self.password_file)
