"""The two ways to do the heavy arithmetic behind one interface: `native` (Rust, parallel) and `portable` (Python).

Rules: both read the same key file and, for equal randomness, write the same keys and proofs; `auto` takes native where
its module is installed. Not here: the arithmetic (`groth16`, `native`), the keys (`keys`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from openmg.zk import groth16
from openmg.zk.proof import VerifyingKey
from openmg.zk.proving_key import ProvingKeyFile

BACKEND_NAMES = ("native", "portable", "auto")


class BackendError(Exception):
    """A backend that was asked for cannot be used; the text says what to do."""


class Prover(Protocol):
    """A proving key made ready."""

    @property
    def circuit_hash(self) -> bytes:
        """Which circuit the key is for."""

    def prove(self, witness: Sequence[int], r: int, s: int) -> bytes:
        """256 bytes in EVM order. The caller draws r and s freshly and verifies what it gets."""


class Backend(Protocol):
    """One implementation of the arithmetic."""

    @property
    def name(self) -> str:
        """native or portable."""

    @property
    def threads(self) -> int:
        """How many threads a proof runs on."""

    def g1_fixed_base(self, scalars: Sequence[int]) -> bytes:
        """Multiples of the G1 generator, 64 bytes each."""

    def g2_fixed_base(self, scalars: Sequence[int]) -> bytes:
        """Multiples of the G2 generator, 128 bytes each."""

    def prover(self, path: Path) -> Prover:
        """A prover for the key file at the path."""

    def verify(self, key: VerifyingKey, publics: Sequence[int], proof: bytes) -> bool:
        """Whether the proof holds; False for malformed input."""


class _PortableProver:
    def __init__(self, path: Path) -> None:
        self._inner = groth16.PortableProver(ProvingKeyFile(path))
        self.circuit_hash = self._inner.circuit_hash

    def prove(self, witness: Sequence[int], r: int, s: int) -> bytes:
        return self._inner.prove(witness, r, s).to_bytes()


class PortableBackend:
    """Pure Python, with gmpy2 where it is installed."""

    name = "portable"
    threads = 1

    def g1_fixed_base(self, scalars: Sequence[int]) -> bytes:
        return groth16.g1_fixed_base(scalars)

    def g2_fixed_base(self, scalars: Sequence[int]) -> bytes:
        return groth16.g2_fixed_base(scalars)

    def prover(self, path: Path) -> Prover:
        return _PortableProver(path)

    def verify(self, key: VerifyingKey, publics: Sequence[int], proof: bytes) -> bool:
        return groth16.verify(key, publics, proof)


def get_backend(name: str = "auto", threads: int | None = None) -> Backend:
    """The backend of that name; BackendError when it does not exist or its module is missing.

    `threads` bounds the native backend's threads for the whole process; portable always runs on one.
    """
    if name not in BACKEND_NAMES:
        raise BackendError(f"there is no prover backend {name!r}; use one of {', '.join(BACKEND_NAMES)}")
    if name == "portable":
        return PortableBackend()
    try:
        from openmg.zk.native import NativeBackend
    except ImportError as error:
        if name == "auto":
            return PortableBackend()
        raise BackendError(
            "the native prover is not installed (module openmg_native); build it from native/ or use portable"
        ) from error
    return NativeBackend(threads)
