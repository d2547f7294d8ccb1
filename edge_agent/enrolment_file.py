"""`enrolment.toml`: what an enrolment brought, of which `init` and `detect --write` make a configuration without asking for it.

Rules: its sections are the configuration's own, so that its lines may be copied into one; paths are relative to it. Nothing in
it is secret. Not here: the enrolment (`enrol`), the whole configuration (`config_file`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import HubSection, MqttSection
from edge_agent.config_file import hub_lines, mqtt_lines, quoted
from openmg.config import load_toml

FILE_NAME = "enrolment.toml"


@dataclass(frozen=True)
class EnrolledDevice:
    """The device's name and the file of its own key."""

    name: str
    key_file: Path


@dataclass(frozen=True)
class EnrolledHome:
    """Where the operator put the device."""

    microgrid: int
    role: str


@dataclass(frozen=True)
class Enrolment:
    """The whole file."""

    device: EnrolledDevice
    hub: HubSection
    home: EnrolledHome
    mqtt: MqttSection


def enrolment_text(enrolment: Enrolment, folder: Path) -> str:
    """The file's lines; paths are written as from `folder`."""
    device, hub, home, mqtt = enrolment.device, enrolment.hub, enrolment.home, enrolment.mqtt

    def name(path: Path) -> str:
        return os.path.relpath(path, folder)

    lines = [
        f"# Written by openmg-agent enroll for {device.name}; openmg-agent init --enrolment makes a configuration of it.",
        "[device]",
        f"name = {quoted(device.name)}",
        f"key_file = {quoted(name(device.key_file))}",
        "",
        "[hub]",
        *hub_lines(hub.operator, hub.chain_id, hub.utility),
        "",
        "[home]",
        f"microgrid = {home.microgrid}",
        f"role = {quoted(home.role)}",
        "",
        "[mqtt]",
        *mqtt_lines(mqtt.url, mqtt.tls, mqtt.renew_at, name),
    ]
    return "\n".join(lines) + "\n"


def read_enrolment(path: Path) -> Enrolment:
    """What the file says, with paths that do not depend on the present folder; ConfigError."""
    return load_toml(path.absolute(), Enrolment)
