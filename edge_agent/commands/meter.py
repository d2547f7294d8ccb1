"""`openmg-agent read` and `replace-meter`: what the meter shows, and that another one takes its place.

Rules: as in the package; a value that the meter lacks, or that is implausible, is n/a (null in JSON), and why is told.
Not here: which meter it is (`detect`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from edge_agent.commands.common import CommandError, config_of, print_json, say
from edge_agent.modbus.errors import LinkError
from edge_agent.modbus.reader import Reader, Reading
from edge_agent.store import RawReading, Store
from openmg.clock import VirtualClock
from openmg.config import ConfigError
from openmg.profiles.quantities import QUANTITIES
from openmg.units import MAX_SLOT_WH

if TYPE_CHECKING:  # the agent itself has no use for it
    from decimal import Decimal


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


def replace_meter(arguments: argparse.Namespace) -> int:
    from edge_agent.state_folder import lock_state

    config = config_of(arguments)
    shown = arguments.import_kwh, arguments.export_kwh
    if (shown[0] is None) != (shown[1] is None):
        raise ConfigError("the old meter has two counters: add both --import-kwh and --export-kwh, or neither")
    with lock_state(config.device.state_dir):
        store = Store(config.store_path)
        try:
            print(_expect_another(store, shown, config.clock.clock()))
        finally:
            store.close()
    return 0


def _expect_another(store: Store, shown: tuple[Decimal | None, Decimal | None], clock: VirtualClock) -> str:
    last = store.last_reading()
    if last is None:
        raise CommandError("no meter was read yet, so there is none to replace; start the agent")
    if shown[0] is not None and shown[1] is not None:
        now_ms, imported, exported = time.time_ns() // 1_000_000, int(shown[0] * 1000), int(shown[1] * 1000)
        if not (last.import_total_wh <= imported <= last.import_total_wh + MAX_SLOT_WH) or not (
            last.export_total_wh <= exported <= last.export_total_wh + MAX_SLOT_WH
        ):
            raise CommandError(
                f"the old meter showed {last.import_total_wh / 1000:.3f} kWh import and {last.export_total_wh / 1000:.3f} kWh"
                " export when it was last read, which does not lead to these; look at its counters again"
            )
        last = RawReading(now_ms, int(clock.now()), 0, imported, exported)
        store.expect_replacement(last)
    else:
        store.expect_replacement(None)
    return (
        f"another meter is expected; energy goes on from {last.import_total_wh / 1000:.3f} kWh import and"
        f" {last.export_total_wh / 1000:.3f} kWh export of the old one. Connect it and start the agent"
    )


def _kwh(text: str) -> Decimal:
    from decimal import Decimal, InvalidOperation

    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not 0 <= value < 10**12:
        raise argparse.ArgumentTypeError(f"{text!r} is no counter; write kWh as the meter shows them, for example 12345.6")
    return value


def add_commands(add: Any) -> None:
    """`read` and `replace-meter`."""
    reading = add("read", read, "Print what the meter shows.", "read --config agent.toml --group slow --json")
    reading.add_argument("--group", choices=("fast", "slow"), default="fast", help="slow: the values of each phase")
    reading.add_argument("--json", action="store_true", help="one JSON object; a value the meter lacks is null")
    reading.add_argument("--watch", action="store_true", help="again and again, every poll_seconds, until interrupted")
    reading.add_argument("--count", type=int, default=0, metavar="N", help="end after N readings")
    example = "replace-meter --config agent.toml --import-kwh 48213.7 --export-kwh 12002.1"
    replacing = add("replace-meter", replace_meter, "Say that another meter takes the old one's place.", example)
    replacing.add_argument("--import-kwh", type=_kwh, metavar="KWH", help="the old one's counter at its end; default: last")
    replacing.add_argument("--export-kwh", type=_kwh, metavar="KWH", help="the same of export")
