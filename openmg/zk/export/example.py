"""True statements made for the purpose: what is exported and what is measured, never anybody's own notes.

Rules: a pure function of the circuit's name and a seed, so that several programs can work on the same statement; every
value is a hash of the seed. A fresh statement is one with a fresh seed. Whoever reads the exported witness learns a
spending key that owns nothing. Not here: proofs (`writer`), times (`bench`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openmg.hashing import keccak256
from openmg.zk.circuits import transfer
from openmg.zk.circuits.transfer import TransferInput, TransferOutput, TransferWitness
from openmg.zk.field import reduce_wide
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import NoteTree

EXAMPLE_TAG = b"openmg.zk.example.v1\0"
SEED_BYTES = 32
AMOUNTS_WEI = (10**18, 24)
OTHER_LEAVES = 3
"""Notes of others in the tree, so that no path consists of empty subtrees alone."""


@dataclass(frozen=True)
class Statement:
    """A satisfying assignment: every wire of the circuit, the constant first, and the public ones among them."""

    circuit: str
    wires: Sequence[int]
    publics: Sequence[int]


Solve = Callable[[], Statement]
"""Computes public inputs and witness; this is what a wallet does for each proof, and what is timed as such."""


class _Draw:
    """Named field elements from a seed."""

    def __init__(self, circuit: str, seed: bytes) -> None:
        self._material = EXAMPLE_TAG + circuit.encode("ascii") + b"\0" + seed

    def felt(self, name: str) -> int:
        material = self._material + name.encode("ascii")
        return int(reduce_wide(keccak256(material + b"\0") + keccak256(material + b"\1")))


def _transfer(seed: bytes) -> Solve:
    """Two notes of one owner become one for somebody else and one of change."""
    draw = _Draw(transfer.NAME, seed)
    spending_key = draw.felt("spending key")
    owner, receiver = H("pk", spending_key), H("pk", draw.felt("receiver"))
    blindings = [draw.felt(f"blinding {i}") for i in range(len(AMOUNTS_WEI))]
    notes = [H("cm", 0, amount, H("own", owner, b)) for amount, b in zip(AMOUNTS_WEI, blindings, strict=True)]
    tree = NoteTree([draw.felt(f"leaf {i}") for i in range(OTHER_LEAVES)] + notes)
    first, second = (
        TransferInput(amount, blinding, OTHER_LEAVES + i, tree.path(OTHER_LEAVES + i))
        for i, (amount, blinding) in enumerate(zip(AMOUNTS_WEI, blindings, strict=True))
    )
    paid = AMOUNTS_WEI[0] // 3
    outputs = (
        TransferOutput(paid, receiver, draw.felt("output 0")),
        TransferOutput(sum(AMOUNTS_WEI) - paid, owner, draw.felt("output 1")),
    )
    values = TransferWitness(spending_key, 0, 0, tree.root(), (first, second), outputs, 0, 0, draw.felt("ext"))

    def solve() -> Statement:
        publics = transfer.publics_of(values)
        builder = WitnessBuilder()
        transfer.synthesize(builder, publics, values)
        return Statement(transfer.NAME, builder.witness, [int(value) for value in publics.as_list()])

    return solve


EXAMPLES: dict[str, Callable[[bytes], Solve]] = {transfer.NAME: _transfer}


def example(circuit: str, seed: bytes) -> Solve:
    """The statement of that circuit for 32 bytes of seed; ValueError for a circuit that has none."""
    if circuit not in EXAMPLES:
        raise ValueError(f"there is no example of a circuit {circuit!r}; use one of {', '.join(sorted(EXAMPLES))}")
    if len(seed) != SEED_BYTES:
        raise ValueError(f"the seed of an example has {SEED_BYTES} bytes, not {len(seed)}")
    return EXAMPLES[circuit](seed)
