"""The statement commit: both commitments of a slot open to energies that exist."""

from dataclasses import replace

import pytest
from zk_cases import R_BLIND, S_BLIND
from zk_judge import bit_rules, broken_rules, free_wires, named_rules, wires_of
from zk_meter_cases import MeterCases

from openmg.zk import babyjub, pyecc_verify
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits import commit as statement
from openmg.zk.circuits.commit import CommitPublics, CommitWitness, publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.meters import Opening
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash

SIDES = ("export", "import")
SUM_X, SUM_Y = "a sum of points has the right x", "a sum of points has the right y"
LIMIT = 1 << 32


def energy_rule(side):
    return f"the committed {side} is below 2^32"


def blinding_rule(side):
    return f"the blinding of the {side} commitment is below the subgroup's order"


def point_rules(side):
    return {f"the {side} commitment's {axis} is right" for axis in "xy"}


@pytest.fixture(scope="module")
def commit_system():
    return CIRCUITS[statement.NAME].build()


@pytest.fixture
def judged(commit_system):
    return lambda witness, publics=None: broken_rules(commit_system, statement, witness, publics)


def committed(export_wh=700, import_wh=1234) -> CommitWitness:
    cases = MeterCases()
    return CommitWitness(cases.opening(export_wh), cases.opening(import_wh), cases.felt())


def with_opening(witness, side, opening):
    return replace(witness, **{f"{side}_opening": opening})


@pytest.mark.parametrize("energies", [(0, 0), (700, 1234), (LIMIT - 1, LIMIT - 1)])
def test_energies_of_32_bits_are_accepted(judged, energies):
    assert judged(committed(*energies)) == set()


@pytest.mark.parametrize("blinding", [0, 1, SUBGROUP_ORDER - 1])
def test_every_blinding_below_the_order_is_accepted(judged, blinding):
    assert judged(CommitWitness(Opening(5, blinding), Opening(0, blinding), 7)) == set()


def test_public_inputs_stand_in_the_documented_order():
    witness = committed()
    one, other = witness.export_opening, witness.import_opening
    points = [*babyjub.commit(700, one.blinding), *babyjub.commit(1234, other.blinding)]
    assert publics_of(witness).as_list() == [*points, witness.ext]
    assert wires_of(statement, witness)[1:6] == publics_of(witness).as_list()


def test_every_rule_has_a_violation_below(commit_system):
    own = {rule(side) for side in SIDES for rule in (energy_rule, blinding_rule)}
    assert named_rules(commit_system) == own | point_rules("export") | point_rules("import") | {SUM_X, SUM_Y}
    assert bit_rules(commit_system) == {
        f"{rule(side)} (bit)": count for side in SIDES for rule, count in ((energy_rule, 32), (blinding_rule, 251))
    }
    assert (commit_system.n_constraints, commit_system.domain_log2) == (2491, 12)
    assert circuit_hash(commit_system) == statement.CIRCUIT_HASH


@pytest.mark.parametrize("side", SIDES)
def test_energies_end_at_32_bits(judged, side):
    """2^32 Wh under the commitment to 0 that its low bits make, then under its own commitment."""
    witness = committed(0, 0)
    opening = getattr(witness, f"{side}_opening")
    assert judged(with_opening(witness, side, replace(opening, energy_wh=LIMIT)), publics_of(witness)) == {energy_rule(side)}
    honest = with_opening(witness, side, replace(opening, energy_wh=LIMIT))
    assert judged(honest) == {energy_rule(side)} | point_rules(side)
    with pytest.raises(UnsatisfiedError, match="is below 2\\^32"):
        statement.synthesize(WitnessBuilder(), publics_of(honest), honest)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("energy", [-1, -700, -LIMIT])
def test_a_negative_commitment_cannot_be_opened(judged, side, energy):
    """A group sums to what the feeder says if one member commits to -1 and another to 1 more."""
    witness = committed()
    opening = replace(getattr(witness, f"{side}_opening"), energy_wh=SUBGROUP_ORDER + energy)
    cheat = with_opening(witness, side, opening)
    assert judged(cheat) >= point_rules(side) | {energy_rule(side)}
    # Neither does the residue modulo r, whatever point is stated.
    publics = publics_of(cheat)
    assert energy_rule(side) in judged(with_opening(witness, side, replace(opening, energy_wh=R + energy)), publics)


@pytest.mark.parametrize("side", SIDES)
def test_a_blinding_has_no_alias(judged, side):
    """A blinding of l makes the point of a blinding of 0, and one of 2^251 has the low bits of 0."""
    witness = with_opening(committed(), side, Opening(700, 0))
    publics = publics_of(witness)
    alias = with_opening(witness, side, Opening(700, SUBGROUP_ORDER))
    assert judged(alias, publics) == {f"{blinding_rule(side)} (bit)"}
    wide = with_opening(witness, side, Opening(700, 1 << 251))
    assert judged(wide, publics) == {blinding_rule(side)}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_commitment_is_not_of_choice(judged, side, axis):
    witness = committed()
    honest = publics_of(witness)
    point = list(getattr(honest, f"{side}_commitment"))
    point[axis] = (point[axis] + 1) % R
    stated = replace(honest, **{f"{side}_commitment": tuple(point)})
    assert judged(witness, stated) == {f"the {side} commitment's {'xy'[axis]} is right"}


def test_the_commitments_are_not_exchanged(judged):
    witness = committed()
    honest = publics_of(witness)
    swapped = CommitPublics(honest.import_commitment, honest.export_commitment, honest.ext)
    assert judged(witness, swapped) == point_rules("export") | point_rules("import")


@pytest.mark.parametrize("energies", [(0, 0), (700, 1234)])
def test_every_wire_matters(commit_system, energies):
    """Among them the coordinates of every partial sum, which only the rules about sums of points hold."""
    assert free_wires(commit_system, wires_of(statement, committed(*energies)), str(energies)) == []


def test_openings_are_in_no_text():
    witness = committed()
    assert str(witness.export_opening.blinding) not in repr(witness)


@pytest.mark.native
def test_a_native_proof_is_verified_by_py_ecc(native, key_cache):
    key = ensure_keys(statement.NAME, key_cache, native)
    witness = committed()
    publics = publics_of(witness).as_list()
    proof = native.prover(key.path).prove(wires_of(statement, witness), R_BLIND, S_BLIND)
    assert pyecc_verify.verify(key.verifying_key, publics, proof)
    for place in range(len(publics)):
        changed = [*publics[:place], (publics[place] + 1) % R, *publics[place + 1 :]]
        assert not native.verify(key.verifying_key, changed, proof)
