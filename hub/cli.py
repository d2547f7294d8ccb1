"""The `openmg-hub` command.

    run --config FILE        the hub, until interrupted (SIGUSR1: make no more blocks, finish what is under way)
    init --dir FOLDER ...    a new hub's keys, TLS certificate and card, before there is a chain (hub.operators)
    init --config FILE       the vote log of a hub that was configured by hand, once; never again, or it could vote twice
    genesis, join            found a chain from the operators' cards, and make a hub ready for it
    keys, peers              change this hub's TLS key; import the other operators' cards
    validators               see and change the validator set of the running chain
    check --config FILE      configuration only
    approve                  the utility's signature that the meters of a genesis are real
    devices                  certificates of meters: invite, approve, revoke, serve; the broker's files
    history, api-key         import a microgrid's past; keys of the inference API and what was asked with them
    identity --config FILE   the hub's addresses and envelope key (its key file is made when missing)
    broker --port PORT       the embedded MQTT broker
    relay --config FILE      a relayer as a process of its own, beside the hub whose chain it relays

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
from pathlib import Path

from hub.config import HubConfig
from hub.operators.errors import OperatorError
from openmg.config import CONFIG_EXIT_CODE, ConfigError, load_toml
from openmg.identity import KeyFileError


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
    if arguments.config is None:
        from hub.operators.shell import run_operator_command

        return run_operator_command(arguments)
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


def relay(arguments: argparse.Namespace) -> int:
    from hub.relay.daemon import RelayStartError, make_relayer, run_relayer

    try:
        relayer = make_relayer(load_toml(arguments.config, HubConfig), arguments.key_file)
    except RelayStartError as error:
        print(error, file=sys.stderr)
        return 1
    asyncio.run(run_relayer(relayer, as_json=arguments.json))
    return 0


def broker(arguments: argparse.Namespace) -> int:
    from hub.ingest.broker import run_embedded_broker

    return run_embedded_broker(arguments.host, arguments.port)


def _parser() -> argparse.ArgumentParser:
    from hub.devices.commands import add_device_commands
    from hub.inference.commands import add_inference_commands
    from hub.ingest.approvals import add_arguments as add_approval_arguments
    from hub.operators.commands import add_operator_commands
    from hub.operators.governance_commands import add_validator_commands

    parser = argparse.ArgumentParser(prog="openmg-hub", description="A hub of the microgrid.")
    commands = parser.add_subparsers(required=True)

    def add(name: str, help_text: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help_text, description=f"{help_text} Example: {example}")

    for name, command, text in (
        ("run", run, "Run the hub."),
        ("check", check, "Check a configuration."),
        ("identity", identity, "Print the hub's public identity as JSON."),
    ):
        sub = add(name, text, f"openmg-hub {name} --config hub.toml")
        sub.add_argument("--config", type=Path, required=True, help="TOML file")
        sub.set_defaults(command=command)
    sub = add(
        "init",
        "Make a new hub: keys, certificate and card in --dir; or with --config only the vote log of a configured hub.",
        "openmg-hub init --dir hub-1 --name hub-1 --address hub-1.example.org:7100 --chain-id 77",
    )
    sub.add_argument("--config", type=Path, help="TOML file of a hub that was configured by hand")
    sub.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    sub.set_defaults(command=init)
    add_operator_commands(add, sub)
    add_validator_commands(add)
    add_inference_commands(add)
    sub = add(
        "approve",
        "Sign, as the utility, that the meters of a genesis are real, for rosters that homes can trust.",
        "openmg-hub approve --genesis genesis.cbor --key-file utility.key --without-feeder 2",
    )
    add_approval_arguments(sub)
    add_device_commands(add)
    sub = add("relay", "Relay decided headers to the plasma chain.", "openmg-hub relay --config hub.toml --json")
    sub.add_argument("--config", type=Path, required=True, help="TOML file of the hub whose chain is relayed")
    sub.add_argument("--key-file", type=Path, help="account of this relayer, made when missing; default: the hub's")
    sub.add_argument("--json", action="store_true", help="counters as one JSON object a line")
    sub.set_defaults(command=relay)
    sub = add("broker", "Run the embedded MQTT broker.", "openmg-hub broker --port 1883")
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, required=True)
    sub.set_defaults(command=broker)
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
    except (KeyFileError, OperatorError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
