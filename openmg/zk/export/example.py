"""True statements made for the purpose: what is exported, measured and mutated, never anybody's own notes.

Rules: a pure function of the circuit's name and a seed, so that several programs can work on the same statement; every
value is a hash of the seed. A fresh statement is one with a fresh seed. Whoever reads the exported witness learns a
spending key that owns nothing, or the secret of a meter that does not exist.
Not here: proofs (`writer`), times (`bench`), what the statements say (`note_examples`, `meter_examples`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openmg.zk.circuits import append, burn, buy, commit, exit, merge, mint, period, transfer
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.export import meter_examples, note_examples
from openmg.zk.export.draw import Draw

SEED_BYTES = 32


@dataclass(frozen=True)
class Statement:
    """A satisfying assignment: every wire of the circuit, the constant first, and the public ones among them."""

    circuit: str
    wires: Sequence[int]
    publics: Sequence[int]


Solve = Callable[[], Statement]
"""Computes public inputs and witness; this is what a wallet does for each proof, and what is timed as such."""

EXAMPLES: dict[str, Callable[[Draw], object]] = {
    transfer.NAME: note_examples.transfer_example,
    merge.NAME: note_examples.merge_example,
    append.NAME: note_examples.append_example,
    exit.NAME: note_examples.exit_example,
    commit.NAME: meter_examples.commit_example,
    period.NAME: meter_examples.period_example,
    mint.NAME: meter_examples.mint_example,
    buy.NAME: meter_examples.buy_example,
    burn.NAME: meter_examples.burn_example,
}
"""What the prover of each circuit knows, as a witness of the circuit's type."""


def witness_example(circuit: str, seed: bytes) -> object:
    """The witness of that circuit for 32 bytes of seed; ValueError for an unknown circuit."""
    if circuit not in EXAMPLES:
        raise ValueError(f"there is no example of a circuit {circuit!r}; use one of {', '.join(sorted(EXAMPLES))}")
    if len(seed) != SEED_BYTES:
        raise ValueError(f"the seed of an example has {SEED_BYTES} bytes, not {len(seed)}")
    return EXAMPLES[circuit](Draw(circuit, seed))


def example(circuit: str, seed: bytes) -> Solve:
    """The statement of that circuit for 32 bytes of seed; ValueError for an unknown circuit."""
    witness, chosen = witness_example(circuit, seed), circuit_named(circuit)

    def solve() -> Statement:
        solution = chosen.solve(witness)
        return Statement(circuit, solution.wires, solution.publics)

    return solve
