"""Proofs, byte for byte against an oracle that knows the toxic scalars, and by the pairing equation of py_ecc."""

import random

import pytest
from groth16_oracle import R, cubic_witness, dot, le
from py_ecc import optimized_bn128 as ecc
from py_ecc.fields import optimized_bn128_FQ as FQ
from py_ecc.fields import optimized_bn128_FQ2 as FQ2
from py_ecc.fields import optimized_bn128_FQ12 as FQ12

pytestmark = pytest.mark.native

BLINDINGS = [(0, 0), (1, R - 1), (123456789, random.Random(5).randrange(R))]


def integers(data, order="little"):
    return [int.from_bytes(data[i : i + 32], order) for i in range(0, len(data), 32)]


def g1(x, y):
    point = (FQ(x), FQ(y), FQ(1))
    assert ecc.is_on_curve(point, ecc.b)
    return point


def g2(x0, x1, y0, y1):
    point = (FQ2([x0, x1]), FQ2([y0, y1]), FQ2([1, 0]))
    assert ecc.is_on_curve(point, ecc.b2)
    assert ecc.is_inf(ecc.multiply(point, R))
    return point


def py_ecc_verifies(vk, publics, proof):
    key = integers(vk)
    alpha, beta, gamma, delta = g1(*key[:2]), g2(*key[2:6]), g2(*key[6:10]), g2(*key[10:14])
    ic = [g1(*key[i : i + 2]) for i in range(14, len(key), 2)]
    total = ic[0]
    for point, value in zip(ic[1:], publics, strict=True):
        total = ecc.add(total, ecc.multiply(point, value))
    ax, ay, bx1, bx0, by1, by0, cx, cy = integers(proof, "big")
    pairs = [
        (g2(bx0, bx1, by0, by1), ecc.neg(g1(ax, ay))),
        (beta, alpha),
        (gamma, total),
        (delta, g1(cx, cy)),
    ]
    product = FQ12.one()
    for second, first in pairs:
        product *= ecc.pairing(second, first, final_exponentiate=False)
    return ecc.final_exponentiate(product) == FQ12.one()


def test_key_file_is_read_as_written(native, small):
    prover = native.Prover(str(small.path))
    assert (prover.n_wires, prover.n_public, prover.domain_log2) == (5, 1, 6)
    assert prover.circuit_hash == small.key.sections["circuit_hash"]
    g1_part, g2_part = small.key.sections["g1"], small.key.sections["g2"]
    assert prover.vk() == g1_part[:64] + g2_part + small.key.sections["IC"]
    assert prover.threads == native.threads()


@pytest.mark.parametrize(("r", "s"), BLINDINGS)
def test_proof_is_what_the_toxic_scalars_predict(native, small, expected_proof, r, s):
    prover = native.Prover(small.path)
    proof = prover.prove(le(small.witness), le([r]), le([s]))
    assert proof == expected_proof(small, r, s)
    assert native.verify(prover.vk(), le(small.publics), proof)


def test_py_ecc_accepts_the_proof_and_refuses_another_statement(native, small):
    prover = native.Prover(small.path)
    proof = prover.prove(le(small.witness), le([11]), le([13]))
    assert small.publics == [35]
    assert py_ecc_verifies(prover.vk(), [35], proof)
    assert not py_ecc_verifies(prover.vk(), [36], proof)


@pytest.mark.parametrize(
    ("constraints", "n_public", "seed"),
    [
        (1, 0, 1),  # the smallest: domain 2
        (60, 3, 2),  # the domain is full: 60 constraints and 4 consistency rows in 2^6
        (61, 3, 3),  # one more row: the next domain
        (3000, 9, 4),  # as many public inputs as a transfer
    ],
)
def test_random_circuits_match_the_oracle(native, statement, expected_proof, constraints, n_public, seed):
    case = statement(constraints, n_public, seed=seed)
    prover = native.Prover(case.path)
    assert prover.domain_log2 == case.circuit.domain_log2
    assert prover.first_unsatisfied(le(case.witness)) is None
    proof = prover.prove(le(case.witness), le([seed]), le([R - seed]))
    assert proof == expected_proof(case, seed, R - seed)
    assert native.verify(prover.vk(), le(case.publics), proof)


def test_proof_does_not_depend_on_the_number_of_threads(native, statement, all_threads):
    case = statement(700, 2, seed=6)
    prover = native.Prover(case.path)
    proofs = set()
    for count in (1, 2, 5):
        native.set_threads(count)
        proofs.add(prover.prove(le(case.witness), le([7]), le([8])))
    assert len(proofs) == 1


def test_blinding_changes_every_point(native, small):
    prover = native.Prover(small.path)
    one, other = (prover.prove(le(small.witness), le([r]), le([r + 1])) for r in (20, 21))
    for part in (slice(0, 64), slice(64, 192), slice(192, 256)):
        assert one[part] != other[part]


@pytest.mark.parametrize("wire", range(1, 5))
def test_proof_of_a_witness_with_one_wrong_wire_does_not_verify(native, small, wire):
    bad = list(small.witness)
    bad[wire] = (bad[wire] + 1) % R
    prover = native.Prover(small.path)
    broken = prover.first_unsatisfied(le(bad))
    circuit = small.circuit
    rows = enumerate(zip(circuit.a, circuit.b, circuit.c, strict=True))
    assert broken == next(i for i, (a, b, c) in rows if dot(a, bad) * dot(b, bad) % R != dot(c, bad))
    proof = prover.prove(le(bad), le([3]), le([4]))
    assert not native.verify(prover.vk(), le(small.publics), proof)
    assert not native.verify(prover.vk(), le([bad[1]]), proof)


def test_a_proof_of_one_statement_fails_for_every_other(native, small):
    prover = native.Prover(small.path)
    proofs = {x: prover.prove(le(cubic_witness(x)), le([x]), le([x])) for x in (0, 1, 2, R - 1)}
    for x, proof in proofs.items():
        for y in proofs:
            assert native.verify(prover.vk(), le([cubic_witness(y)[1]]), proof) is (x == y)


def test_witnesses_that_do_not_fit_are_refused(native, small):
    prover = native.Prover(small.path)
    scalar = le([1])
    with pytest.raises(ValueError, match=r"^the witness has 128 bytes where the circuit's 5 wires need 160"):
        prover.prove(le(small.witness[:4]), scalar, scalar)
    with pytest.raises(ValueError, match=r"^element 0 of the witness is not 1"):
        prover.prove(le([2, *small.witness[1:]]), scalar, scalar)
    with pytest.raises(ValueError, match=r"^element 4 of the witness is not below the BN254 scalar order"):
        prover.prove(le([*small.witness[:4], small.witness[4] + R]), scalar, scalar)
    with pytest.raises(ValueError, match=r"^the witness has 0 bytes"):
        prover.first_unsatisfied(b"")


@pytest.mark.parametrize(("name", "index"), [("r", 1), ("s", 2)])
@pytest.mark.parametrize("value", [le([R]), bytes(31), bytes(64)])
def test_blinding_scalars_have_to_be_canonical(native, small, name, index, value):
    arguments = [le(small.witness), le([1]), le([1])]
    arguments[index] = value
    with pytest.raises(ValueError, match=rf"^the blinding scalar {name} is not 32 little-endian bytes below"):
        native.Prover(small.path).prove(*arguments)
