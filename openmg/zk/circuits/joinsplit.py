"""What all statements that spend notes share: notes into notes of one asset, with value in or out in public.

The number of inputs and outputs is that of the witness. `constrain` is the whole statement of `transfer` and `merge`;
its parts are used alone where a statement spends and makes no notes. What they prove:
- pk = H(pk, sk), nk = H(nk, sk), one sk for the whole proof;
- root' = H(root, tree number, tree root); all inputs lie in this one tree, an input of amount 0 (a dummy) anywhere;
- an input's note cm = H(cm, asset, amount, H(own, pk, blinding)) leads to the tree root, and its nullifier is
  nf = H(nf, nk, cm, position) with position = tree number * 2^20 + index; the nullifiers differ pairwise;
- input 1 is real and above 0 unless public in is above 0;
- an output's commitment is right for its amount, receiver and blinding;
- sum in + public in = sum out + public out over the integers: every amount is below 2^96;
- public in or public out is 0; the public asset is the notes' asset if one of them is not 0, and else 0;
- asset = kind + 4 id, id < 2^160, kind 0 (plain), 1 (supply) or 2 (delivery); if kind is not 0, public in is 0
  and all outputs belong to pk;
- ext, the hash of everything else the transaction says, is bound by squaring.
Rule: the order of wires and constraints here is part of every circuit's hash and keys.
Source: the project's circuit statements; the joinsplit shape is Tornado Nova's published design with the nullifier key
split from the spending key. A fee is part of public out. Not here: what a contract does with public out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Generic, TypeVar

from openmg.zk import gadgets
from openmg.zk.field import require_felt
from openmg.zk.r1cs import Builder
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, TREE_NUMBER_BITS, named_root, position

S = TypeVar("S")

AMOUNT_BITS = 96
ASSET_ID_BITS = 160


@dataclass(frozen=True)
class InputNote:
    """A note to be spent and its siblings; amount 0 makes it a dummy whose index and path are not checked."""

    amount: int
    blinding: int = field(repr=False)
    index: int
    path: tuple[int, ...]


@dataclass(frozen=True)
class OutputNote:
    """A new note: amount, owner's pk, blinding."""

    amount: int
    public_key: int
    blinding: int = field(repr=False)


BLANK_INPUT = InputNote(0, 0, 0, (0,) * DEPTH)
BLANK_OUTPUT = OutputNote(0, 0, 0)


@dataclass(frozen=True)
class JoinSplitWitness:
    """Everything the prover knows; amounts in the asset's smallest unit (wei for PETH)."""

    spending_key: int = field(repr=False)
    asset: int
    tree_number: int
    tree_root: int
    inputs: tuple[InputNote, ...]
    outputs: tuple[OutputNote, ...]
    public_in: int
    public_out: int
    ext: int

    def __post_init__(self) -> None:
        for name in ("spending_key", "asset", "tree_root", "public_in", "public_out", "ext"):
            require_felt(getattr(self, name), name)
        require_paths(self.inputs)

    def require_shape(self, statement: str, inputs: int, outputs: int) -> None:
        """ValueError unless the witness has that many notes on each side."""
        if len(self.inputs) != inputs or len(self.outputs) != outputs:
            raise ValueError(f"a {statement} has {inputs} inputs and {outputs} outputs; fill up with amount 0")


def require_paths(notes: Sequence[InputNote]) -> None:
    """ValueError unless every input has as many siblings as the tree has levels."""
    if any(len(note.path) != DEPTH for note in notes):
        raise ValueError(f"the path of an input has {DEPTH} siblings")


@dataclass(frozen=True)
class JoinSplitPublics:
    """The public inputs, in their order."""

    root: int
    nullifiers: tuple[int, ...]
    commitments: tuple[int, ...]
    asset: int
    public_in: int
    public_out: int
    ext: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        return [self.root, *self.nullifiers, *self.commitments, self.asset, self.public_in, self.public_out, self.ext]


def nullifiers_of(spending_key: int, asset: int, tree_number: int, notes: Sequence[InputNote]) -> tuple[int, ...]:
    """What spending these notes publishes; ValueError for a place that does not exist."""
    pk, nk = H("pk", spending_key), H("nk", spending_key)
    commitments = [H("cm", asset, note.amount, H("own", pk, note.blinding)) for note in notes]
    places = [position(tree_number, note.index) for note in notes]
    return tuple(H("nf", nk, cm, place) for cm, place in zip(commitments, places, strict=True))


def publics_of(witness: JoinSplitWitness) -> JoinSplitPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    shown = witness.public_in or witness.public_out
    made = [H("cm", witness.asset, out.amount, H("own", out.public_key, out.blinding)) for out in witness.outputs]
    return JoinSplitPublics(
        root=named_root(witness.tree_number, witness.tree_root),
        nullifiers=nullifiers_of(witness.spending_key, witness.asset, witness.tree_number, witness.inputs),
        commitments=tuple(made),
        asset=witness.asset if shown else 0,
        public_in=witness.public_in,
        public_out=witness.public_out,
        ext=witness.ext,
    )


@dataclass(frozen=True)
class AssetSignals(Generic[S]):
    """An asset's number and the two bits of its kind, at most one of which is 1."""

    number: S
    supply: S
    delivery: S


@dataclass(frozen=True)
class SpendSignals(Generic[S]):
    """Signals that all notes of one proof share."""

    asset: S
    public_key: S
    nullifier_key: S
    tree_number: S
    tree_root: S


@dataclass(frozen=True)
class PublicSignals(Generic[S]):
    """The signals of a `JoinSplitPublics`."""

    root: S
    nullifiers: Sequence[S]
    commitments: Sequence[S]
    asset: S
    public_in: S
    public_out: S
    ext: S


def amount_signal(builder: Builder[S], value: int, name: str) -> S:
    """A private amount below 2^96."""
    amount = builder.private(value)
    gadgets.to_bits(builder, amount, AMOUNT_BITS, f"{name} is below 2^{AMOUNT_BITS}")
    return amount


def asset_signals(builder: Builder[S], value: int) -> AssetSignals[S]:
    """A private asset that is kind + 4 id with a kind that exists."""
    supply, delivery = builder.private(value & 1), builder.private(value >> 1 & 1)
    identity = builder.private(value >> 2)
    gadgets.boolean(builder, supply, "the low bit of the asset's kind is a bit")
    gadgets.boolean(builder, delivery, "the high bit of the asset's kind is a bit")
    gadgets.product_is_zero(builder, supply, delivery, "kind 3 does not exist")
    gadgets.to_bits(builder, identity, ASSET_ID_BITS, f"the asset's id is below 2^{ASSET_ID_BITS}")
    return AssetSignals(builder.linear([(1, supply), (2, delivery), (4, identity)]), supply, delivery)


def spend_signals(
    builder: Builder[S], root: S, asset: S, spending_key: int, tree_number: int, tree_root: int
) -> SpendSignals[S]:
    """The owner's keys from sk, and the tree that root' names."""
    secret = builder.private(spending_key)
    number, top = builder.private(tree_number), builder.private(tree_root)
    gadgets.to_bits(builder, number, TREE_NUMBER_BITS, f"the tree number is below 2^{TREE_NUMBER_BITS}")
    named = gadgets.poseidon(builder, "root", number, top)
    gadgets.equal(builder, named, root, "root' names the tree number and the tree's root")
    public_key = gadgets.poseidon(builder, "pk", secret)
    nullifier_key = gadgets.poseidon(builder, "nk", secret)
    return SpendSignals(asset, public_key, nullifier_key, number, top)


def note_commitment(builder: Builder[S], asset: S, amount: S, public_key: S, blinding: S) -> S:
    """H(cm, asset, amount, H(own, pk, blinding))."""
    partial = gadgets.poseidon(builder, "own", public_key, blinding)
    return gadgets.poseidon(builder, "cm", asset, amount, partial)


@dataclass(frozen=True)
class PlacedNote(Generic[S]):
    """An input's commitment, the bits of its index, and the root to which its path leads."""

    commitment: S
    index_bits: Sequence[S]
    root: S


def place_note(builder: Builder[S], shared: SpendSignals[S], note: InputNote, amount: S, name: str) -> PlacedNote[S]:
    """The owner's note of that amount at its index; the caller says what its root must be."""
    blinding = builder.private(note.blinding)
    index_bits = [builder.private(note.index >> i & 1) for i in range(DEPTH)]
    for bit in index_bits:
        gadgets.boolean(builder, bit, f"an index bit of {name} is a bit")
    path = [builder.private(sibling) for sibling in note.path]
    cm = note_commitment(builder, shared.asset, amount, shared.public_key, blinding)
    return PlacedNote(cm, index_bits, gadgets.merkle_root(builder, cm, index_bits, path))


def enforce_nullifier(builder: Builder[S], shared: SpendSignals[S], placed: PlacedNote[S], nullifier: S, name: str) -> None:
    """nf = H(nf, nk, cm, tree number * 2^20 + index)."""
    index = [(1 << i, bit) for i, bit in enumerate(placed.index_bits)]
    place = builder.linear([(1 << DEPTH, shared.tree_number), *index])
    expected = gadgets.poseidon(builder, "nf", shared.nullifier_key, placed.commitment, place)
    gadgets.equal(builder, expected, nullifier, f"the nullifier of {name} is right")


def _spend(builder: Builder[S], shared: SpendSignals[S], note: InputNote, nullifier: S, name: str) -> S:
    amount = amount_signal(builder, note.amount, f"the amount of {name}")
    placed = place_note(builder, shared, note, amount, name)
    off_root = gadgets.difference(builder, placed.root, shared.tree_root)
    gadgets.product_is_zero(builder, amount, off_root, f"{name} is in the tree under root'")
    enforce_nullifier(builder, shared, placed, nullifier, name)
    return amount


def spend_notes(builder: Builder[S], shared: SpendSignals[S], notes: Sequence[InputNote], nullifiers: Sequence[S]) -> list[S]:
    """Constrain all inputs, each another note, and return their amounts; real ones lie under root'."""
    pairs = zip(notes, nullifiers, strict=True)
    amounts = [_spend(builder, shared, note, nf, f"input {k}") for k, (note, nf) in enumerate(pairs, 1)]
    for (i, one), (j, other) in combinations(enumerate(nullifiers, 1), 2):
        gadgets.nonzero(builder, gadgets.difference(builder, one, other), f"inputs {i} and {j} are two notes")
    return amounts


def _create(builder: Builder[S], shared: SpendSignals[S], energy: S, note: OutputNote, commitment: S, name: str) -> S:
    """Constrain one output and return its amount."""
    amount = amount_signal(builder, note.amount, f"the amount of {name}")
    public_key, blinding = builder.private(note.public_key), builder.private(note.blinding)
    cm = note_commitment(builder, shared.asset, amount, public_key, blinding)
    gadgets.equal(builder, cm, commitment, f"the commitment of {name} is right")
    other = gadgets.difference(builder, public_key, shared.public_key)
    gadgets.product_is_zero(builder, energy, other, f"{name} is an energy note and stays with its owner")
    return amount


def declare(builder: Builder[S], publics: JoinSplitPublics) -> PublicSignals[S]:
    """The public wires in the order of `JoinSplitPublics.as_list`."""
    return PublicSignals(
        root=builder.public(publics.root),
        nullifiers=[builder.public(value) for value in publics.nullifiers],
        commitments=[builder.public(value) for value in publics.commitments],
        asset=builder.public(publics.asset),
        public_in=builder.public(publics.public_in),
        public_out=builder.public(publics.public_out),
        ext=builder.public(publics.ext),
    )


def _public_value(builder: Builder[S], stated: PublicSignals[S], asset: int) -> tuple[S, S]:
    """Ranges of public in and out, and the asset as far as they show it; returns it and a flag for energy."""
    gadgets.to_bits(builder, stated.public_in, AMOUNT_BITS, f"public in is below 2^{AMOUNT_BITS}")
    gadgets.to_bits(builder, stated.public_out, AMOUNT_BITS, f"public out is below 2^{AMOUNT_BITS}")
    gadgets.product_is_zero(builder, stated.public_in, stated.public_out, "public in or public out is 0")
    signals = asset_signals(builder, asset)
    energy = builder.linear([(1, signals.supply), (1, signals.delivery)])
    moved = builder.linear([(1, stated.public_in), (1, stated.public_out)])
    shown = gadgets.is_nonzero(builder, moved, "the asset is shown with value in or out")
    rule = "the public asset is the notes' asset, or 0 when nothing is public"
    builder.enforce(shown, signals.number, stated.asset, rule)
    gadgets.product_is_zero(builder, energy, stated.public_in, "energy enters by no public value")
    return signals.number, energy


def constrain(builder: Builder[S], stated: PublicSignals[S], witness: JoinSplitWitness) -> SpendSignals[S]:
    """The whole statement over declared public wires; UnsatisfiedError with the broken rule when values contradict it."""
    asset, energy = _public_value(builder, stated, witness.asset)
    shared = spend_signals(builder, stated.root, asset, witness.spending_key, witness.tree_number, witness.tree_root)
    spent = spend_notes(builder, shared, witness.inputs, stated.nullifiers)
    funded = builder.linear([(1, spent[0]), (1, stated.public_in)])
    gadgets.nonzero(builder, funded, "input 1 is above 0 unless value comes in")
    pairs = zip(witness.outputs, stated.commitments, strict=True)
    made = [_create(builder, shared, energy, note, cm, f"output {k}") for k, (note, cm) in enumerate(pairs, 1)]
    # A few numbers below 2^96 on each side: neither wraps the field.
    entering = builder.linear([*((1, amount) for amount in spent), (1, stated.public_in)])
    leaving = builder.linear([*((1, amount) for amount in made), (1, stated.public_out)])
    gadgets.equal(builder, entering, leaving, "what comes in goes out")
    builder.multiply(stated.ext, stated.ext)
    return shared
