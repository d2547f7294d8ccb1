"""The `openmg-sim` command: serves the meters of a configuration, or writes the homes' past.

    openmg-sim --config FILE                      serve until interrupted
    openmg-sim --config FILE --history FOLDER     write one CSV per home and feeder, then end (--serve: then serve)

Rules: a wrong configuration ends with one sentence and exit code 2, a port in use or unusable data with one
sentence and 1.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from firmware_sim.config import SimConfig
from firmware_sim.dataset import DatasetError
from firmware_sim.history import write_history
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.server import MeterServer, PortInUse
from openmg.config import CONFIG_EXIT_CODE, ConfigError, load_toml
from openmg.profiles.profile import load_profile

log = logging.getLogger(__name__)


async def serve(neighbourhood: Neighbourhood, stop: asyncio.Event) -> None:
    """Serves every meter until `stop` is set; PortInUse when it cannot start."""
    config = neighbourhood.config
    profile, clock = load_profile(config.sim.profile), config.clock.clock()
    host, unit = config.sim.host, config.sim.unit
    servers = [MeterServer(neighbourhood.meter(item.name), profile, clock, host, item.port, unit) for item in config.meters]
    try:
        for server in servers:
            await server.start()
        print(f"serving {len(servers)} meters on {host}", flush=True)
        await stop.wait()
    finally:
        for server in servers:
            await server.stop()


def _warm_up(neighbourhood: Neighbourhood) -> None:
    """Runs the counters up to the start before anybody asks, since weeks of past take seconds to add up."""
    config = neighbourhood.config
    for item in config.meters:
        neighbourhood.meter(item.name).counters(config.start)


async def _run(neighbourhood: Neighbourhood) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(neighbourhood, stop)


def _work(config: SimConfig, history: Path | None, serving: bool) -> None:
    neighbourhood = Neighbourhood(config)
    if history is None:
        _warm_up(neighbourhood)
    else:
        for path in write_history(neighbourhood, history):
            print(path, flush=True)
    if serving:
        asyncio.run(_run(neighbourhood))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="openmg-sim", description="Simulated meters over Modbus TCP.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file with clock, homes and feeders")
    parser.add_argument("--history", type=Path, metavar="FOLDER", help="write the past as CSV files")
    parser.add_argument("--serve", action="store_true", help="serve the meters after writing the past")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = load_toml(arguments.config, SimConfig)
        _work(config, arguments.history, arguments.serve or arguments.history is None)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG_EXIT_CODE
    except (DatasetError, PortInUse) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while the past was added up
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
