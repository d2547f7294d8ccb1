"""Fixtures of the native prover's tests: the module itself, py_ecc as the independent curve, and keys in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from ecc_points import ecc_g1, ecc_g2
from groth16_oracle import Circuit, KeyFile, Setup, cubic, cubic_witness, evm_proof, le, random_circuit

SMALL_HASH = bytes(range(32))


@pytest.fixture(scope="session")
def native() -> ModuleType:
    return pytest.importorskip(
        "openmg_native", reason="the native prover is not built (pip install ./native)"
    )


@pytest.fixture
def all_threads(native: ModuleType) -> Iterator[None]:
    """Restores the number of threads after a test that changes it."""
    before = native.threads()
    yield
    native.set_threads(before)


@dataclass(frozen=True)
class Statement:
    """A key on disk with a satisfying witness and all that the oracle knows about it."""

    setup: Setup
    key: KeyFile
    path: Path
    witness: list[int]

    @property
    def circuit(self) -> Circuit:
        return self.setup.circuit

    @property
    def publics(self) -> list[int]:
        return self.witness[1 : self.circuit.n_public + 1]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Statement:
    """x^3 + x + 5 = y, 58 constraints, domain 2^6; every point of the key is py_ecc's."""
    setup = Setup.from_seed(cubic(58), seed=1)
    key = setup.key_file(ecc_g1, ecc_g2, SMALL_HASH)
    path = tmp_path_factory.mktemp("keys") / "small.key"
    path.write_bytes(key.bytes())
    return Statement(setup, key, path, cubic_witness(3))


@pytest.fixture(scope="session")
def statement(native: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Statement]:
    """Random circuits; their points come from the module, whose multiplication test_native_points checks."""
    folder = tmp_path_factory.mktemp("keys")

    def build(constraints: int, n_public: int, *, seed: int) -> Statement:
        circuit, witness = random_circuit(constraints, n_public, seed=seed)
        setup = Setup.from_seed(circuit, seed)
        key = setup.key_file(
            lambda scalars: native.g1_fixed_base(le(scalars)),
            lambda scalars: native.g2_fixed_base(le(scalars)),
            SMALL_HASH,
        )
        path = folder / f"{constraints}-{n_public}-{seed}.key"
        path.write_bytes(key.bytes())
        return Statement(setup, key, path, witness)

    return build


@pytest.fixture(scope="session")
def expected_proof(native: ModuleType) -> Callable[..., bytes]:
    """The proof that the toxic scalars predict."""

    def predict(statement: Statement, r: int, s: int) -> bytes:
        a, b, c = statement.setup.proof_scalars(statement.witness, r, s)
        return evm_proof(
            native.g1_fixed_base(le([a])), native.g2_fixed_base(le([b])), native.g1_fixed_base(le([c]))
        )

    return predict
