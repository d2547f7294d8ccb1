"""The statement buy: whole lots up to an agreed import, once, for the meter's owner."""

from dataclasses import replace

import pytest
from zk_cases import R_BLIND, S_BLIND
from zk_judge import bit_rules, broken_quickly, broken_rules, free_wires, named_rules, wires_of
from zk_meter_cases import CAP_IMPORT, MICROGRID, PERIOD, SLOT, MeterCases, negative_point

from openmg.zk import babyjub, pyecc_verify
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits import buy as statement
from openmg.zk.circuits.buy import publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import LOT_WH, Opening, Place
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash
from openmg.zk.tags import H
from openmg.zk.tree import NoteTree

REGISTERED = "the meter's leaf is under the registry root"
MICROGRID_RULE = "the meter is of that microgrid"
BEGAN, NOT_ENDED = "the registration began in time", "the registration had not ended"
AGREED = "the meter's slot leaf is under the slot root"
ENERGY = "the committed import is below 2^32"
BLINDING = "the blinding of the import commitment is below the subgroup's order"
CAPACITY = "the import is within the meter's capacity"
LOTS, SOME = "lots are below 2^16", "at least one lot is bought"
TAKEN = "no more is bought than was taken"
NULLIFIER = "N is that of the meter's slot"
DELIVERY = "the delivery note belongs to the meter's owner"
SUMS = {"a sum of points has the right x", "a sum of points has the right y"}


@pytest.fixture(scope="module")
def buy_system():
    return CIRCUITS[statement.NAME].build()


def judged(witness, publics=None):
    return broken_quickly(statement, witness, publics)


# What is accepted


@pytest.mark.parametrize(("import_wh", "lots"), [(100, 1), (199, 1), (1234, 10), (1234, 12), (CAP_IMPORT, 40)])
def test_lots_up_to_the_import_are_bought(import_wh, lots):
    assert judged(MeterCases().buy(import_wh, lots)) == set()


def test_the_most_lots():
    cases = MeterCases()
    registration = cases.registration(cases.home.leaf(cap_import_wh=2**32 - 1))
    most = (1 << 16) - 1
    assert judged(cases.buy(2**32 - 1, most, registration)) == set()
    assert judged(cases.buy(most * LOT_WH, most, registration)) == set()


def test_public_inputs_stand_in_the_documented_order():
    cases = MeterCases()
    witness = cases.buy()
    partial = H("own", cases.home.pk, witness.delivery_blinding)
    nullifier = H("buy", cases.home.mk, SLOT)
    expected = [witness.registration.root, witness.slot_root, SLOT, MICROGRID, 10, nullifier, partial, witness.ext]
    assert publics_of(witness).as_list() == expected
    assert wires_of(statement, witness)[1:9] == expected and len(expected) == statement.PUBLIC_INPUTS


def test_every_rule_has_a_violation_below(buy_system):
    own = {REGISTERED, MICROGRID_RULE, BEGAN, NOT_ENDED, AGREED, ENERGY, BLINDING, CAPACITY, LOTS, SOME, TAKEN}
    assert named_rules(buy_system) == own | {NULLIFIER, DELIVERY} | SUMS
    ranges = {f"{rule} (bit)": 32 for rule in (BEGAN, NOT_ENDED, ENERGY, CAPACITY, TAKEN)}
    places = {f"an index bit of the {name} leaf is a bit": 20 for name in ("registry", "slot")}
    assert bit_rules(buy_system) == ranges | places | {f"{BLINDING} (bit)": 251, f"{LOTS} (bit)": 16}
    assert (buy_system.n_constraints, buy_system.domain_log2) == (12_642, 14)
    assert circuit_hash(buy_system) == statement.CIRCUIT_HASH


# Attacks


@pytest.mark.parametrize(("import_wh", "lots"), [(0, 1), (99, 1), (999, 10), (CAP_IMPORT, 41)])
def test_buy_above_the_committed_import(import_wh, lots):
    witness = MeterCases().buy(import_wh, lots)
    assert judged(witness) == {TAKEN}
    with pytest.raises(UnsatisfiedError, match=TAKEN):
        statement.synthesize(WitnessBuilder(), publics_of(witness), witness)


def test_buy_with_a_larger_import_than_was_committed():
    witness = MeterCases().buy(999, 10)
    assert judged(replace(witness, import_opening=replace(witness.import_opening, energy_wh=1000))) == {AGREED}


def test_buy_above_the_capacity():
    assert judged(MeterCases().buy(CAP_IMPORT + 1, 1)) == {CAPACITY}


def test_buy_with_aliased_lots():
    """Lots whose hundredfold wraps the field to no more than the import, or whose low 16 bits are small."""
    cases = MeterCases()
    wrapped = 50 * pow(LOT_WH, -1, R) % R
    assert wrapped * LOT_WH % R == 50 and wrapped >= 1 << 16
    assert judged(cases.buy(1234, wrapped)) == {LOTS}
    registration = cases.registration(cases.home.leaf(cap_import_wh=2**32 - 1))
    assert judged(cases.buy(2**32 - 1, 1 << 16, registration)) == {LOTS}
    assert judged(cases.buy(1234, R - 1)) == {LOTS}
    assert judged(cases.buy(1234, 0)) == {SOME}


def test_buy_states_the_lots_it_proves():
    witness = MeterCases().buy(1234, 10)
    assert judged(witness, replace(publics_of(witness), lots=13)) == {TAKEN}


def test_buy_twice_in_a_slot_has_the_same_nullifier():
    cases = MeterCases()
    first = cases.buy(1234, 10)
    grown = cases.registration(cases.home.leaf(public_key=cases.neighbour.pk))
    for second in (cases.buy(1234, 2), cases.buy(1234, 10, grown), replace(first, delivery_blinding=3, ext=4)):
        assert judged(second) == set()
        assert publics_of(second).nullifier == publics_of(first).nullifier


def test_buy_with_a_nullifier_of_choice():
    cases = MeterCases()
    witness = cases.buy()
    honest = publics_of(witness)
    key = H("per", cases.home.mk, PERIOD)
    for nullifier in (honest.nullifier + 1, H("buy", cases.neighbour.mk, SLOT), H("mnt", key, SLOT), H("buy", key, SLOT)):
        assert judged(witness, replace(honest, nullifier=nullifier)) == {NULLIFIER}


def test_buy_by_an_unregistered_meter():
    cases = MeterCases()
    witness = cases.buy()
    registration = replace(witness.registration, root=NoteTree([cases.felt()]).root())
    assert judged(replace(witness, registration=registration)) == {REGISTERED}


def test_buy_by_a_revoked_or_not_yet_registered_meter():
    cases = MeterCases()
    assert judged(cases.buy(registration=cases.registration(cases.home.leaf(to_slot=SLOT)))) == {NOT_ENDED}
    assert judged(cases.buy(registration=cases.registration(cases.home.leaf(from_slot=SLOT + 1)))) == {BEGAN}
    edge = cases.registration(cases.home.leaf(from_slot=SLOT, to_slot=SLOT + 1))
    assert judged(cases.buy(registration=edge)) == set()


def test_buy_from_an_unagreed_slot():
    cases = MeterCases()
    witness = cases.buy()
    others = NoteTree([cases.felt(), cases.felt()])
    assert judged(replace(witness, slot_root=others.root(), slot_place=Place.in_tree(others, 1))) == {AGREED}
    assert judged(replace(witness, slot=SLOT - 1)) == {AGREED}


def test_buy_under_another_mid():
    cases = MeterCases()
    witness = cases.buy()
    place, root = cases.agreed(witness.export_commitment, witness.import_opening.point, mid=cases.neighbour.mid)
    assert judged(replace(witness, slot_place=place, slot_root=root)) == {AGREED}
    borrowed = cases.registration(cases.neighbour.leaf(), mk=cases.home.mk)
    assert judged(replace(witness, registration=borrowed)) == {REGISTERED}


def test_buy_against_an_export():
    """The leaf with export and import exchanged is another leaf."""
    cases = MeterCases()
    witness = cases.buy()
    place, root = cases.agreed(witness.import_opening.point, witness.export_commitment)
    assert judged(replace(witness, slot_place=place, slot_root=root)) == {AGREED}


def test_buy_with_a_negative_commitment_opening():
    cases = MeterCases()
    witness = cases.buy()
    place, root = cases.agreed(witness.export_commitment, negative_point(5))
    negative = replace(witness, slot_place=place, slot_root=root)
    for energy in (SUBGROUP_ORDER - 1, R - 1):
        assert judged(replace(negative, import_opening=Opening(energy, 5))) >= {ENERGY, AGREED}
    # An import of -1 passes the capacity; one lot less than nothing does not pass, whatever the leaf holds.
    low = (R - 1) % (1 << 32)
    place, root = cases.agreed(witness.export_commitment, babyjub.commit(low, 5))
    cheat = replace(witness, slot_place=place, slot_root=root, import_opening=Opening(R - 1, 5))
    assert judged(cheat) == {ENERGY, TAKEN}


def test_an_import_is_32_bits():
    """The leaf holds what the low bits of 2^32 open: only the range and the capacity tell it from nothing."""
    cases = MeterCases()
    witness = cases.buy(300, 3)
    place, root = cases.agreed(witness.export_commitment, babyjub.commit(0, 5))
    wide = replace(witness, slot_place=place, slot_root=root, import_opening=Opening(1 << 32, 5))
    assert judged(wide) == {ENERGY, CAPACITY}


def test_a_blinding_has_no_alias():
    cases = MeterCases()
    witness = cases.buy()
    place, root = cases.agreed(witness.export_commitment, babyjub.commit(1234, 0))
    witness = replace(witness, slot_place=place, slot_root=root)
    assert judged(replace(witness, import_opening=Opening(1234, SUBGROUP_ORDER))) == {f"{BLINDING} (bit)"}
    assert judged(replace(witness, import_opening=Opening(1234, 1 << 251))) == {BLINDING}


def test_a_delivery_to_somebody_else():
    cases = MeterCases()
    witness = cases.buy()
    other = H("own", cases.neighbour.pk, witness.delivery_blinding)
    assert judged(witness, replace(publics_of(witness), delivery_partial=other)) == {DELIVERY}


def test_buy_in_another_microgrid():
    witness = MeterCases().buy()
    assert judged(witness, replace(publics_of(witness), microgrid=MICROGRID + 1)) == {MICROGRID_RULE}


# Freedom and proof


def test_the_matrices_judge_as_the_witness_builder_does(buy_system):
    cases = MeterCases()
    honest = cases.buy()
    unregistered = replace(honest, registration=replace(honest.registration, root=5))
    for witness in (honest, cases.buy(99, 1), cases.buy(lots=0), unregistered, replace(honest, slot=SLOT + 1)):
        assert broken_rules(buy_system, statement, witness) == judged(witness)


def test_every_wire_matters(buy_system):
    assert free_wires(buy_system, wires_of(statement, MeterCases().buy()), "buy") == []


@pytest.mark.slow
@pytest.mark.parametrize(("import_wh", "lots"), [(100, 1), (CAP_IMPORT, 40)])
def test_every_wire_matters_for_other_imports(buy_system, import_wh, lots):
    wires = wires_of(statement, MeterCases().buy(import_wh, lots))
    assert free_wires(buy_system, wires, f"buy {lots}") == []


def test_secrets_are_in_no_text():
    witness = MeterCases().buy()
    text = repr(witness)
    for secret in (witness.registration.meter_secret, witness.import_opening.blinding, witness.delivery_blinding):
        assert str(secret) not in text


@pytest.mark.native
def test_a_proof_re_paired_with_another_payment_is_refused(native, key_cache):
    """The payment stands in ext: py_ecc takes the proof for its own ext, and nobody for another, nor for an alias of lots."""
    key = ensure_keys(statement.NAME, key_cache, native)
    witness = MeterCases().buy()
    publics = publics_of(witness)
    proof = native.prover(key.path).prove(wires_of(statement, witness), R_BLIND, S_BLIND)
    assert pyecc_verify.verify(key.verifying_key, publics.as_list(), proof)
    re_paired = replace(publics, ext=publics.ext ^ 1).as_list()
    assert not pyecc_verify.verify(key.verifying_key, re_paired, proof)
    assert not native.verify(key.verifying_key, re_paired, proof)
    for lots in (publics.lots + 1, publics.lots + R, publics.lots + (1 << 16)):
        assert not native.verify(key.verifying_key, replace(publics, lots=lots).as_list(), proof)
    assert not pyecc_verify.verify(key.verifying_key, replace(publics, lots=publics.lots + R).as_list(), proof)
