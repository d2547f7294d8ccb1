"""The native backend: a thin adapter over the optional extension module `openmg_native`.

Rules: importing this file fails with ImportError where the module is missing; `backend.get_backend` decides what then.
Nothing is computed here. Not here: the module itself (its own distribution, in Rust).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openmg.zk.backend import Prover
from openmg.zk.groth16 import felts_to_bytes
from openmg.zk.proof import PROOF_BYTES, VerifyingKey

_module: Any = importlib.import_module("openmg_native")


class _NativeProver:
    def __init__(self, path: Path) -> None:
        self._inner = _module.Prover(str(path))
        self.circuit_hash = bytes(self._inner.circuit_hash)

    def prove(self, witness: Sequence[int], r: int, s: int) -> bytes:
        randomness = felts_to_bytes([r]), felts_to_bytes([s])
        return bytes(self._inner.prove(felts_to_bytes(witness), *randomness))


class NativeBackend:
    """Rust and arkworks, on as many threads as the module was told or finds."""

    name = "native"

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None:
            _module.set_threads(threads)

    @property
    def threads(self) -> int:
        return int(_module.threads())

    def g1_fixed_base(self, scalars: Sequence[int]) -> bytes:
        return bytes(_module.g1_fixed_base(felts_to_bytes(scalars)))

    def g2_fixed_base(self, scalars: Sequence[int]) -> bytes:
        return bytes(_module.g2_fixed_base(felts_to_bytes(scalars)))

    def prover(self, path: Path) -> Prover:
        return _NativeProver(path)

    def verify(self, key: VerifyingKey, publics: Sequence[int], proof: bytes) -> bool:
        if len(proof) != PROOF_BYTES or len(publics) != key.n_public or not all(0 <= v < 1 << 256 for v in publics):
            return False
        return bool(_module.verify(key.to_bytes(), felts_to_bytes(publics), proof))
