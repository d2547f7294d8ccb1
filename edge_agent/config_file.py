"""Writes the agent's file for a new device, with a word on each key, so that `openmg-agent check` passes it.

Rules: the file is read again before it takes its place, so that none is left which `check` would refuse; an existing file
is replaced only on demand. Not here: asking people (`edge_agent.commands.setup`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import AgentConfig, MeterSection
from openmg.config import ConfigError, load_toml


@dataclass(frozen=True)
class Identity:
    """Who the device is, where it reports, and with what key it proves its slots (none: `demo_key`).

    state_dir: the folder of key, store and outbox; empty: beside the file.
    """

    name: str
    microgrid: int
    mqtt: str
    operator: str
    chain_id: int
    timezone: str = "Asia/Seoul"
    role: str = "home"
    slot_key: str = ""
    slot_key_sha256: str = ""
    demo_key: bool = False
    state_dir: str = ""


def config_text(meter: MeterSection, identity: Identity) -> str:
    """The whole file."""
    folder = identity.state_dir
    sections = [
        "[device]",
        f"name = {_quoted(identity.name)}",
        f"key_file = {_quoted(f'{folder}/keys/device.key' if folder else 'keys/device.key')}"
        "   # made at the first start, readable by the agent alone",
        f"state_dir = {_quoted(folder or 'state')}   # readings and reports that wait",
        "",
        "[meter]",
        *_meter_lines(meter),
        "",
        "[mqtt]",
        f"url = {_quoted(identity.mqtt)}",
        "",
        "[hub]",
        f"operator = {_quoted(identity.operator)}   # the operator tells it",
        f"chain_id = {identity.chain_id}",
        "",
        "[home]",
        f"microgrid = {identity.microgrid}",
        f"timezone = {_quoted(identity.timezone)}",
        f"role = {_quoted(identity.role)}",
        *_slot_lines(identity),
    ]
    return "\n".join(sections) + "\n"


def _meter_lines(meter: MeterSection) -> list[str]:
    if meter.transport == "rtu":
        lines = [f"serial = {_quoted(meter.serial)}"]
        for key, value in (("baud", meter.baud), ("parity", meter.parity), ("stop_bits", meter.stop_bits)):
            if value is not None:
                lines.append(f"{key} = {_quoted(value) if isinstance(value, str) else value}")
    else:
        lines = [f"host = {_quoted(meter.host)}", f"port = {meter.port}"]
    return [
        *lines,
        f"transport = {_quoted(meter.transport)}",
        f"unit = {meter.unit}",
        f"profile = {_quoted(meter.profile)}",
        f"poll_seconds = {meter.poll_seconds}",
    ]


def _slot_lines(identity: Identity) -> list[str]:
    if identity.demo_key:
        return ["", "[slot_proof]", "demo = true   # the development key: anybody can forge with it"]
    if identity.slot_key:
        key, digest = _quoted(identity.slot_key), _quoted(identity.slot_key_sha256)
        return ["", "[slot_proof]", f"key_file = {key}", f"key_sha256 = {digest}"]
    return []


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def require_free(path: Path, replace: bool) -> None:
    """ConfigError when the file is there and is not to be replaced."""
    if path.exists() and not replace:
        raise ConfigError(f"{path} exists; name another file, or add --force to replace it")


def write_config(path: Path, meter: MeterSection, identity: Identity, replace: bool = False) -> AgentConfig:
    """Writes the file and returns what it says; ConfigError when it cannot be written or `check` would refuse it."""
    require_free(path, replace)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text(config_text(meter, identity), encoding="utf-8")
        try:
            config = load_toml(fresh, AgentConfig)
        except ConfigError as error:
            raise ConfigError(f"{path} is not written: {str(error).split(': ', 1)[-1]}") from None
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); check the folder and its owner") from error
    finally:
        fresh.unlink(missing_ok=True)
    return config
