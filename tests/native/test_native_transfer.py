"""The transfer circuit itself: the native module and the portable backend write the same keys and the same proofs."""

import random

import pytest
from groth16_oracle import R, le

from openmg.zk import groth16
from openmg.zk.circuits import transfer
from openmg.zk.circuits.registry import CIRCUITS
from openmg.zk.proof import VerifyingKey
from openmg.zk.proving_key import ProvingKeyFile
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, NoteTree

pytestmark = pytest.mark.native

SEED = b"keys of the native prover's tests"


def witness_of(statement):
    builder = WitnessBuilder()
    publics = transfer.publics_of(statement)
    transfer.synthesize(builder, publics, statement)
    return [int(value) for value in builder.witness], publics.as_list()


def shield(amount):
    """Value comes in from outside: both inputs are dummies."""
    dummies = tuple(transfer.TransferInput(0, blinding, 0, (0,) * DEPTH) for blinding in (11, 12))
    outputs = tuple(transfer.TransferOutput(part, H("pk", 77), part + 1) for part in (amount - 7, 7))
    return transfer.TransferWitness(77, 0, 0, NoteTree().root(), dummies, outputs, amount, 0, 4242)


def spend(amounts):
    """Two notes of a tree become two others, nothing public but the root."""
    pk = H("pk", 77)
    notes = [H("cm", 0, amount, H("own", pk, 100 + i)) for i, amount in enumerate(amounts)]
    tree = NoteTree([*range(1, 6), *notes])
    inputs = tuple(
        transfer.TransferInput(amount, 100 + i, 5 + i, tree.path(5 + i)) for i, amount in enumerate(amounts)
    )
    outputs = (transfer.TransferOutput(1, H("pk", 78), 5), transfer.TransferOutput(sum(amounts) - 1, pk, 6))
    return transfer.TransferWitness(77, 0, 0, tree.root(), inputs, outputs, 0, 0, R - 1)


@pytest.fixture(scope="module")
def system():
    return CIRCUITS[transfer.NAME].build()


@pytest.fixture(scope="module")
def key_path(native, system, tmp_path_factory):
    path = tmp_path_factory.mktemp("transfer") / "transfer.key"
    key = groth16.setup(
        system, SEED, lambda k: native.g1_fixed_base(le(map(int, k))), lambda k: native.g2_fixed_base(le(map(int, k)))
    )
    path.write_bytes(key)
    return path


@pytest.mark.parametrize("statement", [shield(10**18), spend((5, 2**96 - 6))], ids=["shield", "spend"])
def test_a_transfer_is_proved_and_accepted_by_both_backends(native, key_path, statement):
    witness, publics = witness_of(statement)
    prover = native.Prover(key_path)
    assert (prover.n_wires, prover.n_public) == (len(witness), len(publics))
    assert prover.first_unsatisfied(le(witness)) is None
    proof = prover.prove(le(witness), le([31]), le([37]))
    assert native.verify(prover.vk(), le(publics), proof)
    assert groth16.verify(VerifyingKey.from_bytes(prover.vk()), publics, proof)
    for i in range(len(publics)):
        other = [*publics[:i], (publics[i] + 1) % R, *publics[i + 1 :]]
        assert not native.verify(prover.vk(), le(other), proof)


@pytest.mark.slow  # 10 s; those of a smaller circuit are compared in tests/zk/test_zk_groth16.py
def test_both_backends_write_the_same_proof(native, key_path):
    witness, _ = witness_of(spend((1000, 24)))
    r, s = (random.Random(9).randrange(R) for _ in range(2))
    proof = groth16.PortableProver(ProvingKeyFile(key_path)).prove(witness, r, s).to_bytes()
    assert native.Prover(key_path).prove(le(witness), le([r]), le([s])) == proof


def test_both_backends_name_the_same_broken_constraint(native, key_path, system):
    witness, publics = witness_of(shield(1000))
    prover = native.Prover(key_path)
    for wire in (1, 5, len(witness) // 2, len(witness) - 1):
        bad = [*witness[:wire], (witness[wire] + 1) % R, *witness[wire + 1 :]]
        broken = system.first_unsatisfied(bad)
        assert broken is not None
        assert prover.first_unsatisfied(le(bad)) == broken
        assert not native.verify(prover.vk(), le(publics), prover.prove(le(bad), le([1]), le([2])))


def test_both_backends_write_the_same_points(native):
    scalars = [0, 1, R - 1, *(random.Random(10).randrange(R) for _ in range(20))]
    assert native.g1_fixed_base(le(scalars)) == groth16.g1_fixed_base(scalars)
    assert native.g2_fixed_base(le(scalars)) == groth16.g2_fixed_base(scalars)
