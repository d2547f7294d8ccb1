"""Every circuit by name: how its matrices are made, and what they and their development keys must hash to.

Rule: the hashes are written down with the circuit, so that a change of a statement, of a constant or of the key
generation cannot pass unnoticed. Not here: the statements themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openmg.zk.circuits import transfer
from openmg.zk.r1cs import ConstraintSystem, MatrixBuilder, system_of


@dataclass(frozen=True)
class Circuit:
    """A statement; `development_key_sha256` is the digest of the key file made from the published seed."""

    name: str
    circuit_hash: bytes
    n_public: int
    development_key_sha256: bytes
    build: Callable[[], ConstraintSystem]


def _transfer() -> ConstraintSystem:
    builder = MatrixBuilder()
    transfer.synthesize(builder, *transfer.blank())
    return system_of(builder)


CIRCUITS = {
    transfer.NAME: Circuit(
        transfer.NAME,
        transfer.CIRCUIT_HASH,
        transfer.PUBLIC_INPUTS,
        transfer.DEVELOPMENT_KEY_SHA256,
        _transfer,
    )
}


def circuit_named(name: str) -> Circuit:
    """The circuit of that name; ValueError for an unknown one."""
    if name not in CIRCUITS:
        raise ValueError(f"there is no circuit {name!r}; known are {', '.join(sorted(CIRCUITS))}")
    return CIRCUITS[name]
