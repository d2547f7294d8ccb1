"""The statement mint: an agreed export becomes its owner's supply note once, and nothing else does."""

from dataclasses import replace

import pytest
from zk_cases import R_BLIND, S_BLIND
from zk_judge import bit_rules, broken_quickly, broken_rules, free_wires, named_rules, wires_of
from zk_meter_cases import CAP_EXPORT, MICROGRID, PERIOD, SLOT, SUPPLY, MeterCases, negative_point

from openmg.zk import babyjub, pyecc_verify
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits import mint as statement
from openmg.zk.circuits.mint import publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import Opening, Place, RegistryLeaf, SlotLeaf
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash
from openmg.zk.tags import H
from openmg.zk.tree import NoteTree

REGISTERED = "the meter's leaf is under the registry root"
MICROGRID_RULE = "the meter is of that microgrid"
BEGAN, NOT_ENDED = "the registration began in time", "the registration had not ended"
AGREED = "the meter's slot leaf is under the slot root"
ENERGY = "the committed export is below 2^32"
BLINDING = "the blinding of the export commitment is below the subgroup's order"
CAPACITY = "the export is within the meter's capacity"
NULLIFIER = "N is that of the meter's slot"
NOTE = "the note holds the export and belongs to the meter's owner"
SUMS = {"a sum of points has the right x", "a sum of points has the right y"}


@pytest.fixture(scope="module")
def mint_system():
    return CIRCUITS[statement.NAME].build()


def judged(witness, publics=None):
    return broken_quickly(statement, witness, publics)


# What is accepted


@pytest.mark.parametrize("export_wh", [0, 1, CAP_EXPORT])
def test_every_export_up_to_the_capacity_is_minted(export_wh):
    assert judged(MeterCases().mint(export_wh)) == set()


@pytest.mark.parametrize("changes", [{"from_slot": SLOT}, {"to_slot": SLOT + 1}, {"cap_export_wh": 2**32 - 1}])
def test_the_first_and_the_last_slot_of_a_registration_count(changes):
    cases = MeterCases()
    assert judged(cases.mint(registration=cases.registration(cases.home.leaf(**changes)))) == set()


def test_public_inputs_stand_in_the_documented_order():
    cases = MeterCases()
    witness = cases.mint(700)
    key = H("per", cases.home.mk, PERIOD)
    note = H("cm", SUPPLY, 700, H("own", cases.home.pk, witness.note_blinding))
    expected = [
        witness.registration.root, witness.slot_root, SLOT, PERIOD, MICROGRID, SUPPLY, H("mnt", key, SLOT), note, witness.ext,
    ]  # fmt: skip
    assert publics_of(witness).as_list() == expected
    assert wires_of(statement, witness)[1:10] == expected and len(expected) == statement.PUBLIC_INPUTS


def test_every_rule_has_a_violation_below(mint_system):
    own = {REGISTERED, MICROGRID_RULE, BEGAN, NOT_ENDED, AGREED, ENERGY, BLINDING, CAPACITY, NULLIFIER, NOTE}
    assert named_rules(mint_system) == own | SUMS
    ranges = {f"{rule} (bit)": 32 for rule in (BEGAN, NOT_ENDED, ENERGY, CAPACITY)}
    places = {f"an index bit of the {name} leaf is a bit": 20 for name in ("registry", "slot")}
    assert bit_rules(mint_system) == ranges | places | {f"{BLINDING} (bit)": 251}
    assert (mint_system.n_constraints, mint_system.domain_log2) == (13_098, 14)
    assert circuit_hash(mint_system) == statement.CIRCUIT_HASH


# Attacks


def test_mint_above_capacity():
    witness = MeterCases().mint(CAP_EXPORT + 1)
    assert judged(witness) == {CAPACITY}
    with pytest.raises(UnsatisfiedError, match="the export is within the meter's capacity"):
        statement.synthesize(WitnessBuilder(), publics_of(witness), witness)


def test_mint_above_the_committed_export():
    witness = MeterCases().mint(700)
    opening = witness.export_opening
    assert judged(replace(witness, export_opening=replace(opening, energy_wh=701))) == {AGREED}
    more = H("cm", SUPPLY, 701, H("own", witness.registration.leaf.public_key, witness.note_blinding))
    assert judged(witness, replace(publics_of(witness), commitment=more)) == {NOTE}


def test_mint_of_a_commitment_opened_otherwise():
    """No other blinding opens Cx to more, short of the logarithm of H'."""
    witness = MeterCases().mint(700)
    opening = Opening(701, (witness.export_opening.blinding - 1) % SUBGROUP_ORDER)
    assert judged(replace(witness, export_opening=opening)) == {AGREED}


def test_mint_twice_in_a_slot_has_the_same_nullifier():
    """Whatever the prover may choose: note blinding, ext, a registry grown since, another leaf of the same meter."""
    cases = MeterCases()
    first = cases.mint(700)
    renewed = cases.registration(cases.home.leaf(public_key=cases.neighbour.pk, cap_export_wh=1 << 20))
    again = [cases.mint(700), cases.mint(900, registration=renewed), replace(first, note_blinding=cases.felt(), ext=5)]
    for second in again:
        assert judged(second) == set()
        assert publics_of(second).nullifier == publics_of(first).nullifier
    assert publics_of(cases.mint(700, slot=SLOT + 1)).nullifier != publics_of(first).nullifier


def test_mint_with_a_nullifier_of_choice():
    cases = MeterCases()
    witness = cases.mint(700)
    honest = publics_of(witness)
    keys = {"other period": H("per", cases.home.mk, PERIOD + 1), "other meter": H("per", cases.neighbour.mk, PERIOD)}
    others = [honest.nullifier + 1, *(H("mnt", key, SLOT) for key in keys.values()), H("buy", cases.home.mk, SLOT)]
    for nullifier in others:
        assert judged(witness, replace(honest, nullifier=nullifier)) == {NULLIFIER}


def test_mint_by_an_unregistered_meter():
    cases = MeterCases()
    witness = cases.mint(700)
    registration = replace(witness.registration, root=NoteTree([cases.felt()]).root())
    assert judged(replace(witness, registration=registration)) == {REGISTERED}
    place = replace(witness.registration.place, index=witness.registration.place.index ^ 1)
    assert judged(replace(witness, registration=replace(witness.registration, place=place))) == {REGISTERED}


def test_mint_by_a_revoked_meter():
    cases = MeterCases()
    closed = cases.registration(cases.home.leaf(to_slot=SLOT))
    assert judged(cases.mint(registration=closed)) == {NOT_ENDED}
    assert judged(cases.mint(registration=cases.registration(cases.home.leaf(to_slot=0)))) == {NOT_ENDED}


def test_mint_by_a_replaced_meter():
    """The old meter's leaf is closed where the new one's begins; neither mints the other's slots."""
    cases = MeterCases()
    registry = NoteTree([cases.home.leaf(to_slot=SLOT).digest])
    successor = replace(cases.neighbour.leaf(), public_key=cases.home.pk, from_slot=SLOT + 1)
    registry.append(successor.digest)
    old = replace(cases.registration(cases.home.leaf(to_slot=SLOT)), place=Place.in_tree(registry, 0), root=registry.root())
    assert judged(cases.mint(registration=old)) == {NOT_ENDED}
    new = replace(old, meter_secret=cases.neighbour.mk, leaf=successor, place=Place.in_tree(registry, 1))
    early = cases.mint(registration=new)
    place, root = cases.agreed(early.export_opening.point, early.import_commitment, mid=cases.neighbour.mid)
    assert judged(replace(early, slot_place=place, slot_root=root)) == {BEGAN}


def test_mint_with_a_leaf_that_was_not_registered_so():
    """Capacity, owner, microgrid or interval other than what stands in the registry."""
    cases = MeterCases()
    witness = cases.mint(700)
    for changes in ({"cap_export_wh": 2000}, {"public_key": cases.neighbour.pk}, {"microgrid": 8}, {"to_slot": SLOT + 9}):
        registration = replace(witness.registration, leaf=replace(witness.registration.leaf, **changes))
        assert judged(replace(witness, registration=registration)) == {REGISTERED}


def test_mint_from_an_unagreed_slot():
    """The meter's group did not match: its leaf is not under the slot root, or only under another slot's."""
    cases = MeterCases()
    witness = cases.mint(700)
    others = NoteTree([cases.felt(), cases.felt()])
    assert judged(replace(witness, slot_root=others.root(), slot_place=Place.in_tree(others, 0))) == {AGREED}
    assert judged(replace(witness, slot=SLOT + 1)) == {AGREED}
    assert judged(witness, replace(publics_of(witness), slot_root=others.root())) == {AGREED}


def test_mint_under_another_mid():
    """A neighbour's export with one's own registration, and one's own export with a neighbour's registration."""
    cases = MeterCases()
    witness = cases.mint(700)
    place, root = cases.agreed(witness.export_opening.point, witness.import_commitment, mid=cases.neighbour.mid)
    assert judged(replace(witness, slot_place=place, slot_root=root)) == {AGREED}
    borrowed = cases.registration(cases.neighbour.leaf(), mk=cases.home.mk)
    assert judged(replace(witness, registration=borrowed)) == {REGISTERED}
    assert judged(cases.mint(registration=cases.registration(cases.neighbour.leaf()))) == {REGISTERED}


def test_mint_with_the_neighbours_secret_only():
    """Whoever knows mk but not the registration gains nothing: the note goes to the registered owner."""
    cases = MeterCases()
    witness = cases.mint(700)
    to_other = H("cm", SUPPLY, 700, H("own", cases.neighbour.pk, witness.note_blinding))
    assert judged(witness, replace(publics_of(witness), commitment=to_other)) == {NOTE}


def test_mint_with_a_negative_commitment_opening():
    """-1 Wh as a note would be worth r - 1: neither the residue nor the scalar l - 1 passes as an energy."""
    cases = MeterCases()
    other = cases.opening(20).point
    place, root = cases.agreed(negative_point(5), other)
    witness = replace(cases.mint(), import_commitment=other, slot_place=place, slot_root=root)
    for energy in (SUBGROUP_ORDER - 1, R - 1):
        assert judged(replace(witness, export_opening=Opening(energy, 5))) >= {ENERGY, AGREED}
    # Even where the slot leaf holds what the low bits of r - 1 open, only the range stands against it.
    low = (R - 1) % (1 << 32)
    place, root = cases.agreed(babyjub.commit(low, 5), other)
    witness = replace(witness, slot_place=place, slot_root=root, export_opening=Opening(R - 1, 5))
    assert judged(witness) == {ENERGY}


def test_a_blinding_has_no_alias():
    cases = MeterCases()
    witness = cases.mint()
    place, root = cases.agreed(babyjub.commit(700, 0), witness.import_commitment)
    witness = replace(witness, slot_place=place, slot_root=root)
    assert judged(replace(witness, export_opening=Opening(700, 0))) == set()
    assert judged(replace(witness, export_opening=Opening(700, SUBGROUP_ORDER))) == {f"{BLINDING} (bit)"}
    assert judged(replace(witness, export_opening=Opening(700, 1 << 251))) == {BLINDING}


def test_an_import_is_not_minted():
    """The leaf with export and import exchanged is another leaf."""
    cases = MeterCases()
    witness = cases.mint(700)
    leaf = SlotLeaf(cases.home.mid, SLOT, witness.import_commitment, witness.export_opening.point)
    place, root = cases.place(leaf.digest)
    assert judged(replace(witness, slot_place=place, slot_root=root)) == {AGREED}


def test_mint_in_another_microgrid_or_asset():
    witness = MeterCases().mint()
    honest = publics_of(witness)
    assert judged(witness, replace(honest, microgrid=MICROGRID + 1)) == {MICROGRID_RULE}
    assert judged(witness, replace(honest, asset=SUPPLY + 4)) == {NOTE}


def test_places_and_leaves_are_well_formed():
    with pytest.raises(ValueError, match="20 siblings"):
        Place(0, (0,) * 19)
    with pytest.raises(ValueError, match="below 2\\^20"):
        Place(1 << 20, (0,) * 20)
    with pytest.raises(ValueError, match="microgrid of a registry leaf"):
        RegistryLeaf(1, 1, 1, 1, 1 << 32, 1, 1)
    with pytest.raises(IndexError):
        Place.in_tree(NoteTree([1]), 1)


# Freedom and proof


def test_the_matrices_judge_as_the_witness_builder_does(mint_system):
    cases = MeterCases()
    honest = cases.mint(700)
    unregistered = replace(honest, registration=replace(honest.registration, root=5))
    closed = cases.mint(registration=cases.registration(cases.home.leaf(to_slot=SLOT)))
    for witness in (honest, cases.mint(0), cases.mint(CAP_EXPORT + 1), unregistered, closed, replace(honest, slot=SLOT + 1)):
        assert broken_rules(mint_system, statement, witness) == judged(witness)


def test_every_wire_matters(mint_system):
    assert free_wires(mint_system, wires_of(statement, MeterCases().mint(700)), "mint") == []


@pytest.mark.slow
@pytest.mark.parametrize("export_wh", [0, 1, CAP_EXPORT])
def test_every_wire_matters_for_other_exports(mint_system, export_wh):
    wires = wires_of(statement, MeterCases().mint(export_wh))
    assert free_wires(mint_system, wires, f"mint {export_wh}") == []


def test_secrets_are_in_no_text():
    witness = MeterCases().mint()
    text = repr(witness)
    for secret in (witness.registration.meter_secret, witness.export_opening.blinding, witness.note_blinding):
        assert str(secret) not in text


@pytest.mark.native
def test_a_native_proof_is_verified_by_py_ecc(native, key_cache):
    key = ensure_keys(statement.NAME, key_cache, native)
    witness = MeterCases().mint()
    publics = publics_of(witness).as_list()
    proof = native.prover(key.path).prove(wires_of(statement, witness), R_BLIND, S_BLIND)
    assert pyecc_verify.verify(key.verifying_key, publics, proof)
    for place in range(len(publics)):
        changed = [*publics[:place], (publics[place] + 1) % R, *publics[place + 1 :]]
        assert not native.verify(key.verifying_key, changed, proof)
