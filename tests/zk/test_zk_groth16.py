"""Proofs: accepted by every verifier, refused when anything changes; keys that would accept forgeries are refused."""

import random
from dataclasses import replace

import pytest
from zk_cases import R_BLIND, S_BLIND, SHAPES, Cases, assignment, twist_point_outside_the_subgroup

from openmg.zk import curve, groth16, pyecc_verify
from openmg.zk.circuits import commit, transfer
from openmg.zk.curve import G1, G2, PointError
from openmg.zk.export.example import example
from openmg.zk.field import Q, R, invert
from openmg.zk.groth16 import Toxic
from openmg.zk.keys import ensure_keys
from openmg.zk.ntt import lagrange_at
from openmg.zk.proof import Proof, UnsafeKeyError, VerifyingKey
from openmg.zk.proving_key import ProvingKeyFile
from openmg.zk.r1cs import MatrixBuilder, UnsatisfiedError, WitnessBuilder, system_of

EXAMPLE_SEED = bytes(range(5, 37))


def cube_circuit(builder, out, x):
    """out = x^3 + x + 5."""
    y, x = builder.public(out), builder.private(x)
    cube = builder.multiply(builder.multiply(x, x), x)
    builder.enforce(builder.linear([(1, cube), (1, x)], 5), builder.one, y, "out = x^3 + x + 5")


class Small:
    """A circuit of three constraints with keys of its own, for tests that need many proofs or many keys."""

    def __init__(self, path, seed=b"small"):
        builder = MatrixBuilder()
        cube_circuit(builder, 0, 0)
        self.system, self.seed = system_of(builder), seed
        path.write_bytes(groth16.setup(self.system, seed, groth16.g1_fixed_base, groth16.g2_fixed_base))
        self.file = ProvingKeyFile(path)
        self.key = self.file.verifying_key

    def wires(self, x):
        builder = WitnessBuilder()
        cube_circuit(builder, x**3 + x + 5, x)
        return builder.witness

    def prove(self, x, r=R_BLIND, s=S_BLIND):
        return groth16.PortableProver(self.file).prove(self.wires(x), r, s)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("small") / "small.pk")


def changed(publics, place, by=1):
    return [value + by if i == place else value for i, value in enumerate(publics)]


# The transfer


def test_ours_and_py_ecc_accept_the_proof(transfer_key, proved):
    assert groth16.verify(transfer_key.verifying_key, proved.publics, proved.proof)
    assert pyecc_verify.verify(transfer_key.verifying_key, proved.publics, proved.proof)


@pytest.mark.native
def test_the_native_verifier_accepts_the_proof(transfer_key, proved, native):
    assert native.verify(transfer_key.verifying_key, proved.publics, proved.proof)


@pytest.mark.native
def test_native_and_portable_proofs_are_the_same_bytes(key_cache, native, portable):
    """Of a meter's slot; those of a transfer, which take the portable prover 10 s, are in tests/native."""
    key, wires = ensure_keys(commit.NAME, key_cache), example(commit.NAME, EXAMPLE_SEED)().wires
    proofs = [backend.prover(key.path).prove(wires, R_BLIND, S_BLIND) for backend in (native, portable)]
    assert proofs[0] == proofs[1]


@pytest.mark.native
@pytest.mark.parametrize("shape", SHAPES)
def test_native_proofs_of_every_shape(transfer_key, native, portable, shape):
    witness = getattr(Cases(seed=2), shape)()
    publics = transfer.publics_of(witness).as_list()
    proof = native.prover(transfer_key.path).prove(assignment(witness), R_BLIND, S_BLIND)
    assert portable.verify(transfer_key.verifying_key, publics, proof)
    assert native.verify(transfer_key.verifying_key, publics, proof)


def test_each_public_input_is_bound_by_the_proof(transfer_key, proved):
    for place in range(transfer.PUBLIC_INPUTS):
        assert not groth16.verify(transfer_key.verifying_key, changed(proved.publics, place), proved.proof)


def test_a_public_input_has_no_alias(transfer_key, proved):
    key = transfer_key.verifying_key
    for place in range(transfer.PUBLIC_INPUTS):
        alias = changed(proved.publics, place, R)
        assert not groth16.verify(key, alias, proved.proof) and not pyecc_verify.verify(key, alias, proved.proof)
    assert not groth16.verify(key, [-1, *proved.publics[1:]], proved.proof)


@pytest.mark.native
def test_native_refuses_changed_and_aliased_public_inputs(transfer_key, proved, native):
    for by in (1, R):
        for place in range(transfer.PUBLIC_INPUTS):
            assert not native.verify(transfer_key.verifying_key, changed(proved.publics, place, by), proved.proof)
    assert not native.verify(transfer_key.verifying_key, [*proved.publics, 0], proved.proof)
    assert not native.verify(transfer_key.verifying_key, [1 << 256, *proved.publics[1:]], proved.proof)


def test_py_ecc_refuses_a_changed_public_input(transfer_key, proved):
    assert not pyecc_verify.verify(transfer_key.verifying_key, changed(proved.publics, 8), proved.proof)


def test_portable_refuses_a_witness_that_breaks_a_constraint(transfer_key, proved, portable):
    prover = portable.prover(transfer_key.path)
    with pytest.raises(UnsatisfiedError, match="breaks constraint"):
        prover.prove(changed(proved.wires, 5000), 1, 2)
    with pytest.raises(ValueError, match="has 13870 wires"):
        prover.prove(proved.wires[:-1], 1, 2)


@pytest.mark.native
def test_a_native_proof_of_a_false_statement_does_not_verify(transfer_key, proved, native, portable):
    """The native prover does not look; the self-check that always follows does."""
    proof = native.prover(transfer_key.path).prove(changed(proved.wires, 5000), R_BLIND, S_BLIND)
    assert not native.verify(transfer_key.verifying_key, proved.publics, proof)
    assert not portable.verify(transfer_key.verifying_key, proved.publics, proof)


# Proofs in general, on a small circuit


@pytest.mark.parametrize("x", [0, 1, 3, 10**9])
def test_small_proofs(small, x):
    proof = small.prove(x).to_bytes()
    public = [(x**3 + x + 5) % R]
    assert groth16.verify(small.key, public, proof) and pyecc_verify.verify(small.key, public, proof)
    assert not groth16.verify(small.key, [(public[0] + 1) % R], proof)
    assert not groth16.verify(small.key, [], proof) and not groth16.verify(small.key, public * 2, proof)


def test_randomness_hides_and_does_not_matter(small):
    proofs = {small.prove(3, r, s).to_bytes() for r, s in ((0, 0), (1, 2), (R - 1, R - 1), (2, 1))}
    assert len(proofs) == 4 and all(groth16.verify(small.key, [35], proof) for proof in proofs)


def test_a_proof_can_be_rerandomised_so_replay_must_be_stopped_by_nullifiers(small):
    """(A / t, t B, C) is another proof of the same statement; its bytes must never serve as an identity."""
    proof, t = small.prove(3), 7
    other = Proof(curve.multiply_g1(proof.a, int(invert(t, R))), curve.multiply_g2(proof.b, t), proof.c)
    assert other.to_bytes() != proof.to_bytes()
    assert groth16.verify(small.key, [35], other.to_bytes())


def test_whoever_knows_the_seed_can_forge(small):
    """Why development keys are refused outside demo mode: no witness is used here."""
    toxic = Toxic.from_seed(small.seed, small.file.header.circuit_hash)
    public = 36
    ic = curve.add_g1(small.key.ic[0], curve.multiply_g1(small.key.ic[1], public))
    # e(A, B) = e(alpha, beta) e(ic, gamma) e(C, delta) with A = alpha G, B = beta G and C = -(gamma / delta) ic.
    c = curve.multiply_g1(ic, -toxic.gamma * invert(toxic.delta, R))
    forged = Proof(curve.multiply_g1(G1, toxic.alpha), curve.multiply_g2(G2, toxic.beta), c)
    assert groth16.verify(small.key, [public], forged.to_bytes())


@pytest.mark.parametrize("byte", range(0, 256, 17))
def test_a_flipped_bit_is_refused(small, byte):
    data = bytearray(small.prove(3).to_bytes())
    data[byte] ^= 1
    assert not groth16.verify(small.key, [35], bytes(data))


def test_malformed_proofs_are_refused(small):
    proof = small.prove(3).to_bytes()
    x0, x1, y0, y1 = twist_point_outside_the_subgroup()
    outside = b"".join(int(v).to_bytes(32, "big") for v in (x1, x0, y1, y0))
    alias = (int.from_bytes(proof[:32], "big") + Q).to_bytes(32, "big")
    for bad in (proof[:-1], proof + b"\0", bytes(256), alias + proof[32:], proof[:64] + outside + proof[192:]):
        assert not groth16.verify(small.key, [35], bad) and not pyecc_verify.verify(small.key, [35], bad)
        with pytest.raises(PointError):
            Proof.from_bytes(bad)


def test_proof_words_are_in_evm_order(small):
    proof = small.prove(3)
    assert proof.words() == (*proof.a, proof.b[1], proof.b[0], proof.b[3], proof.b[2], *proof.c)
    assert Proof.from_bytes(proof.to_bytes()) == proof


def test_another_circuits_or_seeds_key_refuses(small, tmp_path, transfer_key, proved):
    other = Small(tmp_path / "other.pk", b"another seed")
    assert other.key != small.key
    assert not groth16.verify(other.key, [35], small.prove(3).to_bytes())
    assert not groth16.verify(small.key, proved.publics[:1], proved.proof)


# Verifying keys


def test_a_key_with_gamma_equal_to_delta_is_refused(small):
    """With gamma = delta, C can absorb any public input: the flaw behind the forgeries of 2026."""
    with pytest.raises(UnsafeKeyError, match="gamma = delta"):
        replace(small.key, delta2=small.key.gamma2)
    data = small.key.to_bytes()
    twice = data[:192] + data[192:320] * 2 + data[448:]
    with pytest.raises(UnsafeKeyError, match="gamma = delta"):
        VerifyingKey.from_bytes(twice)


def test_keys_with_bad_points_are_refused(small):
    data = small.key.to_bytes()
    outside = curve.point_to_bytes(twist_point_outside_the_subgroup(), 128)
    for bad, why in (
        (bytes(64) + data[64:], "infinity"),
        (data[:64] + bytes(128) + data[192:], "infinity"),
        (data[:-64] + bytes(64), "infinity"),
        (data[:-1] + bytes([data[-1] ^ 1]), "off the curve"),
        (data[:64] + outside + data[192:], "outside the group"),
        (data[:-1], "no verifying key"),
        (data[:448], "no verifying key"),
        (data + data[-64:] * 64, "no verifying key"),
    ):
        with pytest.raises(UnsafeKeyError, match=why):
            VerifyingKey.from_bytes(bad)
    assert VerifyingKey.from_bytes(data) == small.key


def test_toxic_values_depend_on_seed_and_circuit():
    first = Toxic.from_seed(b"a", bytes(32))
    assert first == Toxic.from_seed(b"a", bytes(32))
    values = {*vars(first).values(), *vars(Toxic.from_seed(b"b", bytes(32))).values()}
    values |= {*vars(Toxic.from_seed(b"a", bytes([1]) * 32)).values()}
    assert len(values) == 15 and all(0 < value < R for value in values)


def test_quotient_divides_exactly(small):
    """a b - c = h Z at a point outside the domain, for the circuit with its consistency rows."""
    system, wires = small.system, small.wires(10)
    h = groth16.quotient(system, wires)
    point = random.Random(1).randrange(R)
    n = 1 << system.domain_log2
    lagrange = lagrange_at(point, system.domain_log2)
    a, b, c = (
        sum(value * at for value, at in zip(matrix.times(wires), lagrange, strict=False)) % R
        for matrix in (system.a, system.b, system.c)
    )
    a += sum(wires[i] * lagrange[system.n_constraints + i] for i in range(system.n_public + 1))
    at_point = sum(value * pow(point, k, R) for k, value in enumerate(h))
    assert (a * b - c - at_point * (pow(point, n, R) - 1)) % R == 0
