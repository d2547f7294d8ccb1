"""`openmg-agent init` and `detect`: from a meter on a wire to a file that `check` passes.

Rules: what is not given is asked for at a terminal and is an error anywhere else; nothing is written unless a file is
named. Not here: the scan (`edge_agent.modbus.detect`), the file (`edge_agent.config_file`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.common import (
    CommandError,
    add_place,
    add_profile_dirs,
    meter_of,
    port_of,
    print_json,
    say,
    transport_of,
)
from edge_agent.config import AgentConfig, MeterSection
from edge_agent.dlms_section import FRAMINGS
from edge_agent.meter_section import BAUD_RATES, MAX_UNIT, PROTOCOLS
from edge_agent.modbus.target import PARITIES, BusTarget
from openmg.config import ConfigError
from openmg.profiles.profile import ProfileError, known_profiles, load_profile

if TYPE_CHECKING:
    from edge_agent.config_file import Identity
    from edge_agent.enrolment_file import Enrolment
    from edge_agent.modbus.detect import FoundMeter

PROGRESS_SECONDS = 2.0
QUESTIONS = {
    "name": "name of this device (lower-case letters, digits, dashes)",
    "microgrid": "number of the microgrid",
    "mqtt": "broker, as mqtt://host:port",
    "operator": "the operator's address, 0x and 40 hex digits",
    "chain_id": "the number of the operator's chain",
}


def init(arguments: argparse.Namespace) -> int:
    return _write(arguments, meter_of(arguments, arguments.profile), _identity(arguments), arguments.output)


def _identity(arguments: argparse.Namespace) -> Identity:
    from edge_agent.config_file import Identity
    from edge_agent.enrolment_file import read_enrolment

    enrolled = None if arguments.enrolment is None else read_enrolment(arguments.enrolment)
    known = {} if enrolled is None else _known(enrolled)
    answers = {key: _answer(arguments, key, question, known) for key, question in QUESTIONS.items()}
    folder = arguments.state_dir or (None if enrolled is None else enrolled.device.key_file.parent)
    return Identity(
        name=answers["name"],
        microgrid=_whole("microgrid", answers["microgrid"]),
        mqtt=answers["mqtt"],
        operator=answers["operator"],
        chain_id=_whole("chain-id", answers["chain_id"]),
        timezone=arguments.timezone,
        role=arguments.role or ("home" if enrolled is None else enrolled.home.role),
        slot_key=str(arguments.slot_key.absolute()) if arguments.slot_key else "",
        slot_key_sha256=arguments.slot_key_sha256,
        demo_key=arguments.demo_key,
        state_dir=str(folder.absolute()) if folder else "",
        utility="" if enrolled is None else enrolled.hub.utility,
        key_file="" if enrolled is None else str(enrolled.device.key_file),
        tls=None if enrolled is None else enrolled.mqtt.tls,
        renew_at="" if enrolled is None else enrolled.mqtt.renew_at,
    )


def _known(enrolled: Enrolment) -> dict[str, str]:
    """What needs no asking after an enrolment."""
    hub = enrolled.hub
    return {
        "name": enrolled.device.name,
        "microgrid": str(enrolled.home.microgrid),
        "mqtt": enrolled.mqtt.url,
        "operator": hub.operator,
        "chain_id": str(hub.chain_id),
    }


def _write(arguments: argparse.Namespace, meter: MeterSection, identity: Identity, path: Path) -> int:
    from edge_agent.config_file import write_config

    _tell_written(arguments, path, write_config(path, meter, identity, arguments.force))
    return 0


def _tell_written(arguments: argparse.Namespace, path: Path, config: AgentConfig) -> None:
    if config.home.role == "home" and config.slot_keys is None:
        say("a home proves what it reports: add [slot_proof] with the operator's key before `run` (docs/METERS.md)")
    if arguments.json:
        meter = config.meter
        print_json({"file": str(path), "device": config.device.name, "meter": meter.where, "profile": meter.profile_name})
    else:
        print(f"{path} is written; next: openmg-agent doctor --config {path}")


def _answer(arguments: argparse.Namespace, key: str, question: str, known: Mapping[str, str]) -> str:
    given = known.get(key) if getattr(arguments, key) is None else getattr(arguments, key)
    if given is not None:
        return str(given)
    if not sys.stdin.isatty():
        raise ConfigError(f"--{key.replace('_', '-')} is missing: {question}")
    print(f"{question}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; write a whole number") from None


def detect(arguments: argparse.Namespace) -> int:
    """Exit code 0 when a meter was named, 1 when not."""
    buses = _buses(arguments)
    identity = None
    if arguments.write is not None:  # asked for before the scan, which may take minutes
        from edge_agent.config_file import require_free

        require_free(arguments.write, arguments.force)
        identity = _identity(arguments)
    found = _scan(arguments, buses)
    if arguments.json and identity is None:
        print_json([_row(meter) for meter in found])
    for meter in () if arguments.json else found:
        print(f"{_place(meter.target)} unit {meter.unit}: {' or '.join(meter.profiles) or 'unknown'} ({meter.text})")
    if not found:
        where = ", ".join(map(str, buses))
        raise CommandError(f"nobody answers on {where}; check wiring (A and B swapped?), units, baud and parity")
    if identity is not None:
        return _write(arguments, _chosen(arguments, found), identity, arguments.write)
    return 0 if any(meter.profile for meter in found) else 1


def _buses(arguments: argparse.Namespace) -> tuple[BusTarget, ...]:
    """The place that was named, else every serial port of this machine; CommandError when there is none."""
    from edge_agent.modbus.ports import serial_ports

    ports: tuple[str, ...] = (arguments.serial,)
    if arguments.host or arguments.serial:
        transport = transport_of(arguments)
    elif arguments.transport in (None, "rtu"):
        transport, ports = "rtu", serial_ports()
    else:
        raise ConfigError(f"where is the meter? {arguments.transport} needs --host (with --port)")
    if not ports:
        raise CommandError("this machine has no serial port; plug the adapter in, or give --host of a meter on the network")
    bus = BusTarget(
        host=arguments.host,
        port=port_of(arguments),
        transport=transport,
        timeout_s=arguments.timeout,
        drain_s=min(arguments.timeout, 0.1),
    )
    return tuple(replace(bus, serial=port) for port in ports)


def _scan(arguments: argparse.Namespace, buses: tuple[BusTarget, ...]) -> tuple[FoundMeter, ...]:
    """Who answers on any of them. One of several that cannot be opened is told and left out; CommandError when all are."""
    from edge_agent.modbus.detect import scan, serial_settings
    from edge_agent.modbus.errors import LinkError

    try:
        profiles = [load_profile(name, arguments.profile_dir) for name in known_profiles(arguments.profile_dir)]
    except ProfileError as error:
        raise ConfigError(str(error)) from error
    found: list[FoundMeter] = []
    shut: list[str] = []
    for bus in buses:
        targets = serial_settings(bus, arguments.baud, arguments.parity)
        try:
            found += asyncio.run(scan(targets, arguments.units, profiles, _Progress()))
        except LinkError as error:
            shut.append(str(error))
    if len(shut) == len(buses):
        raise CommandError("; ".join(shut))
    for text in shut:
        say(text)
    return tuple(found)


def _row(meter: FoundMeter) -> dict[str, Any]:
    target = meter.target
    place: dict[str, Any] = {"transport": target.transport}
    if target.transport == "rtu":
        place |= {"serial": target.serial, "baud": target.baud, "parity": target.parity}
    else:
        place |= {"host": target.host, "port": target.port}
    return {**place, "unit": meter.unit, "profile": meter.profile, "profiles": list(meter.profiles), "text": meter.text}


def _place(target: BusTarget) -> str:
    return f"{target} at {target.baud} {target.parity}" if target.transport == "rtu" else str(target)


def _chosen(arguments: argparse.Namespace, found: tuple[FoundMeter, ...]) -> MeterSection:
    """The one meter that a file is written for."""
    known = [(meter, meter.profile) for meter in found if meter.profile is not None]
    if len(known) != 1:
        names = ", ".join(f"{meter.target} unit {meter.unit}" for meter in found)
        raise CommandError(f"a file is for one meter, but {len(known)} are known ({names}); narrow --units, or use `init`")
    meter, profile = known[0]
    place = argparse.Namespace(**vars(arguments))
    place.unit, place.transport, place.serial = meter.unit, meter.target.transport, meter.target.serial
    place.baud = place.parity = place.stop_bits = None
    section = meter_of(place, profile)
    if meter.target.transport == "rtu":
        section = replace(section, baud=meter.target.baud, parity=meter.target.parity)
    return section


class _Progress:
    """Says what the scan does, every two seconds."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._said >= PROGRESS_SECONDS:
            self._said = time.monotonic()
            say(text)


def _units(text: str) -> tuple[int, ...]:
    """`1-10`, `3` or `1,5,9-12`."""
    units: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            units += range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of units; write 1-10 or 1,5,9") from None
    if not units or not all(1 <= unit <= MAX_UNIT for unit in units):
        raise argparse.ArgumentTypeError(f"units are 1 to {MAX_UNIT}, not {text}")
    return tuple(dict.fromkeys(units))


def _choices(kind: type, allowed: tuple[Any, ...]) -> Any:
    def parse(text: str) -> tuple[Any, ...]:
        try:
            values = tuple(kind(part) for part in text.split(","))
        except ValueError:
            values = ()
        if not values or not set(values) <= set(allowed):
            raise argparse.ArgumentTypeError(f"use some of {', '.join(map(str, allowed))}, with commas between")
        return values

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.02 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is no time-out; write 0.02 to 10 seconds")
    return value


def _add_identity(parser: argparse.ArgumentParser) -> None:
    who = parser.add_argument_group("the device (what is missing is asked for at a terminal)")
    for key, question in QUESTIONS.items():
        who.add_argument(f"--{key.replace('_', '-')}", help=question)
    who.add_argument("--timezone", default="Asia/Seoul", help="default: Asia/Seoul")
    who.add_argument("--role", choices=("home", "feeder"), help="default: home, or as enrolled")
    who.add_argument("--enrolment", type=Path, metavar="FILE", help="enrolment.toml of `enroll`, which answers all of these")
    who.add_argument("--state-dir", type=Path, metavar="DIR", help="where key, store and outbox go; default: beside the file")
    who.add_argument("--slot-key", type=Path, metavar="FILE", help="what the ceremony of commit made")
    who.add_argument("--slot-key-sha256", default="", metavar="HEX", help="the digest that the ceremony printed")
    who.add_argument("--demo-key", action="store_true", help="the development key instead, with which anybody can forge")
    who.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--json", action="store_true", help="one JSON value")


def add_commands(add: Any) -> None:
    """`init` and `detect`."""
    making = add("init", init, "Write a configuration.", "init --output agent.toml --host 192.0.2.7", parent=None)
    making.add_argument("--output", type=Path, default=Path("agent.toml"), help="default: agent.toml")
    making.add_argument("--profile", default="sdm630", help=f"one of {', '.join(known_profiles())}, or a .toml file")
    add_profile_dirs(making)
    add_place(making)
    making.add_argument(
        "--protocol", choices=PROTOCOLS, default="modbus", help="default: modbus; dlms needs openmg[agent,dlms]"
    )
    making.add_argument("--framing", choices=FRAMINGS, help="of dlms; default: wrapper with --host, hdlc with --serial")
    making.add_argument("--server", type=int, help="of dlms: the logical device; default: 1")
    making.add_argument("--physical", type=int, help="of dlms over hdlc: the meter's own address on its line")
    _add_identity(making)
    example = "detect --serial /dev/ttyUSB0 --units 1-10 --write agent.toml"
    text = "Find the meters on a bus; without --serial and --host on every serial port of this machine."
    finding = add("detect", detect, text, example, parent=None)
    add_place(finding, unit=False)
    add_profile_dirs(finding)
    finding.add_argument("--units", type=_units, default=tuple(range(1, 11)), help="1-10 (default), 3 or 1,5,9-12")
    baud = _choices(int, BAUD_RATES)
    finding.add_argument("--baud", type=baud, default=(9600, 19200, 2400, 38400), help="tried in turn: 9600,19200,...")
    finding.add_argument("--parity", type=_choices(str, PARITIES), default=("N", "E"), help="tried in turn: N,E")
    finding.add_argument("--timeout", type=_seconds, default=0.3, metavar="S", help="for each answer; default: 0.3")
    finding.add_argument("--write", type=Path, metavar="FILE", help="write the agent's file for the meter that is found")
    _add_identity(finding)
