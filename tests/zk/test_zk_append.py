"""The statement append: batches of leaves, judged by its rules, by real proofs and by the tree in memory."""

import hashlib
import random
from dataclasses import replace

import pytest
from zk_cases import R_BLIND, S_BLIND
from zk_judge import assert_bits, bit_rules, broken_quickly, broken_rules, free_wires, named_rules, wires_of

from openmg.zk import pyecc_verify
from openmg.zk import tree as tree_module
from openmg.zk.circuits import append
from openmg.zk.circuits.append import LEAVES, MAX_BATCHES, PATH_LENGTH, AppendWitness, next_batch, publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys, make_development_key
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, EMPTY_SUBTREES, EMPTY_TREE_ROOT, NoteTree, named_root

START = "start is the place of a batch, a multiple of 16"
RIGHT = "the old tree is empty right of start"
OLD = "old root' is of a tree whose leaves at start are empty"
NEW = "new root' is of the old tree with the leaves at start"
TREE_NUMBER = "the tree number is below 2^32"


@pytest.fixture(scope="module")
def append_system():
    return CIRCUITS[append.NAME].build()


def judged(witness, publics=None):
    return broken_quickly(append, witness, publics)


def felts(count, seed=1):
    generator = random.Random(seed)
    return [generator.randrange(R) for _ in range(count)]


def batch(filled=48, count=LEAVES, tree_number=0):
    """The next batch of a tree that holds `filled` leaves."""
    return next_batch(tree_number, NoteTree(felts(filled)), felts(count, seed=2))


# What is accepted


@pytest.mark.parametrize(("filled", "tree_number"), [(0, 0), (0, 7), (16, 0), (48, 1), (112, (1 << 32) - 1)])
def test_a_batch_leads_from_the_old_tree_to_the_new_one(filled, tree_number):
    tree, leaves = NoteTree(felts(filled)), felts(LEAVES, seed=2)
    old = tree.root()
    witness = next_batch(tree_number, tree, leaves)
    tree.extend(leaves)
    expected = [named_root(tree_number, old), named_root(tree_number, tree.root()), tree_number * CAPACITY + filled, *leaves]
    assert publics_of(witness).as_list() == expected and len(expected) == append.PUBLIC_INPUTS
    assert wires_of(append, witness)[1 : 1 + len(expected)] == expected
    assert judged(witness) == set()


@pytest.mark.parametrize("count", [0, 1, 15])
def test_a_short_batch_is_padded_with_empty_leaves(count):
    tree = NoteTree(felts(16))
    witness = next_batch(0, tree, felts(count, seed=2))
    tree.extend(felts(count, seed=2))
    assert witness.leaves[count:] == (0,) * (LEAVES - count) and judged(witness) == set()
    assert publics_of(witness).new_root == named_root(0, tree.root())


def test_the_last_batch_of_a_tree():
    witness = AppendWitness(3, MAX_BATCHES - 1, tuple(felts(PATH_LENGTH)), tuple(felts(LEAVES)))
    assert publics_of(witness).start == 4 * CAPACITY - LEAVES
    assert judged(witness) == set()


def test_a_witness_of_the_wrong_shape_is_refused():
    witness = batch()
    for fields, why in (
        (dict(leaves=(0,) * 17), "16 leaves"),
        (dict(path=witness.path[1:]), "16 siblings"),
        (dict(batch=MAX_BATCHES), "no batch 65536"),
        (dict(leaves=(R, *witness.leaves[1:])), "tree node"),
    ):
        with pytest.raises(ValueError, match=why):
            replace(witness, **fields)
    with pytest.raises(ValueError, match="16 leaves"):
        next_batch(0, NoteTree(), felts(17))
    with pytest.raises(ValueError, match="no subtree of height 4 begins at leaf 17"):
        next_batch(0, NoteTree(felts(17)), felts(1))


def test_a_full_tree_takes_no_batch(monkeypatch):
    monkeypatch.setattr(tree_module, "CAPACITY", 32)
    assert next_batch(0, NoteTree(felts(16)), felts(1)).batch == 1
    with pytest.raises(tree_module.TreeFullError, match="append to the next tree"):
        next_batch(0, NoteTree(felts(32)), felts(1))


# What is refused: each cheat breaks one rule only, so it would pass without that rule.


def _stated(witness, **fields):
    return witness, replace(publics_of(witness), **fields)


def _long_tree_number():
    witness = batch()
    old, new = (H("root", 1 << 32, root) for root in _tree_roots(witness))
    return replace(witness, tree_number=1 << 32), replace(
        publics_of(witness), old_root=old, new_root=new, start=CAPACITY << 32 | 48
    )


def _tree_roots(witness):
    tree = NoteTree(felts(48))
    old = tree.root()
    tree.extend(witness.leaves)
    return old, tree.root()


def _hole_before_leaves():
    """A batch into 16 empty leaves with others behind them: the tree of a contract never has such a place."""
    tree = NoteTree([*(0,) * 16, *felts(16)])
    path = tuple(tree.path(0)[4:])
    return AppendWitness(0, 0, path, tuple(felts(LEAVES, seed=2))), None


CHEATS = {
    START: lambda: _stated(batch(), start=64),
    TREE_NUMBER: _long_tree_number,
    RIGHT: _hole_before_leaves,
    OLD: lambda: _stated(batch(), old_root=named_root(0, NoteTree(felts(47)).root())),
    NEW: lambda: _stated(batch(), new_root=publics_of(batch()).old_root),
}


@pytest.mark.parametrize("rule", CHEATS)
def test_each_rule_alone_stops_a_cheat(append_system, rule):
    witness, publics = CHEATS[rule]()
    assert judged(witness, publics) == broken_rules(append_system, append, witness, publics) == {rule}
    with pytest.raises(UnsatisfiedError) as refusal:
        append.synthesize(WitnessBuilder(), publics or publics_of(witness), witness)
    assert str(refusal.value) == f"the statement is false: {rule}"


def test_every_rule_has_its_cheat_and_every_bit_is_a_bit(append_system):
    assert named_rules(append_system) == set(CHEATS)
    assert bit_rules(append_system) == {f"{TREE_NUMBER} (bit)": 32, "a bit of the batch is a bit": PATH_LENGTH}
    for rule in bit_rules(append_system):
        assert_bits(append_system, rule)


@pytest.mark.parametrize("change", [16, -16, CAPACITY, -48])
def test_append_with_a_wrong_start_is_refused(change):
    """The contract states its own counter; a proof for another place does not hold for it."""
    witness = batch(tree_number=1)
    assert judged(*_stated(witness, start=CAPACITY + 48 + change)) == {START}


@pytest.mark.parametrize("batch_number", [0, 1, 2])
def test_append_does_not_write_over_leaves(batch_number):
    """With start and path of a filled place, the old root is not the one that the contract holds."""
    tree = NoteTree(felts(48))
    leaves = tuple(felts(LEAVES, seed=2))
    place = AppendWitness(0, batch_number, tuple(tree.path(16 * batch_number)[4:]), leaves)
    assert OLD in judged(*_stated(place, old_root=named_root(0, tree.root())))


@pytest.mark.parametrize("start", [1, 8, 47, 49, 56])
def test_a_start_that_is_not_a_multiple_of_16_is_refused(start):
    for witness in (batch(), batch(filled=start // 16 * 16)):
        assert judged(*_stated(witness, start=start)) == {START}


@pytest.mark.parametrize("height", [4, 5, 11, 19])
def test_at_index_0_the_old_root_is_the_empty_trees(height):
    """Else the first batch of a tree would bring along leaves that nobody queued, at any height."""
    path = list(EMPTY_SUBTREES[4:20])
    assert judged(AppendWitness(0, 0, tuple(path), tuple(felts(LEAVES)))) == set()
    assert publics_of(AppendWitness(0, 0, tuple(path), (0,) * 16)).old_root == named_root(0, EMPTY_TREE_ROOT)
    path[height - 4] = felts(1)[0]
    assert judged(AppendWitness(0, 0, tuple(path), tuple(felts(LEAVES)))) == {RIGHT}


def test_append_with_a_wrong_tree_number_is_refused():
    witness = batch(tree_number=1)
    honest, other = publics_of(witness), publics_of(replace(witness, tree_number=0))
    assert judged(witness, replace(honest, old_root=other.old_root)) == {OLD}
    assert judged(witness, replace(honest, new_root=other.new_root)) == {NEW}
    assert judged(witness, replace(honest, start=other.start)) == {START}
    assert judged(replace(witness, tree_number=0), honest) == {START, OLD, NEW}


def test_a_start_has_no_alias():
    """Tree n at batch 2^16 would be tree n + 1 at batch 0; a batch has 16 bits."""
    witness = batch(filled=0, tree_number=1)
    shifted = replace(witness, tree_number=0)
    publics = replace(publics_of(shifted), start=CAPACITY)
    assert judged(shifted, publics) == {START}
    assert judged(witness) == set()


@pytest.mark.parametrize("place", [0, 7, 15])
def test_the_leaves_are_the_queued_ones_in_order(place):
    witness = batch()
    honest = publics_of(witness)
    leaves = list(witness.leaves)
    leaves[place] += 1
    assert judged(witness, replace(honest, leaves=tuple(leaves))) == {NEW}
    leaves = list(witness.leaves)
    leaves[place], leaves[place - 1] = leaves[place - 1], leaves[place]
    assert judged(witness, replace(honest, leaves=tuple(leaves))) == {NEW}


@pytest.mark.parametrize("filled", [0, 80])
def test_every_wire_matters(append_system, filled):
    assert free_wires(append_system, wires_of(append, batch(filled, tree_number=5)), filled) == []


# Proofs


@pytest.fixture(scope="module")
def append_key(native, key_cache):
    return ensure_keys(append.NAME, key_cache, native)


@pytest.fixture(scope="module")
def append_proof(append_key, native):
    witness = batch(tree_number=2)
    return publics_of(witness), native.prover(append_key.path).prove(wires_of(append, witness), R_BLIND, S_BLIND)


def test_the_circuit_is_the_written_down_one(append_system):
    assert circuit_hash(append_system) == append.CIRCUIT_HASH
    assert (append_system.n_constraints, append_system.n_wires, append_system.n_public, append_system.domain_log2) == (
        12007, 12024, append.PUBLIC_INPUTS, 14,
    )  # fmt: skip


@pytest.mark.slow
def test_portable_keys_are_the_written_down_ones(portable):
    data = make_development_key(CIRCUITS[append.NAME], portable)
    assert hashlib.sha256(data).digest() == append.DEVELOPMENT_KEY_SHA256


@pytest.mark.native
def test_py_ecc_accepts_an_honest_proof(append_key, append_proof):
    publics, proof = append_proof
    assert append_key.sha256 == append.DEVELOPMENT_KEY_SHA256
    assert pyecc_verify.verify(append_key.verifying_key, publics.as_list(), proof)


@pytest.mark.native
def test_no_public_input_can_be_changed_under_a_proof(append_key, append_proof, native):
    publics, proof = append_proof
    stated = publics.as_list()
    assert native.verify(append_key.verifying_key, stated, proof)
    for k in range(len(stated)):
        changed = [value + (i == k) for i, value in enumerate(stated)]
        assert not native.verify(append_key.verifying_key, changed, proof)
    next_place = replace(publics, start=publics.start + LEAVES).as_list()
    assert not native.verify(append_key.verifying_key, next_place, proof)
