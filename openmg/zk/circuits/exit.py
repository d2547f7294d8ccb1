"""The statement `exit`: a note of a plain asset leaves for the root chain.

Public inputs, in this order: root', nf, recipient, asset, amount, ext. What is proved:
- pk = H(pk, sk), nk = H(nk, sk); root' = H(root, tree number, tree root);
- the note cm = H(cm, asset, amount, H(own, pk, blinding)) leads to the tree root, whatever its amount, and its
  nullifier is nf = H(nf, nk, cm, tree number * 2^20 + index);
- asset = 4 id with id < 2^160, so energy does not leave; amount < 2^96;
- recipient and ext, which names the root contract and its chain, are bound by squaring.
Not here: which roots the root contract accepts, and who may challenge an exit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from openmg.zk import gadgets
from openmg.zk.circuits import joinsplit
from openmg.zk.circuits.joinsplit import AMOUNT_BITS, ASSET_ID_BITS, BLANK_INPUT, InputNote
from openmg.zk.field import R, invert, require_felt
from openmg.zk.r1cs import Builder
from openmg.zk.tree import named_root

S = TypeVar("S")

NAME = "exit"
PUBLIC_INPUTS = 6
CIRCUIT_HASH = bytes.fromhex("08519e1ef6410706825132ea14bbc4da1597360dd293f62aa9f5b27517f2ee48")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("7d6eb12f367e2842cc3fbd153747355a2f660ca5a8fe8b1cc4b87050e30d2179")
"""Digest of the key file that `keys.make_development_key` writes."""

QUARTER = int(invert(4, R))
"""1/4 in the field: asset * QUARTER is below 2^160 for exactly the assets 4 id with id below 2^160."""


@dataclass(frozen=True)
class ExitWitness:
    """Everything the prover knows; the recipient is an address of the root chain as an integer."""

    spending_key: int = field(repr=False)
    asset: int
    tree_number: int
    tree_root: int
    note: InputNote
    recipient: int
    ext: int

    def __post_init__(self) -> None:
        for name in ("spending_key", "asset", "tree_root", "recipient", "ext"):
            require_felt(getattr(self, name), name)
        joinsplit.require_paths([self.note])


@dataclass(frozen=True)
class ExitPublics:
    """The six public inputs, in their order."""

    root: int
    nullifier: int
    recipient: int
    asset: int
    amount: int
    ext: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        return [self.root, self.nullifier, self.recipient, self.asset, self.amount, self.ext]


def publics_of(witness: ExitWitness) -> ExitPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    number = witness.tree_number
    (nullifier,) = joinsplit.nullifiers_of(witness.spending_key, witness.asset, number, [witness.note])
    root = named_root(number, witness.tree_root)
    return ExitPublics(root, nullifier, witness.recipient, witness.asset, witness.note.amount, witness.ext)


def blank() -> tuple[ExitPublics, ExitWitness]:
    """Values of the right shape for a builder that does not look at them."""
    return ExitPublics(0, 0, 0, 0, 0, 0), ExitWitness(0, 0, 0, 0, BLANK_INPUT, 0, 0)


def synthesize(builder: Builder[S], publics: ExitPublics, witness: ExitWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    root, nullifier, recipient, asset, amount, ext = map(builder.public, publics.as_list())
    identity = builder.linear([(QUARTER, asset)])
    gadgets.to_bits(builder, identity, ASSET_ID_BITS, f"the asset is plain, 4 id with id below 2^{ASSET_ID_BITS}")
    gadgets.to_bits(builder, amount, AMOUNT_BITS, f"the amount is below 2^{AMOUNT_BITS}")
    shared = joinsplit.spend_signals(builder, root, asset, witness.spending_key, witness.tree_number, witness.tree_root)
    placed = joinsplit.place_note(builder, shared, witness.note, amount, "the note")
    gadgets.equal(builder, placed.root, shared.tree_root, "the note is in the tree under root'")
    joinsplit.enforce_nullifier(builder, shared, placed, nullifier, "the note")
    builder.multiply(recipient, recipient)
    builder.multiply(ext, ext)
