"""The inference subcommands of `openmg-hub`: `history import, prices` and `api-key create, list, revoke, usage`.

Rules: they work on the databases of the configured hub, beside it while it runs. What was done is said on standard output, as
lines or with --json as one document; what cannot be done is one sentence and exit code 1. A key is printed once, when it is
made, and never again. Not here: the databases.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from hub.config import HubConfig
from hub.inference.database import InferenceStoreError
from hub.inference.history import SOURCE_IMPORTED, HistoryStore, HourlySeries, TooManyMicrogrids
from hub.inference.keys import ApiKey, KeyRefused, KeyStore
from hub.inference.ledger import KEEP_DAYS, Ledger, UsageLine
from hub.inference.past_file import PastFileError, read_past
from hub.inference.places import InferencePlaces
from hub.inference.quota import day_of
from hub.ppdl.app.genesis_prices import PriceRecord
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError
from hub.ppdl.genesis import GenesisError, load_genesis
from openmg.config import load_toml

Add = Callable[[str, str, str], argparse.ArgumentParser]
EPOCH = date(1970, 1, 1)
OTHER = "other"
"""Slots of which the history says another price; with any, the exit code is 1."""


def add_inference_commands(add: Add) -> None:
    """Put `history` and `api-key` among the commands."""
    history = add(
        "history", "The past of a microgrid's sums.", "openmg-hub history import --config hub.toml --microgrid 1 past.csv"
    )
    parts = history.add_subparsers(required=True)
    sub = parts.add_parser("import", help="Import a CSV of 15-minute slots; as often as you like.")
    _common(sub, import_history)
    sub.add_argument("--microgrid", type=int, required=True, help="the microgrid's number")
    sub.add_argument("file", type=Path, help="CSV with the columns time, import_wh, export_wh")
    sub = parts.add_parser("prices", help="Hold the genesis' record of prices against what this hub's history knows of them.")
    _common(sub, compare_prices)
    keys = add("api-key", "Keys of the inference API.", "openmg-hub api-key create --config hub.toml --name utility")
    parts = keys.add_subparsers(required=True)
    sub = parts.add_parser("create", help="Make a key and print it, once.")
    _common(sub, create)
    sub.add_argument("--name", required=True, help="whose key it is")
    sub.add_argument("--requests-per-minute", type=int, default=60)
    sub.add_argument("--daily", type=int, default=10_000, help="calls a day (UTC)")
    sub.add_argument("--fee-wei-per-call", type=int, default=0, help="charged for each forecast that is answered")
    _common(parts.add_parser("list", help="Names, limits and fees of all keys."), list_keys)
    sub = parts.add_parser("revoke", help="A key opens nothing from now on.")
    _common(sub, revoke)
    sub.add_argument("--name", required=True)
    sub = parts.add_parser("usage", help="Calls and fees by key, day and endpoint: the lines of invoices.")
    _common(sub, usage)
    sub.add_argument("--name", help="of this key only")
    sub.add_argument("--from", dest="first", type=date.fromisoformat, help="first day, YYYY-MM-DD (UTC)")
    sub.add_argument("--to", dest="last", type=date.fromisoformat, help="last day, YYYY-MM-DD (UTC)")


def _common(parser: argparse.ArgumentParser, say: Callable[[argparse.Namespace], Any]) -> None:
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the hub")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    parser.set_defaults(command=run, say=say)


def run(arguments: argparse.Namespace) -> int:
    """Do it and print what was done."""
    try:
        answer = arguments.say(arguments)
    except (InferenceStoreError, KeyRefused, PastFileError, TooManyMicrogrids, GenesisError, AppStateError) as error:
        print(error, file=sys.stderr)
        return 1
    unlike = any(row.get(OTHER) for row in answer) if isinstance(answer, list) else False
    if arguments.json:
        print(json.dumps(answer, indent=2))
        return int(unlike)
    for row in answer if isinstance(answer, list) else [answer]:
        parts = {name: value for name, value in row.items() if name not in ("lines", "key")}
        print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in parts.items()))
        for line in row.get("lines", ()):
            print("  " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in line.items()))
        if "key" in row:
            print(f"key, shown this once: {row['key']}")
    return int(unlike)


def _places(arguments: argparse.Namespace) -> tuple[HubConfig, InferencePlaces]:
    config = load_toml(arguments.config, HubConfig)
    return config, InferencePlaces(config.hub.state_dir)


def import_history(arguments: argparse.Namespace) -> dict[str, Any]:
    """Store the file's whole hours; those that are known stay."""
    config, places = _places(arguments)
    known = {item.microgrid for item in config.device}
    if arguments.microgrid not in known:
        names = ", ".join(map(str, sorted(known))) or "none"
        raise PastFileError(f"microgrid {arguments.microgrid} has no meter in {arguments.config}; its microgrids are {names}")
    section = config.inference
    past = read_past(arguments.file, section.utc_offset_hours if section is not None else 9)
    history = HistoryStore(places.history)
    try:
        added = history.add_hours(arguments.microgrid, past.hours, SOURCE_IMPORTED)
    finally:
        history.close()
    return {
        "microgrid": arguments.microgrid,
        "hours_stored": added.stored,
        "hours_known": added.known,
        "hours_incomplete": past.incomplete,
    }


def compare_prices(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """For each pool of the genesis' record how many slots this hub's history knows the same, otherwise, or not at all."""
    config, places = _places(arguments)
    genesis = AppGenesis.decode(load_genesis(config.ppdl.genesis_file).app_state)
    history = HistoryStore(places.history)
    try:
        return [_compared(record, history.prices(record.microgrid)) for record in genesis.prices]
    finally:
        history.close()


def _compared(record: PriceRecord, known: HourlySeries) -> dict[str, Any]:
    own = dict(enumerate(known.values, known.start_hour))
    pairs = [(price, own.get(slot)) for slot, price in enumerate(record.wei_per_wh, record.start_slot)]
    return {
        "microgrid": record.microgrid,
        "slots": len(pairs),
        "same": sum(price == mine for price, mine in pairs),
        OTHER: sum(mine is not None and price != mine for price, mine in pairs),
        "unknown_here": sum(mine is None for _, mine in pairs),
    }


def _with_keys(arguments: argparse.Namespace, action: Callable[[KeyStore], Any]) -> Any:
    store = KeyStore(_places(arguments)[1].keys)
    try:
        return action(store)
    finally:
        store.close()


def create(arguments: argparse.Namespace) -> Any:
    def action(store: KeyStore) -> dict[str, Any]:
        limits = arguments.requests_per_minute, arguments.daily, arguments.fee_wei_per_call
        key, text = store.create(arguments.name, *limits, int(time.time()))
        return _row(key) | {"key": text}

    return _with_keys(arguments, action)


def list_keys(arguments: argparse.Namespace) -> Any:
    return _with_keys(arguments, lambda store: [_row(key) for key in store.list()])


def revoke(arguments: argparse.Namespace) -> Any:
    return _with_keys(arguments, lambda store: _row(store.revoke(arguments.name, int(time.time()))))


def usage(arguments: argparse.Namespace) -> Any:
    """One invoice a key: its lines of the chosen days and their sum."""

    def action(store: KeyStore) -> list[dict[str, Any]]:
        today = day_of(int(time.time()))
        first = (arguments.first - EPOCH).days if arguments.first else today - KEEP_DAYS
        last = (arguments.last - EPOCH).days if arguments.last else today
        keys = [key for key in store.list() if arguments.name in (None, key.name)]
        if arguments.name is not None and not keys:
            raise KeyRefused(f"no key is named {arguments.name!r}; list shows the names")
        ledger = Ledger(store)
        return [_invoice(key, ledger.lines(first, last, key.id)) for key in keys]

    return _with_keys(arguments, action)


def _invoice(key: ApiKey, lines: list[UsageLine]) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "calls": sum(line.calls for line in lines),
        "charged": sum(line.charged for line in lines),
        "fees_wei": str(sum(line.fee_wei for line in lines)),
        "lines": [
            {
                "day": (EPOCH + timedelta(days=line.day)).isoformat(),
                "endpoint": line.endpoint,
                "calls": line.calls,
                "charged": line.charged,
                "fee_wei_per_call": str(line.fee_wei_per_call),
                "fee_wei": str(line.fee_wei),
            }
            for line in lines
        ],
    }


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "requests_per_minute": key.per_minute,
        "daily": key.daily,
        "fee_wei_per_call": str(key.fee_wei),
        "created": _time(key.created_s),
        "revoked": None if key.revoked_s is None else _time(key.revoked_s),
    }


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
