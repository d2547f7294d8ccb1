"""The statement merge: what it accepts, and everything it must refuse, judged by its rules and by real proofs."""

import hashlib
import random
from dataclasses import replace
from itertools import combinations

import pytest
from zk_cases import R_BLIND, S_BLIND
from zk_judge import assert_bits, bit_rules, broken_quickly, broken_rules, free_wires, named_rules, wires_of

from openmg.zk import pyecc_verify
from openmg.zk.assets import Kind, energy_asset, token_asset
from openmg.zk.circuits import merge
from openmg.zk.circuits.joinsplit import InputNote, OutputNote
from openmg.zk.circuits.merge import INPUTS, MergeWitness, publics_of
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys, make_development_key
from openmg.zk.notes import Note, SpendingKey
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder, circuit_hash
from openmg.zk.spend import OwnedNote, SpendError, merge_witness
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, DEPTH, NoteTree, named_root, position

LIMIT = 1 << 96
TOKEN = token_asset(b"\xee" * 20)
SUPPLY = energy_asset(Kind.SUPPLY, 1, 20_000, 2)
DELIVERY = energy_asset(Kind.DELIVERY, 1, 20_000, 2)
AMOUNTS = (70, 30, 11, 13, 17, 19, 23, 29)

ROOT = "root' names the tree number and the tree's root"
SHOWN = "the public asset is the notes' asset, or 0 when nothing is public"
FUNDED = "input 1 is above 0 unless value comes in"
BALANCE = "what comes in goes out"
RETURN = "the return partial belongs to the owner of the inputs"
ENERGY_IN = "energy enters by no public value"
FLAG, INVERSE = (f"the asset is shown with value in or out ({part})" for part in ("flag", "inverse"))


class Eight:
    """An owner with eight notes between others' leaves, and somebody else."""

    def __init__(self, asset=0, tree_number=0, amounts=AMOUNTS, seed=3):
        self.random = random.Random(seed)
        self.asset, self.tree_number, self.total = asset, tree_number, sum(amounts)
        self.sk, self.other_pk = self.felt(), H("pk", self.felt())
        self.pk, self.nk = H("pk", self.sk), H("nk", self.sk)
        self.tree = NoteTree()
        blindings, places = [self.felt() for _ in amounts], []
        for amount, blinding in zip(amounts, blindings, strict=True):
            self.tree.append(self.felt())
            places.append(self.tree.append(H("cm", asset, amount, H("own", self.pk, blinding))))
        parts = zip(amounts, blindings, places, strict=True)
        self.notes = tuple(InputNote(amount, blinding, place, self.tree.path(place)) for amount, blinding, place in parts)

    def felt(self):
        return self.random.randrange(R)

    def out(self, amount, pk=None):
        return OutputNote(amount, self.pk if pk is None else pk, self.felt())

    def dummy(self, blinding=None):
        return InputNote(0, self.felt() if blinding is None else blinding, 0, (0,) * DEPTH)

    def filled(self, *notes):
        return (*notes, *(self.dummy() for _ in range(INPUTS - len(notes))))

    def witness(self, inputs=None, amounts=None, public_in=0, public_out=0):
        """All eight notes into one of somebody else (the owner for energy) and change, unless told otherwise."""
        receiver = self.other_pk if self.asset & 3 == 0 else self.pk
        first, second = amounts or (self.total - 40 - public_out, 40)
        return MergeWitness(
            self.sk, self.asset, self.tree_number, self.tree.root(), inputs or self.notes,
            (self.out(first, receiver), self.out(second)), public_in, public_out, self.felt(), self.felt(),
        )  # fmt: skip


def all_eight(cases):
    return cases.witness()


def three_and_dummies(cases):
    return cases.witness(cases.filled(*cases.notes[:3]), (111, 0))


def value_in(cases):
    return cases.witness(cases.filled(), (20, 5), public_in=25)


def order(cases):
    return cases.witness(public_out=50)


SHAPES = (all_eight, three_and_dummies, value_in, order)


@pytest.fixture(scope="module")
def merge_system():
    return CIRCUITS[merge.NAME].build()


def judged(witness, publics=None):
    return broken_quickly(merge, witness, publics)


# What is accepted


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("asset", [0, TOKEN])
def test_every_shape_is_accepted(shape, asset):
    assert judged(shape(Eight(asset, tree_number=1))) == set()


@pytest.mark.parametrize("asset", [SUPPLY, DELIVERY])
@pytest.mark.parametrize("shape", [all_eight, three_and_dummies, order])
def test_energy_notes_merge_for_their_owner(asset, shape):
    assert judged(shape(Eight(asset))) == set()


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_real_note_behind_value_in_may_stand_anywhere(place):
    cases = Eight()
    inputs = list(cases.filled())
    inputs[place] = cases.notes[place]
    assert judged(cases.witness(tuple(inputs), (AMOUNTS[place], 5), public_in=5)) == set()


def test_public_inputs_stand_in_the_documented_order():
    cases = Eight(TOKEN, tree_number=2)
    witness = order(cases)
    notes = [Note(TOKEN, note.amount, cases.pk, note.blinding) for note in cases.notes]
    pairs = zip(notes, cases.notes, strict=True)
    expected = [
        named_root(2, cases.tree.root()),
        *(note.nullifier(cases.nk, 2, placed.index) for note, placed in pairs),
        *(Note(TOKEN, out.amount, out.public_key, out.blinding).commitment for out in witness.outputs),
        TOKEN, 0, 50, witness.ext, Note(TOKEN, 0, cases.pk, witness.return_blinding).partial,
    ]  # fmt: skip
    assert publics_of(witness).as_list() == expected and len(expected) == merge.PUBLIC_INPUTS
    assert wires_of(merge, witness)[1:17] == expected


def test_the_public_asset_shows_only_with_public_value():
    assert [publics_of(shape(Eight(TOKEN))).asset for shape in SHAPES] == [0, 0, TOKEN, TOKEN]


def test_a_wallets_notes_become_a_witness():
    cases = Eight(TOKEN)
    key = SpendingKey(cases.sk, b"\1" * 32)
    owned = [OwnedNote(Note(TOKEN, note.amount, cases.pk, note.blinding), note.index) for note in cases.notes]
    made = [Note(TOKEN, 100, cases.other_pk, 5), Note(TOKEN, 6, cases.pk, 6)]
    drawn = {"asset": TOKEN, "ext": 9, "dummy_blindings": range(10, 18), "return_blinding": 7}
    witness = merge_witness(key, 0, cases.tree, owned[:3], made, **drawn, public_out=5)
    assert witness.inputs[:3] == cases.notes[:3] and [note.blinding for note in witness.inputs[3:]] == [10, 11, 12, 13, 14]
    assert judged(witness) == set()
    with pytest.raises(SpendError, match="a merge spends at most 8 notes"):
        merge_witness(key, 0, cases.tree, [*owned, owned[0]], made, **drawn)
    with pytest.raises(SpendError, match="the merge takes in 111 and gives out 106"):
        merge_witness(key, 0, cases.tree, owned[:3], made, **drawn)


def test_a_witness_of_the_wrong_shape_is_refused():
    witness = all_eight(Eight())
    for fields, why in (
        (dict(inputs=witness.inputs[:7]), "a merge has 8 inputs and 2 outputs"),
        (dict(outputs=witness.outputs[:1]), "a merge has 8 inputs and 2 outputs"),
        (dict(return_blinding=R), "return_blinding"),
        (dict(inputs=(replace(witness.inputs[0], path=()), *witness.inputs[1:])), "20 siblings"),
    ):
        with pytest.raises(ValueError, match=why):
            replace(witness, **fields)


# What is refused: each cheat breaks one rule only, so it would pass without that rule.


def _changed(place, **fields):
    """One input is another note than the one in the tree; the outputs balance."""
    cases = Eight()
    inputs = list(cases.notes)
    inputs[place - 1] = replace(inputs[place - 1], **fields)
    return cases.witness(tuple(inputs), (sum(note.amount for note in inputs), 0)), None


def _outside(place):
    return _changed(place, amount=AMOUNTS[place - 1] + 1)


def _duplicate(first, second):
    cases = Eight()
    inputs = list(cases.notes)
    inputs[second - 1] = inputs[first - 1]
    return cases.witness(tuple(inputs), (sum(note.amount for note in inputs), 0)), None


def _input_too_large(place):
    amounts = [1] * INPUTS
    amounts[place - 1] = LIMIT
    cases = Eight(amounts=amounts)
    return cases.witness(amounts=(LIMIT - 1, INPUTS)), None


def _output_too_large(place):
    cases = Eight(amounts=(LIMIT - 1, 1, *AMOUNTS[2:]))
    rest = sum(AMOUNTS[2:])
    return cases.witness(amounts=(LIMIT, rest) if place == 1 else (rest, LIMIT)), None


def _stated(place, name):
    witness = all_eight(Eight())
    honest = publics_of(witness)
    values = list(getattr(honest, name))
    values[place - 1] += 1
    return witness, replace(honest, **{name: tuple(values)})


def _foreign_energy(place):
    cases = Eight(SUPPLY)
    witness = all_eight(cases)
    outputs = list(witness.outputs)
    outputs[place - 1] = replace(outputs[place - 1], public_key=cases.other_pk)
    return replace(witness, outputs=tuple(outputs)), None


def _public_too_large(name):
    cases = Eight(amounts=(LIMIT - 1, 1, *AMOUNTS[2:]))
    if name == "public_out":
        return cases.witness(amounts=(sum(AMOUNTS[2:]), 0), public_out=LIMIT), None
    return cases.witness(cases.filled(), (LIMIT - 1, 1), public_in=LIMIT), None


def _long_tree_number():
    cases = Eight()
    witness = all_eight(cases)
    honest, number = publics_of(witness), 1 << 32
    nullifiers = [
        H("nf", cases.nk, H("cm", 0, note.amount, H("own", cases.pk, note.blinding)), number * CAPACITY + note.index)
        for note in cases.notes
    ]
    publics = replace(honest, root=H("root", number, witness.tree_root), nullifiers=tuple(nullifiers))
    return replace(witness, tree_number=number), publics


def _older_tree():
    """The nullifiers of the same leaves in an older tree would spend the notes a second time."""
    witness = all_eight(Eight(tree_number=1))
    shifted = replace(witness, tree_number=0)
    return shifted, replace(publics_of(shifted), root=publics_of(witness).root)


def _dummy_first():
    cases = Eight()
    return cases.witness((cases.dummy(), *cases.notes[1:]), (cases.total - 70, 0)), None


def _inflated():
    cases = Eight()
    return cases.witness(amounts=(cases.total, 1)), None


def _foreign_return():
    cases = Eight()
    witness = order(cases)
    return witness, replace(publics_of(witness), return_partial=H("own", cases.other_pk, witness.return_blinding))


def _other_asset_shown():
    witness = order(Eight(TOKEN))
    return witness, replace(publics_of(witness), asset=0)


CHEATS = {
    "public in is below 2^96": lambda: _public_too_large("public_in"),
    "public out is below 2^96": lambda: _public_too_large("public_out"),
    "public in or public out is 0": lambda: (replace(all_eight(Eight()), public_in=5, public_out=5), None),
    "kind 3 does not exist": lambda: (all_eight(Eight(3)), None),
    "the asset's id is below 2^160": lambda: (all_eight(Eight(1 << 162)), None),
    SHOWN: _other_asset_shown,
    ENERGY_IN: lambda: (value_in(Eight(SUPPLY)), None),
    "the tree number is below 2^32": _long_tree_number,
    ROOT: _older_tree,
    FUNDED: _dummy_first,
    BALANCE: _inflated,
    RETURN: _foreign_return,
}
for _k in range(1, INPUTS + 1):
    CHEATS[f"the amount of input {_k} is below 2^96"] = lambda k=_k: _input_too_large(k)
    CHEATS[f"input {_k} is in the tree under root'"] = lambda k=_k: _outside(k)
    CHEATS[f"the nullifier of input {_k} is right"] = lambda k=_k: _stated(k, "nullifiers")
for _k in (1, 2):
    CHEATS[f"the amount of output {_k} is below 2^96"] = lambda k=_k: _output_too_large(k)
    CHEATS[f"the commitment of output {_k} is right"] = lambda k=_k: _stated(k, "commitments")
    CHEATS[f"output {_k} is an energy note and stays with its owner"] = lambda k=_k: _foreign_energy(k)
PAIRS = {f"inputs {i} and {j} are two notes": (i, j) for i, j in combinations(range(1, INPUTS + 1), 2)}


@pytest.mark.parametrize("rule", CHEATS)
def test_each_rule_alone_stops_a_cheat(rule):
    assert judged(*CHEATS[rule]()) == {rule}


@pytest.mark.parametrize("pair", [(1, 2), (1, 8), (4, 5), (7, 8)])
def test_merge_with_duplicate_inputs_is_refused(pair):
    assert judged(*_duplicate(*pair)) == {"inputs {} and {} are two notes".format(*pair)}


def test_every_pair_of_nullifiers_differs(merge_system):
    """The row of each pair demands an inverse of nf i - nf j, which 0 has not."""
    inverses = set()
    for rule, (i, j) in PAIRS.items():
        row = merge_system.rules.index(rule)
        left, right, product = (
            {matrix.columns[k]: matrix.coefficients[k] for k in range(*matrix.row_start[row : row + 2])}
            for matrix in (merge_system.a, merge_system.b, merge_system.c)
        )
        assert left == {1 + i: 1, 1 + j: R - 1} and product == {0: 1} and list(right.values()) == [1]
        inverses |= right.keys()
    assert len(inverses) == len(PAIRS) == 28


@pytest.mark.slow
@pytest.mark.parametrize("rule", PAIRS)
def test_merge_with_any_duplicate_is_refused(rule):
    assert judged(*_duplicate(*PAIRS[rule])) == {rule}


def test_every_rule_has_its_cheat_and_every_bit_is_a_bit(merge_system):
    """The two rules of the flag are tried on the transfer, `test_whether_the_asset_shows_is_not_of_choice`."""
    assert named_rules(merge_system) == {*CHEATS, *PAIRS, FLAG, INVERSE}
    amounts = [*(f"input {k}" for k in range(1, 9)), "output 1", "output 2"]
    assert bit_rules(merge_system) == {
        "public in is below 2^96 (bit)": 96,
        "public out is below 2^96 (bit)": 96,
        "the low bit of the asset's kind is a bit": 1,
        "the high bit of the asset's kind is a bit": 1,
        "the asset's id is below 2^160 (bit)": 160,
        "the tree number is below 2^32 (bit)": 32,
        **{f"the amount of {name} is below 2^96 (bit)": 96 for name in amounts},
        **{f"an index bit of input {k} is a bit": DEPTH for k in range(1, 9)},
    }
    for rule in bit_rules(merge_system):
        assert_bits(merge_system, rule)


@pytest.mark.parametrize("rule", [RETURN, "inputs 3 and 7 are two notes"])
def test_the_matrices_refuse_what_the_builder_refuses(merge_system, rule):
    witness, publics = _duplicate(*PAIRS[rule]) if rule in PAIRS else CHEATS[rule]()
    assert broken_rules(merge_system, merge, witness, publics) == {rule}
    with pytest.raises(UnsatisfiedError) as refusal:
        merge.synthesize(WitnessBuilder(), publics or publics_of(witness), witness)
    assert str(refusal.value) == f"the statement is false: {rule}"


def test_a_dummy_needs_no_place_but_a_real_note_does():
    cases = Eight()
    ghost = replace(cases.dummy(), amount=1)
    inputs = (*cases.notes[:7], ghost)
    assert judged(cases.witness(inputs, (sum(AMOUNTS[:7]) + 1, 0))) == {"input 8 is in the tree under root'"}
    inputs = (*cases.notes[:7], replace(ghost, amount=0))
    assert judged(cases.witness(inputs, (sum(AMOUNTS[:7]), 0))) == set()


def test_dummies_need_blindings_of_their_own():
    cases = Eight()
    inputs = (*cases.notes[:6], cases.dummy(5), cases.dummy(5))
    assert judged(cases.witness(inputs, (sum(AMOUNTS[:6]), 0))) == {"inputs 7 and 8 are two notes"}
    inputs = (*cases.notes[:6], cases.dummy(5), cases.dummy(6))
    assert judged(cases.witness(inputs, (sum(AMOUNTS[:6]), 0))) == set()


def test_dummies_alone_make_nothing():
    cases = Eight()
    assert judged(cases.witness(cases.filled(), (0, 0))) == {FUNDED}
    assert judged(cases.witness(cases.filled(), (1, 0))) == {FUNDED, BALANCE}


@pytest.mark.parametrize("place", [1, 8])
@pytest.mark.parametrize("alias", ["index + 2^20", "tree 0"])
def test_an_index_has_no_alias(place, alias):
    cases = Eight(tree_number=1)
    witness, note = all_eight(cases), cases.notes[place - 1]
    number = {"index + 2^20": position(2, note.index), "tree 0": note.index}[alias]
    nullifiers = list(publics_of(witness).nullifiers)
    cm = H("cm", 0, note.amount, H("own", cases.pk, note.blinding))
    nullifiers[place - 1] = H("nf", cases.nk, cm, number)
    publics = replace(publics_of(witness), nullifiers=tuple(nullifiers))
    assert judged(witness, publics) == {f"the nullifier of input {place} is right"}


def test_a_wrong_tree_number_is_refused():
    witness = all_eight(Eight(tree_number=1))
    assert judged(witness, replace(publics_of(witness), root=named_root(0, witness.tree_root))) == {ROOT}


def test_all_inputs_lie_in_one_tree():
    """A note of an older tree cannot be merged with those of a newer one: it is moved there first."""
    older, newer = Eight(seed=3), Eight(seed=3, tree_number=1)
    newer.tree.append(1)
    inputs = (*(replace(note, path=newer.tree.path(note.index)) for note in newer.notes[:7]), older.notes[7])
    assert judged(newer.witness(inputs)) == {"input 8 is in the tree under root'"}
    inputs = tuple(replace(note, path=newer.tree.path(note.index)) for note in newer.notes)
    assert judged(newer.witness(inputs)) == set()


def test_notes_are_spent_only_with_their_key():
    witness = replace(all_eight(Eight()), spending_key=12345)
    assert judged(witness) == {f"input {k} is in the tree under root'" for k in range(1, INPUTS + 1)}


def test_another_asset_does_not_open_the_notes():
    witness = replace(all_eight(Eight()), asset=TOKEN)
    assert judged(witness) == {f"input {k} is in the tree under root'" for k in range(1, INPUTS + 1)}


def test_a_negative_output_is_refused():
    cases = Eight()
    assert judged(cases.witness(amounts=(cases.total + 1, R - 1))) == {"the amount of output 2 is below 2^96"}


def test_the_sum_may_exceed_96_bits_where_each_amount_does_not():
    cases = Eight(amounts=[LIMIT // 2] * INPUTS)
    inputs = cases.notes[:4]
    assert judged(cases.witness(cases.filled(*inputs[:3]), (LIMIT - 1, LIMIT // 2 + 1))) == set()
    assert judged(cases.witness(amounts=(LIMIT - 1, LIMIT - 1))) == {BALANCE}


@pytest.mark.parametrize("asset", [0, SUPPLY, DELIVERY])
def test_a_return_belongs_to_the_owner(asset):
    cases = Eight(asset)
    witness = order(cases)
    for blinding, pk in ((witness.return_blinding + 1, cases.pk), (witness.return_blinding, cases.other_pk)):
        publics = replace(publics_of(witness), return_partial=H("own", pk, blinding))
        assert judged(witness, publics) == {RETURN}


def test_every_wire_of_a_sample_matters(merge_system):
    wires = wires_of(merge, order(Eight(TOKEN, tree_number=5)))
    assert free_wires(merge_system, wires, "merge", sample=5_000) == []


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("asset", [0, TOKEN])
def test_every_wire_matters_in_every_shape(merge_system, shape, asset):
    assert free_wires(merge_system, wires_of(merge, shape(Eight(asset))), f"{shape.__name__} {asset}") == []


# Proofs


@pytest.fixture(scope="module")
def merge_key(native, key_cache):
    return ensure_keys(merge.NAME, key_cache, native)


@pytest.fixture(scope="module")
def merge_proof(merge_key, native):
    witness = order(Eight(SUPPLY, tree_number=2))
    return publics_of(witness), native.prover(merge_key.path).prove(wires_of(merge, witness), R_BLIND, S_BLIND)


def test_the_circuit_is_the_written_down_one(merge_system):
    assert circuit_hash(merge_system) == merge.CIRCUIT_HASH
    assert (merge_system.n_constraints, merge_system.n_wires, merge_system.n_public, merge_system.domain_log2) == (
        48720, 48882, merge.PUBLIC_INPUTS, 16,
    )  # fmt: skip


@pytest.mark.slow
def test_portable_keys_are_the_written_down_ones(portable):
    data = make_development_key(CIRCUITS[merge.NAME], portable)
    assert hashlib.sha256(data).digest() == merge.DEVELOPMENT_KEY_SHA256


@pytest.mark.native
def test_py_ecc_accepts_an_honest_proof(merge_key, merge_proof):
    publics, proof = merge_proof
    assert merge_key.sha256 == merge.DEVELOPMENT_KEY_SHA256
    assert pyecc_verify.verify(merge_key.verifying_key, publics.as_list(), proof)


@pytest.mark.native
def test_no_public_input_can_be_changed_under_a_proof(merge_key, merge_proof, native):
    publics, proof = merge_proof
    stated = publics.as_list()
    assert native.verify(merge_key.verifying_key, stated, proof)
    for k in range(len(stated)):
        changed = [value + (i == k) for i, value in enumerate(stated)]
        assert not native.verify(merge_key.verifying_key, changed, proof)
