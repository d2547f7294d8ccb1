"""Writes the agent's file for a new device, with a word on each key, so that `openmg-agent check` passes it.

Rules: the file is read again before it takes its place, so that none is left which `check` would refuse; an existing file
is replaced only on demand. Not here: asking people (`edge_agent.commands.setup`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import AgentConfig, MeterSection
from edge_agent.dlms_section import WRAPPER
from openmg.config import ConfigError, load_toml
from openmg.mqtt_tls import TlsFiles


@dataclass(frozen=True)
class Identity:
    """Who the device is, where it reports, and with what key it proves its slots (none: `demo_key`).

    state_dir: the folder of key, store and outbox; empty: beside the file. key_file: the device's own key, where it is not in
    that folder. tls: files for a broker of mqtts, renewed at `renew_at`.
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
    utility: str = ""
    key_file: str = ""
    tls: TlsFiles | None = None
    renew_at: str = ""


def config_text(meter: MeterSection, identity: Identity) -> str:
    """The whole file."""
    folder = identity.state_dir
    sections = [
        "[device]",
        f"name = {quoted(identity.name)}",
        f"key_file = {quoted(identity.key_file or (f'{folder}/keys/device.key' if folder else 'keys/device.key'))}"
        "   # made at the first start, readable by the agent alone",
        f"state_dir = {quoted(folder or 'state')}   # readings and reports that wait",
        "",
        "[meter]",
        *_meter_lines(meter),
        "",
        "[mqtt]",
        *mqtt_lines(identity.mqtt, identity.tls, identity.renew_at, str),
        "",
        "[hub]",
        *hub_lines(identity.operator, identity.chain_id, identity.utility),
        "",
        "[home]",
        f"microgrid = {identity.microgrid}",
        f"timezone = {quoted(identity.timezone)}",
        f"role = {quoted(identity.role)}",
        *_slot_lines(identity),
    ]
    return "\n".join(sections) + "\n"


def _meter_lines(meter: MeterSection) -> list[str]:
    if meter.serial:
        lines = [f"serial = {quoted(meter.serial)}"]
        for key, value in (("baud", meter.baud), ("parity", meter.parity), ("stop_bits", meter.stop_bits)):
            if value is not None:
                lines.append(f"{key} = {quoted(value) if isinstance(value, str) else value}")
    else:
        lines = [f"host = {quoted(meter.host)}", f"port = {meter.port}"]
    return [
        *lines,
        f"transport = {quoted(meter.transport)}",
        *(
            ['protocol = "dlms"']
            if meter.protocol == "dlms"
            else [f"unit = {meter.unit}", f"profile = {quoted(meter.profile)}"]
        ),
        *(
            [f"profile_dirs = [{', '.join(quoted(str(folder)) for folder in meter.profile_dirs)}]"]
            if meter.profile_dirs
            else []
        ),
        f"poll_seconds = {meter.poll_seconds}",
        *_dlms_lines(meter),
    ]


def _dlms_lines(meter: MeterSection) -> list[str]:
    """The table that follows [meter]: addresses, and what is to be filled in for a meter that asks who reads."""
    if meter.protocol != "dlms":
        return []
    section = meter.dlms_section
    return [
        "",
        "[meter.dlms]",
        *([] if section.framing == WRAPPER else [f"framing = {quoted(section.framing)}"]),
        f"client = {section.client}",
        f"server = {section.server}",
        *([] if section.physical is None else [f"physical = {section.physical}"]),
        f"authentication = {quoted(section.authentication)}   # or low, hls_gmac: docs/METERS.md",
    ]


def _slot_lines(identity: Identity) -> list[str]:
    if identity.demo_key:
        return ["", "[slot_proof]", "demo = true   # the development key: anybody can forge with it"]
    if identity.slot_key:
        key, digest = quoted(identity.slot_key), quoted(identity.slot_key_sha256)
        return ["", "[slot_proof]", f"key_file = {key}", f"key_sha256 = {digest}"]
    return []


def hub_lines(operator: str, chain_id: int, utility: str) -> list[str]:
    """The keys of [hub]."""
    lines = [f"operator = {quoted(operator)}   # whose rosters and acknowledgements count", f"chain_id = {chain_id}"]
    return lines + ([f"utility = {quoted(utility)}   # must have approved every meter of a roster"] if utility else [])


def mqtt_lines(url: str, tls: TlsFiles | None, renew_at: str, name: Callable[[Path], str]) -> list[str]:
    """The keys of [mqtt]; `name` writes a path."""
    lines = [f"url = {quoted(url)}"]
    if tls is not None:
        files = {"ca_file": tls.ca, "certificate_file": tls.certificate, "key_file": tls.key}
        lines += [f"{key} = {quoted(name(path))}" for key, path in files.items()]
        lines.append(f"renew_at = {quoted(renew_at)}")
    return lines


def quoted(text: str) -> str:
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
