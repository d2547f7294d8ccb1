"""Fixtures of the zk tests: the circuit's matrices, its development key, proofs made once per run."""

from dataclasses import dataclass

import pytest
from zk_cases import R_BLIND, S_BLIND, Cases, assignment

from openmg.zk.backend import BackendError, get_backend
from openmg.zk.circuits import transfer
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.keys import ensure_keys


@dataclass(frozen=True)
class ProofCase:
    """An honest transfer, its public inputs and a proof by the fastest backend: the portable one makes the same bytes."""

    wires: list[int]
    publics: list[int]
    proof: bytes


@pytest.fixture(scope="session")
def system():
    return CIRCUITS[transfer.NAME].build()


@pytest.fixture(scope="session")
def transfer_key(key_cache):
    """The development key of the transfer circuit."""
    return ensure_keys(transfer.NAME, key_cache)


@pytest.fixture(scope="session")
def native():
    try:
        return get_backend("native")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def portable():
    return get_backend("portable")


@pytest.fixture(scope="session")
def proved(transfer_key) -> ProofCase:
    witness = Cases().transfer()
    wires = assignment(witness)
    proof = get_backend("auto").prover(transfer_key.path).prove(wires, R_BLIND, S_BLIND)
    return ProofCase(wires, transfer.publics_of(witness).as_list(), proof)
