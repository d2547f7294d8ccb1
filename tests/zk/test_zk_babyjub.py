"""BabyJubJub: published vectors, an independent addition law, encodings, H', commitments."""

import random
import subprocess
import sys

import pytest

from openmg.hashing import keccak256
from openmg.zk import babyjub
from openmg.zk.babyjub import H_PRIME, IDENTITY, SUBGROUP_ORDER, CurvePointError, G
from openmg.zk.field import R

# iden3/circomlibjs, test/babyjub.js (the same in iden3/go-iden3-crypto, babyjub/babyjub_test.go).
P1 = (
    17777552123799933955779906779655732241715742912184938656739573121738514868268,
    2626589144620713026669568689430873010625803728049924121243784502389097019475,
)
P2 = (
    16540640123574156134436876038791482806971768689494387082833631921987005038935,
    20819045374670962167435360035096875258406992893633759881276124905556507972311,
)
P1_DOUBLED = (
    6890855772600357754907169075114257697580319025794532037257385534741338397365,
    4338620300185947561074059802482547481416142213883829469920100239455078257889,
)
P1_PLUS_P2 = (
    7916061937171219682591368294088513039687205273691143098332585753343424131937,
    14035240266687799601661095864649209771790948434046947201833777492504781204499,
)
MULTIPLES = [
    (P1, 3, (
        19372461775513343691590086534037741906533799473648040012278229434133483800898,
        9458658722007214007257525444427903161243386465067105737478306991484593958249,
    )),
    (P1, P1_PLUS_P2[1], (
        17070357974431721403481313912716834497662307308519659060910483826664480189605,
        4014745322800118607127020275658861516666525056516280575712425373174125159339,
    )),
    (P1_DOUBLED, P2[1], (
        13563888653650925984868671744672725781658357821216877865297235725727006259983,
        8442587202676550862664528699803615547505326611544120184665036919364004251662,
    )),
]  # fmt: skip
PACKED = {
    P1: "53b81ed5bffe9545b54016234682e7b2f699bd42a5e9eae27ff4051bc698ce85",
    P1_DOUBLED: "e114eb17eddf794f063a68fecac515e3620e131976108555735c8b0773929709",
}
# EIP-2494: the generator of all 8 l points, of which G is eight times.
GENERATOR = (
    995203441582195749578291179787384436505546430278305826713579947235728471134,
    5472060717959818805561601436314318772137091100104008585924551046643952123905,
)
ORDER_TWO = (0, R - 1)


def test_published_sums():
    assert babyjub.add(IDENTITY, IDENTITY) == IDENTITY and babyjub.add(IDENTITY, P2) == P2
    assert babyjub.add(P1, P1) == P1_DOUBLED and babyjub.add(P1, P2) == P1_PLUS_P2


@pytest.mark.parametrize(("point", "scalar", "expected"), MULTIPLES)
def test_published_multiples(point, scalar, expected):
    assert babyjub.multiply(point, scalar) == expected


def test_published_encodings():
    for point, packed in PACKED.items():
        assert babyjub.compress(point).hex() == packed and babyjub.decompress(bytes.fromhex(packed)) == point


def test_the_base_point_is_eight_times_the_generator_of_the_curve():
    assert babyjub.multiply(GENERATOR, 8) == G
    assert babyjub.multiply(GENERATOR, 8 * SUBGROUP_ORDER) == IDENTITY
    assert babyjub.multiply(GENERATOR, 4 * SUBGROUP_ORDER) == ORDER_TWO


def test_the_law_is_complete():
    """EIP-2494's safety argument: the coefficient a is a square and d is not, so no denominator is ever 0."""
    assert pow(babyjub.A, (R - 1) // 2, R) == 1 and pow(babyjub.D, (R - 1) // 2, R) == R - 1


def montgomery_sum(left, right):
    """The chord and tangent law on v^2 = u^3 + 168698 u^2 + u, which EIP-2494 gives as the same curve."""

    def outward(point):
        u = (1 + point[1]) * pow(1 - point[1], -1, R) % R
        return u, u * pow(point[0], -1, R) % R

    (u1, v1), (u2, v2) = outward(left), outward(right)
    assert all((v * v - u**3 - 168698 * u * u - u) % R == 0 for u, v in ((u1, v1), (u2, v2)))
    if left == right:
        slope = (3 * u1 * u1 + 2 * 168698 * u1 + 1) * pow(2 * v1, -1, R) % R
    else:
        slope = (v2 - v1) * pow(u2 - u1, -1, R) % R
    u = (slope * slope - 168698 - u1 - u2) % R
    v = (slope * (u1 - u) - v1) % R
    return u * pow(v, -1, R) % R, (u - 1) * pow(u + 1, -1, R) % R


def test_sums_equal_those_of_the_montgomery_form():
    generator = random.Random(2494)
    points = [babyjub.multiply(GENERATOR, generator.randrange(8 * SUBGROUP_ORDER)) for _ in range(6)]
    for left in points:
        for right in points:
            assert babyjub.add(left, right) == montgomery_sum(left, right)


def test_multiples_are_repeated_sums_and_wrap_at_the_order():
    total = IDENTITY
    for k in range(40):
        assert babyjub.multiply(G, k) == total
        total = babyjub.add(total, G)
    assert babyjub.multiply(G, SUBGROUP_ORDER + 5) == babyjub.multiply(G, 5)
    assert babyjub.add(P1, babyjub.negate(P1)) == IDENTITY
    with pytest.raises(ValueError, match="at least 0"):
        babyjub.multiply(G, -1)


def test_membership():
    assert all(map(babyjub.is_in_subgroup, (IDENTITY, G, H_PRIME, P1, P1_DOUBLED)))
    for outside in (GENERATOR, ORDER_TWO, babyjub.add(G, ORDER_TWO)):
        assert babyjub.is_on_curve(outside) and not babyjub.is_in_subgroup(outside)
    for other in ((1, 0), (G[0], G[1] + 1), (G[0] + R, G[1]), (G[0], G[1] - R), (-1, 1)):
        assert not babyjub.is_on_curve(other) and not babyjub.is_in_subgroup(other)


def test_square_roots():
    assert babyjub.square_root(0) == 0 and babyjub.square_root(babyjub.FIELD_GENERATOR) is None
    for value in (1, 4, R - 1, pow(5, 1 << 27, R), *range(2, 30)):
        root = babyjub.square_root(value)
        assert (root is None) == (pow(value, (R - 1) // 2, R) != 1)
        assert root is None or (root * root % R == value and root <= R // 2)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(31), id="short"),
        pytest.param((1 << 255 | 1).to_bytes(32, "little"), id="identity with a sign"),
        pytest.param((R + 1).to_bytes(32, "little"), id="y not reduced"),
        pytest.param((R + G[1]).to_bytes(32, "little"), id="y of G not reduced"),
        pytest.param((R - 1).to_bytes(32, "little"), id="order two"),
        pytest.param(babyjub.compress(GENERATOR), id="outside the subgroup"),
    ],
)
def test_malformed_encodings_are_refused(data):
    with pytest.raises(CurvePointError):
        babyjub.decompress(data)


def test_bytes_without_a_point_are_refused():
    refused = 0
    for y in range(2, 20):
        try:
            point = babyjub.decompress(y.to_bytes(32, "little"))
        except CurvePointError:
            refused += 1
        else:
            assert babyjub.is_in_subgroup(point) and point[1] == y
    assert refused > 0


def test_every_point_has_one_encoding():
    for k in range(30):
        point = babyjub.multiply(G, k)
        assert babyjub.decompress(babyjub.compress(point)) == point


def test_h_is_hashed_to_the_curve_as_documented():
    """The definition carried out again: the counter, the smaller x by the curve's equation, the cofactor by doubling."""
    for counter in range(256):
        material = b"openmg.zk.babyjub.H.v1" + bytes([counter])
        y = int.from_bytes(keccak256(material + b"\0") + keccak256(material + b"\1"), "big") % R
        square = (1 - y * y) * pow(168700 - 168696 * y * y, -1, R) % R
        if pow(square, (R - 1) // 2, R) == 1:
            break
    x = babyjub.square_root(square)
    assert x * x % R == square and x <= (R - 1) // 2
    point = (x, y)
    for _ in range(3):
        point = montgomery_sum(point, point)
    assert point == H_PRIME == babyjub.hash_to_curve(babyjub.H_LABEL)
    assert H_PRIME == (
        10839121828385389851206760257879613254772070351239895531641442831671706928786,
        3964049219816517413464724458504428410324166235475034183373663501808934119237,
    )


def test_h_is_no_small_multiple_of_the_base_point():
    total, small = IDENTITY, set()
    for _ in range(1000):
        total = babyjub.add(total, G)
        small |= {total, babyjub.negate(total)}
    assert H_PRIME not in small and H_PRIME != IDENTITY


def test_other_labels_give_other_points():
    points = {babyjub.hash_to_curve(b"label %d" % k) for k in range(10)}
    assert len(points) == 10 and all(map(babyjub.is_in_subgroup, points))


def test_commitments_add_up():
    one, other = babyjub.commit(300, 17), babyjub.commit(2**32 - 1, SUBGROUP_ORDER - 10)
    assert babyjub.add(one, other) == babyjub.commit(300 + 2**32 - 1, 7)
    assert babyjub.commit(0, 0) == IDENTITY and babyjub.commit(1, 0) == G and babyjub.commit(0, 1) == H_PRIME


@pytest.mark.parametrize("opening", [(-1, 0), (SUBGROUP_ORDER, 0), (0, -1), (0, SUBGROUP_ORDER)])
def test_openings_are_below_the_order(opening):
    with pytest.raises(ValueError, match="from 0 to l - 1"):
        babyjub.commit(*opening)


def test_points_are_plain_integers_and_do_not_need_gmpy2():
    assert all(type(value) is int for value in (*babyjub.commit(5, 6), *babyjub.add(G, G), *H_PRIME))
    code = (
        "import sys; sys.modules['gmpy2'] = None; from openmg.zk import babyjub as b; "
        "print(*b.commit(12, 345), *b.decompress(b.compress(b.G)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert list(map(int, output.split())) == [*babyjub.commit(12, 345), *G]
