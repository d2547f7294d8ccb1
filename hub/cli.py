"""The `openmg-hub` command.

    run --config FILE        the hub, until interrupted (SIGUSR1: make no more blocks, finish what is under way)
    init --config FILE       a new hub's vote log, once; never again, or it could vote twice
    check --config FILE      configuration only
    identity --config FILE   the hub's addresses and envelope key (its key file is made when missing)
    broker --port PORT       the embedded MQTT broker

Rules: a wrong configuration ends with one sentence and exit code 2, any other failure with one sentence and 1. Heavy
modules are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from hub.config import HubConfig
from openmg.config import CONFIG_EXIT_CODE, ConfigError, load_toml
from openmg.identity import KeyFileError

Command = Callable[[argparse.Namespace], int]


def run(arguments: argparse.Namespace) -> int:
    from hub.node import HubNode, StartError

    config = load_toml(arguments.config, HubConfig)

    async def until_interrupted() -> None:
        node, stop = HubNode(config), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, node.quiesce)
        await node.run(stop)

    try:
        asyncio.run(until_interrupted())
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check(arguments: argparse.Namespace) -> int:
    config = load_toml(arguments.config, HubConfig)
    print(f"{arguments.config}: right; {config.hub.name} with roles {', '.join(config.hub.roles) or 'validator only'}")
    return 0


def init(arguments: argparse.Namespace) -> int:
    from hub.keys import HubKeys
    from hub.ppdl.genesis import GenesisError, load_genesis
    from hub.ppdl.store import initialise_store

    config = load_toml(arguments.config, HubConfig)
    if config.ppdl_store.exists():
        print(f"{config.ppdl_store} exists; this hub is initialised already", file=sys.stderr)
        return 1
    try:
        genesis = load_genesis(config.ppdl.genesis_file)
    except GenesisError as error:
        print(error, file=sys.stderr)
        return 1
    keys = HubKeys.load(config.hub.key_file)
    config.hub.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    initialise_store(config.ppdl_store, genesis)
    print(f"{config.hub.name}: validator 0x{keys.validator.hex()} is ready for chain {genesis.chain_id}")
    return 0


def identity(arguments: argparse.Namespace) -> int:
    from hub.keys import HubKeys

    config = load_toml(arguments.config, HubConfig)
    keys = HubKeys.load(config.hub.key_file)
    print(
        json.dumps(
            {
                "name": config.hub.name,
                "validator": "0x" + keys.validator.hex(),
                "account": "0x" + keys.account.hex(),
                "envelope_key": keys.envelope_public.hex(),
            },
            indent=2,
        )
    )
    return 0


def broker(arguments: argparse.Namespace) -> int:
    from hub.ingest.broker import run_embedded_broker

    return run_embedded_broker(arguments.host, arguments.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="openmg-hub", description="A hub of the microgrid.")
    commands = parser.add_subparsers(required=True)

    def add(name: str, command: Command, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(command=command)
        return sub

    for name, command, text in (
        ("init", init, "Make a new hub's vote log, once. Example: openmg-hub init --config hub.toml"),
        ("run", run, "Run the hub. Example: openmg-hub run --config hub.toml"),
        ("check", check, "Check a configuration. Example: openmg-hub check --config hub.toml"),
        (
            "identity",
            identity,
            "Print the hub's public identity as JSON. Example: openmg-hub identity --config hub.toml",
        ),
    ):
        add(name, command, text).add_argument("--config", type=Path, required=True, help="TOML file")
    sub = add("broker", broker, "Run the embedded MQTT broker. Example: openmg-hub broker --port 1883")
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, required=True)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `openmg-hub` script; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return int(arguments.command(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG_EXIT_CODE
    except KeyFileError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
