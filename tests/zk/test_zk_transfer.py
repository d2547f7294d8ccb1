"""The transfer statement: what it accepts, and everything it must refuse, judged by the matrices."""

from dataclasses import replace

import pytest
from zk_cases import SHAPES, Cases, assignment, broken_rule, with_inputs, with_outputs
from zk_judge import assert_bits, broken_by, free_wires

from openmg.zk.assets import Kind, energy_asset, token_asset
from openmg.zk.circuits import transfer
from openmg.zk.circuits.transfer import TransferOutput, publics_of
from openmg.zk.field import R
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, DEPTH, named_root

LIMIT = 1 << 96
SUPPLY = energy_asset(Kind.SUPPLY, 1, 20_000, 2)
DELIVERY = energy_asset(Kind.DELIVERY, 1, 20_000, 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("asset", [0, token_asset(b"\xff" * 20)])
def test_every_shape_is_accepted(system, shape, asset):
    assert broken_rule(system, getattr(Cases(asset=asset), shape)()) is None


@pytest.mark.parametrize("tree_number", [1, (1 << 32) - 1])
def test_later_trees_are_accepted(system, tree_number):
    assert broken_rule(system, Cases(tree_number=tree_number).transfer()) is None


@pytest.mark.parametrize("asset", [SUPPLY, DELIVERY])
@pytest.mark.parametrize("shape", ["transfer", "unshield"])
def test_energy_notes_move_to_their_owner(system, asset, shape):
    assert broken_rule(system, getattr(Cases(asset=asset), shape)()) is None


def test_the_public_asset_shows_only_with_public_value():
    asset = token_asset(b"\x01" * 20)
    cases = Cases(asset=asset)
    shown = [publics_of(getattr(cases, shape)()).asset for shape in SHAPES]
    assert shown == [0, asset, asset]


def test_public_inputs_stand_in_the_documented_order():
    witness = Cases().unshield()
    publics = publics_of(witness)
    assert publics.as_list() == [
        named_root(0, witness.tree_root), *publics.nullifiers, *publics.commitments, 0, 0, 50, witness.ext,
    ]  # fmt: skip
    assert assignment(witness)[1:10] == publics.as_list() and len(publics.as_list()) == transfer.PUBLIC_INPUTS


# Value


def test_outputs_cannot_be_inflated(system):
    witness = Cases().transfer()
    first, second = witness.outputs
    inflated = with_outputs(witness, replace(first, amount=first.amount + 1), second)
    assert broken_rule(system, inflated) == "what comes in goes out"
    with pytest.raises(UnsatisfiedError, match="what comes in goes out"):
        transfer.synthesize(WitnessBuilder(), publics_of(inflated), inflated)


def test_an_output_cannot_be_negative(system):
    cases = Cases()
    witness = with_outputs(cases.transfer(), cases.out(cases.total + 1), cases.out(R - 1))
    assert broken_rule(system, witness) == "the amount of output 2 is below 2^96"


def test_amounts_end_at_96_bits(system):
    cases = Cases(amounts=(LIMIT - 1, 1))
    largest = with_outputs(cases.transfer(), cases.out(LIMIT - 1), cases.out(1))
    too_large = with_outputs(cases.transfer(), cases.out(LIMIT), cases.out(0))
    assert broken_rule(system, largest) is None
    assert broken_rule(system, too_large) == "the amount of output 1 is below 2^96"


@pytest.mark.parametrize("place", [1, 2])
def test_an_input_cannot_be_out_of_range(system, place):
    cases = Cases(amounts=(LIMIT, 1) if place == 1 else (1, LIMIT))
    witness = with_outputs(cases.transfer(), cases.out(LIMIT - 1), cases.out(2))
    assert broken_rule(system, witness) == f"the amount of input {place} is below 2^96"


@pytest.mark.parametrize(("name", "rule"), [("public_in", "public in"), ("public_out", "public out")])
def test_public_value_is_96_bits(system, name, rule):
    witness = Cases().transfer()
    for value in (LIMIT, R - 1):
        assert broken_rule(system, replace(witness, **{name: value})) == f"{rule} is below 2^96"


def test_value_goes_in_or_out_not_both(system):
    cases = Cases()
    witness = replace(cases.transfer(), public_in=5, public_out=5)
    assert broken_rule(system, witness) == "public in or public out is 0"


# Ownership, place, nullifiers


def test_one_note_cannot_be_both_inputs(system):
    cases = Cases()
    note = cases.notes[0]
    witness = with_outputs(with_inputs(cases.transfer(), note, note), cases.out(140), cases.out(0))
    assert broken_rule(system, witness) == "inputs 1 and 2 are two notes"


def test_a_note_is_spent_only_with_its_key(system):
    witness = replace(Cases().transfer(), spending_key=12345)
    assert broken_rule(system, witness) == "input 1 is in the tree under root'"


def test_a_path_must_lead_to_the_root(system):
    cases = Cases()
    first, second = cases.notes
    path = (first.path[0] + 1, *first.path[1:])
    assert broken_rule(system, with_inputs(cases.transfer(), replace(first, path=path), second)) == (
        "input 1 is in the tree under root'"
    )
    assert broken_rule(system, with_inputs(cases.transfer(), first, replace(second, index=second.index ^ 1))) == (
        "input 2 is in the tree under root'"
    )


def test_another_asset_does_not_open_the_notes(system):
    witness = replace(Cases().transfer(), asset=token_asset(b"\x02" * 20))
    assert broken_rule(system, witness) == "input 1 is in the tree under root'"


def test_an_amount_does_not_open_another_note(system):
    cases = Cases()
    first, second = cases.notes
    witness = with_outputs(
        with_inputs(cases.transfer(), replace(first, amount=first.amount + 1), second), cases.out(101), cases.out(0)
    )
    assert broken_rule(system, witness) == "input 1 is in the tree under root'"


@pytest.mark.parametrize("place", [1, 2])
def test_nullifiers_and_commitments_are_not_of_choice(system, place):
    """Another nullifier would spend a note again, another commitment would be a note of any amount."""
    witness = Cases().transfer()
    honest = publics_of(witness)
    for name, rule in (("nullifiers", "the nullifier of input"), ("commitments", "the commitment of output")):
        values = list(getattr(honest, name))
        values[place - 1] += 1
        assert broken_rule(system, witness, replace(honest, **{name: tuple(values)})) == f"{rule} {place} is right"


@pytest.mark.parametrize("alias", ["index", "tree"])
def test_a_position_has_no_alias(system, alias):
    """The place index + 2^20 of tree n - 1 has the number of index in tree n; neither may give a second nullifier."""
    cases = Cases(tree_number=1)
    witness, first = cases.transfer(), cases.notes[0]
    cm = H("cm", 0, first.amount, H("own", cases.pk, first.blinding))
    nk = H("nk", cases.sk)
    places = {"index": first.index + 2 * CAPACITY, "tree": first.index}
    honest = publics_of(witness)
    publics = replace(honest, nullifiers=(H("nf", nk, cm, places[alias]), honest.nullifiers[1]))
    assert broken_rule(system, witness, publics) == "the nullifier of input 1 is right"
    shifted = replace(witness, tree_number=0)
    assert broken_rule(system, shifted, honest) == "root' names the tree number and the tree's root"


def test_a_tree_number_is_32_bits(system):
    witness = Cases().transfer()
    number = 1 << 32
    publics = replace(publics_of(witness), root=H("root", number, witness.tree_root))
    assert broken_rule(system, replace(witness, tree_number=number), publics) == "the tree number is below 2^32"


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ("an index bit of input 1 is a bit", DEPTH),
        ("an index bit of input 2 is a bit", DEPTH),
        ("the low bit of the asset's kind is a bit", 1),
        ("the high bit of the asset's kind is a bit", 1),
        ("the asset's id is below 2^160 (bit)", 160),
        ("the tree number is below 2^32 (bit)", 32),
        ("public in is below 2^96 (bit)", 96),
        ("public out is below 2^96 (bit)", 96),
        ("the amount of input 1 is below 2^96 (bit)", 96),
        ("the amount of input 2 is below 2^96 (bit)", 96),
        ("the amount of output 1 is below 2^96 (bit)", 96),
        ("the amount of output 2 is below 2^96 (bit)", 96),
    ],
)
def test_what_must_be_a_bit_is_a_bit(system, rule, count):
    assert system.rules.count(rule) == count
    assert_bits(system, rule)


def test_a_dummy_comes_first_only_with_value_in(system):
    cases = Cases()
    second = cases.notes[1]
    witness = with_outputs(with_inputs(cases.transfer(), cases.dummy(), second), cases.out(30), cases.out(0))
    assert broken_rule(system, witness) == "input 1 is above 0 unless value comes in"
    funded = with_outputs(replace(witness, public_in=4), cases.out(34), cases.out(0))
    assert broken_rule(system, funded) is None


def test_a_dummy_needs_no_place_but_a_real_note_does(system):
    cases = Cases()
    ghost = replace(cases.dummy(), amount=5)
    witness = with_outputs(with_inputs(cases.transfer(), cases.notes[0], ghost), cases.out(75), cases.out(0))
    assert broken_rule(system, witness) == "input 2 is in the tree under root'"


# Assets


def test_kind_3_does_not_exist(system):
    assert broken_rule(system, Cases(asset=3).transfer()) == "kind 3 does not exist"


def test_an_id_is_160_bits(system):
    assert broken_rule(system, Cases(asset=((1 << 160) - 1) << 2).transfer()) is None
    assert broken_rule(system, Cases(asset=1 << 162).transfer()) == "the asset's id is below 2^160"


@pytest.mark.parametrize("asset", [SUPPLY, DELIVERY])
def test_energy_does_not_come_in_by_public_value(system, asset):
    assert broken_rule(system, Cases(asset=asset).shield_in()) == "energy enters by no public value"


@pytest.mark.parametrize("asset", [SUPPLY, DELIVERY])
@pytest.mark.parametrize("place", [0, 1])
def test_energy_stays_with_its_owner(system, asset, place):
    cases = Cases(asset=asset)
    outputs = [cases.out(60), cases.out(40)]
    outputs[place] = replace(outputs[place], public_key=cases.other_pk)
    rule = f"output {place + 1} is an energy note and stays with its owner"
    assert broken_rule(system, with_outputs(cases.transfer(), *outputs)) == rule


def test_even_an_empty_energy_output_stays_with_its_owner(system):
    cases = Cases(asset=SUPPLY)
    outputs = (cases.out(100), TransferOutput(0, cases.other_pk, 7))
    assert broken_rule(system, with_outputs(cases.transfer(), *outputs)) is not None


@pytest.mark.parametrize("shape", SHAPES)
def test_the_public_asset_cannot_be_chosen(system, shape):
    witness = getattr(Cases(asset=token_asset(b"\x03" * 20)), shape)()
    publics = publics_of(witness)
    rule = "the public asset is the notes' asset, or 0 when nothing is public"
    for asset in {0, witness.asset, witness.asset + 4} - {publics.asset}:
        assert broken_rule(system, witness, replace(publics, asset=asset)) == rule


@pytest.mark.parametrize("shape", ["transfer", "unshield"])
def test_whether_the_asset_shows_is_not_of_choice(system, shape):
    """With the hinted inverse and the flag set by hand: the asset cannot be hidden, nor the hint chosen."""
    wires = assignment(getattr(Cases(asset=token_asset(b"\x03" * 20)), shape)())
    flag_rule, inverse_rule = (f"the asset is shown with value in or out ({part})" for part in ("flag", "inverse"))
    row = system.rules.index(inverse_rule)
    assert system.rules[row - 2 : row] == ("product", flag_rule)
    inverse = system.a.columns[system.a.row_start[row]]
    flag = system.c.columns[system.c.row_start[row - 2]]
    asset, public_out = 6, 8
    if wires[public_out]:
        assert wires[inverse] * wires[public_out] % R == wires[flag] == 1
        wires[inverse] = wires[flag] = wires[asset] = 0
        assert broken_by(system, wires) == {flag_rule}
    else:
        assert wires[inverse] == wires[flag] == 0
        wires[inverse] = 1
        assert broken_by(system, wires) == {inverse_rule}


# Freedom


@pytest.mark.parametrize("shape", SHAPES)
def test_every_wire_matters(system, shape):
    """Changing any one wire of an honest witness breaks a constraint: nothing is left free."""
    assert free_wires(system, assignment(getattr(Cases(), shape)()), shape) == []
