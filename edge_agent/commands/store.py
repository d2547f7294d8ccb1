"""`openmg-agent store`: a look into the store. Not here: how (`edge_agent.store_tool`)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from edge_agent.commands.common import CommandError, config_of


def store(arguments: argparse.Namespace) -> int:
    from edge_agent import store_tool

    path = config_of(arguments).store_path
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
            text = f"{arguments.output} cannot be written ({error.strerror}); check folder and free space"
            raise CommandError(text) from error
        print(f"{count} rows written to {arguments.output}")
    return 0


def add_commands(commands: Any, add: Any) -> None:
    """The group `store`."""
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
