"""`openmg-agent store`: a look into the store, and refused reports made anew. Not here: how (`edge_agent.store_tool`)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edge_agent.commands.common import CommandError, config_of
from edge_agent.commands.running import disk_table
from edge_agent.store_tool import TABLES


def store(arguments: argparse.Namespace) -> int:
    from edge_agent import store_tool

    config = config_of(arguments)
    path = config.store_path
    if arguments.action == "info":
        more = {"disk_bytes": disk_table(config), "restored": _restored(config.device.state_dir)}
        store_tool.print_info({**store_tool.info(path), **more}, arguments.json)
    elif arguments.action == "retry":
        print(f"{_retry(path)} slots will be reported anew")
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


def _restored(folder: Path) -> dict[str, Any] | None:
    """When and from what the store was restored; None when it was not."""
    from edge_agent.backup.restoring import RECORD

    try:
        table = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) else None


def _retry(path: Path) -> int:
    from edge_agent.store import Store, StoreError

    if not path.exists():
        raise StoreError(f"store {path} does not exist; run the agent first")
    opened = Store(path)
    try:
        return opened.retry_refused()
    finally:
        opened.close()


def add_commands(commands: Any, add: Any) -> None:
    """The group `store`."""
    tool = commands.add_parser("store", help="Look into the store.", description="Look into the store.")
    actions = tool.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text, example in (
        ("info", "Counters and sizes.", "info --config agent.toml --json"),
        ("query", "One SELECT.", 'query --config agent.toml "SELECT max(slot) FROM slots"'),
        ("retry", "Report anew what the hub refused.", "retry --config agent.toml"),
        ("export", "A table as a file.", "export slots --config agent.toml --output slots.csv"),
    ):
        action = add(name, store, text, f"store {example}", actions)
        if name == "info":
            action.add_argument("--json", action="store_true")
        elif name == "query":
            action.add_argument("sql")
        elif name == "export":
            action.add_argument("table", choices=TABLES)
            action.add_argument("--format", choices=("csv", "json"), default="csv")
            action.add_argument("--output", type=Path)
