"""Measured households from a CSV file: first column the time, one column of kWh for each home.

Rules: the most complete columns come first; an empty cell takes the value of the same time a week before,
else a week after, else 0; a home that is mostly off (under half of its values above zero) is left out as
unoccupied. The file's calendar is shifted by whole weeks so that the demonstration starts on a like day (same
weekday, same season) with a full history before it; past the end it wraps back by whole weeks. Times are
taken as local times of the site.
Not here: photovoltaics, which are synthetic in every case.
"""

from __future__ import annotations

import csv
import gzip
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from firmware_sim.homes import DAY_SECONDS, STEP_SECONDS

WEEK_SECONDS = 7 * DAY_SECONDS
MIN_ACTIVE_SHARE = 0.5
MAX_ROWS = 400_000
"""Four years of five-minute rows."""
MAX_COLUMNS = 1_000
MAX_KWH_PER_ROW = 1_000.0
"""A household never uses so much in one row; such a cell is counted as empty."""
EMPTY = -1
_EPOCH = datetime(1970, 1, 1)


class DatasetError(Exception):
    """The data file cannot be used; the text says where and what to do."""


@dataclass(frozen=True)
class LoadColumn:
    """One measured home: energy of each row in Wh, from the file's first local second on."""

    name: str
    first: int
    row_seconds: int
    energy_wh: array[int]

    def load_w(self, file_seconds: int) -> int:
        """Mean power (W) of the row with that local second of the file; wraps by whole weeks at both ends."""
        rows_per_week = WEEK_SECONDS // self.row_seconds
        weeks = len(self.energy_wh) // rows_per_week
        row = (file_seconds - self.first) // self.row_seconds
        if not 0 <= row < len(self.energy_wh):
            row %= weeks * rows_per_week
        return round(self.energy_wh[row] * 3600 / self.row_seconds)


@dataclass(frozen=True)
class Dataset:
    """The usable homes of a file, most complete first, and the span of complete local days."""

    path: Path
    columns: tuple[LoadColumn, ...]
    first_day: date
    last_day: date

    def column(self, index: int) -> LoadColumn:
        """The home of that rank; DatasetError when the file has too few."""
        if index >= len(self.columns):
            raise DatasetError(f"{self.path} has {len(self.columns)} usable homes, {index + 1} are wanted; ask for fewer")
        return self.columns[index]

    def week_shift(self, start: date, history_days: int) -> int:
        """Seconds to subtract from a local time of the demonstration to get the file's local time."""
        wished = date(self.first_day.year, start.month, min(start.day, 28))
        earliest = self.first_day + timedelta(days=history_days)
        candidates = [day for day in _days(earliest, self.last_day) if day.weekday() == start.weekday()]
        if not candidates:
            raise DatasetError(
                f"{self.path} covers {self.first_day} to {self.last_day}; give a file longer than the "
                f"{history_days} days of history"
            )
        chosen = min(candidates, key=lambda day: (abs((day - wished).days), day))
        return (start - chosen).days * DAY_SECONDS


def _days(first: date, last: date) -> Iterator[date]:
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


@dataclass(frozen=True)
class Table:
    """A file as it stands: a column of Wh for each name, EMPTY where a cell is empty; the first row's local second since
    1970 and the seconds of a row."""

    names: list[str]
    first: int
    row_seconds: int
    cells: list[array[int]]


def read_table(path: Path) -> Table:
    """The file (plain or .gz) with evenly spaced rows; DatasetError with file and line when it is not as above."""
    try:
        names, times, cells = _read(path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"data file {path} cannot be read ({error}); give a CSV or CSV.gz file") from error
    if len(times) < 2:
        raise DatasetError(f"data file {path} has no rows; give a CSV with a time column and kWh columns")
    step = times[1] - times[0]
    if step < STEP_SECONDS or step % STEP_SECONDS or DAY_SECONDS % step:
        raise DatasetError(f"{path}:3: rows are {step} s apart; use a step of 3 minutes to a day that divides a day")
    for line, (before, after) in enumerate(zip(times, times[1:], strict=False), 3):
        if after - before != step:
            raise DatasetError(f"{path}:{line}: is {after - before} s after the row before, not {step} s; fill the hole")
    if len(times) * step < WEEK_SECONDS:
        raise DatasetError(f"data file {path} is shorter than a week; give a longer file")
    return Table(names, times[0], step, cells)


def load_dataset(path: Path) -> Dataset:
    """The occupied homes of the file, holes filled; DatasetError as `read_table`."""
    table = read_table(path)
    times = [table.first + row * table.row_seconds for row in range(len(table.cells[0]))]
    return _dataset(path, table.names, times, table.row_seconds, table.cells)


def _read(path: Path) -> tuple[list[str], list[int], list[array[int]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if not 2 <= len(header) <= MAX_COLUMNS + 1:
            raise DatasetError(f"{path}:1: has {len(header)} columns; it needs a time and 1 to {MAX_COLUMNS} homes")
        times: list[int] = []
        cells: list[array[int]] = [array("q") for _ in header[1:]]
        for line, row in enumerate(rows, 2):
            if not row:
                continue  # a blank line, as at the end of many files
            if len(times) >= MAX_ROWS:
                raise DatasetError(f"{path}:{line}: more than {MAX_ROWS} rows; give a shorter file")
            if len(row) != len(header):
                raise DatasetError(f"{path}:{line}: has {len(row)} columns, the first line has {len(header)}; mend it")
            try:
                times.append(round((datetime.fromisoformat(row[0]).replace(tzinfo=None) - _EPOCH).total_seconds()))
                for column, text in zip(cells, row[1:], strict=True):
                    column.append(_energy_wh(text))
            except ValueError as error:
                raise DatasetError(f"{path}:{line}: {error}; use an ISO time and numbers of kWh") from error
    return header[1:], times, cells


def _energy_wh(text: str) -> int:
    if not text.strip():
        return EMPTY
    kwh = float(text)
    return round(kwh * 1000) if 0 <= kwh <= MAX_KWH_PER_ROW else EMPTY  # NaN compares false: empty


def _dataset(path: Path, names: list[str], times: list[int], step: int, cells: list[array[int]]) -> Dataset:
    def empty(column: array[int]) -> int:
        return column.count(EMPTY)

    def occupied(column: array[int]) -> bool:
        return sum(value > 0 for value in column) >= MIN_ACTIVE_SHARE * (len(column) - empty(column)) > 0

    ranked = sorted((i for i in range(len(cells)) if occupied(cells[i])), key=lambda i: (empty(cells[i]), i))
    rows_per_week = WEEK_SECONDS // step
    columns = tuple(LoadColumn(names[i], times[0], step, _filled(cells[i], rows_per_week)) for i in ranked)
    first, last = (_EPOCH + timedelta(seconds=seconds) for seconds in (times[0] + DAY_SECONDS - 1, times[-1] + step))
    return Dataset(path, columns, first.date(), last.date() - timedelta(days=1))


def _filled(column: array[int], week: int) -> array[int]:
    """The column without empty cells; earlier cells are filled before later ones look back at them."""
    filled = array("q", column)
    for i, value in enumerate(filled):
        if value == EMPTY:
            before = filled[i - week] if i >= week else EMPTY
            after = column[i + week] if i + week < len(column) else EMPTY
            filled[i] = before if before != EMPTY else max(after, 0)
    return filled
