"""What commands share: the agent's file as an argument, the meter's place as arguments, JSON. Not here: any command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.config import AgentConfig
from edge_agent.meter_section import BAUD_RATES, MeterSection
from edge_agent.modbus.target import PARITIES
from openmg.config import ConfigError, load_toml
from openmg.profiles.profile import TRANSPORTS

Command = Callable[[argparse.Namespace], int]


class CommandError(Exception):
    """A command cannot do its work: one sentence, exit code 1."""


def config_of(arguments: argparse.Namespace) -> AgentConfig:
    """The agent's file; ConfigError with one sentence when it cannot be used."""
    return load_toml(arguments.config, AgentConfig)


def print_json(value: Any) -> None:
    """One line, so that a script may read line by line."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """Progress, which is no result."""
    print(text, file=sys.stderr, flush=True)


def with_config(required: bool = True) -> argparse.ArgumentParser:
    """The parent parser of commands that read the agent's file."""
    parent = argparse.ArgumentParser(add_help=False)
    text = "the agent's TOML file" if required else "the agent's TOML file; only --bench goes without"
    parent.add_argument("--config", type=Path, required=required, help=text)
    return parent


def add_place(parser: argparse.ArgumentParser, unit: bool = True) -> None:
    """Arguments that say where a meter is."""
    place = parser.add_argument_group("the meter's place")
    place.add_argument("--host", default="", help="of the meter or its gateway")
    place.add_argument("--port", type=int, default=502, help="TCP port; default: 502")
    place.add_argument("--transport", choices=TRANSPORTS, help="default: tcp with --host, rtu with --serial")
    place.add_argument("--serial", default="", metavar="DEVICE", help="serial port, for example /dev/ttyUSB0")
    if unit:
        place.add_argument("--unit", type=int, default=1, help="Modbus unit, 1 to 247; default: 1")
        place.add_argument("--baud", type=int, choices=BAUD_RATES, help="bits a second; default: the profile's")
        place.add_argument("--parity", choices=PARITIES, help="default: the profile's")
        place.add_argument("--stop-bits", type=int, choices=(1, 2), help="default: the profile's")


def transport_of(arguments: argparse.Namespace) -> str:
    """The transport that was asked for; ConfigError when no place, or two, are given."""
    if bool(arguments.host) == bool(arguments.serial):
        raise ConfigError("where is the meter? give --host (with --port) or --serial, and not both")
    return arguments.transport or ("rtu" if arguments.serial else "tcp")


def meter_of(arguments: argparse.Namespace, profile: str) -> MeterSection:
    """The meter at the place of the arguments; ConfigError when it cannot be."""
    try:
        return MeterSection(
            host=arguments.host,
            port=arguments.port,
            unit=arguments.unit,
            profile=profile,
            transport=transport_of(arguments),
            serial=arguments.serial,
            baud=arguments.baud,
            parity=arguments.parity,
            stop_bits=arguments.stop_bits,
        )
    except ValueError as error:
        raise ConfigError(f"meter: {error}") from error
