"""The statement exit: what it accepts, and everything it must refuse, judged by its rules and by real proofs."""

import hashlib
from dataclasses import replace

import pytest
from zk_cases import R_BLIND, S_BLIND, Cases
from zk_judge import assert_bits, bit_rules, broken_quickly, broken_rules, free_wires, named_rules, wires_of

from openmg.hashing import keccak256, words
from openmg.zk import pyecc_verify
from openmg.zk.assets import Kind, energy_asset, token_asset
from openmg.zk.circuits import exit as statement
from openmg.zk.circuits.exit import ExitWitness, publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys, make_development_key
from openmg.zk.notes import Note, SpendingKey
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash
from openmg.zk.spend import OwnedNote, SpendError, exit_witness
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, DEPTH, named_root, position

LIMIT = 1 << 96
RECIPIENT = int.from_bytes(b"\xaa" * 20, "big")
IN_TREE = "the note is in the tree under root'"
NULLIFIER = "the nullifier of the note is right"
ROOT = "root' names the tree number and the tree's root"
PLAIN = "the asset is plain, 4 id with id below 2^160"
AMOUNT = "the amount is below 2^96"
TREE_NUMBER = "the tree number is below 2^32"
SUPPLY = energy_asset(Kind.SUPPLY, 1, 20_000, 2)
DELIVERY = energy_asset(Kind.DELIVERY, 1, 20_000, 2)


@pytest.fixture(scope="module")
def exit_system():
    return CIRCUITS[statement.NAME].build()


def judged(witness, publics=None):
    return broken_quickly(statement, witness, publics)


def leaving(cases, note=None, ext=99):
    """The witness that takes the first note (or the given one) of an owner to the root chain."""
    note = note or cases.notes[0]
    return ExitWitness(cases.sk, cases.asset, cases.tree_number, cases.tree.root(), note, RECIPIENT, ext)


# What is accepted


@pytest.mark.parametrize("asset", [0, token_asset(b"\xff" * 20)])
@pytest.mark.parametrize("tree_number", [0, 1, (1 << 32) - 1])
@pytest.mark.parametrize("place", [0, 1])
def test_an_owned_plain_note_leaves(asset, tree_number, place):
    cases = Cases(asset=asset, tree_number=tree_number)
    assert judged(leaving(cases, cases.notes[place])) == set()


@pytest.mark.parametrize("amount", [0, 1, LIMIT - 1])
def test_a_note_of_any_amount_leaves(amount):
    assert judged(leaving(Cases(amounts=(amount, 1)))) == set()


def test_public_inputs_stand_in_the_documented_order():
    cases = Cases(asset=token_asset(b"\x05" * 20), tree_number=3)
    witness = leaving(cases)
    note = Note(cases.asset, 70, cases.pk, cases.notes[0].blinding)
    nullifier = note.nullifier(H("nk", cases.sk), 3, cases.notes[0].index)
    expected = [named_root(3, cases.tree.root()), nullifier, RECIPIENT, cases.asset, 70, 99]
    assert publics_of(witness).as_list() == expected
    assert wires_of(statement, witness)[1:7] == expected and len(expected) == statement.PUBLIC_INPUTS


def test_a_wallets_note_becomes_a_witness():
    cases = Cases()
    key = SpendingKey(cases.sk, b"\1" * 32)
    first = cases.notes[0]
    owned = OwnedNote(Note(0, 70, cases.pk, first.blinding), first.index)
    witness = exit_witness(key, 0, cases.tree, owned, recipient=RECIPIENT, ext=99)
    assert witness == leaving(cases) and judged(witness) == set()
    with pytest.raises(SpendError, match="another owner"):
        exit_witness(SpendingKey(5, b"\1" * 32), 0, cases.tree, owned, recipient=RECIPIENT, ext=99)


def test_a_witness_of_the_wrong_shape_is_refused():
    witness = leaving(Cases())
    with pytest.raises(ValueError, match=f"{DEPTH} siblings"):
        replace(witness, note=replace(witness.note, path=witness.note.path[1:]))
    with pytest.raises(ValueError, match="recipient"):
        replace(witness, recipient=R)


# What is refused: each cheat breaks one rule only, so it would pass without that rule.


def _second_nullifier_of_an_older_tree():
    cases = Cases(tree_number=1)
    witness = leaving(cases)
    shifted = replace(witness, tree_number=0)
    return shifted, replace(publics_of(shifted), root=publics_of(witness).root)


def _long_tree_number():
    witness = leaving(Cases())
    nk, cm = H("nk", witness.spending_key), _commitment(witness)
    root, place = H("root", 1 << 32, witness.tree_root), CAPACITY << 32 | witness.note.index
    publics = replace(publics_of(witness), root=root, nullifier=H("nf", nk, cm, place))
    return replace(witness, tree_number=1 << 32), publics


def _commitment(witness):
    partial = H("own", H("pk", witness.spending_key), witness.note.blinding)
    return H("cm", witness.asset, witness.note.amount, partial)


def _other_nullifier():
    witness = leaving(Cases())
    return witness, replace(publics_of(witness), nullifier=publics_of(witness).nullifier + 1)


def _note_outside_the_tree():
    cases = Cases()
    return leaving(cases, replace(cases.notes[0], amount=71)), None


CHEATS = {
    PLAIN: lambda: (leaving(Cases(asset=SUPPLY)), None),
    AMOUNT: lambda: (leaving(Cases(amounts=(LIMIT, 1))), None),
    TREE_NUMBER: _long_tree_number,
    ROOT: _second_nullifier_of_an_older_tree,
    IN_TREE: _note_outside_the_tree,
    NULLIFIER: _other_nullifier,
}


@pytest.mark.parametrize("rule", CHEATS)
def test_each_rule_alone_stops_a_cheat(exit_system, rule):
    witness, publics = CHEATS[rule]()
    assert judged(witness, publics) == broken_rules(exit_system, statement, witness, publics) == {rule}
    with pytest.raises(UnsatisfiedError) as refusal:
        statement.synthesize(WitnessBuilder(), publics or publics_of(witness), witness)
    assert str(refusal.value) == f"the statement is false: {rule}"


def test_every_rule_has_its_cheat_and_every_bit_is_a_bit(exit_system):
    assert named_rules(exit_system) == set(CHEATS)
    assert bit_rules(exit_system) == {
        f"{PLAIN} (bit)": 160,
        f"{AMOUNT} (bit)": 96,
        f"{TREE_NUMBER} (bit)": 32,
        "an index bit of the note is a bit": DEPTH,
    }
    for rule in bit_rules(exit_system):
        assert_bits(exit_system, rule)


@pytest.mark.parametrize("asset", [SUPPLY, DELIVERY, 1, 2, 3, ((1 << 160) - 1 << 2) + 1, R - 4])
def test_energy_does_not_leave(asset):
    assert judged(leaving(Cases(asset=asset))) == {PLAIN}


def test_an_asset_id_is_160_bits():
    assert judged(leaving(Cases(asset=((1 << 160) - 1) << 2))) == set()
    assert judged(leaving(Cases(asset=1 << 162))) == {PLAIN}


def test_an_energy_note_does_not_pass_as_a_plain_one():
    witness = leaving(Cases(asset=SUPPLY))
    assert judged(replace(witness, asset=SUPPLY - 1)) == {IN_TREE}


@pytest.mark.parametrize("amount", [LIMIT, R - 1])
def test_an_amount_is_96_bits(amount):
    assert judged(leaving(Cases(amounts=(amount, 1)))) == {AMOUNT}


@pytest.mark.parametrize("change", [1, -1])
def test_the_amount_is_the_notes(change):
    cases = Cases()
    assert judged(leaving(cases, replace(cases.notes[0], amount=70 + change))) == {IN_TREE}


def test_a_dummy_input_does_not_exit():
    """The transfer's waiver for amount 0 would put worthless exits in front of real ones."""
    cases = Cases()
    assert judged(leaving(cases, cases.dummy())) == {IN_TREE}


def test_a_note_leaves_only_with_its_key():
    assert judged(replace(leaving(Cases()), spending_key=12345)) == {IN_TREE}


def test_a_path_must_lead_to_the_root():
    cases = Cases()
    note = cases.notes[0]
    for height in (0, DEPTH - 1):
        path = [sibling + (k == height) for k, sibling in enumerate(note.path)]
        assert judged(leaving(cases, replace(note, path=tuple(path)))) == {IN_TREE}
    assert judged(leaving(cases, replace(note, index=note.index ^ 1))) == {IN_TREE}


def test_another_owners_nullifier_key_is_of_no_use():
    cases = Cases()
    witness = leaving(cases)
    nullifier = H("nf", H("nk", 12345), _commitment(witness), witness.note.index)
    assert judged(witness, replace(publics_of(witness), nullifier=nullifier)) == {NULLIFIER}


@pytest.mark.parametrize("alias", ["index + 2^20", "tree 0"])
def test_an_index_has_no_alias(alias):
    """Another number for the same leaf would give a second nullifier, hence a second exit of one note."""
    cases = Cases(tree_number=1)
    witness, index = leaving(cases), cases.notes[0].index
    place = {"index + 2^20": position(2, index), "tree 0": index}[alias]
    nullifier = H("nf", H("nk", cases.sk), _commitment(witness), place)
    assert judged(witness, replace(publics_of(witness), nullifier=nullifier)) == {NULLIFIER}


def test_a_wrong_tree_number_is_refused():
    witness = leaving(Cases(tree_number=1))
    honest = publics_of(witness)
    assert judged(witness, replace(honest, root=named_root(0, witness.tree_root))) == {ROOT}
    assert judged(replace(witness, tree_number=0), honest) == {ROOT, NULLIFIER}


def test_every_wire_matters(exit_system):
    assert free_wires(exit_system, wires_of(statement, leaving(Cases(tree_number=5))), "exit") == []


# Proofs


@pytest.fixture(scope="module")
def exit_key(native, key_cache):
    return ensure_keys(statement.NAME, key_cache, native)


def _ext(root_contract, chain_id=1):
    """As the statements say: keccak256 modulo p over chain, contract and the rest of the call."""
    return int.from_bytes(keccak256(words(keccak256(b"test.exit"), chain_id, root_contract, RECIPIENT)), "big") % R


@pytest.fixture(scope="module")
def exit_proof(exit_key, native):
    witness = leaving(Cases(tree_number=2), ext=_ext(b"\x01" * 20))
    return publics_of(witness), native.prover(exit_key.path).prove(wires_of(statement, witness), R_BLIND, S_BLIND)


def test_the_circuit_is_the_written_down_one(exit_system):
    assert circuit_hash(exit_system) == statement.CIRCUIT_HASH
    assert (exit_system.n_constraints, exit_system.n_wires, exit_system.n_public, exit_system.domain_log2) == (
        6642, 6667, statement.PUBLIC_INPUTS, 13,
    )  # fmt: skip


@pytest.mark.slow
def test_portable_keys_are_the_written_down_ones(portable):
    data = make_development_key(CIRCUITS[statement.NAME], portable)
    assert hashlib.sha256(data).digest() == statement.DEVELOPMENT_KEY_SHA256


@pytest.mark.native
def test_py_ecc_accepts_an_honest_proof(exit_key, exit_proof):
    publics, proof = exit_proof
    assert exit_key.sha256 == statement.DEVELOPMENT_KEY_SHA256
    assert pyecc_verify.verify(exit_key.verifying_key, publics.as_list(), proof)


@pytest.mark.native
def test_no_public_input_can_be_changed_under_a_proof(exit_key, exit_proof, native):
    publics, proof = exit_proof
    stated = publics.as_list()
    assert native.verify(exit_key.verifying_key, stated, proof)
    for k in range(len(stated)):
        changed = [value + (i == k) for i, value in enumerate(stated)]
        assert not native.verify(exit_key.verifying_key, changed, proof)


@pytest.mark.native
def test_an_exit_proof_replayed_on_another_root_contract_fails(exit_key, exit_proof, native):
    """Contract and chain are in ext; neither is a free number of the proof."""
    publics, proof = exit_proof
    for ext, valid in ((_ext(b"\x01" * 20), True), (_ext(b"\x02" * 20), False), (_ext(b"\x01" * 20, chain_id=2), False)):
        assert native.verify(exit_key.verifying_key, replace(publics, ext=ext).as_list(), proof) is valid
