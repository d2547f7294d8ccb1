"""An operator's file of a microgrid's past: a CSV of 15-minute slots, the same that a feeder's meter or a home imports.

Columns (first line, any order): `time` (ISO, start of the slot), `import_wh`, `export_wh`; others are ignored.
Rules: times without offset are at the site's offset from UTC; an hour counts when its four slots are in the file; a bad
line stops the import before anything is stored, with file, line and reason.
Bound: MAX_SLOTS lines. Not here: other formats, the history (`history`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hub.inference.history import MAX_HOURS, Hour
from openmg.units import MAX_SLOT_WH, SLOT_SECONDS, SLOTS_PER_HOUR

COLUMNS = ("time", "import_wh", "export_wh")
MAX_SLOTS = MAX_HOURS * SLOTS_PER_HOUR


class PastFileError(Exception):
    """The file cannot be imported; the text says file, line, reason and remedy."""


@dataclass(frozen=True)
class PastHours:
    """Whole hours of a file, ascending, and how many hours lack a slot."""

    hours: tuple[Hour, ...]
    incomplete: int


def read_past(path: Path, utc_offset_hours: int) -> PastHours:
    """The file's content, checked; PastFileError with the line otherwise."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _hours(_slots(csv.DictReader(file), path, timezone(timedelta(hours=utc_offset_hours))))
    except OSError as error:
        raise PastFileError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PastFileError(f"{path}: is not CSV text ({error}); save it as UTF-8 CSV") from error


def _slots(rows: csv.DictReader[str], path: Path, zone: timezone) -> dict[int, tuple[int, int]]:
    names = tuple(rows.fieldnames or ())
    for name in COLUMNS:
        if name not in names:
            raise PastFileError(f"{path}:1: column {name} is missing; the first line must name {', '.join(COLUMNS)}")
    slots: dict[int, tuple[int, int]] = {}
    for row in rows:
        if len(slots) >= MAX_SLOTS:
            raise PastFileError(f"{path}:{rows.line_num}: more than {MAX_SLOTS} slots; import a shorter past")
        try:
            slot = _slot(row, zone)
            if slot in slots:
                raise ValueError("the slot stands in the file twice")
            slots[slot] = (_wh(row, "import_wh"), _wh(row, "export_wh"))
        except (ValueError, OverflowError) as error:
            raise PastFileError(f"{path}:{rows.line_num}: {error}; nothing was imported") from error
    return slots


def _slot(row: Mapping[str, str | None], zone: timezone) -> int:
    time = datetime.fromisoformat(row["time"] or "")
    seconds = (time if time.tzinfo else time.replace(tzinfo=zone)).timestamp()
    if seconds % SLOT_SECONDS or seconds < 0:
        raise ValueError(f"time {row['time']} is not the start of a 15-minute slot since 1970")
    return int(seconds) // SLOT_SECONDS


def _wh(row: Mapping[str, str | None], name: str) -> int:
    text = (row[name] or "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MAX_SLOT_WH:
        raise ValueError(f"{name} is {row[name]!r}; it must be a whole number of Wh up to {MAX_SLOT_WH}")
    return int(text)


def _hours(slots: Mapping[int, tuple[int, int]]) -> PastHours:
    """Sums of the hours with four slots."""
    by_hour: dict[int, list[tuple[int, int]]] = {}
    for slot, sums in slots.items():
        by_hour.setdefault(slot // SLOTS_PER_HOUR, []).append(sums)
    whole = [
        Hour.of_sums(hour, sum(item[0] for item in values), sum(item[1] for item in values))
        for hour, values in sorted(by_hour.items())
        if len(values) == SLOTS_PER_HOUR
    ]
    return PastHours(tuple(whole), len(by_hour) - len(whole))
