"""Verification: every way in which a stranger's proof or the caller's key can be wrong."""

import pytest
from groth16_oracle import R, le
from py_ecc import optimized_bn128 as ecc
from py_ecc.fields import optimized_bn128_FQ2 as FQ2

pytestmark = pytest.mark.native

Q = ecc.field_modulus
G1_SLICES = {"A": slice(0, 64), "C": slice(192, 256)}
B_SLICE = slice(64, 192)


@pytest.fixture(scope="module")
def proven(native, small):
    prover = native.Prover(small.path)
    return prover.vk(), le(small.publics), prover.prove(le(small.witness), le([5]), le([6]))


def put(data, where, value):
    return data[: where.start] + value + data[where.stop :]


def outside_the_subgroup():
    """A point of the twist whose order is not R: almost every point is one, as the cofactor is about 2^254."""
    for x in range(1, 100):
        square = FQ2([x, 0]) ** 3 + ecc.b2
        root = square ** ((Q * Q + 15) // 32)
        # For q^2 = 9 mod 16, a square's root is one of four multiples of this power.
        for i in range(4):
            y = root * FQ2([9, 1]) ** ((Q * Q - 1) // 16 * i) if i else root
            if y * y == square:
                point = (FQ2([x, 0]), y, FQ2.one())
                assert ecc.is_on_curve(point, ecc.b2)
                assert not ecc.is_inf(ecc.multiply(point, R))
                return [int(k) for k in (*point[0].coeffs, *point[1].coeffs)]
    raise AssertionError("half of all x have a point")


def test_a_valid_proof_is_accepted(native, proven):
    assert native.verify(*proven) is True


@pytest.mark.parametrize("alias", [35 + R, 35 + 2 * R, R])
def test_public_inputs_at_or_above_the_order_are_refused(native, proven, alias):
    vk, _, proof = proven
    assert native.verify(vk, le([alias]), proof) is False


@pytest.mark.parametrize("public", [b"", le([35, 35]), le([35])[:-1], le([34])])
def test_wrong_public_inputs_are_refused(native, proven, public):
    vk, _, proof = proven
    assert native.verify(vk, public, proof) is False


@pytest.mark.parametrize("length", [0, 255, 257, 512])
def test_proofs_of_another_length_are_refused(native, proven, length):
    vk, public, proof = proven
    assert native.verify(vk, public, (proof + proof)[:length]) is False


@pytest.mark.parametrize("word", range(8))
def test_one_flipped_bit_in_any_coordinate_is_refused(native, proven, word):
    vk, public, proof = proven
    flipped = bytearray(proof)
    flipped[32 * word + 31] ^= 1
    assert native.verify(vk, public, bytes(flipped)) is False


@pytest.mark.parametrize("word", range(8))
def test_a_coordinate_above_the_base_modulus_is_refused(native, proven, word):
    vk, public, proof = proven
    where = slice(32 * word, 32 * word + 32)
    alias = int.from_bytes(proof[where], "big") + Q
    assert alias < 1 << 256
    assert native.verify(vk, public, put(proof, where, alias.to_bytes(32, "big"))) is False


@pytest.mark.parametrize("where", [*G1_SLICES.values(), B_SLICE])
def test_infinity_is_refused(native, proven, where):
    vk, public, proof = proven
    assert native.verify(vk, public, put(proof, where, bytes(where.stop - where.start))) is False
    assert native.verify(vk, public, bytes(256)) is False


def test_a_point_of_the_twist_outside_the_subgroup_is_refused(native, proven):
    vk, public, proof = proven
    x0, x1, y0, y1 = outside_the_subgroup()
    in_evm_order = b"".join(k.to_bytes(32, "big") for k in (x1, x0, y1, y0))
    assert native.verify(vk, public, put(proof, B_SLICE, in_evm_order)) is False
    with pytest.raises(ValueError, match=r"^delta2 of the verifying key is no finite point of its group"):
        native.verify(put(vk, slice(320, 448), le([x0, x1, y0, y1])), public, proof)


def test_negating_two_points_gives_another_valid_proof(native, proven):
    """Groth16 proofs are malleable: replay protection rests on nullifiers, never on the proof's bytes."""
    vk, public, proof = proven
    values = [int.from_bytes(proof[i : i + 32], "big") for i in range(0, 256, 32)]
    for y in (1, 4, 5):
        values[y] = Q - values[y]
    assert native.verify(vk, public, b"".join(v.to_bytes(32, "big") for v in values)) is True


def test_a_key_with_equal_gamma_and_delta_is_refused(native, proven):
    vk, public, proof = proven
    with pytest.raises(ValueError, match=r"^the verifying key has gamma2 = delta2, so anyone can forge"):
        native.verify(put(vk, slice(320, 448), vk[192:320]), public, proof)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("alpha1", slice(0, 64)),
        ("beta2", slice(64, 192)),
        ("gamma2", slice(192, 320)),
        ("delta2", slice(320, 448)),
        ("IC", slice(448, 512)),
        ("IC", slice(512, 576)),
    ],
)
def test_a_key_with_a_bad_point_is_refused(native, proven, name, where):
    vk, public, proof = proven
    first = vk[where][:32]
    off_curve = ((int.from_bytes(first, "little") + 1) % Q).to_bytes(32, "little") + vk[where][32:]
    too_large = (int.from_bytes(first, "little") + Q).to_bytes(32, "little") + vk[where][32:]
    for bad in (off_curve, too_large, bytes(where.stop - where.start)):
        with pytest.raises(
            ValueError, match=rf"^{name} of the verifying key is no finite point of its group"
        ):
            native.verify(put(vk, where, bad), public, proof)


@pytest.mark.parametrize("length", [0, 447, 448, 575, 577])
def test_a_key_of_an_impossible_length_is_refused(native, proven, length):
    vk, public, proof = proven
    sentence = rf"^the verifying key has {length} bytes, which is not 448 and 64 for each public input and one more: "
    with pytest.raises(ValueError, match=sentence):
        native.verify((vk + vk)[:length], public, proof)
