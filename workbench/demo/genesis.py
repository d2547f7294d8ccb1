"""The demo's PPDL genesis: validators, registered meters, the feeders' past, the learning plans and the pools' past.

A home is registered for what its past shows that it has: one with panels also learns what it feeds in. Hubs learn prices. No
market ran before the demo: the record of prices is what the homes' own rules and the exchange's make of their past.
"""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hub.learning.price_trainer import KEY_ROLE
from hub.ppdl.app.genesis_prices import PriceRecord, Trainer, check_record
from hub.ppdl.app.genesis_state import HISTORY_HOURS, Device, Feeder, make_app_genesis
from hub.ppdl.consensus.quorum import max_faulty
from hub.ppdl.genesis import Genesis, make_genesis
from openmg.durable import replace_durably
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS, korean_holidays
from openmg.forecast.quantities import quantities_of
from openmg.forecast.spec import EXPORT_ENERGY, IMPORT_ENERGY, PRICE
from openmg.learning.plan import MIN_PRIVATE_PARTICIPANTS, RULES, LearningPlan
from openmg.signing import address_of
from openmg.units import SLOT_SECONDS, SLOTS_PER_HOUR
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import meter_id
from workbench.demo.options import COMMITTEE_SIZE, HOMES_FOR_SUMS, NO_PRIVACY
from workbench.demo.site import FEED_IN_WEI_PER_WH, PPDL_CHAIN_ID, RETAIL_WEI_PER_WH, Site
from workbench.pool_past import pool_prices

COMMIT_BLOCKS = 4
"""Meters train in well under a second, so four blocks (two seconds and more) are enough to commit; what follows ends early."""
FURTHER_COMMIT_BLOCKS = 12
"""Of the models beside the first, so that three trainings on each meter leave the demo's one machine room for the rest."""
PRICE_COMMIT_BLOCKS = 24
"""A round of prices costs each hub up to a fifth of a second, and the demo's hubs share one machine."""
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
    hubs = [(name, address_of(hub.role_key(KEY_ROLE))) for name, hub in site.hubs.items()]
    plans = learning_plans(devices, site.options.start, site.options.privacy)
    prices = price_plan(len(hubs), site.options.start // SECONDS_PER_HOUR, _holidays(site.options.start))
    records = [record for feeder in feeders for record in _records(site, prices, feeder)]
    if records:
        plans = (*plans, prices)
    trainers = [Trainer(address, name) for name, address in hubs if records]
    state = make_app_genesis(devices, feeders, plans, _commit_key(), trainers, records)
    validators = [hub.validator for hub in site.hubs.values()]
    genesis = make_genesis(PPDL_CHAIN_ID, validators, state.encode(), int(time.time() * 1000))
    replace_durably(site.genesis_file, genesis.encode(), mode=0o644)
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
    return LearningPlan(
        evaluation_start_hour=start_hour - 24 * EVALUATION_DAYS,
        evaluation_hours=24 * EVALUATION_DAYS,
        holiday_days=_holidays(start),
        min_participants=max(MIN_PRIVATE_PARTICIPANTS if hidden else 1, (devices - COMMITTEE_SIZE) * 3 // 4),
        commit_blocks=COMMIT_BLOCKS,
        committee_size=COMMITTEE_SIZE,
        utc_offset_hours=KOREA_UTC_OFFSET_HOURS,
        privacy=privacy,
        rule="mean" if hidden else RULES[0],
    )


def _holidays(start: int) -> tuple[int, ...]:
    """Korean holidays around the demo's start (unix seconds)."""
    year = datetime.fromtimestamp(start, UTC).year
    return korean_holidays(year - 1, year + 1)


def price_plan(hubs: int, start_hour: int, holiday_days: tuple[int, ...]) -> LearningPlan:
    """Of the price model, learnt by hubs from the record that ends at `start_hour`; the last week of it nobody trains on.

    All of them but as many as the chain itself allows to be faulty must take part. There is no committee: of four hubs a judge
    is one who does not train, and then the silence of one more would void the round. Steps, noise and ridge are those of the
    meters: with more of the one and less of the others five weeks are learnt by heart (docs/LEARNING.md).
    """
    return LearningPlan(
        evaluation_start_hour=start_hour - 24 * EVALUATION_DAYS,
        evaluation_hours=24 * EVALUATION_DAYS,
        holiday_days=holiday_days,
        min_participants=hubs - max_faulty(hubs),
        commit_blocks=PRICE_COMMIT_BLOCKS,
        committee_size=0,
        spec=PRICE,
        utc_offset_hours=KOREA_UTC_OFFSET_HOURS,
    )


def _feeder(microgrid: int, path: Path) -> Feeder:
    """Hourly net energy from a history file of 15-minute slots."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    start = int(datetime.fromisoformat(rows[0]["time"]).timestamp())
    skip = -(start // SLOT_SECONDS) % SLOTS_PER_HOUR
    values = [int(row["import_wh"]) - int(row["export_wh"]) for row in rows[skip:]]
    hours = _hourly(values)[-HISTORY_HOURS:]
    end_hour = (start // SLOT_SECONDS + skip) // SLOTS_PER_HOUR + len(values) // SLOTS_PER_HOUR
    return Feeder(microgrid, end_hour - len(hours), tuple(hours))


def _records(site: Site, plan: LearningPlan, feeder: Feeder) -> Iterator[PriceRecord]:
    """The past of a microgrid's pool, what its homes would have traded there; none where they hardly feed in."""
    homes = [home.name for home in site.homes if home.microgrid == feeder.microgrid]
    pasts = [_slots(site.folder / "history" / f"{name}.csv") for name in homes]
    (start,) = {start for start, _ in pasts}  # one simulator wrote them all
    prices = pool_prices([slots for _, slots in pasts], FEED_IN_WEI_PER_WH, RETAIL_WEI_PER_WH)
    record = PriceRecord(feeder.microgrid, start, tuple(prices))
    with contextlib.suppress(ValueError):  # too few prices to learn from
        check_record(plan, record, range(feeder.start_hour, feeder.start_hour + len(feeder.net_wh)))
        yield record


def _slots(path: Path) -> tuple[int, list[tuple[int, int]]]:
    """First slot of a home's history file, and import and export of each."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    start = int(datetime.fromisoformat(rows[0]["time"]).timestamp())
    return start // SLOT_SECONDS, [(int(row["import_wh"]), int(row["export_wh"])) for row in rows]


def _exported_wh(path: Path) -> list[int]:
    """Hourly exports of a home's history file."""
    with path.open(encoding="utf-8", newline="") as file:
        return _hourly([int(row["export_wh"]) for row in csv.DictReader(file)])


def _hourly(values: Sequence[int]) -> list[int]:
    whole = len(values) - len(values) % SLOTS_PER_HOUR
    return [sum(values[i : i + SLOTS_PER_HOUR]) for i in range(0, whole, SLOTS_PER_HOUR)]
