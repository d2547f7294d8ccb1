"""The heavy arithmetic of the Groth16 prover over BN254. Every fault is a ValueError of one sentence."""

from os import PathLike
from typing import Final, final

__version__: Final[str]
version: Final[str]

@final
class Prover:
    """A proving key in memory. Immutable: any number of threads may prove with it.

    `path` is a key file (OMGPK version 1), authenticated by the caller; ValueError if it is missing or damaged.
    """

    def __new__(cls, path: str | PathLike[str]) -> Prover: ...
    @property
    def n_wires(self) -> int:
        """Wires of the circuit, the constant one included."""
    @property
    def n_public(self) -> int:
        """Public inputs, the constant one not included."""
    @property
    def domain_log2(self) -> int:
        """Base-2 logarithm of the domain's size."""
    @property
    def circuit_hash(self) -> bytes:
        """The 32 bytes that the key file states."""
    @property
    def threads(self) -> int:
        """Worker threads of the next proof."""
    def vk(self) -> bytes:
        """alpha1 | beta2 | gamma2 | delta2 | IC[n_public + 1], points as in the key file."""
    def prove(self, witness_le: bytes, r_le: bytes, s_le: bytes) -> bytes:
        """256 bytes in EVM order. Releases the interpreter lock.

        `witness_le` is n_wires * 32 bytes, the constant one first; `r_le` and `s_le` are 32 bytes each and,
        outside tests, fresh and uniform. A witness that breaks a constraint gives a proof that does not verify.
        """
    def first_unsatisfied(self, witness_le: bytes) -> int | None:
        """Index of the first constraint that the witness breaks; None if it satisfies the circuit."""

def g1_fixed_base(scalars_le: bytes) -> bytes:
    """n * 32 bytes to n * 64: scalar * G1 as x | y, little-endian, infinity all zeros."""

def g2_fixed_base(scalars_le: bytes) -> bytes:
    """n * 32 bytes to n * 128: scalar * G2 as x.c0 | x.c1 | y.c0 | y.c1."""

def g1_combinations(points_le: bytes, starts: bytes, columns: bytes, coefficients_le: bytes) -> bytes:
    """A sparse matrix of scalars times a column of points: row k is the sum of coefficient * point[column] over the
    entries starts[k] to starts[k + 1] (u32 little-endian; 32 bytes a coefficient), 64 bytes each. For key ceremonies.

    Points are not checked against the curve. ValueError when the shapes do not fit or a number is not reduced.
    """

def g2_combinations(points_le: bytes, starts: bytes, columns: bytes, coefficients_le: bytes) -> bytes:
    """The same for points of G2, 128 bytes a row."""

def verify(vk: bytes, public_le: bytes, proof: bytes) -> bool:
    """Whether the proof (EVM order) holds for the public inputs (32 bytes little-endian each).

    A faulty `vk` (length, curve, subgroup, infinity, gamma2 = delta2) is a ValueError. Anything wrong with the
    inputs (number, not below the scalar order) or the proof (length, range, curve, subgroup, infinity, equation)
    is False.
    """

def set_threads(n: int) -> None:
    """Uses n worker threads (1 to 64) from the next call on; ValueError outside that range."""

def threads() -> int:
    """Worker threads of the next call; one for each core unless `set_threads` said otherwise."""
