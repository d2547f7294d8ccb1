"""What the meter's store takes of a card: its size when every table is full, and what it writes in a day at one poll a second.

    python benchmarks/bench_store.py [--flushes 720] [--folder DIR]

Rules: the store alone, in a folder of a real disk (a RAM disk counts nothing); written bytes are the kernel's (`proc(5)`,
io), so they hold SQLite's log and checkpoints, and two hours hold two rounds of thinning.
Not here: the whole agent (`bench_edge.py`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from edge_agent import retention
from edge_agent.shared import FLUSH_SECONDS
from edge_agent.store import MAX_OUTBOX, RawReading, Store
from edge_agent.store_file import set_counter
from openmg.units import SLOT_SECONDS, SLOTS_PER_DAY

BEGIN = 1_780_000_000
REPORT_BYTES = 1_235
"""Of a group of ten (docs/MASKING.md)."""
TIERS = ((retention.QUARTER_ROWS, 900), (retention.MINUTE_ROWS, 60), (retention.WHOLE_ROWS, 1))
"""Rows and seconds between them, oldest first."""
END = sum(rows * seconds for rows, seconds in TIERS)
"""The second behind the last reading."""


def reading(second: int) -> RawReading:
    return RawReading((BEGIN + second) * 1000, BEGIN + second, 1234, 45_000_000 + second, 12_000_000 + second // 4)


def fill(store: Store) -> None:
    """Readings, thinned as they would be, and slots up to their bounds."""
    second = 0
    with store._transaction() as db:
        for rows, step in TIERS:
            seconds = range(second, second + rows * step, step)
            values = (tuple(vars(reading(item)).values()) for item in seconds)
            db.executemany("INSERT INTO readings VALUES (NULL, ?, ?, ?, ?, ?)", values)
            second = seconds.stop
        set_counter(db, "quarters_to", retention.QUARTER_ROWS)
        set_counter(db, "minutes_to", retention.QUARTER_ROWS + retention.MINUTE_ROWS)
        slots = ((BEGIN // SLOT_SECONDS + i, 1234, 567, BEGIN + i) for i in range(retention.MAX_SLOTS))
        db.executemany("INSERT INTO slots VALUES (?, ?, ?, 0, ?)", slots)


def size_mb(store: Store) -> float:
    store._rows("PRAGMA wal_checkpoint(TRUNCATE)")
    return store.path.stat().st_size / 1e6


def written() -> int:
    text = Path("/proc/self/io").read_text(encoding="ascii")
    return int(text.split("\nwrite_bytes:")[1].split()[0])


def gb_a_day(store: Store, flushes: int) -> float:
    """Of commits as the poller makes them, without slots, of which there are 96 a day."""
    per_flush, before = int(FLUSH_SECONDS), written()
    for flush in range(flushes):
        seconds = range(END + flush * per_flush, END + (flush + 1) * per_flush)
        store.add_readings([reading(second) for second in seconds], per_flush, 0)
    return (written() - before) / flushes * SLOTS_PER_DAY * SLOT_SECONDS / per_flush / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flushes", type=int, default=720)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on a disk; default: here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        store = Store(Path(name) / "store.sqlite", first_seq=1)
        fill(store)
        print(f"readings and slots at their bounds: {size_mb(store):.1f} MB", flush=True)
        print(f"{arguments.flushes} commits of readings ...", file=sys.stderr, flush=True)
        print(f"written: {gb_a_day(store, arguments.flushes):.2f} GB a day")
        with store._transaction() as db:
            db.executemany(
                "INSERT INTO outbox VALUES (?, 'slot', zeroblob(?), 0)", ((i, REPORT_BYTES) for i in range(MAX_OUTBOX))
            )
        print(f"with {MAX_OUTBOX} reports that wait: {size_mb(store):.1f} MB")
        store.close()


if __name__ == "__main__":
    main()
