"""The statement `transfer`: two notes in, two notes out, value in or out in public.

Public inputs, in this order: root', nf 1, nf 2, cm 1, cm 2, asset, public in, public out, ext. What is proved:
- pk = H(pk, sk), nk = H(nk, sk), one sk for the whole proof;
- root' = H(root, tree number, tree root); both inputs lie in this one tree, an input of amount 0 (a dummy) anywhere;
- an input's note cm = H(cm, asset, amount, H(own, pk, blinding)) leads to the tree root, and its nullifier is
  nf = H(nf, nk, cm, position) with position = tree number * 2^20 + index; the two nullifiers differ;
- input 1 is real and above 0 unless public in is above 0;
- an output's commitment is right for its amount, receiver and blinding;
- sum in + public in = sum out + public out over the integers: every amount is below 2^96;
- public in or public out is 0; the public asset is the notes' asset if one of them is not 0, and else 0;
- asset = kind + 4 id, id < 2^160, kind 0 (plain), 1 (supply) or 2 (delivery); if kind is not 0, public in is 0
  and both outputs belong to pk;
- ext, the hash of everything else the transaction says, is bound by squaring.
Source: the project's circuit statements; the joinsplit shape is Tornado Nova's published design with the nullifier key
split from the spending key. A fee is part of public out. Not here: what a contract does with public out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from openmg.zk import gadgets
from openmg.zk.field import require_felt
from openmg.zk.r1cs import Builder
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, TREE_NUMBER_BITS, named_root, position

S = TypeVar("S")

NAME = "transfer"
INPUTS = 2
OUTPUTS = 2
PUBLIC_INPUTS = 9
AMOUNT_BITS = 96
ASSET_ID_BITS = 160
CIRCUIT_HASH = bytes.fromhex("db0159ad439e8073f049c3b8bb6bfb437ca92e48750f0641ceb833175152e910")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("e49791733f651af92b80e79ea83f5e30388c03557bb3fe4f1cba6a9fea1507cd")
"""Digest of the key file that `keys.make_development_key` writes; CI makes it again."""


@dataclass(frozen=True)
class TransferInput:
    """A note to be spent and its siblings; amount 0 makes it a dummy whose index and path are not checked."""

    amount: int
    blinding: int
    index: int
    path: tuple[int, ...]


@dataclass(frozen=True)
class TransferOutput:
    """A new note: amount, owner's pk, blinding."""

    amount: int
    public_key: int
    blinding: int


@dataclass(frozen=True)
class TransferWitness:
    """Everything the prover knows; amounts in the asset's smallest unit (wei for PETH)."""

    spending_key: int
    asset: int
    tree_number: int
    tree_root: int
    inputs: tuple[TransferInput, TransferInput]
    outputs: tuple[TransferOutput, TransferOutput]
    public_in: int
    public_out: int
    ext: int

    def __post_init__(self) -> None:
        for name in ("spending_key", "asset", "tree_root", "public_in", "public_out", "ext"):
            require_felt(getattr(self, name), name)
        if len(self.inputs) != INPUTS or len(self.outputs) != OUTPUTS:
            raise ValueError(f"a transfer has {INPUTS} inputs and {OUTPUTS} outputs; fill up with amount 0")
        if any(len(note.path) != DEPTH for note in self.inputs):
            raise ValueError(f"the path of an input has {DEPTH} siblings")


@dataclass(frozen=True)
class TransferPublics:
    """The nine public inputs, in their order."""

    root: int
    nullifiers: tuple[int, int]
    commitments: tuple[int, int]
    asset: int
    public_in: int
    public_out: int
    ext: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        return [self.root, *self.nullifiers, *self.commitments, self.asset, self.public_in, self.public_out, self.ext]


def publics_of(witness: TransferWitness) -> TransferPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    pk, nk = H("pk", witness.spending_key), H("nk", witness.spending_key)
    nullifiers, commitments = [], []
    for note in witness.inputs:
        cm = H("cm", witness.asset, note.amount, H("own", pk, note.blinding))
        nullifiers.append(H("nf", nk, cm, position(witness.tree_number, note.index)))
    for out in witness.outputs:
        commitments.append(H("cm", witness.asset, out.amount, H("own", out.public_key, out.blinding)))
    shown = witness.public_in or witness.public_out
    return TransferPublics(
        root=named_root(witness.tree_number, witness.tree_root),
        nullifiers=(nullifiers[0], nullifiers[1]),
        commitments=(commitments[0], commitments[1]),
        asset=witness.asset if shown else 0,
        public_in=witness.public_in,
        public_out=witness.public_out,
        ext=witness.ext,
    )


def blank() -> tuple[TransferPublics, TransferWitness]:
    """Values of the right shape for a builder that does not look at them."""
    note = TransferInput(0, 0, 0, (0,) * DEPTH)
    out = TransferOutput(0, 0, 0)
    witness = TransferWitness(0, 0, 0, 0, (note, note), (out, out), 0, 0, 0)
    return TransferPublics(0, (0, 0), (0, 0), 0, 0, 0, 0), witness


def _asset(builder: Builder[S], value: int) -> tuple[S, S]:
    """The asset signal and a flag that is 1 for an energy asset (kind 1 or 2)."""
    supply, delivery = builder.private(value & 1), builder.private(value >> 1 & 1)
    identity = builder.private(value >> 2)
    gadgets.boolean(builder, supply, "the low bit of the asset's kind is a bit")
    gadgets.boolean(builder, delivery, "the high bit of the asset's kind is a bit")
    gadgets.product_is_zero(builder, supply, delivery, "kind 3 does not exist")
    gadgets.to_bits(builder, identity, ASSET_ID_BITS, f"the asset's id is below 2^{ASSET_ID_BITS}")
    asset = builder.linear([(1, supply), (2, delivery), (4, identity)])
    return asset, builder.linear([(1, supply), (1, delivery)])


def _note(builder: Builder[S], asset: S, amount: S, public_key: S, blinding: S) -> S:
    partial = gadgets.poseidon(builder, "own", public_key, blinding)
    return gadgets.poseidon(builder, "cm", asset, amount, partial)


def _amount(builder: Builder[S], value: int, name: str) -> S:
    amount = builder.private(value)
    gadgets.to_bits(builder, amount, AMOUNT_BITS, f"{name} is below 2^{AMOUNT_BITS}")
    return amount


@dataclass(frozen=True)
class _Shared(Generic[S]):
    """Signals that all notes of one proof share."""

    asset: S
    public_key: S
    nullifier_key: S
    tree_number: S
    tree_root: S


def _spend(builder: Builder[S], shared: _Shared[S], note: TransferInput, nullifier: S, name: str) -> S:
    """Constrain one input and return its amount."""
    amount = _amount(builder, note.amount, f"the amount of {name}")
    blinding = builder.private(note.blinding)
    index_bits = [builder.private(note.index >> i & 1) for i in range(DEPTH)]
    for bit in index_bits:
        gadgets.boolean(builder, bit, f"an index bit of {name} is a bit")
    path = [builder.private(sibling) for sibling in note.path]
    cm = _note(builder, shared.asset, amount, shared.public_key, blinding)
    root = gadgets.merkle_root(builder, cm, index_bits, path)
    off_root = gadgets.difference(builder, root, shared.tree_root)
    gadgets.product_is_zero(builder, amount, off_root, f"{name} is in the tree under root'")
    index = [(1 << i, bit) for i, bit in enumerate(index_bits)]
    place = builder.linear([(1 << DEPTH, shared.tree_number), *index])
    expected = gadgets.poseidon(builder, "nf", shared.nullifier_key, cm, place)
    gadgets.equal(builder, expected, nullifier, f"the nullifier of {name} is right")
    return amount


def _create(builder: Builder[S], shared: _Shared[S], energy: S, note: TransferOutput, commitment: S, name: str) -> S:
    """Constrain one output and return its amount."""
    amount = _amount(builder, note.amount, f"the amount of {name}")
    public_key, blinding = builder.private(note.public_key), builder.private(note.blinding)
    cm = _note(builder, shared.asset, amount, public_key, blinding)
    gadgets.equal(builder, cm, commitment, f"the commitment of {name} is right")
    other = gadgets.difference(builder, public_key, shared.public_key)
    gadgets.product_is_zero(builder, energy, other, f"{name} is an energy note and stays with its owner")
    return amount


def synthesize(builder: Builder[S], publics: TransferPublics, witness: TransferWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    root, nf_1, nf_2, cm_1, cm_2, asset_shown, public_in, public_out, ext = map(builder.public, publics.as_list())
    gadgets.to_bits(builder, public_in, AMOUNT_BITS, f"public in is below 2^{AMOUNT_BITS}")
    gadgets.to_bits(builder, public_out, AMOUNT_BITS, f"public out is below 2^{AMOUNT_BITS}")
    gadgets.product_is_zero(builder, public_in, public_out, "public in or public out is 0")

    asset, energy = _asset(builder, witness.asset)
    moved = builder.linear([(1, public_in), (1, public_out)])
    shown = gadgets.is_nonzero(builder, moved, "the asset is shown with value in or out")
    builder.enforce(shown, asset, asset_shown, "the public asset is the notes' asset, or 0 when nothing is public")
    gadgets.product_is_zero(builder, energy, public_in, "energy enters by no public value")

    spending_key = builder.private(witness.spending_key)
    tree_number, tree_root = builder.private(witness.tree_number), builder.private(witness.tree_root)
    gadgets.to_bits(builder, tree_number, TREE_NUMBER_BITS, f"the tree number is below 2^{TREE_NUMBER_BITS}")
    named = gadgets.poseidon(builder, "root", tree_number, tree_root)
    gadgets.equal(builder, named, root, "root' names the tree number and the tree's root")
    public_key = gadgets.poseidon(builder, "pk", spending_key)
    nullifier_key = gadgets.poseidon(builder, "nk", spending_key)
    shared = _Shared(asset, public_key, nullifier_key, tree_number, tree_root)

    in_1 = _spend(builder, shared, witness.inputs[0], nf_1, "input 1")
    in_2 = _spend(builder, shared, witness.inputs[1], nf_2, "input 2")
    gadgets.nonzero(builder, gadgets.difference(builder, nf_1, nf_2), "the inputs are two notes")
    funded = builder.linear([(1, in_1), (1, public_in)])
    gadgets.nonzero(builder, funded, "input 1 is above 0 unless value comes in")
    out_1 = _create(builder, shared, energy, witness.outputs[0], cm_1, "output 1")
    out_2 = _create(builder, shared, energy, witness.outputs[1], cm_2, "output 2")
    # Six numbers below 2^96: neither side wraps the field.
    entering = builder.linear([(1, in_1), (1, in_2), (1, public_in)])
    leaving = builder.linear([(1, out_1), (1, out_2), (1, public_out)])
    gadgets.equal(builder, entering, leaving, "what comes in goes out")
    builder.multiply(ext, ext)
