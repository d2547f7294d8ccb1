"""The `openmg-sim` command: serves simulated meters, or writes the homes' past.

    openmg-sim --meters 500 --profile sdm630 --port 5020     serve 500 homes, 247 units a port
    openmg-sim --meters 3 --serial /tmp/meters --baud 9600   serve them on a pseudo terminal of that name
    openmg-sim --config FILE                                 serve the homes of a file, each on its port
    openmg-sim --config FILE --history FOLDER                write one CSV per home and feeder, then end (--serve: serve)

Rules: a wrong configuration ends with one sentence and exit code 2, a port in use or unusable data with one
sentence and 1. Without --config the simulated time begins at a fixed moment, so that the same seed shows the same
numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from firmware_sim.assembly import Faults, own_ports, shared_ports, street_config, warm_up
from firmware_sim.config import MAX_UNIT, ClockConfig, SimConfig, SimSection
from firmware_sim.dataset import DatasetError
from firmware_sim.faults import KINDS
from firmware_sim.history import write_history
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.serial_line import BAUDS, SerialLine
from firmware_sim.server import MeterPort, PortInUse
from openmg.config import CONFIG_EXIT_CODE, ConfigError, load_toml

DEFAULT_START = 1_781_485_200
"""10 o'clock on Monday 15 June 2026 in Seoul."""
PROGRESS_AFTER_S = 1.0
Line = MeterPort | SerialLine
EXAMPLE = """example:
  openmg-sim --meters 500 --profile sdm630 --port 5020 --ready-file /tmp/ready.json
  mbpoll -m tcp -p 5020 -a 17 -t 3:float -B -0 -r 0 -c 1 -1 127.0.0.1
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="openmg-sim",
        description="Simulated meters over Modbus TCP, RTU over TCP or a serial line.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--config", type=Path, help="TOML file with clock, homes and feeders")
    form.add_argument("--meters", type=int, metavar="N", help="serve N homes of all kinds, units 1 to 247 a port")
    parser.add_argument("--history", type=Path, metavar="FOLDER", help="write the past as CSV files (with --config)")
    parser.add_argument("--serve", action="store_true", help="serve the meters after writing the past")
    street = parser.add_argument_group("with --meters")
    street.add_argument("--profile", default="sdm630", help="meter profile (default sdm630)")
    street.add_argument("--profile-dir", type=Path, action="append", default=[], help="folder with profiles of your own")
    street.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    street.add_argument("--port", type=int, default=5020, help="first port; 0 for any free ones (default 5020)")
    street.add_argument("--rtu", action="store_true", help="RTU frames over TCP, as serial gateways speak")
    street.add_argument("--serial", type=Path, metavar="PTY", help="serial device, or name for a new pseudo terminal")
    street.add_argument("--baud", type=int, default=9600, help="bit rate of the serial line (default 9600)")
    street.add_argument("--data", type=Path, metavar="FILE", help="CSV of measured homes (kWh) instead of synthetic ones")
    street.add_argument("--speed", type=float, default=1.0, metavar="N", help="simulated seconds per second (default 1)")
    street.add_argument(
        "--start", default=str(DEFAULT_START), help="simulated time at the start: Unix seconds, ISO time or now"
    )
    street.add_argument("--history-days", type=int, default=0, help="days that the counters have run before (default 0)")
    street.add_argument("--seed", type=int, default=1, help="seed of homes and faults (default 1)")
    parser.add_argument("--faults", default="", metavar="KINDS", help=f"what goes wrong, of {','.join(KINDS)}")
    parser.add_argument("--ready-file", type=Path, metavar="F", help="write where the meters are to F when they answer")
    parser.add_argument("--json", action="store_true", help="print where the meters are as JSON")
    return parser


def _start_seconds(text: str) -> int:
    if text == "now":
        return int(time.time())
    try:
        return int(text) if text.lstrip("-").isdigit() else int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"start is {text!r}; give Unix seconds, an ISO time or now") from None


def _street(arguments: argparse.Namespace) -> SimConfig:
    clock = ClockConfig(_start_seconds(arguments.start), time.time(), arguments.speed)
    sim = SimSection(
        seed=arguments.seed,
        host=arguments.host,
        profile=arguments.profile,
        history_days=arguments.history_days,
        data=arguments.data,
        profile_dirs=tuple(arguments.profile_dir),
    )
    return street_config(arguments.meters, clock, sim)


def _lines(neighbourhood: Neighbourhood, arguments: argparse.Namespace, faults: Faults) -> list[Line]:
    if arguments.meters is None:
        return list(own_ports(neighbourhood, faults))
    if arguments.serial is None:
        return list(shared_ports(neighbourhood, arguments.port, faults, arguments.rtu))
    units = shared_ports(neighbourhood, 0, faults)[0].devices
    return [SerialLine(units, arguments.serial, arguments.baud)]


def _where(config: SimConfig, lines: list[Line]) -> dict[str, object]:
    """What a program needs to reach the meters."""
    places: list[dict[str, object]] = []
    for line in lines:
        where: dict[str, object] = {"units": [min(line.devices), max(line.devices)]}
        if isinstance(line, SerialLine):
            where |= {"serial": str(line.path), "baud": line.baud}
        else:
            where |= {"host": line.host, "port": line.port}
        places.append(where)
    named = [item.name for item in config.meters] if len(lines) == len(config.meters) else []
    for name, where in zip(named, places, strict=False):
        where["name"] = name
    return {"meters": len(config.meters), "profile": config.sim.profile, "pid": os.getpid(), "lines": places}


def _say_ready(config: SimConfig, lines: list[Line], arguments: argparse.Namespace) -> None:
    where = _where(config, lines)
    if arguments.json:
        print(json.dumps(where), flush=True)
    elif isinstance(lines[0], SerialLine):
        print(f"serving {len(config.meters)} meters on {lines[0].path}", flush=True)
    else:
        print(f"serving {len(config.meters)} meters on {config.sim.host}{_ports_text(lines)}", flush=True)
    if arguments.ready_file is not None:
        beside = arguments.ready_file.with_name(arguments.ready_file.name + ".part")
        beside.write_text(json.dumps(where) + "\n", encoding="utf-8")
        beside.replace(arguments.ready_file)


def _ports_text(lines: list[Line]) -> str:
    ports = [line.port for line in lines if isinstance(line, MeterPort)]
    few = ", ".join(str(port) for port in ports[:4]) + (", ..." if len(ports) > 4 else "")
    return f", {'ports' if len(ports) > 1 else 'port'} {few}"


async def _serve(config: SimConfig, lines: list[Line], arguments: argparse.Namespace) -> None:
    """Serves until a signal; PortInUse when it cannot start."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        for line in lines:
            await line.start()
        _say_ready(config, lines, arguments)
        await stop.wait()
    finally:
        for line in lines:
            await line.stop()
        if arguments.ready_file is not None:
            arguments.ready_file.unlink(missing_ok=True)


def _check(arguments: argparse.Namespace, faults: Faults) -> None:
    """Says what is wrong with options before anything takes long; ValueError."""
    faults.script(1)
    if arguments.serial is None:
        return
    if arguments.meters is None or arguments.meters > MAX_UNIT:
        raise ValueError(f"serial needs --meters 1 to {MAX_UNIT}; a serial line carries no more")
    if arguments.baud not in BAUDS:
        raise ValueError(f"baud is {arguments.baud}; use one of {', '.join(map(str, BAUDS))}")


class _Progress:
    """Says on standard error how far it is, once it takes long."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_AFTER_S

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next += PROGRESS_AFTER_S
            print(f"openmg-sim: {done} of {total} homes are ready", file=sys.stderr, flush=True)


def _work(config: SimConfig, arguments: argparse.Namespace) -> None:
    faults = Faults(tuple(kind for kind in arguments.faults.split(",") if kind), arguments.seed)
    _check(arguments, faults)
    neighbourhood = Neighbourhood(config)
    if arguments.history is None:
        warm_up(neighbourhood, _Progress())
    else:
        for path in write_history(neighbourhood, arguments.history):
            print(path, flush=True)
    if arguments.history is not None and not arguments.serve:
        return
    if arguments.meters is not None:  # the time begins to run when the meters answer
        config = replace(config, clock=replace(config.clock, w0=time.time()))
        neighbourhood.config = config
    asyncio.run(_serve(config, _lines(neighbourhood, arguments, faults), arguments))


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = load_toml(arguments.config, SimConfig) if arguments.config is not None else _street(arguments)
        _work(config, arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG_EXIT_CODE
    except ValueError as error:
        print(f"openmg-sim: {error}", file=sys.stderr)
        return CONFIG_EXIT_CODE
    except (DatasetError, PortInUse) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while the past was added up
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
