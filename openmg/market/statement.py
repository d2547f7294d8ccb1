"""What a meter tells the utility when a billing period is over, and how the utility checks it against public records.

Theory of operation. The meter names its period key k with a proof (circuit `period`) and, for each tariff band, what sums of
commitments open to: of all agreed slots, of the slots it minted, and of its burns. With k the utility finds the meter's mints
and burns among everybody's, adds the public commitments up, and sees whether the sums open as stated. It never learns what
happened in one slot or on one day, unless a period has but one.
Then, band by band: agreed export <= export register, agreed import <= import register, minted <= agreed export, burned <=
agreed import. What lies above costs a penalty, the registration, and the period's credit; what is missing below a register
(carried, missed or unagreed slots, rests under a lot) stays on the tariff bill.
Rules: integers only; a statement that cannot be true as a whole is refused (StatementError) and nothing in it counts. Pure:
the caller brings the check of the proof. Not here: how a meter makes one (`edge_agent.market.statement`), money.
Source: the project's circuit statements, "period".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from openmg.market.calendar import BANDS, Calendar
from openmg.zk import babyjub
from openmg.zk.assets import Kind, energy_asset
from openmg.zk.babyjub import IDENTITY, Point
from openmg.zk.meters import Opening, burn_tag, mint_nullifier

MAX_SUM_WH = 1 << 48
"""A year's slots of 2^32 Wh each; sums below it never wrap the subgroup's order."""
VerifyPeriod = Callable[[Sequence[int], bytes], bool]
"""Whether a proof of the circuit `period` holds for these public inputs (mid, period, k)."""


class StatementError(ValueError):
    """The statement is not true of the public record; the text says what is wrong with it."""


@dataclass(frozen=True)
class BandSums:
    """What one tariff band's sums open to: energies in Wh over the period, each with the sum of its blindings."""

    band: int
    exported: Opening
    imported: Opening
    minted: Opening
    burned: Opening


@dataclass(frozen=True)
class PeriodStatement:
    """A meter's account of a billing period; `bands` ascend."""

    meter_id: int
    period: int
    period_key: int
    proof: bytes
    bands: tuple[BandSums, ...]


@dataclass(frozen=True)
class SlotRecord:
    """This meter's leaf of an agreed slot, from the slot's public leaves."""

    slot: int
    export_commitment: Point
    import_commitment: Point


@dataclass(frozen=True)
class BurnRecord:
    """A burn of anybody, from the pool's event."""

    key: int
    tag: int
    commitment: Point


@dataclass(frozen=True)
class Record:
    """What is public of one microgrid in the period: the meter's agreed leaves, everybody's mints by slot, and burns."""

    microgrid: int
    agreed: tuple[SlotRecord, ...]
    mint_nullifiers: Mapping[int, AbstractSet[int]]
    burns: tuple[BurnRecord, ...]


@dataclass(frozen=True)
class Registers:
    """What the utility's own reading of one band says for the period, in Wh."""

    export_wh: int
    import_wh: int


class Breach(StrEnum):
    """What costs penalty, registration and credit."""

    EXPORT_ABOVE_REGISTER = "agreed export is above the export register"
    IMPORT_ABOVE_REGISTER = "agreed import is above the import register"
    MINTED_ABOVE_AGREED = "minted is above the agreed export"
    BURNED_ABOVE_IMPORT = "burned is above the agreed import"


@dataclass(frozen=True)
class Penalty:
    """A breach in a band, and by how much."""

    band: int
    breach: Breach
    excess_wh: int


@dataclass(frozen=True)
class BandResult:
    """A band's outcome: credit for burned energy (0 when any band is in breach), and what stays on the tariff bill."""

    band: int
    credit_wh: int
    export_shortfall_wh: int
    """Fed in but not minted: paid at the feed-in tariff."""
    import_shortfall_wh: int
    """Taken but not burned: billed at the retail tariff."""


@dataclass(frozen=True)
class Settlement:
    """The utility's finding over a period; `penalties` is empty for an honest meter."""

    bands: tuple[BandResult, ...]
    penalties: tuple[Penalty, ...]

    @property
    def revoked(self) -> bool:
        """Whether the meter's registration ends."""
        return bool(self.penalties)


def sum_openings(openings: Iterable[Opening]) -> Opening:
    """What the sum of their commitments opens to."""
    energy_wh = blinding = 0
    for opening in openings:
        energy_wh += opening.energy_wh
        blinding += opening.blinding
    return Opening(energy_wh, blinding % babyjub.SUBGROUP_ORDER)


def settle(
    statement: PeriodStatement, record: Record, registers: Mapping[int, Registers], calendar: Calendar, verify: VerifyPeriod
) -> Settlement:
    """Check a statement and name shortfalls and penalties, for every band that the registers or the statement name.

    Raises StatementError for a proof that does not hold, bands out of order, or a sum that does not open as stated. The
    caller has seen to it that the period's last burn deadline is past.
    """
    if not verify((statement.meter_id, statement.period, statement.period_key), statement.proof):
        raise StatementError("the period key is not proved to be this meter's")
    stated = {sums.band: sums for sums in statement.bands}
    if list(stated) != sorted(stated) or len(stated) != len(statement.bands):
        raise StatementError("the bands of the statement do not ascend")
    public = _public_sums(statement, record, calendar)
    unstated = public.keys() - stated.keys()
    if unstated:
        raise StatementError(f"the statement leaves out band {min(unstated)}, in which there are public records")
    for band, sums in stated.items():
        _check_openings(band, sums, public.get(band, _NOTHING))
    empty = Opening(0, 0)
    bands = {band: stated.get(band, BandSums(band, empty, empty, empty, empty)) for band in sorted({*stated, *registers})}
    none = Registers(0, 0)
    penalties = tuple(p for band, sums in bands.items() for p in _penalties(sums, registers.get(band, none)))
    results = tuple(_result(sums, registers.get(band, none), bool(penalties)) for band, sums in bands.items())
    return Settlement(results, penalties)


@dataclass
class _BandPoints:
    """Sums of public commitments of one band."""

    exported: Point = IDENTITY
    imported: Point = IDENTITY
    minted: Point = IDENTITY
    burned: Point = IDENTITY


_NOTHING = _BandPoints()


def _public_sums(statement: PeriodStatement, record: Record, calendar: Calendar) -> dict[int, _BandPoints]:
    slots, key = calendar.slots_of_period(statement.period), statement.period_key
    bands: dict[int, _BandPoints] = {}
    seen: set[int] = set()
    for leaf in record.agreed:
        if leaf.slot not in slots or leaf.slot in seen:
            raise StatementError(f"the record names slot {leaf.slot} twice or outside the period")
        seen.add(leaf.slot)
        sums = bands.setdefault(calendar.band_of(leaf.slot), _BandPoints())
        sums.exported = babyjub.add(sums.exported, leaf.export_commitment)
        sums.imported = babyjub.add(sums.imported, leaf.import_commitment)
        if mint_nullifier(key, leaf.slot) in record.mint_nullifiers.get(leaf.slot, frozenset()):
            sums.minted = babyjub.add(sums.minted, leaf.export_commitment)
    for burn in record.burns:
        asset = energy_asset(Kind.DELIVERY, record.microgrid, *divmod(burn.key, BANDS))
        of_period = calendar.period_of(calendar.first_slot_of(burn.key)) == statement.period
        if of_period and burn.tag == burn_tag(key, asset):
            sums = bands.setdefault(burn.key % BANDS, _BandPoints())
            sums.burned = babyjub.add(sums.burned, burn.commitment)
    return bands


def _check_openings(band: int, sums: BandSums, points: _BandPoints) -> None:
    for name in ("exported", "imported", "minted", "burned"):
        opening: Opening = getattr(sums, name)
        if not 0 <= opening.energy_wh < MAX_SUM_WH or not 0 <= opening.blinding < babyjub.SUBGROUP_ORDER:
            raise StatementError(f"what was {name} in band {band} is no possible sum")
        if opening.point != getattr(points, name):
            raise StatementError(f"what was {name} in band {band} does not open the sum of the public commitments")


def _penalties(sums: BandSums, registers: Registers) -> list[Penalty]:
    limits = (
        (Breach.EXPORT_ABOVE_REGISTER, sums.exported.energy_wh, registers.export_wh),
        (Breach.IMPORT_ABOVE_REGISTER, sums.imported.energy_wh, registers.import_wh),
        (Breach.MINTED_ABOVE_AGREED, sums.minted.energy_wh, sums.exported.energy_wh),
        (Breach.BURNED_ABOVE_IMPORT, sums.burned.energy_wh, sums.imported.energy_wh),
    )
    return [Penalty(sums.band, breach, amount - limit) for breach, amount, limit in limits if amount > limit]


def _result(sums: BandSums, registers: Registers, void: bool) -> BandResult:
    credit_wh = 0 if void else sums.burned.energy_wh
    shortfall_wh = max(0, registers.export_wh - sums.minted.energy_wh)
    return BandResult(sums.band, credit_wh, shortfall_wh, max(0, registers.import_wh - credit_wh))
