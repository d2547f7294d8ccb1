"""The `openmg-agent` command.

    init --output FILE --host H ...              a configuration, which `check` passes
    detect [--host H | --serial DEV] ...         which meters are on a bus, or on any serial port
    run --config FILE                            the agent, until interrupted (SIGUSR1: stop metering, go on reporting)
    run --config-dir DIR                         the agents of many meters, in one process; also check, status, doctor, page
    status --config FILE [--json]                how the running agent is doing
    import FILE --config FILE                    a home's past into the store
    read --config FILE [--watch] [--json]        what the meter shows
    replace-meter --config FILE [...]            another meter takes the old one's place
    check --config FILE                          configuration only
    doctor --config FILE [--json]                what is wrong, and what to do
    doctor --bench [--config FILE] [--json]      what a proof costs on this board
    backup --config FILE --output FILE|-         one sealed file from which a lost card is restored
    restore --config FILE FILE|- [--force WHY]   bring a meter back from its backup
    page [code|fingerprint] ...                  the owner's page, a login code for it
    store info|query|retry|export ...            a look into the store; refused reports made anew
    enroll --hub HOST:PORT --code-file FILE|-    this device's certificate, with the operator's one-time code
    keys show|protect|unprotect ...              how key files are kept
    wallet address|backup|restore|viewing-key .. the owner's keys, as text for people

Rules: a wrong configuration ends with one sentence and exit code 2, any other failure with one sentence and
1. Not here: the commands (`edge_agent.commands`).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

from edge_agent import enrol_tool, key_tool
from edge_agent.commands import backup, health, meter, page, running, setup, store
from edge_agent.commands.common import Command, CommandError, config_of, with_config
from edge_agent.importer import ImportFileError
from edge_agent.store import StoreError
from edge_agent.wallet import tool as wallet_tool
from openmg import __version__
from openmg.config import CONFIG_EXIT_CODE, ConfigError
from openmg.keys.passphrase import KeyFileError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="openmg-agent", description="The agent on a meter.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    needs_config = with_config()

    def add(
        name: str, function: Command, text: str, example: str, within: Any = commands, parent: Any = needs_config
    ) -> argparse.ArgumentParser:
        full = f"{parser.prog} {example}"
        command: argparse.ArgumentParser = within.add_parser(
            name, help=text, description=text, parents=[parent] if parent else [], epilog=f"example: {full}"
        )
        command.set_defaults(function=function)
        return command

    setup.add_commands(add)
    running.add_commands(add)
    meter.add_commands(add)
    health.add_commands(add)
    page.add_commands(add)
    store.add_commands(commands, add)
    backup.add_commands(add)
    enrol_tool.add_command(commands)
    key_tool.add_commands(commands, add, config_of)
    wallet_tool.add_commands(commands, add, config_of)
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return int(arguments.function(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG_EXIT_CODE
    except (StoreError, KeyFileError, ImportFileError, CommandError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
