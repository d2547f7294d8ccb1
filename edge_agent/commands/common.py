"""What commands share: the agent's file as an argument, the meter's place as arguments, JSON. Not here: any command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.config import AgentConfig
from edge_agent.dlms_section import HDLC, DlmsSection
from edge_agent.meter_section import BAUD_RATES, DLMS_PORT, MODBUS_PORT, SERIAL, MeterSection
from edge_agent.modbus.target import PARITIES
from openmg.config import ConfigError, load_toml
from openmg.profiles.profile import TRANSPORTS

Command = Callable[[argparse.Namespace], int]


class CommandError(Exception):
    """A command cannot do its work: one sentence, exit code 1."""


def config_of(arguments: argparse.Namespace) -> AgentConfig:
    """The agent's file; ConfigError with one sentence when it cannot be used."""
    return load_toml(arguments.config, AgentConfig)


def files_of(arguments: argparse.Namespace) -> tuple[Path, ...]:
    """The agents' files of `--config` and `--config-dir`, each once; ConfigError when there are none."""
    folder: Path | None = arguments.config_dir
    found = sorted(folder.glob("*.toml")) if folder is not None else []
    if folder is not None and not found:
        raise ConfigError(
            f"{folder} holds no .toml file that can be read; put the agents' files there, or name them by --config"
        )
    files = tuple(dict.fromkeys([*(arguments.config or ()), *found]))
    if not files:
        raise ConfigError("which agent? give --config FILE, once or more, or --config-dir FOLDER")
    return files


def print_json(value: Any) -> None:
    """One line, so that a script may read line by line."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """Progress, which is no result."""
    print(text, file=sys.stderr, flush=True)


def with_config() -> argparse.ArgumentParser:
    """The parent parser of commands that read one agent's file."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--config", type=Path, required=True, help="the agent's TOML file")
    return parent


def with_files() -> argparse.ArgumentParser:
    """The parent parser of commands that are for one agent or for several."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--config", type=Path, action="append", help="an agent's TOML file; may be repeated")
    parent.add_argument("--config-dir", type=Path, metavar="DIR", help="folder whose .toml files are one agent each")
    return parent


def add_place(parser: argparse.ArgumentParser, unit: bool = True) -> None:
    """Arguments that say where a meter is."""
    place = parser.add_argument_group("the meter's place")
    place.add_argument("--host", default="", help="of the meter or its gateway")
    place.add_argument("--port", type=int, help=f"TCP port; default: {MODBUS_PORT}, or {DLMS_PORT} for dlms")
    choices = (*TRANSPORTS, SERIAL)
    place.add_argument("--transport", choices=choices, help="default: tcp with --host, with --serial rtu, or serial for dlms")
    place.add_argument("--serial", default="", metavar="DEVICE", help="serial port, for example /dev/ttyUSB0")
    if unit:
        place.add_argument("--unit", type=int, default=1, help="Modbus unit, 1 to 247; default: 1")
        place.add_argument("--baud", type=int, choices=BAUD_RATES, help="bits a second; default: the profile's")
        place.add_argument("--parity", choices=PARITIES, help="default: the profile's")
        place.add_argument("--stop-bits", type=int, choices=(1, 2), help="default: the profile's")


def add_profile_dirs(parser: argparse.ArgumentParser) -> None:
    """The argument that names folders with the owner's own profiles."""
    text = "folder with profiles of your own, which go first; may be repeated"
    parser.add_argument("--profile-dir", type=Path, action="append", default=[], metavar="DIR", help=text)


def transport_of(arguments: argparse.Namespace) -> str:
    """The transport that was asked for; ConfigError when no place, or two, are given."""
    if bool(arguments.host) == bool(arguments.serial):
        raise ConfigError("where is the meter? give --host (with --port) or --serial, and not both")
    on_a_line = SERIAL if _is_dlms(arguments) else "rtu"
    return arguments.transport or (on_a_line if arguments.serial else "tcp")


def _is_dlms(arguments: argparse.Namespace) -> bool:
    return getattr(arguments, "protocol", "modbus") == "dlms"  # `detect` looks for Modbus alone


def port_of(arguments: argparse.Namespace) -> int:
    """The TCP port that was asked for, or the protocol's own."""
    if arguments.port is not None:
        return int(arguments.port)
    return DLMS_PORT if _is_dlms(arguments) else MODBUS_PORT


def meter_of(arguments: argparse.Namespace, profile: str) -> MeterSection:
    """The meter at the place of the arguments; ConfigError when it cannot be."""
    try:
        return MeterSection(
            host=arguments.host,
            port=port_of(arguments),
            unit=arguments.unit,
            profile=profile,
            transport=transport_of(arguments),
            serial=arguments.serial,
            baud=arguments.baud,
            parity=arguments.parity,
            stop_bits=arguments.stop_bits,
            protocol="dlms" if _is_dlms(arguments) else "modbus",
            dlms=_dlms_of(arguments),
            profile_dirs=tuple(folder.absolute() for folder in arguments.profile_dir),
        )
    except ValueError as error:
        raise ConfigError(f"meter: {error}") from error


def _dlms_of(arguments: argparse.Namespace) -> DlmsSection | None:
    """What the arguments say of a DLMS meter; a serial line carries HDLC."""
    given = {key: getattr(arguments, key, None) for key in ("framing", "server", "physical")}
    said = {key: value for key, value in given.items() if value is not None}
    if not _is_dlms(arguments):
        if said:
            raise ValueError(f"--{next(iter(said))} is for --protocol dlms; add that, or leave it out")
        return None
    if arguments.serial:
        said.setdefault("framing", HDLC)
    return DlmsSection(**said)
