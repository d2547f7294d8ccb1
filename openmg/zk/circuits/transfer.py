"""The statement `transfer`: two notes in, two notes out, value in or out in public.

Public inputs, in this order: root', nf 1, nf 2, cm 1, cm 2, asset, public in, public out, ext. What is proved is the
statement of `joinsplit` for two inputs and two outputs.
Not here: what a contract does with public out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from openmg.zk.circuits import joinsplit
from openmg.zk.circuits.joinsplit import BLANK_INPUT, BLANK_OUTPUT, InputNote, JoinSplitPublics, JoinSplitWitness, OutputNote
from openmg.zk.r1cs import Builder

S = TypeVar("S")

NAME = "transfer"
INPUTS = 2
OUTPUTS = 2
PUBLIC_INPUTS = 9
CIRCUIT_HASH = bytes.fromhex("db0159ad439e8073f049c3b8bb6bfb437ca92e48750f0641ceb833175152e910")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("e49791733f651af92b80e79ea83f5e30388c03557bb3fe4f1cba6a9fea1507cd")
"""Digest of the key file that `keys.make_development_key` writes; CI makes it again."""

TransferInput = InputNote
TransferOutput = OutputNote
TransferPublics = JoinSplitPublics


@dataclass(frozen=True)
class TransferWitness(JoinSplitWitness):
    """Two inputs and two outputs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_shape("transfer", INPUTS, OUTPUTS)


def publics_of(witness: TransferWitness) -> TransferPublics:
    """The nine public inputs that an honest prover states for these values (nothing is checked here)."""
    return joinsplit.publics_of(witness)


def blank() -> tuple[TransferPublics, TransferWitness]:
    """Values of the right shape for a builder that does not look at them."""
    witness = TransferWitness(0, 0, 0, 0, (BLANK_INPUT,) * INPUTS, (BLANK_OUTPUT,) * OUTPUTS, 0, 0, 0)
    return TransferPublics(0, (0,) * INPUTS, (0,) * OUTPUTS, 0, 0, 0, 0), witness


def synthesize(builder: Builder[S], publics: TransferPublics, witness: TransferWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    joinsplit.constrain(builder, joinsplit.declare(builder, publics), witness)
