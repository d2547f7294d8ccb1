"""The meter's statement of a billing period, from what its own journal holds.

Rules: only after the period's last burn deadline, since from then on k tells nothing that a later mint or burn could be found
by; the proof needs the meter's secret and goes to the utility alone. Pure, but for the proof, which the caller makes.
Not here: how the utility checks it (`openmg.market.statement`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_agent.market import blindings
from edge_agent.market.planner import BURN_LAST_SLOTS
from openmg.market.calendar import BANDS, Calendar
from openmg.market.statement import BandSums, PeriodStatement, sum_openings
from openmg.zk.circuits.period import PeriodWitness
from openmg.zk.meters import Opening, meter_id, period_key


class TooEarlyError(ValueError):
    """A burn of the period may still come; the text says when the statement can be made."""


@dataclass(frozen=True)
class SlotAccount:
    """An agreed slot of ours, our openings of it, and whether it was minted."""

    slot: int
    exported: Opening
    imported: Opening
    minted: bool


def period_witness(meter_secret: int, period: int, calendar: Calendar, slot: int) -> PeriodWitness:
    """What proves k in slot `slot`; TooEarlyError before the period's last burn deadline."""
    earliest = calendar.slots_of_period(period).stop + BURN_LAST_SLOTS
    if slot < earliest:
        raise TooEarlyError(f"period {period} can be stated from slot {earliest} on; it is slot {slot}")
    return PeriodWitness(meter_secret, period)


def period_statement(
    witness: PeriodWitness,
    proof: bytes,
    seed: bytes,
    calendar: Calendar,
    slots: Iterable[SlotAccount],
    burned_wh: Mapping[int, int],
) -> PeriodStatement:
    """`slots`: every agreed slot of the period; `burned_wh`: by key (day and band) of the period what was burned."""
    by_band: dict[int, list[SlotAccount]] = {}
    for item in slots:
        by_band.setdefault(calendar.band_of(item.slot), []).append(item)
    burns: dict[int, list[Opening]] = {}
    for key, energy_wh in burned_wh.items():
        burns.setdefault(key % BANDS, []).append(Opening(energy_wh, blindings.burn_blinding(seed, key)))
    bands = tuple(
        BandSums(
            band,
            sum_openings(item.exported for item in by_band.get(band, [])),
            sum_openings(item.imported for item in by_band.get(band, [])),
            sum_openings(item.exported for item in by_band.get(band, []) if item.minted),
            sum_openings(burns.get(band, [])),
        )
        for band in sorted({*by_band, *burns})
    )
    secret, period = witness.meter_secret, witness.period
    return PeriodStatement(meter_id(secret), period, period_key(secret, period), proof, bands)
