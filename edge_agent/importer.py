"""Brings a home's past into the store: a CSV of 15-minute slots, imported as often as one likes.

Columns (first line, any order): `time` (ISO, start of the slot), `import_wh`, `export_wh`; with
`import_total_wh` and `export_total_wh` (the meter's counters at the slot's end) the first live slot continues
the file without a hole.
Rules: times without offset are in the home's time zone, where the hour that the end of summer time repeats comes twice in a
row; a slot that is known keeps its stored energy; a bad line stops the import before anything is stored, with file, line and
reason. Not here: other formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import MAX_SLOTS, ImportResult, Store
from openmg.units import MAX_SLOT_WH, SLOT_SECONDS

if TYPE_CHECKING:  # an agent that runs imports no file
    import csv

REQUIRED = ("time", "import_wh", "export_wh")
TOTALS = ("import_total_wh", "export_total_wh")


class ImportFileError(Exception):
    """The file cannot be imported; the text says file, line, reason and remedy."""


@dataclass(frozen=True)
class Past:
    """The slots of a file and the counters at its end, when it has them."""

    slots: tuple[ClosedSlot, ...]
    baseline: Baseline | None


def read_past(path: Path, zone: ZoneInfo) -> Past:
    """The file's content, checked; ImportFileError with the line otherwise."""
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(csv.DictReader(file), path, zone)
    except OSError as error:
        raise ImportFileError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImportFileError(f"{path}: is not CSV text ({error}); save it as UTF-8 CSV") from error


def import_file(store: Store, path: Path, zone: ZoneInfo) -> ImportResult:
    """Reads the whole file, then stores it in one transaction."""
    past = read_past(path, zone)
    return store.import_slots(past.slots, past.baseline)


def _parse(rows: csv.DictReader[str], path: Path, zone: ZoneInfo) -> Past:
    names = tuple(rows.fieldnames or ())
    for name in REQUIRED:
        if name not in names:
            raise ImportFileError(f"{path}:1: column {name} is missing; the first line must name {', '.join(REQUIRED)}")
    slots: dict[int, ClosedSlot] = {}
    baseline: Baseline | None = None
    for row in rows:
        line = rows.line_num
        if len(slots) >= MAX_SLOTS:
            raise ImportFileError(f"{path}:{line}: more than {MAX_SLOTS} slots; import a shorter past")
        try:
            slot = _slot(row, zone, slots)
            if slot.slot in slots:
                raise ValueError("the slot stands in the file twice")
            slots[slot.slot] = slot
            if all(row.get(name) for name in TOTALS) and (baseline is None or slot.slot >= baseline.slot):
                imported, exported = (_wh(row, name, 2**62) for name in TOTALS)
                baseline = Baseline(slot.slot + 1, imported, exported)
        except ValueError as error:
            raise ImportFileError(f"{path}:{line}: {error}; nothing was imported") from error
    return Past(tuple(slots[number] for number in sorted(slots)), baseline)


def _slot(row: Mapping[str, str | None], zone: ZoneInfo, before: Mapping[int, ClosedSlot]) -> ClosedSlot:
    time = datetime.fromisoformat(row["time"] or "")
    seconds = (time if time.tzinfo else time.replace(tzinfo=zone)).timestamp()
    if not time.tzinfo and seconds // SLOT_SECONDS in before:  # the hour that comes twice when summer time ends
        seconds = time.replace(tzinfo=zone, fold=1).timestamp()
    if seconds % SLOT_SECONDS:
        raise ValueError(f"time {row['time']} is not the start of a 15-minute slot")
    return ClosedSlot(int(seconds) // SLOT_SECONDS, _wh(row, "import_wh", MAX_SLOT_WH), _wh(row, "export_wh", MAX_SLOT_WH), 0)


def _wh(row: Mapping[str, str | None], name: str, most: int) -> int:
    text = row[name]
    if text is None or not text.isascii() or not text.strip().isdigit() or not int(text) <= most:
        raise ValueError(f"{name} is {text!r}; it must be a whole number of Wh")
    return int(text)
