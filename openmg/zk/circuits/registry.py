"""Every circuit by name: how its matrices are made, and what they and their development keys must hash to.

Rule: the hashes are written down with the circuit, so that a change of a statement, of a constant or of the key
generation cannot pass unnoticed. Not here: the statements themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from openmg.zk.circuits import append, burn, buy, commit, exit, merge, mint, period, transfer
from openmg.zk.r1cs import ConstraintSystem, MatrixBuilder, system_of

P = TypeVar("P")
W = TypeVar("W")


@dataclass(frozen=True)
class Circuit:
    """A statement; `development_key_sha256` is the digest of the key file made from the published seed."""

    name: str
    circuit_hash: bytes
    n_public: int
    development_key_sha256: bytes
    build: Callable[[], ConstraintSystem]


def _matrices(
    synthesize: Callable[[MatrixBuilder, P, W], None], blank: Callable[[], tuple[P, W]]
) -> Callable[[], ConstraintSystem]:
    def build() -> ConstraintSystem:
        builder = MatrixBuilder()
        synthesize(builder, *blank())
        return system_of(builder)

    return build


_ALL = (
    Circuit(
        transfer.NAME,
        transfer.CIRCUIT_HASH,
        transfer.PUBLIC_INPUTS,
        transfer.DEVELOPMENT_KEY_SHA256,
        _matrices(transfer.synthesize, transfer.blank),
    ),
    Circuit(
        merge.NAME,
        merge.CIRCUIT_HASH,
        merge.PUBLIC_INPUTS,
        merge.DEVELOPMENT_KEY_SHA256,
        _matrices(merge.synthesize, merge.blank),
    ),
    Circuit(
        append.NAME,
        append.CIRCUIT_HASH,
        append.PUBLIC_INPUTS,
        append.DEVELOPMENT_KEY_SHA256,
        _matrices(append.synthesize, append.blank),
    ),
    Circuit(
        exit.NAME,
        exit.CIRCUIT_HASH,
        exit.PUBLIC_INPUTS,
        exit.DEVELOPMENT_KEY_SHA256,
        _matrices(exit.synthesize, exit.blank),
    ),
    Circuit(
        commit.NAME,
        commit.CIRCUIT_HASH,
        commit.PUBLIC_INPUTS,
        commit.DEVELOPMENT_KEY_SHA256,
        _matrices(commit.synthesize, commit.blank),
    ),
    Circuit(
        period.NAME,
        period.CIRCUIT_HASH,
        period.PUBLIC_INPUTS,
        period.DEVELOPMENT_KEY_SHA256,
        _matrices(period.synthesize, period.blank),
    ),
    Circuit(
        mint.NAME,
        mint.CIRCUIT_HASH,
        mint.PUBLIC_INPUTS,
        mint.DEVELOPMENT_KEY_SHA256,
        _matrices(mint.synthesize, mint.blank),
    ),
    Circuit(
        buy.NAME,
        buy.CIRCUIT_HASH,
        buy.PUBLIC_INPUTS,
        buy.DEVELOPMENT_KEY_SHA256,
        _matrices(buy.synthesize, buy.blank),
    ),
    Circuit(
        burn.NAME,
        burn.CIRCUIT_HASH,
        burn.PUBLIC_INPUTS,
        burn.DEVELOPMENT_KEY_SHA256,
        _matrices(burn.synthesize, burn.blank),
    ),
)
CIRCUITS = {circuit.name: circuit for circuit in _ALL}

DEMO_CIRCUITS = (transfer.NAME,)
"""The circuits a run of the whole microgrid proves with; set-up makes the keys of these alone."""


def circuit_named(name: str) -> Circuit:
    """The circuit of that name; ValueError for an unknown one."""
    if name not in CIRCUITS:
        raise ValueError(f"there is no circuit {name!r}; known are {', '.join(sorted(CIRCUITS))}")
    return CIRCUITS[name]
