"""The utility's check of a period's statement: honest ones, each breach with its smallest excess, and each lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trade_cases import CALENDAR, HOMES, MICROGRID, SLOT

from edge_agent.market.blindings import burn_blinding
from edge_agent.market.planner import BURN_LAST_SLOTS
from edge_agent.market.statement import SlotAccount, TooEarlyError, period_statement, period_witness
from edge_agent.market.witnesses import asset_of
from openmg.market.statement import Breach, BurnRecord, Record, Registers, SlotRecord, StatementError, settle, sum_openings
from openmg.zk import assets
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits.period import PeriodWitness
from openmg.zk.meters import Opening, burn_tag, mint_nullifier, period_key

ADA = HOMES[0]
PERIOD = CALENDAR.period_of(SLOT)
START = CALENDAR.slots_of_period(PERIOD).start
SECRET = PeriodWitness(ADA.meter_secret, PERIOD)
K = period_key(ADA.meter_secret, PERIOD)
NIGHT, NOON, NEXT_NIGHT = START + 4, START + 50, START + 100
ENERGIES = {NIGHT: (900, 0), NOON: (150, 2_000), NEXT_NIGHT: (1_100, 10)}
"""Import and export in Wh: the first and last lie in band 0, the second in band 1."""
BURNED = {CALENDAR.key_of(NIGHT): 800, CALENDAR.key_of(NEXT_NIGHT): 1_000, CALENDAR.key_of(NOON): 100}
READ = {0: Registers(10, 2_000), 1: Registers(2_000, 150)}


def slot_accounts(minted=tuple(ENERGIES)):
    return [SlotAccount(slot, *ADA.openings(slot, *energies), slot in minted) for slot, energies in ENERGIES.items()]


def public(minted=tuple(ENERGIES), burned=BURNED) -> Record:
    leaves = tuple(SlotRecord(it.slot, it.exported.point, it.imported.point) for it in slot_accounts())
    mints = {slot: {mint_nullifier(K, slot), 5} if slot in minted else {6} for slot in ENERGIES}
    burns = [
        BurnRecord(
            key,
            burn_tag(K, asset_of(assets.Kind.DELIVERY, MICROGRID, key)),
            Opening(wh, burn_blinding(ADA.keys.seed, key)).point,
        )
        for key, wh in burned.items()
    ]
    stranger = BurnRecord(CALENDAR.key_of(NOON), 99, Opening(5, 5).point)
    return Record(MICROGRID, leaves, mints, (*burns, stranger))


def stated(minted=tuple(ENERGIES), burned=BURNED):
    return period_statement(SECRET, b"proof", ADA.keys.seed, CALENDAR, slot_accounts(minted), burned)


def check(statement, record=None, registers=READ, verify=lambda publics, proof: proof == b"proof"):
    return settle(statement, record or public(), registers, CALENDAR, verify)


def test_an_honest_meter_gets_its_credit_and_no_penalty():
    found = check(stated())
    assert not found.revoked
    assert [(band.band, band.credit_wh) for band in found.bands] == [(0, 1_800), (1, 100)]
    assert [(band.export_shortfall_wh, band.import_shortfall_wh) for band in found.bands] == [(0, 200), (0, 50)]


def test_what_was_missed_stays_on_the_bill_and_costs_nothing_else():
    minted = (NIGHT, NEXT_NIGHT)
    found = check(stated(minted, {}), public(minted, {}))
    assert not found.penalties
    assert [(band.export_shortfall_wh, band.import_shortfall_wh) for band in found.bands] == [(0, 2_000), (2_000, 150)]


@pytest.mark.parametrize(
    ("band", "read", "breach"),
    [
        (0, Registers(9, 2_000), Breach.EXPORT_ABOVE_REGISTER),
        (0, Registers(10, 1_999), Breach.IMPORT_ABOVE_REGISTER),
        (1, Registers(1_999, 150), Breach.EXPORT_ABOVE_REGISTER),
        (1, Registers(2_000, 149), Breach.IMPORT_ABOVE_REGISTER),
    ],
)
def test_agreed_above_a_register_is_a_breach_from_the_first_wh_and_voids_all_credit(band, read, breach):
    found = check(stated(), registers=READ | {band: read})
    (penalty,) = found.penalties
    assert (penalty.band, penalty.breach, penalty.excess_wh) == (band, breach, 1)
    assert found.revoked and all(result.credit_wh == 0 for result in found.bands)


def test_burned_above_the_agreed_import_is_a_breach():
    burned = BURNED | {CALENDAR.key_of(NOON): 151}
    (penalty,) = check(stated(burned=burned), public(burned=burned)).penalties
    assert (penalty.band, penalty.breach, penalty.excess_wh) == (1, Breach.BURNED_ABOVE_IMPORT, 1)


def test_a_negative_slot_that_nobody_could_prove_makes_minted_more_than_agreed():
    """Were the circuit `commit` broken, a slot of -5 Wh that is not minted would leave more minted than was agreed."""
    minted = (NIGHT, NOON)
    negative = Opening(SUBGROUP_ORDER - 15, 7)
    leaves = tuple(
        replace(leaf, export_commitment=negative.point) if leaf.slot == NEXT_NIGHT else leaf for leaf in public().agreed
    )
    statement, record = stated(minted), replace(public(minted), agreed=leaves)
    own = slot_accounts()[0].exported
    sums = sum_openings([own, negative])
    night = replace(statement.bands[0], exported=Opening(sums.energy_wh % SUBGROUP_ORDER, sums.blinding))
    with pytest.raises(StatementError, match="possible"):
        check(replace(statement, bands=(night, *statement.bands[1:])), record)


def test_minted_above_agreed_is_a_breach():
    """As above, where the sum is still a possible one: 2,000 Wh minted and -5 Wh not."""
    negative, nothing = Opening(SUBGROUP_ORDER - 5, 7), Opening(0, 0)
    honest, record = stated(), public()
    leaf = SlotRecord(NOON + 1, negative.point, nothing.point)
    sums = sum_openings([honest.bands[1].exported, negative])
    noon = replace(honest.bands[1], exported=Opening(sums.energy_wh % SUBGROUP_ORDER, sums.blinding))
    found = check(replace(honest, bands=(honest.bands[0], noon)), replace(record, agreed=(*record.agreed, leaf)))
    (penalty,) = found.penalties
    assert (penalty.band, penalty.breach, penalty.excess_wh) == (1, Breach.MINTED_ABOVE_AGREED, 5)


@pytest.mark.parametrize("name", ["exported", "imported", "minted", "burned"])
@pytest.mark.parametrize("change", [{"energy_wh": 1}, {"energy_wh": -1}, {"blinding": 1}])
def test_a_sum_that_is_not_the_public_one_is_refused(name, change):
    statement = stated()
    (part, by) = next(iter(change.items()))
    opening = getattr(statement.bands[0], name)
    lie = replace(opening, **{part: getattr(opening, part) + by})
    with pytest.raises(StatementError, match=name):
        check(replace(statement, bands=(replace(statement.bands[0], **{name: lie}), *statement.bands[1:])))


def test_a_mint_or_burn_that_is_not_told_is_found_by_the_key():
    with pytest.raises(StatementError, match="minted"):
        check(stated(minted=(NIGHT,)))
    with pytest.raises(StatementError, match="burned"):
        check(stated(burned={CALENDAR.key_of(NIGHT): 800}))


def test_a_band_that_is_left_out_or_told_twice_is_refused():
    statement = stated()
    for bands in (statement.bands[:1], statement.bands[::-1], (statement.bands[0], *statement.bands)):
        with pytest.raises(StatementError, match="band"):
            check(replace(statement, bands=bands))


def test_without_the_proof_nothing_counts():
    with pytest.raises(StatementError, match="not proved"):
        check(replace(stated(), proof=b"another"))
    seen = []
    check(stated(), verify=lambda publics, proof: seen.append(publics) or True)
    assert seen == [(ADA.meter_id, PERIOD, K)]


def test_the_key_is_not_told_before_the_last_burn_deadline():
    late = CALENDAR.slots_of_period(PERIOD).stop + BURN_LAST_SLOTS
    with pytest.raises(TooEarlyError):
        period_witness(ADA.meter_secret, PERIOD, CALENDAR, late - 1)
    assert period_witness(ADA.meter_secret, PERIOD, CALENDAR, late) == SECRET


def test_a_record_of_a_slot_twice_or_of_another_period_is_refused():
    record = public()
    for agreed in ((*record.agreed, record.agreed[0]), (replace(record.agreed[0], slot=START - 1), *record.agreed[1:])):
        with pytest.raises(StatementError, match="record"):
            check(stated(), replace(record, agreed=agreed))
