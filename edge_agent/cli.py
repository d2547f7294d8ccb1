"""The `openmg-agent` command.

    run --config FILE                            the agent, until interrupted (SIGUSR1: stop metering, go on reporting)
    import FILE --config FILE                    a home's past into the store
    read --config FILE [--group slow] [--json]   one poll, printed
    check --config FILE                          configuration only
    doctor --config FILE [--json]                configuration, key, store, clock, meter, broker
    doctor --bench [--config FILE] [--json]      what a proof costs on this board
    store info|query|export ...                  a look into the store
    enroll --hub HOST:PORT --code-file FILE|-    this device's certificate, with the operator's one-time code
    keys show|protect|unprotect ...              how key files are kept
    wallet address|backup|restore|viewing-key .. the owner's keys, as text for people

Rules: a wrong configuration ends with one sentence and exit code 2, any other failure with one sentence and
1. Heavy modules are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent import enrol_tool, key_tool
from edge_agent.config import AgentConfig
from edge_agent.importer import ImportFileError, import_file
from edge_agent.store import Store, StoreError
from edge_agent.wallet import tool as wallet_tool
from openmg import __version__
from openmg.config import CONFIG_EXIT_CODE, ConfigError, load_toml
from openmg.identity import KeyFileError

BACKENDS = ("native", "portable", "auto")

Command = Callable[[argparse.Namespace], int]


def _config(arguments: argparse.Namespace) -> AgentConfig:
    return load_toml(arguments.config, AgentConfig)


def run(arguments: argparse.Namespace) -> int:
    from edge_agent.compose import make_agent
    from edge_agent.memory import use_few_arenas

    use_few_arenas()
    config = _config(arguments)

    async def until_interrupted() -> None:
        agent, stop = make_agent(config), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: loop.create_task(agent.stop_metering()))
        await agent.run(stop)

    asyncio.run(until_interrupted())
    return 0


def import_past(arguments: argparse.Namespace) -> int:
    from zoneinfo import ZoneInfo

    config = _config(arguments)
    store = Store(config.store_path)
    try:
        result = import_file(store, arguments.file, ZoneInfo(config.home.timezone))
    finally:
        store.close()
    print(f"{result.new} slots imported, {result.known} known, {result.different} kept as stored")
    return 0


def read(arguments: argparse.Namespace) -> int:
    from edge_agent.agent import make_reader
    from edge_agent.modbus.link import LinkError

    config = _config(arguments)

    async def once() -> None:
        reader = make_reader(config)
        reader.link.open()
        try:
            reading = await reader.read_group(arguments.group)
        finally:
            await reader.link.close()
        if arguments.json:
            print(json.dumps({"meter": str(reader.link.target), "values": dict(reading.values)}))
            return
        for point in reader.profile.group(arguments.group):
            value = reading.values[point.name]
            print(f"{point.name:26} {'n/a' if value is None else f'{value:14.3f}'} {point.unit}")

    try:
        asyncio.run(once())
    except LinkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    print(f"{arguments.config}: right; device {config.device.name}, meter {config.meter.host}:{config.meter.port}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    from edge_agent.doctor import examine

    if arguments.bench:
        return _bench(arguments)
    if arguments.config is None:
        raise ConfigError("doctor needs the agent's file (only --bench goes without): add --config FILE")
    findings = asyncio.run(examine(_config(arguments)))
    if arguments.json:
        print(json.dumps([{"check": f.check, "ok": f.ok, "text": f.text} for f in findings]))
    for finding in () if arguments.json else findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check:11} {finding.text}")
    return 0 if all(finding.ok for finding in findings) else 1


def _bench(arguments: argparse.Namespace) -> int:
    from edge_agent.doctor import bench
    from openmg.zk.backend import BackendError
    from openmg.zk.bench import BenchError
    from openmg.zk.keys import KeysError

    config = None if arguments.config is None else _config(arguments)
    try:
        row = bench(config, arguments.backend, arguments.runs, arguments.circuit)
    except (BackendError, BenchError, KeysError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    print(row.to_json() if arguments.json else row.to_text())
    return 0


def store(arguments: argparse.Namespace) -> int:
    from edge_agent import store_tool

    path = _config(arguments).store_path
    if arguments.action == "info":
        store_tool.print_info(path, arguments.json)
    elif arguments.action == "query":
        store_tool.query(path, arguments.sql, sys.stdout)
    elif arguments.output is None:
        store_tool.export(path, arguments.table, arguments.format, sys.stdout)
    else:
        try:
            with arguments.output.open("w", encoding="utf-8", newline="") as output:
                count = store_tool.export(path, arguments.table, arguments.format, output)
        except OSError as error:
            print(f"{arguments.output} cannot be written ({error.strerror}); check folder and free space", file=sys.stderr)
            return 1
        print(f"{count} rows written to {arguments.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    with_config, may_have_config = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    with_config.add_argument("--config", type=Path, required=True, help="the agent's TOML file")
    may_have_config.add_argument("--config", type=Path, help="the agent's TOML file; only --bench goes without")
    parser = argparse.ArgumentParser(prog="openmg-agent", description="The agent on a meter.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, function: Command, text: str, example: str, within: Any = commands, parent: Any = with_config
    ) -> argparse.ArgumentParser:
        full = f"{parser.prog} {example}"
        command: argparse.ArgumentParser = within.add_parser(
            name, help=text, description=text, parents=[parent], epilog=f"example: {full}"
        )
        command.set_defaults(function=function)
        return command

    add("run", run, "Run until interrupted.", "run --config agent.toml")
    past = add("import", import_past, "Import a home's past.", "import past.csv --config agent.toml")
    past.add_argument("file", type=Path, help="CSV with the columns time, import_wh, export_wh")
    reading = add("read", read, "Read the meter once.", "read --config agent.toml --group slow --json")
    reading.add_argument("--group", choices=("fast", "slow"), default="fast", help="slow: the values of each phase")
    reading.add_argument("--json", action="store_true", help="one JSON object; a value the meter lacks is null")
    add("check", check, "Check the configuration file.", "check --config agent.toml")
    text = "Check everything the agent needs, or measure what a proof costs here."
    examination = add("doctor", doctor, text, "doctor --config agent.toml --bench --runs 7", parent=may_have_config)
    examination.add_argument("--json", action="store_true", help="a list of check, ok and text; with --bench the row")
    examination.add_argument("--bench", action="store_true", help="measure proofs instead of checking")
    examination.add_argument("--backend", choices=BACKENDS, help="default: the wallet's prover, else auto")
    examination.add_argument("--circuit", default="transfer", help="the statement to measure; default: transfer")
    examination.add_argument("--runs", type=int, default=7, help="proofs to make; medians are printed")

    tool = commands.add_parser("store", help="Look into the store.", description="Look into the store.")
    actions = tool.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text, example in (
        ("info", "Counters and sizes.", "info --config agent.toml --json"),
        ("query", "One SELECT.", 'query --config agent.toml "SELECT max(slot) FROM slots"'),
        ("export", "A table as a file.", "export slots --config agent.toml --output slots.csv"),
    ):
        action = add(name, store, text, f"store {example}", actions)
        if name == "info":
            action.add_argument("--json", action="store_true")
        elif name == "query":
            action.add_argument("sql")
        else:
            action.add_argument("table", choices=("slots", "readings", "outbox", "counters", "baseline"))
            action.add_argument("--format", choices=("csv", "json"), default="csv")
            action.add_argument("--output", type=Path)
    enrol_tool.add_command(commands)
    key_tool.add_commands(commands, add, _config)
    wallet_tool.add_commands(commands, add, _config)
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return int(arguments.function(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG_EXIT_CODE
    except (StoreError, KeyFileError, ImportFileError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
