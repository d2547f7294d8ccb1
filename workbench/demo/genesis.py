"""The demo's PPDL genesis: validators, registered meters, the feeders' past and the learning plans.

A home is registered for what its past shows that it has: one with panels also learns what it feeds in.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hub.ppdl.app.genesis_state import HISTORY_HOURS, Device, Feeder, make_app_genesis
from hub.ppdl.genesis import Genesis, make_genesis, save_genesis
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS, korean_holidays
from openmg.forecast.quantities import quantities_of
from openmg.forecast.spec import EXPORT_ENERGY, IMPORT_ENERGY
from openmg.learning.plan import MIN_PRIVATE_PARTICIPANTS, RULES, LearningPlan
from openmg.units import SLOTS_PER_HOUR
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import meter_id
from workbench.demo.options import COMMITTEE_SIZE, HOMES_FOR_SUMS, NO_PRIVACY
from workbench.demo.site import PPDL_CHAIN_ID, Site

COMMIT_BLOCKS = 4
"""Meters train in well under a second, so four blocks (two seconds and more) are enough to commit; what follows ends early."""
FURTHER_COMMIT_BLOCKS = 12
"""Of the models beside the first, so that three trainings on each meter leave the demo's one machine room for the rest."""
MIN_LEARNERS = COMMITTEE_SIZE + 3
"""A model that fewer homes can learn is left out."""
EVALUATION_DAYS = 7
SECONDS_PER_HOUR = 3600


def make_demo_genesis(site: Site) -> Genesis:
    """The genesis with the history of STATE/history; written to the site's genesis file."""
    devices = [
        Device(key.address, key.mask_public, item.microgrid, item.name, meter_id(key.meter_secret), quantities_of(exported_wh))
        for item in site.homes
        for key in (site.devices[item.name],)
        for exported_wh in (_exported_wh(site.folder / "history" / f"{item.name}.csv"),)
    ]
    feeders = [_feeder(microgrid, site.folder / "history" / f"{name}.csv") for microgrid, name in enumerate(site.feeders, 1)]
    plans = learning_plans(devices, site.options.start, site.options.privacy)
    state = make_app_genesis(devices, feeders, plans, _commit_key())
    validators = [hub.validator for hub in site.hubs.values()]
    genesis = make_genesis(PPDL_CHAIN_ID, validators, state.encode(), int(time.time() * 1000))
    save_genesis(site.genesis_file, genesis)
    return genesis


def _commit_key() -> bytes:
    """The development key under which slot proofs are verified."""
    return ensure_keys("commit").verifying_key.to_bytes()


def learning_plans(devices: Sequence[Device], start: int, privacy: str) -> tuple[LearningPlan, ...]:
    """Net energy, which all homes learn and answers are vouched for, then imports and exports where enough homes have them."""
    least = MIN_LEARNERS if privacy == NO_PRIVACY else HOMES_FOR_SUMS[0]
    plans = [learning_plan(len(devices), start, privacy)]
    for spec in (IMPORT_ENERGY, EXPORT_ENERGY):
        learners = sum(spec.quantity in device.quantities for device in devices)
        if learners >= least:
            own = learning_plan(learners, start, privacy)
            plans.append(replace(own, spec=spec, commit_blocks=FURTHER_COMMIT_BLOCKS))
    return tuple(plans)


def learning_plan(devices: int, start: int, privacy: str) -> LearningPlan:
    """Trained on the four weeks before the last; evaluated on the last week of the past, which nobody trains on.

    A plan that hides updates takes their mean: no rule can look at what is hidden.
    """
    hidden = privacy != NO_PRIVACY
    start_hour = start // SECONDS_PER_HOUR
    year = datetime.fromtimestamp(start, UTC).year
    return LearningPlan(
        evaluation_start_hour=start_hour - 24 * EVALUATION_DAYS,
        evaluation_hours=24 * EVALUATION_DAYS,
        holiday_days=korean_holidays(year - 1, year + 1),
        min_participants=max(MIN_PRIVATE_PARTICIPANTS if hidden else 1, (devices - COMMITTEE_SIZE) * 3 // 4),
        commit_blocks=COMMIT_BLOCKS,
        committee_size=COMMITTEE_SIZE,
        utc_offset_hours=KOREA_UTC_OFFSET_HOURS,
        privacy=privacy,
        rule="mean" if hidden else RULES[0],
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


def _exported_wh(path: Path) -> list[int]:
    """Hourly exports of a home's history file."""
    with path.open(encoding="utf-8", newline="") as file:
        return _hourly([int(row["export_wh"]) for row in csv.DictReader(file)])


def _hourly(values: Sequence[int]) -> list[int]:
    whole = len(values) - len(values) % SLOTS_PER_HOUR
    return [sum(values[i : i + SLOTS_PER_HOUR]) for i in range(0, whole, SLOTS_PER_HOUR)]
