"""What an agent has for itself, so that two files of one process never name the same meter, device, key, folder or port.

Rules: who comes first has it. Two agents of one meter would count its energy twice; two sessions of one device would end each
other's.
Not here: agents of other processes, which the lock of a state folder keeps apart (`agent`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_agent.config import AgentConfig
from openmg.config import ConfigError


class Claims:
    """What each file has for itself."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, str], Path] = {}

    def take(self, path: Path, config: AgentConfig) -> None:
        """In place of what the file had before; ConfigError, and then it has nothing, when another file has some of it."""
        self._owners = {claim: owner for claim, owner in self._owners.items() if owner != path}
        wanted = tuple(_claims(config))
        for what, which in wanted:
            owner = self._owners.get((what, which))
            if owner is not None:
                raise ConfigError(f"{path}: {what} {which} is that of {owner} already; give this file its own, or remove one")
        self._owners.update(dict.fromkeys(wanted, path))


def _claims(config: AgentConfig) -> Iterator[tuple[str, str]]:
    broker = config.mqtt.address
    yield "meter", config.meter.where
    yield "device", f"{config.device.name} at {broker}"
    yield "MQTT client", f"{config.mqtt.client_id or config.device.name} at {broker}"
    yield "key_file", str(config.device.key_file.resolve())
    yield "state_dir", str(config.device.state_dir.resolve())
    if config.proxy is not None and config.proxy.port:
        yield "proxy", f"{config.proxy.listen}:{config.proxy.port}"
