"""`openmg-agent store`: looks into a store file and exports it, with sqlite-utils.

Rules: reads only; sqlite-utils is imported here alone and late, because it costs as much memory as the rest
of the agent.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from edge_agent.store import StoreError

TABLES = ("slots", "readings", "outbox", "refused", "counters", "baseline")
MAX_REASONS = 5
"""Refused reports of which `info` says why: the newest."""
FORMATS = ("csv", "json")


@contextlib.contextmanager
def _database(path: Path) -> Iterator[Any]:
    import sqlite_utils

    if not path.exists():
        raise StoreError(f"store {path} does not exist; run the agent or `openmg-agent import` first")
    # WAL readers need the shared-memory file, so the store is opened normally and writing is forbidden instead.
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA query_only=ON")
        yield sqlite_utils.Database(connection)
    except (sqlite3.Error, sqlite_utils.db.NoTable) as error:
        raise StoreError(f"store {path} cannot be read ({error}); is it the store of an agent?") from error
    finally:
        connection.close()


def info(path: Path) -> dict[str, Any]:
    """Size, schema version, row counts, counters, the span of slots, how readings are kept, and why reports were refused."""
    with _database(path) as db:
        if "refused" not in db.table_names():
            todo = "is it the store of an agent? `openmg-agent doctor` brings one of an older version up to date"
            raise StoreError(f"store {path} has no table `refused`; {todo}")
        tables = {name: db[name].count for name in TABLES}
        span = next(iter(db.query("SELECT min(slot) AS first, max(slot) AS last FROM slots")))
        return {
            "path": str(path),
            "bytes": path.stat().st_size,
            "schema": db.execute("PRAGMA user_version").fetchone()[0],
            "tables": tables,
            "first_slot": span["first"],
            "last_slot": span["last"],
            "readings": _density(db),
            "refused_reports": list(
                db.query("SELECT seq, kind, reason, refused_ms FROM refused ORDER BY seq DESC LIMIT ?", (MAX_REASONS,))
            ),
            **{row["name"]: row["value"] for row in db["counters"].rows},
        }


def _density(db: Any) -> dict[str, int]:
    """Readings that are kept whole, of a minute each, and of a quarter of an hour each."""
    sql = (
        "SELECT count(*) FILTER (WHERE id > m) AS whole, count(*) FILTER (WHERE id > q AND id <= m) AS minutes,"
        " count(*) FILTER (WHERE id <= q) AS quarters FROM readings,"
        " (SELECT (SELECT value FROM counters WHERE name = 'minutes_to') AS m,"
        " (SELECT value FROM counters WHERE name = 'quarters_to') AS q)"
    )
    return dict(next(iter(db.query(sql))))


def query(path: Path, sql: str, output: IO[str]) -> None:
    """Prints the rows of a read-only SQL statement as JSON lines; StoreError when it is refused."""
    with _database(path) as db:
        try:
            for row in db.query(sql):
                print(json.dumps(row, default=_hex, ensure_ascii=False), file=output)
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"query: {error}; write one SELECT") from error


def export(path: Path, table: str, form: str, output: IO[str]) -> int:
    """Writes a table as CSV or JSON lines and returns the number of rows."""
    with _database(path) as db:
        columns = [column.name for column in db[table].columns]
        return _write(cast(Iterable[Mapping[str, Any]], db[table].rows), columns, form, output)


def _write(rows: Iterable[Mapping[str, Any]], columns: list[str], form: str, output: IO[str]) -> int:
    count = 0
    if form == "csv":
        import csv

        writer = csv.DictWriter(output, columns, lineterminator="\n")
        writer.writeheader()
    for row in rows:
        plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        if form == "csv":
            writer.writerow(plain)
        else:
            print(json.dumps(plain, ensure_ascii=False), file=output)
        count += 1
    return count


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def print_info(values: dict[str, Any], as_json: bool) -> None:
    """Prints what `info` says, and what else is told of the store."""
    if as_json:
        json.dump(values, sys.stdout, indent=2)
        print()
        return
    for name, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in value.items())
        elif name == "refused_reports":
            value = "; ".join(f"{item['seq']}: {item['reason']}" for item in value) or "none"
        print(f"{name:16} {value}")
