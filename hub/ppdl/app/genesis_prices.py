"""Prices in the genesis: who learns the price model, and the pools' past that all of them learn it from.

Prices are public, so no meter is asked to learn them: hubs do, each with a key of its own that signs nothing else. A record has
the price of each slot, oldest first, in wei per Wh; 0 where the pool had none, because nobody had opened it or it was empty. It
is a part of the genesis and so of the chain's identity: a hub with another record signs for another chain. Of a chain that
learns prices each record covers the plan's spans, and so does the feeder's past, from which the expected net energy follows.
Rules: pure; integers. Not here: where the record comes from, the windows made of it (`hub.learning.price_past`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from openmg.forecast.spec import EXPECTED_NET, HOURS_PER_DAY, HOURS_PER_WEEK, MINUTES_PER_HOUR, PRICE, ForecastSpec
from openmg.learning.plan import LearningPlan
from openmg.messages.topics import DEVICE_NAME
from openmg.units import ADDRESS_BYTES, SLOTS_PER_HOUR

MAX_TRAINERS = 64
"""One for each validator that there may be."""
MAX_PRICE_WEI_PER_WH = 2**53 - 1
"""What a program that reads JSON holds exactly; the demo's prices are near 2^35."""
MAX_RECORD_SLOTS = 5 * HOURS_PER_WEEK * SLOTS_PER_HOUR
"""As long as a feeder's past."""
MAX_UNKNOWN_DEN = 4
"""At most one slot in so many of a record is without a price: windows with an unknown step are not learnt from."""
NO_PRICE = 0


@dataclass(frozen=True, slots=True)
class Trainer:
    """A hub that learns the price model: the 20-byte address of its key for that, and its name. ValueError."""

    address: bytes
    name: str

    def __post_init__(self) -> None:
        if len(self.address) != ADDRESS_BYTES or not DEVICE_NAME.fullmatch(self.name):
            raise ValueError(f"trainer {self.name!r} has an address of the wrong length or an unusable name")


@dataclass(frozen=True, slots=True)
class PriceRecord:
    """Prices of a microgrid's pool from `start_slot` (slots since 1970, UTC) on, in wei per Wh; NO_PRICE where it had none.
    ValueError."""

    microgrid: int
    start_slot: int
    wei_per_wh: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.wei_per_wh) <= MAX_RECORD_SLOTS or not 0 <= self.start_slot < 2**32:
            raise ValueError(
                f"the price record of microgrid {self.microgrid} has an impossible slot or not 1 to {MAX_RECORD_SLOTS}"
            )
        if not all(0 <= price <= MAX_PRICE_WEI_PER_WH for price in self.wei_per_wh):
            raise ValueError(
                f"the price record of microgrid {self.microgrid} has a price outside 0..{MAX_PRICE_WEI_PER_WH} wei per Wh"
            )

    @property
    def end_slot(self) -> int:
        return self.start_slot + len(self.wei_per_wh)


def check_trainers(trainers: Sequence[Trainer], devices: Collection[bytes]) -> None:
    """ValueError unless they are distinct, ascending by address, and none signs as a meter."""
    addresses = [trainer.address for trainer in trainers]
    if len(addresses) > MAX_TRAINERS or addresses != sorted(set(addresses)):
        raise ValueError(f"give at most {MAX_TRAINERS} trainers in ascending order of distinct addresses")
    if len({trainer.name for trainer in trainers}) != len(addresses):
        raise ValueError("two trainers have one name; each hub has its own")
    both = set(addresses) & set(devices)
    if both:
        raise ValueError(f"0x{min(both).hex()} is a trainer and a meter; a hub learns prices with a key of its own")


def check_price_spec(spec: ForecastSpec) -> None:
    """ValueError for a price model that answers could not be made with: the next day by slots, from what is recorded."""
    right = spec.resolution_minutes * SLOTS_PER_HOUR == MINUTES_PER_HOUR and spec.horizon_hours == HOURS_PER_DAY
    if not right or spec.channels not in ((), (EXPECTED_NET,)) or spec.annual:
        raise ValueError(f"no hub can learn {spec.model_id}; use the next day by slots, with no channel but {EXPECTED_NET}")


def check_records(
    plans: Sequence[LearningPlan], trainers: Sequence[Trainer], records: Sequence[PriceRecord], feeders: Mapping[int, range]
) -> None:
    """ValueError unless there is what the price plans learn from, and no more. `feeders`: hours of each microgrid's past."""
    grids = [record.microgrid for record in records]
    if grids != sorted(set(grids)) or not set(grids) <= feeders.keys():
        raise ValueError("give price records in ascending order of microgrids that have a feeder history")
    prices = [plan for plan in plans if plan.spec.quantity == PRICE.quantity]
    if bool(prices) != bool(records) or bool(prices) != bool(trainers):
        raise ValueError("a plan for prices, trainers and price records go together; give all or none")
    for plan in prices:
        if plan.privacy != "none":
            raise ValueError(f"prices are public and every hub has the same; their plan hides nothing, not {plan.privacy}")
        hostile = plan.hostile_devices(len(trainers))
        if plan.min_participants <= 2 * hostile:
            raise ValueError(
                f"a round of prices may close with {plan.min_participants} of {len(trainers)} hubs, of which {hostile} may lie;"
                f" ask for {2 * hostile + 1}"
            )
        for record in records:
            check_record(plan, record, feeders[record.microgrid])


def check_record(plan: LearningPlan, record: PriceRecord, feeder: range) -> None:
    """ValueError unless the record and the hours of the feeder's past cover the plan's spans, with enough prices in them."""
    first, end = plan.evaluation_start_hour - plan.train_hours, plan.evaluation_start_hour + plan.evaluation_hours
    slots = range(first * SLOTS_PER_HOUR, end * SLOTS_PER_HOUR)
    if record.start_slot > slots.start or record.end_slot < slots.stop:
        raise ValueError(
            f"the price record of microgrid {record.microgrid} has slots {record.start_slot}..{record.end_slot}, the plan needs"
            f" {slots.start}..{slots.stop}"
        )
    if feeder.start > first or feeder.stop < end:
        raise ValueError(
            f"the feeder of microgrid {record.microgrid} has hours {feeder.start}..{feeder.stop}, the plan for prices needs"
            f" {first}..{end}"
        )
    known = record.wei_per_wh[slots.start - record.start_slot : slots.stop - record.start_slot]
    if known.count(NO_PRICE) * MAX_UNKNOWN_DEN > len(known):
        raise ValueError(
            f"the price record of microgrid {record.microgrid} has no price in {known.count(NO_PRICE)} of {len(known)} slots;"
            f" at most one in {MAX_UNKNOWN_DEN} may lack one"
        )
