"""The statement burn: a day's delivery notes are used up once, by their owner's meter, under a hidden sum."""

from dataclasses import replace
from itertools import combinations

import pytest
from zk_cases import R_BLIND, S_BLIND
from zk_judge import bit_rules, broken_quickly, broken_rules, free_wires, named_rules, wires_of
from zk_meter_cases import BAND, DAY, DELIVERY, FIRST_SLOT, MICROGRID, PERIOD, MeterCases

from openmg.zk import babyjub, pyecc_verify
from openmg.zk.assets import Kind, energy_asset
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits import burn as statement
from openmg.zk.circuits.burn import INPUTS, publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, NoteTree, named_root

REGISTERED = "the meter's leaf is under the registry root"
BEGAN, NOT_ENDED = "the registration began in time", "the registration had not ended"
OWNER = "the notes belong to the meter's owner"
ASSET = "the asset is delivered energy of the meter's microgrid"
SUM = "the sum of the notes is below 2^40"
BLINDING = "the blinding of the sum's commitment is below the subgroup's order"
TAG = "T is that of the meter's day and band"
FIRST = "input 1 is above 0"
ROOT, TREE_NUMBER = "root' names the tree number and the tree's root", "the tree number is below 2^32"
K = {f"K commits to the sum of the notes ({axis})" for axis in "xy"}
SUMS = {"a sum of points has the right x", "a sum of points has the right y"}
NUMBERS = range(1, INPUTS + 1)
LIMIT = 1 << 40


def in_tree(number):
    return f"input {number} is in the tree under root'"


@pytest.fixture(scope="module")
def burn_system():
    return CIRCUITS[statement.NAME].build()


def judged(witness, publics=None):
    return broken_quickly(statement, witness, publics)


def with_input(witness, number, **changes):
    inputs = list(witness.inputs)
    inputs[number - 1] = replace(inputs[number - 1], **changes)
    return replace(witness, inputs=tuple(inputs))


# What is accepted


@pytest.mark.parametrize("amounts", [(1,), (500, 1000, 200), (3,) * INPUTS, (LIMIT - 1,)])
def test_up_to_eight_notes_are_burned(amounts):
    assert judged(MeterCases().burn(amounts)) == set()


def test_any_part_of_the_day_in_the_registration_is_enough():
    cases = MeterCases()
    for changes in ({"from_slot": FIRST_SLOT + 95}, {"to_slot": FIRST_SLOT + 1}):
        assert judged(cases.burn(registration=cases.registration(cases.home.leaf(**changes)))) == set()


@pytest.mark.parametrize(("day", "band"), [(0, 0), (2**32 - 1, 255)])
def test_every_day_and_band_has_its_asset(day, band):
    assert judged(MeterCases().burn(asset=energy_asset(Kind.DELIVERY, MICROGRID, day, band))) == set()


def test_public_inputs_stand_in_the_documented_order():
    cases = MeterCases()
    witness = cases.burn()
    nk = H("nk", cases.home.sk)
    nullifiers = []
    for note in witness.inputs:
        cm = H("cm", DELIVERY, note.amount, H("own", cases.home.pk, note.blinding))
        nullifiers.append(H("nf", nk, cm, 3 * 2**20 + note.index))
    point = babyjub.commit(1700, witness.total_blinding)
    tag = H("brn", H("per", cases.home.mk, PERIOD), DELIVERY)
    expected = [
        named_root(3, witness.tree_root), *nullifiers, witness.registration.root, FIRST_SLOT, PERIOD, DELIVERY, *point, tag,
        witness.ext,
    ]  # fmt: skip
    assert publics_of(witness).as_list() == expected
    assert wires_of(statement, witness)[1:18] == expected and len(expected) == statement.PUBLIC_INPUTS


def test_every_rule_has_a_violation_below(burn_system):
    inputs = {rule for k in NUMBERS for rule in (in_tree(k), f"the nullifier of input {k} is right")}
    ranges = {f"the amount of input {k} is below 2^96" for k in NUMBERS}
    pairs = {f"inputs {i} and {j} are two notes" for i, j in combinations(NUMBERS, 2)}
    own = {REGISTERED, BEGAN, NOT_ENDED, OWNER, ASSET, SUM, BLINDING, TAG, FIRST, ROOT, TREE_NUMBER}
    assert named_rules(burn_system) == inputs | ranges | pairs | own | K | SUMS
    places = {f"an index bit of {name} is a bit": 20 for name in (*(f"input {k}" for k in NUMBERS), "the registry leaf")}
    widths = {TREE_NUMBER: 32, BEGAN: 32, NOT_ENDED: 32, ASSET: 40, SUM: 40, BLINDING: 251} | dict.fromkeys(ranges, 96)
    assert bit_rules(burn_system) == places | {f"{rule} (bit)": width for rule, width in widths.items()}
    assert (burn_system.n_constraints, burn_system.domain_log2) == (54_274, 16)
    assert circuit_hash(burn_system) == statement.CIRCUIT_HASH


# Attacks


def test_burn_of_another_owners_notes():
    """With one's own key they are not in the tree; with the stolen key the meter is not theirs."""
    cases = MeterCases()
    witness = cases.burn((5,))
    assert judged(replace(witness, spending_key=cases.neighbour.sk)) == {in_tree(1), OWNER}
    theirs = cases.registration(cases.neighbour.leaf(), mk=cases.neighbour.mk)
    assert judged(replace(witness, registration=theirs)) == {OWNER}
    stolen = replace(witness, registration=theirs)
    with pytest.raises(UnsatisfiedError, match=OWNER):
        statement.synthesize(WitnessBuilder(), publics_of(stolen), stolen)


@pytest.mark.parametrize(
    "asset",
    [
        pytest.param(energy_asset(Kind.DELIVERY, MICROGRID, DAY - 1, BAND), id="day"),
        pytest.param(energy_asset(Kind.DELIVERY, MICROGRID, DAY, BAND + 1), id="band"),
    ],
)
def test_burn_of_another_days_notes(asset):
    """Notes of another day or band are not found under this one's asset."""
    witness = MeterCases().burn((5,), asset=asset)
    assert judged(replace(witness, asset=DELIVERY)) == {in_tree(1)}


@pytest.mark.parametrize(
    "asset",
    [
        pytest.param(energy_asset(Kind.SUPPLY, MICROGRID, DAY, BAND), id="supply"),
        pytest.param(energy_asset(Kind.DELIVERY, MICROGRID + 1, DAY, BAND), id="next microgrid"),
        pytest.param(energy_asset(Kind.DELIVERY, MICROGRID - 1, DAY, BAND), id="microgrid before"),
        pytest.param(0, id="PETH"),
        pytest.param(DELIVERY + 1, id="kind 3"),
        pytest.param(DELIVERY - 2, id="plain"),
    ],
)
def test_burn_of_another_asset(asset):
    assert judged(MeterCases().burn((5,), asset=asset)) == {ASSET}


def test_burn_twice_in_a_day_and_band_has_the_same_tag():
    """Whatever the prover may choose: notes, u, ext, another leaf of the same meter."""
    cases = MeterCases()
    first = cases.burn((500,))
    other = cases.registration(cases.home.leaf(cap_import_wh=1))
    for second in (cases.burn((7, 8)), cases.burn(registration=other), replace(first, total_blinding=1, ext=2)):
        assert judged(second) == set()
        assert publics_of(second).tag == publics_of(first).tag
    next_band = cases.burn((500,), asset=DELIVERY + (1 << 2))
    assert publics_of(next_band).tag != publics_of(first).tag


def test_burn_with_a_tag_of_choice():
    """The period is public: under the list of public inputs without it, every period would give another T."""
    cases = MeterCases()
    witness = cases.burn((500,))
    honest = publics_of(witness)
    keys = [H("per", cases.home.mk, PERIOD + 1), H("per", cases.neighbour.mk, PERIOD), cases.home.mk]
    for tag in (honest.tag + 1, *(H("brn", key, DELIVERY) for key in keys)):
        assert judged(witness, replace(honest, tag=tag)) == {TAG}
    assert judged(witness, replace(honest, period=PERIOD + 1)) == {TAG}


def test_burn_by_an_unregistered_meter():
    cases = MeterCases()
    witness = cases.burn((5,))
    registration = replace(witness.registration, root=NoteTree([cases.felt()]).root())
    assert judged(replace(witness, registration=registration)) == {REGISTERED}
    borrowed = cases.registration(mk=cases.neighbour.mk)
    assert judged(replace(witness, registration=borrowed)) == {REGISTERED}


def test_burn_by_a_meter_that_was_not_registered_that_day():
    cases = MeterCases()
    closed = cases.registration(cases.home.leaf(to_slot=FIRST_SLOT))
    assert judged(cases.burn((5,), registration=closed)) == {NOT_ENDED}
    later = cases.registration(cases.home.leaf(from_slot=FIRST_SLOT + 96))
    assert judged(cases.burn((5,), registration=later)) == {BEGAN}


def test_burn_states_the_sum_it_proves():
    witness = MeterCases().burn((500, 1000))
    honest = publics_of(witness)
    for total in (1499, 1501, SUBGROUP_ORDER - 1500):
        stated = replace(honest, total_commitment=babyjub.commit(total, witness.total_blinding))
        assert judged(witness, stated) == K
    x, y = honest.total_commitment
    assert judged(witness, replace(honest, total_commitment=((x + 1) % R, y))) == {"K commits to the sum of the notes (x)"}
    assert judged(witness, replace(honest, total_commitment=(x, (y + 1) % R))) == {"K commits to the sum of the notes (y)"}


def test_a_sum_is_40_bits():
    witness = MeterCases().burn((LIMIT - 1, 1))
    stated = replace(publics_of(witness), total_commitment=babyjub.commit(0, witness.total_blinding))
    assert judged(witness, stated) == {SUM}


def test_a_blinding_has_no_alias():
    witness = replace(MeterCases().burn((5,)), total_blinding=0)
    honest = publics_of(witness)
    assert judged(replace(witness, total_blinding=SUBGROUP_ORDER), honest) == {f"{BLINDING} (bit)"}
    assert judged(replace(witness, total_blinding=1 << 251), honest) == {BLINDING}


# Notes


def test_notes_that_are_not_there_are_not_burned():
    witness = MeterCases().burn((10,) * INPUTS)
    notes = [replace(note, blinding=note.blinding ^ 1) for note in witness.inputs]
    assert judged(replace(witness, inputs=tuple(notes))) == set(map(in_tree, NUMBERS))
    notes = [replace(note, path=(note.path[0] + 1, *note.path[1:])) for note in witness.inputs]
    assert judged(replace(witness, inputs=tuple(notes))) == set(map(in_tree, NUMBERS))
    assert judged(with_input(witness, 5, index=witness.inputs[4].index ^ 1)) == {in_tree(5)}


def test_nullifiers_are_not_of_choice():
    witness = MeterCases().burn()
    honest = publics_of(witness)
    stated = replace(honest, nullifiers=tuple(value + 1 for value in honest.nullifiers))
    assert judged(witness, stated) == {f"the nullifier of input {k} is right" for k in NUMBERS}


def test_no_note_is_burned_twice_in_a_proof():
    witness = MeterCases().burn((10,) * INPUTS)
    same = replace(witness, inputs=(witness.inputs[0],) * INPUTS)
    assert judged(same) == {f"inputs {i} and {j} are two notes" for i, j in combinations(NUMBERS, 2)}
    twice = replace(witness, inputs=(*witness.inputs[:7], witness.inputs[2]))
    assert judged(twice) == {"inputs 3 and 8 are two notes"}


def test_amounts_are_96_bits():
    """Otherwise notes of which one is r - k would add up to little."""
    witness = MeterCases().burn((1 << 96,) * INPUTS)
    stated = replace(publics_of(witness), total_commitment=babyjub.commit(0, witness.total_blinding))
    assert judged(witness, stated) == {SUM} | {f"the amount of input {k} is below 2^96" for k in NUMBERS}
    negative = with_input(MeterCases().burn((100, 90)), 2, amount=R - 90)
    assert judged(negative, publics_of(MeterCases().burn((10,)))) >= {"the amount of input 2 is below 2^96"}


def test_the_first_input_is_real():
    cases = MeterCases()
    witness = cases.burn((10, 20))
    inputs = (witness.inputs[7], witness.inputs[1], *witness.inputs[2:7], replace(witness.inputs[7], blinding=cases.felt()))
    assert judged(replace(witness, inputs=inputs)) == {FIRST}


def test_the_tree_is_the_named_one():
    witness = MeterCases().burn((10,))
    honest = publics_of(witness)
    assert judged(witness, replace(honest, root=honest.root + 1)) == {ROOT}
    wide = replace(honest, root=H("root", 1 << 32, witness.tree_root), nullifiers=(0,) * INPUTS)
    assert judged(replace(witness, tree_number=1 << 32), wide) >= {TREE_NUMBER}


def test_a_burn_has_eight_inputs_with_whole_paths():
    witness = MeterCases().burn((10,))
    with pytest.raises(ValueError, match="8 inputs"):
        replace(witness, inputs=witness.inputs[:7])
    with pytest.raises(ValueError, match=f"{DEPTH} siblings"):
        with_input(witness, 1, path=(0,) * 19)


# Freedom and proof


def test_the_matrices_judge_as_the_witness_builder_does(burn_system):
    """Of all rows only those of two rules break for a stranger's key."""
    cases = MeterCases()
    foreign = replace(cases.burn(), spending_key=cases.neighbour.sk)
    assert broken_rules(burn_system, statement, foreign) == judged(foreign) == {OWNER, *map(in_tree, (1, 2, 3))}


def test_ext_is_bound_by_squaring(burn_system):
    """The last public wire stands in a row x * x = product; the sample below may miss it."""
    ext = statement.PUBLIC_INPUTS
    squares = [
        row
        for row in range(burn_system.n_constraints)
        if all(
            list(matrix.columns[matrix.row_start[row] : matrix.row_start[row + 1]]) == [ext]
            for matrix in (burn_system.a, burn_system.b)
        )
    ]
    assert len(squares) == 1


def test_a_sample_of_wires_matters(burn_system):
    wires = wires_of(statement, MeterCases().burn())
    assert free_wires(burn_system, wires, "burn", sample=2000) == []


@pytest.mark.slow
@pytest.mark.parametrize("amounts", [(500, 1000, 200), (3,) * INPUTS])
def test_every_wire_matters(burn_system, amounts):
    assert free_wires(burn_system, wires_of(statement, MeterCases().burn(amounts)), "burn all") == []


def test_secrets_are_in_no_text():
    witness = MeterCases().burn()
    text = repr(witness)
    for secret in (witness.registration.meter_secret, witness.spending_key, witness.total_blinding):
        assert str(secret) not in text


@pytest.mark.slow
@pytest.mark.native
def test_a_native_proof_is_verified_by_py_ecc(native, key_cache):
    """Makes a key of 74 MB, hence slow."""
    key = ensure_keys(statement.NAME, key_cache, native)
    witness = MeterCases().burn()
    publics = publics_of(witness).as_list()
    proof = native.prover(key.path).prove(wires_of(statement, witness), R_BLIND, S_BLIND)
    assert pyecc_verify.verify(key.verifying_key, publics, proof)
    for place in range(len(publics)):
        changed = [*publics[:place], (publics[place] + 1) % R, *publics[place + 1 :]]
        assert not native.verify(key.verifying_key, changed, proof)
