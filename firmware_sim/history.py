"""The past of a simulated home as the file that `openmg-agent import` reads.

Columns: `time` (ISO, start of the 15-minute slot, with offset), `import_wh`, `export_wh` of the slot, and the
meter's registers at the slot's end (`import_total_wh`, `export_total_wh`), so that the first live slot
continues them without a hole.
Rules: the same functions as the live meter, ending exactly where the demonstration begins. Not here: reading
such a file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from firmware_sim.meter import Meter
from firmware_sim.neighbourhood import Neighbourhood
from openmg.units import SLOT_SECONDS

COLUMNS = ("time", "import_wh", "export_wh", "import_total_wh", "export_total_wh")


@dataclass(frozen=True)
class PastSlot:
    """Energy of one slot (Wh) and the registers at its end (Wh)."""

    start: int
    import_wh: int
    export_wh: int
    import_total_wh: int
    export_total_wh: int


def past_slots(meter: Meter, since: int, until: int) -> Iterator[PastSlot]:
    """The slots from `since` to `until` (simulated seconds) of a meter not yet asked beyond `since`."""
    before = meter.counters(since)
    for start in range(since, until, SLOT_SECONDS):
        after = meter.counters(start + SLOT_SECONDS)
        yield PastSlot(
            start,
            after.import_wh - before.import_wh,
            after.export_wh - before.export_wh,
            after.import_wh,
            after.export_wh,
        )
        before = after


def write_history(neighbourhood: Neighbourhood, folder: Path, names: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """Writes `<name>.csv` for each home and feeder (or only the named ones) and returns the paths.

    The meters, which must not have been asked yet, stand at the beginning of the demonstration afterwards.
    """
    config = neighbourhood.config
    zone = timezone(timedelta(seconds=config.sim.utc_offset_seconds))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names or tuple(item.name for item in config.meters):
        path = folder / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for slot in past_slots(neighbourhood.meter(name), config.since, config.start):
                time = datetime.fromtimestamp(slot.start, UTC).astimezone(zone).isoformat()
                rows.writerow((time, slot.import_wh, slot.export_wh, slot.import_total_wh, slot.export_total_wh))
        paths.append(path)
    return tuple(paths)
