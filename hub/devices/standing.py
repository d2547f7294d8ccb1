"""Which devices the hub listens to now: those of its configuration that were not revoked.

Rules: the devices' database is looked at before each message, so that a revocation counts from the next message on; that costs
some microseconds, since SQLite says by a number whether anybody has written. A database that cannot be read leaves the last
answer in force, said once. A device that was never enrolled here, of a hub without certificates, is let in; one that was
enrolled with another signing address than the configuration names is not.
Not here: revoking (`hub.devices.desk`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from hub.config import HubConfig
from hub.devices.folder import DevicesFolder
from hub.devices.store import REVOKED, DeviceStore
from openmg.config import ConfigError
from openmg.enrolment.certificates import is_development, load_certificate

log = logging.getLogger(__name__)


class DeviceStanding:
    """Reasons why devices are not listened to; `addresses` are those of the hub's configuration, by name."""

    def __init__(self, database: Path, addresses: Mapping[str, bytes]) -> None:
        self._store = DeviceStore(database)
        self._addresses = dict(addresses)
        self._version = -1
        self._reasons: dict[str, str] = {}
        self._said = False

    def close(self) -> None:
        self._store.close()

    def reason(self, device: str) -> str | None:
        """Why this device is not listened to; None when it is."""
        try:
            version = self._store.version
            if version != self._version:
                self._reasons = self._read()
                self._version, self._said = version, False
        except sqlite3.Error as error:
            if not self._said:
                self._said = True
                log.error("%s cannot be read (%s); going on with what was read before", self._store.path, error)
        return self._reasons.get(device)

    def _read(self) -> dict[str, str]:
        reasons = {}
        for device in self._store.devices():
            name = device.keys.device
            configured = self._addresses.get(name)
            if device.state == REVOKED:
                reasons[name] = "the device was revoked"
            elif configured is not None and configured != device.keys.address:
                reasons[name] = "the device was enrolled with another signing address than the configuration names"
        return reasons


def standing_of(config: HubConfig, addresses: Mapping[str, bytes]) -> DeviceStanding | None:
    """What the ingest role asks before each message, for a hub with [devices].

    Raises ConfigError for a development authority outside a demo, OperatorError for a database that cannot be opened.
    """
    tls = config.mqtt.tls if config.mqtt is not None else None
    demo = config.zk is not None and config.zk.demo
    if tls is not None and not demo:
        try:
            development = is_development(load_certificate(tls.ca.read_bytes()))
        except (OSError, ValueError) as error:
            raise ConfigError(f"mqtt.ca_file {tls.ca} cannot be read ({error}); correct it") from error
        if development:
            raise ConfigError(f"mqtt.ca_file {tls.ca} is a development authority, which only a demo may use; make another")
    if config.devices is None:
        return None
    return DeviceStanding(DevicesFolder(config.devices.dir).database, addresses)
