"""py_ecc, which shares no curve arithmetic with our provers, on a proof of every circuit as a wallet makes it.

Each public input of each circuit is changed in that circuit's own file, where py_ecc takes a proof of it in every run, too;
here py_ecc refuses one of them.
"""

from __future__ import annotations

import pytest

from openmg.zk import pyecc_verify
from openmg.zk.circuits import period
from openmg.zk.export.example import EXAMPLES, example, witness_example
from openmg.zk.keys import ensure_keys
from openmg.zk.prove import prove_now
from openmg.zk.prover import ProofRequest

SEED = bytes(range(3, 35))
ALWAYS = {period.NAME}
"""The smallest, in every run; the others' keys and py_ecc's pairings take 4 to 9 s each."""


@pytest.mark.native
@pytest.mark.parametrize(
    "circuit", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow) for name in sorted(EXAMPLES)]
)
def test_py_ecc_accepts_a_proof_of_each_circuit_for_its_own_public_inputs_only(native, key_cache, circuit):
    request = ProofRequest(circuit, witness_example(circuit, SEED), native.name, key_cache, demo=True)
    result = prove_now(request)
    assert list(result.publics) == list(example(circuit, SEED)().publics)
    verifying_key = ensure_keys(circuit, key_cache).verifying_key
    assert pyecc_verify.verify(verifying_key, result.publics, result.proof)
    assert not pyecc_verify.verify(verifying_key, [*result.publics[:-1], result.publics[-1] ^ 1], result.proof)
