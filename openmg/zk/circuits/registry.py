"""Every circuit by name: how its matrices are made, and what they and their development keys must hash to.

Rule: the hashes are written down with the circuit, so that a change of a statement, of a constant or of the key
generation cannot pass unnoticed. Not here: the statements themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from openmg.zk.circuits import append, burn, buy, commit, exit, merge, mint, period, transfer
from openmg.zk.r1cs import ConstraintSystem, MatrixBuilder, WitnessBuilder, system_of


class Publics(Protocol):
    """The public inputs of a statement."""

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""


@dataclass(frozen=True)
class Solution:
    """A satisfying assignment: every wire, the constant first, and the public inputs among them."""

    wires: list[int]
    publics: list[int]


@dataclass(frozen=True)
class Circuit:
    """A statement; `development_key_sha256` is the digest of the key file made from the published seed."""

    name: str
    circuit_hash: bytes
    n_public: int
    development_key_sha256: bytes
    witness_type: type[Any]
    """The dataclass of what the prover knows."""
    publics_of: Callable[[Any], Publics]
    """The public inputs that an honest prover states for a witness."""
    synthesize: Callable[[Any, Any, Any], None]
    """(builder, publics, witness): the statement, for either builder."""
    blank: Callable[[], tuple[Publics, Any]]
    """Values of the right shape for a builder that does not look at them."""

    def build(self) -> ConstraintSystem:
        """The matrices."""
        builder = MatrixBuilder()
        self.synthesize(builder, *self.blank())
        return system_of(builder)

    def solve(self, witness: object) -> Solution:
        """All wires for a witness of `witness_type`; UnsatisfiedError with the rule that it breaks."""
        publics = self.publics_of(witness)
        builder = WitnessBuilder()
        self.synthesize(builder, publics, witness)
        return Solution(builder.witness, [int(value) for value in publics.as_list()])


def _circuit(statement: ModuleType, witness_type: type[Any]) -> Circuit:
    return Circuit(
        name=statement.NAME,
        circuit_hash=statement.CIRCUIT_HASH,
        n_public=statement.PUBLIC_INPUTS,
        development_key_sha256=statement.DEVELOPMENT_KEY_SHA256,
        witness_type=witness_type,
        publics_of=statement.publics_of,
        synthesize=statement.synthesize,
        blank=statement.blank,
    )


_ALL = (
    _circuit(transfer, transfer.TransferWitness),
    _circuit(merge, merge.MergeWitness),
    _circuit(append, append.AppendWitness),
    _circuit(exit, exit.ExitWitness),
    _circuit(commit, commit.CommitWitness),
    _circuit(period, period.PeriodWitness),
    _circuit(mint, mint.MintWitness),
    _circuit(buy, buy.BuyWitness),
    _circuit(burn, burn.BurnWitness),
)
CIRCUITS = {circuit.name: circuit for circuit in _ALL}

DEMO_CIRCUITS = (transfer.NAME, merge.NAME, append.NAME, commit.NAME)
"""The circuits a run of the whole microgrid proves with; set-up makes the keys of these alone."""
PRIVATE_CIRCUITS = (mint.NAME, buy.NAME)
"""What homes prove besides where they trade on the private market; a burn comes a day later than a demo ends."""


def circuit_named(name: str) -> Circuit:
    """The circuit of that name; ValueError for an unknown one."""
    if name not in CIRCUITS:
        raise ValueError(f"there is no circuit {name!r}; known are {', '.join(sorted(CIRCUITS))}")
    return CIRCUITS[name]
