"""The demo's PPDL genesis: validators, registered meters, the feeders' past and the learning plan."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hub.ppdl.app.genesis_state import HISTORY_HOURS, Device, Feeder, make_app_genesis
from hub.ppdl.genesis import Genesis, make_genesis, save_genesis
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS, korean_holidays
from openmg.learning.plan import LearningPlan
from openmg.units import SLOTS_PER_HOUR
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import meter_id
from workbench.demo.site import PPDL_CHAIN_ID, Site

COMMIT_BLOCKS = 4
"""Meters train in well under a second, so four blocks (two seconds and more) are enough to commit; what follows ends early."""
COMMITTEE_SIZE = 2
"""Of as few as five homes; three of four of the others must take part."""
EVALUATION_DAYS = 7
SECONDS_PER_HOUR = 3600


def make_demo_genesis(site: Site) -> Genesis:
    """The genesis with the feeders' history of STATE/history; written to the site's genesis file."""
    devices = [
        Device(key.address, key.mask_public, item.microgrid, item.name, meter_id(key.meter_secret))
        for item in site.homes
        for key in (site.devices[item.name],)
    ]
    feeders = [_feeder(microgrid, site.folder / "history" / f"{name}.csv") for microgrid, name in enumerate(site.feeders, 1)]
    state = make_app_genesis(devices, feeders, learning_plan(len(devices), site.options.start), _commit_key())
    validators = [hub.validator for hub in site.hubs.values()]
    genesis = make_genesis(PPDL_CHAIN_ID, validators, state.encode(), int(time.time() * 1000))
    save_genesis(site.genesis_file, genesis)
    return genesis


def _commit_key() -> bytes:
    """The development key under which slot proofs are verified."""
    return ensure_keys("commit").verifying_key.to_bytes()


def learning_plan(devices: int, start: int) -> LearningPlan:
    """Trained on the four weeks before the last; evaluated on the last week of the past, which nobody trains on."""
    start_hour = start // SECONDS_PER_HOUR
    year = datetime.fromtimestamp(start, UTC).year
    return LearningPlan(
        evaluation_start_hour=start_hour - 24 * EVALUATION_DAYS,
        evaluation_hours=24 * EVALUATION_DAYS,
        holiday_days=korean_holidays(year - 1, year + 1),
        min_participants=max(1, (devices - COMMITTEE_SIZE) * 3 // 4),
        commit_blocks=COMMIT_BLOCKS,
        committee_size=COMMITTEE_SIZE,
        utc_offset_hours=KOREA_UTC_OFFSET_HOURS,
    )


def _feeder(microgrid: int, path: Path) -> Feeder:
    """Hourly net energy from a history file of 15-minute slots."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    start = int(datetime.fromisoformat(rows[0]["time"]).timestamp())
    skip = -(start // 900) % SLOTS_PER_HOUR
    values = [int(row["import_wh"]) - int(row["export_wh"]) for row in rows[skip:]]
    hours = _hourly(values)[-HISTORY_HOURS:]
    end_hour = (start // 900 + skip) // SLOTS_PER_HOUR + len(values) // SLOTS_PER_HOUR
    return Feeder(microgrid, end_hour - len(hours), tuple(hours))


def _hourly(values: Sequence[int]) -> list[int]:
    whole = len(values) - len(values) % SLOTS_PER_HOUR
    return [sum(values[i : i + SLOTS_PER_HOUR]) for i in range(0, whole, SLOTS_PER_HOUR)]
