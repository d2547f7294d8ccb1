"""`openmg-agent read`: what the meter shows, once or again and again.

Rules: as in the package; a value that the meter lacks, or that is implausible, is n/a (null in JSON), and why is told.
Not here: which meter it is (`detect`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from typing import Any

from edge_agent.commands.common import CommandError, config_of, print_json, say
from edge_agent.modbus.errors import LinkError
from edge_agent.modbus.reader import Reader, Reading
from openmg.profiles.quantities import QUANTITIES


def read(arguments: argparse.Namespace) -> int:
    from edge_agent.agent import make_reader

    config = config_of(arguments)
    times = arguments.count or (0 if arguments.watch else 1)

    async def readings() -> None:
        reader = make_reader(config)
        reader.link.open()
        try:
            await _repeat(reader, arguments, times, config.meter.poll_seconds)
        finally:
            await reader.link.close()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(readings())
    return 0


async def _repeat(reader: Reader, arguments: argparse.Namespace, times: int, pause_s: float) -> None:
    """Prints `times` readings (0: until interrupted); CommandError when one alone fails."""
    done = 0
    while True:
        began = time.monotonic()
        try:
            reading = await reader.read_group(arguments.group)
        except LinkError as error:
            if times == 1:
                raise CommandError(str(error)) from error
            say(str(error))
        else:
            _print(reader, reading, arguments)
        done += 1
        if done == times:
            return
        await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - began)))


def _print(reader: Reader, reading: Reading, arguments: argparse.Namespace) -> None:
    units = {name: QUANTITIES[name].unit for name in reading.values}
    if arguments.json:
        print_json({"meter": str(reader.unit), "time": time.time(), "values": dict(reading.values), "units": units})
    else:
        for name, value in reading.values.items():
            print(f"{name:26} {'n/a' if value is None else f'{value:.3f}':>14} {units[name]}")
        if arguments.watch:
            print(flush=True)
    for problem in reading.rejected.values():
        say(problem)


def add_commands(add: Any) -> None:
    """`read`."""
    reading = add("read", read, "Print what the meter shows.", "read --config agent.toml --group slow --json")
    reading.add_argument("--group", choices=("fast", "slow"), default="fast", help="slow: the values of each phase")
    reading.add_argument("--json", action="store_true", help="one JSON object; a value the meter lacks is null")
    reading.add_argument("--watch", action="store_true", help="again and again, every poll_seconds, until interrupted")
    reading.add_argument("--count", type=int, default=0, metavar="N", help="end after N readings")
