"""What is exported, decoded again by readers that are written here from the formats' descriptions."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace

import pytest

from openmg.zk import curve, groth16, msm, ntt
from openmg.zk.backend import get_backend
from openmg.zk.circuits import period, transfer
from openmg.zk.curve import PointError
from openmg.zk.export import snarkjs_json
from openmg.zk.export.example import example
from openmg.zk.export.writer import ExportError, export
from openmg.zk.export.zkey_file import odd_lagrange_points, zkey_bytes
from openmg.zk.field import Q, R, invert
from openmg.zk.groth16 import Toxic
from openmg.zk.keys import DEVELOPMENT_SEED, ensure_keys
from openmg.zk.proof import Proof
from openmg.zk.proving_key import ProvingKeyFile

SEED = bytes(range(32))
MONTGOMERY = 1 << 256


def sections_of(data: bytes, kind: bytes, version: int) -> dict[int, bytes]:
    """Reads the container: every byte is accounted for."""
    assert (data[:4], *struct.unpack_from("<II", data, 4)[:1]) == (kind, version)
    (count,), place, found = struct.unpack_from("<I", data, 8), 12, {}
    for _ in range(count):
        number, length = struct.unpack_from("<IQ", data, place)
        found[number] = data[place + 12 : place + 12 + length]
        place += 12 + length
    assert place == len(data) and len(found) == count
    return found


def numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 32], "little") for i in range(0, len(data), 32)]


def plain(data: bytes) -> list[int]:
    """Coordinates out of Montgomery form."""
    back = pow(MONTGOMERY, -1, Q)
    return [value * back % Q for value in numbers(data)]


@pytest.fixture(scope="module")
def fastest():
    return get_backend("auto")


@pytest.fixture(scope="module")
def statement():
    return example(transfer.NAME, SEED)()


@pytest.fixture(scope="module")
def key(transfer_key) -> ProvingKeyFile:
    return ProvingKeyFile(transfer_key.path)


@pytest.fixture(scope="module")
def iden3(transfer_key, key_cache, tmp_path_factory, fastest):
    folder = tmp_path_factory.mktemp("iden3")
    export(transfer.NAME, "iden3", folder, fastest, cache_dir=key_cache, seed=SEED)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def test_an_example_is_true_and_a_function_of_its_seed(system, statement):
    assert system.first_unsatisfied(statement.wires) is None
    assert list(statement.wires[1:10]) == list(statement.publics)
    assert example(transfer.NAME, SEED)() == statement
    other = example(transfer.NAME, bytes(32))()
    assert not set(other.publics[:5]) & set(statement.publics)


def test_there_is_no_example_without_a_circuit_and_a_whole_seed():
    with pytest.raises(ValueError, match="no example of a circuit 'mint2'; use one of .*transfer"):
        example("mint2", SEED)
    with pytest.raises(ValueError, match="has 32 bytes, not 31"):
        example(transfer.NAME, SEED[1:])


def test_without_a_seed_the_statement_is_a_fresh_one(key_cache, transfer_key, tmp_path, fastest):
    said = []
    first, second = (
        export(transfer.NAME, "snarkjs", tmp_path / name, fastest, cache_dir=key_cache, progress=said.append)
        for name in ("first", "second")
    )
    assert [path.name for path in first] == ["verification_key.json", "proof.json", "public.json"]
    assert first[0].read_bytes() == second[0].read_bytes()
    publics = [set(json.loads(paths[2].read_text())) - {"0"} for paths in (first, second)]
    assert len(publics[0]) == 6 and not publics[0] & publics[1]
    assert said == [f"proving ({fastest.name})"] * 2


def test_the_exported_proof_holds(transfer_key, key_cache, tmp_path, fastest, portable):
    paths = export(transfer.NAME, "snarkjs", tmp_path, fastest, cache_dir=key_cache)
    proof, publics = (json.loads(path.read_text()) for path in paths[1:])
    values = [int(value) for value in publics]
    assert portable.verify(transfer_key.verifying_key, values, snarkjs_json.parse_proof(proof).to_bytes())
    values[-1] ^= 1
    assert not portable.verify(transfer_key.verifying_key, values, snarkjs_json.parse_proof(proof).to_bytes())


def test_a_proof_survives_its_json():
    proof = Proof(curve.G1, curve.G2, curve.add_g1(curve.G1, curve.G1))
    assert snarkjs_json.parse_proof(json.loads(json.dumps(snarkjs_json.proof(proof)))) == proof


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocol": "plonk"}, "not of groth16"),
        ({"curve": "bls12381"}, "not of groth16"),
        ({"pi_a": ["0", "1", "0"]}, "not finite"),
        ({"pi_b": [["0", "0"], ["1", "0"], ["0", "0"]]}, "not finite"),
        ({"pi_c": ["1", "3", "1"]}, "A or C is not a finite point"),
        ({"pi_a": [str(Q + 1), "2", "1"]}, "A or C is not a finite point"),
        ({"pi_a": [str(1 << 256), "2", "1"]}, "below 2"),
        ({"pi_a": ["-1", "2", "1"]}, "below 2"),
        ({"pi_c": ["1", "2"]}, "no proof.json"),
        ({"pi_c": ["one", "2", "1"]}, "no proof.json"),
        ({"pi_b": None}, "no proof.json"),
    ],
)
def test_json_that_is_no_proof_is_refused(change, why):
    document = snarkjs_json.proof(Proof(curve.G1, curve.G2, curve.G1)) | change
    with pytest.raises(PointError, match=why):
        snarkjs_json.parse_proof(document)


def test_r1cs_holds_the_matrices(iden3, system):
    found = sections_of(iden3[".r1cs"], b"r1cs", 1)
    size, prime = struct.unpack("<I32s", found[1][:36])
    assert (size, int.from_bytes(prime, "little")) == (32, R)
    assert struct.unpack("<4IQI", found[1][36:]) == (13870, 0, 9, 13860, 13870, 13829)
    assert struct.unpack("<13870Q", found[3]) == tuple(range(13870))
    data, place = found[2], 0
    for row in range(system.n_constraints):
        for matrix in (system.a, system.b, system.c):
            (count,) = struct.unpack_from("<I", data, place)
            place += 4
            read = []
            for _ in range(count):
                (wire,) = struct.unpack_from("<I", data, place)
                read.append((wire, int.from_bytes(data[place + 4 : place + 36], "little")))
                place += 36
            start, end = matrix.row_start[row], matrix.row_start[row + 1]
            assert read == list(zip(matrix.columns[start:end], matrix.coefficients[start:end], strict=True))
    assert place == len(data)


def test_wtns_holds_the_witness(iden3, statement):
    found = sections_of(iden3[".wtns"], b"wtns", 2)
    assert found[1] == struct.pack("<I", 32) + R.to_bytes(32, "little") + struct.pack("<I", 13870)
    assert numbers(found[2]) == list(statement.wires)


def test_zkey_holds_the_points_of_the_key(iden3, key):
    found = sections_of(iden3[".zkey"], b"zkey", 1)
    assert sorted(found) == list(range(1, 11)) and found[1] == struct.pack("<I", 1)
    head = found[2]
    fields = struct.pack("<I", 32) + Q.to_bytes(32, "little") + struct.pack("<I", 32) + R.to_bytes(32, "little")
    assert head[:84] == fields + struct.pack("<3I", 13870, 9, 1 << 14)
    names = ("alpha1", "beta1", "beta2", "gamma2", "delta1", "delta2")
    assert plain(head[84:]) == numbers(b"".join(key.section(name) for name in names))
    for number, name in ((3, "IC"), (5, "A"), (6, "B1"), (7, "B2"), (8, "L")):
        assert plain(found[number]) == numbers(key.section(name)), name
    assert found[10] == bytes(64 + 4), "a key without a ceremony has no contributions"


def test_zkey_holds_a_and_b_with_the_consistency_rows(iden3, system):
    data = sections_of(iden3[".zkey"], b"zkey", 1)[4]
    (count,), back = struct.unpack_from("<I", data), pow(MONTGOMERY, -2, R)
    assert len(data) == 4 + 44 * count
    found: set[tuple[int, int, int, int]] = set()
    for place in range(4, len(data), 44):
        number, row, wire = struct.unpack_from("<3I", data, place)
        found.add((number, row, wire, int.from_bytes(data[place + 12 : place + 44], "little") * back % R))
    expected = {(0, system.n_constraints + i, i, 1) for i in range(10)}
    for number, matrix in enumerate((system.a, system.b)):
        for row in range(matrix.rows):
            for k in range(matrix.row_start[row], matrix.row_start[row + 1]):
                expected.add((number, row, matrix.columns[k], int(matrix.coefficients[k])))
    assert found == expected and count == len(expected)


@pytest.mark.parametrize("circuit", [period.NAME, pytest.param(transfer.NAME, marks=pytest.mark.slow)])
def test_h_of_the_zkey_gives_the_sum_of_the_key_for_any_quotient(circuit, key_cache, tmp_path, fastest):
    """sum h_i [tau^i Z / delta] = sum (h Z)(w^(2i+1)) H_i for a random h below degree n - 1, Z being -2 on those nodes.

    No secret of the key is used: for a wrong basis the sums differ.
    """
    export(circuit, "iden3", tmp_path, fastest, cache_dir=key_cache, seed=SEED)
    (zkey,), key = tmp_path.glob("*.zkey"), ProvingKeyFile(ensure_keys(circuit, key_cache).path)
    n = 1 << key.header.domain_log2
    draw = random.Random(5)
    h = [draw.randrange(R) for _ in range(n - 1)] + [0]
    root = ntt.root_of_unity(key.header.domain_log2 + 1)
    shifted = [value * power % R for value, power in zip(h, ntt.powers(root, n), strict=True)]
    order = ntt.bit_reversed(key.header.domain_log2)
    on_odd_nodes = ntt.evaluations([shifted[i] for i in order], key.header.domain_log2)
    node = pow(root, 2 * 3 + 1, R)
    assert (on_odd_nodes[3] - sum(c * pow(node, i, R) for i, c in enumerate(h[:-1]))) % R == 0
    ours = msm.sum_of_multiples(msm.points_from_bytes(key.section("H"), 2, 0), h[:-1])
    points = b"".join(value.to_bytes(32, "little") for value in plain(sections_of(zkey.read_bytes(), b"zkey", 1)[9]))
    theirs = msm.sum_of_multiples(msm.points_from_bytes(points, 2, 0), [-2 * value % R for value in on_odd_nodes])
    assert ours is not None and ours == theirs


def test_h_is_not_derived_from_another_seed(key, portable):
    toxic = Toxic.from_seed(DEVELOPMENT_SEED + b"!", key.header.circuit_hash)
    with pytest.raises(ValueError, match="was not made from this seed"):
        odd_lagrange_points(key, toxic, portable.g1_fixed_base)
    right = Toxic.from_seed(DEVELOPMENT_SEED, key.header.circuit_hash)
    with pytest.raises(ValueError, match="was not made from this seed"):
        odd_lagrange_points(key, replace(right, delta=right.delta + 1), portable.g1_fixed_base)


def test_h_is_the_same_points_from_either_backend(key, native):
    toxic = Toxic.from_seed(DEVELOPMENT_SEED, key.header.circuit_hash)
    tau, n = toxic.tau, 1 << key.header.domain_log2
    points = odd_lagrange_points(key, toxic, native.g1_fixed_base)
    root = ntt.root_of_unity(key.header.domain_log2 + 1)
    for i in (0, 1, n - 1):  # the definition: (tau^2n - 1) node / (2n (tau - node) delta)
        node = pow(root, 2 * i + 1, R)
        scalar = (pow(tau, 2 * n, R) - 1) * node * invert(2 * n * (tau - node) * toxic.delta, R) % R
        assert points[64 * i : 64 * i + 64] == groth16.g1_fixed_base([scalar])


def test_a_zkey_needs_a_point_for_each_row(key):
    with pytest.raises(ValueError, match="a domain of 16384 rows needs 1048576"):
        zkey_bytes(key, bytes(64 * ((1 << 14) - 1)))


def test_an_export_that_cannot_be_written_is_one_sentence(transfer_key, key_cache, tmp_path, fastest):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(ExportError, match="cannot be written to .*blocked .*choose another folder"):
        export(transfer.NAME, "snarkjs", blocked, fastest, cache_dir=key_cache)
    with pytest.raises(ValueError, match="no format 'circom'; use one of iden3, snarkjs"):
        export(transfer.NAME, "circom", tmp_path / "new", fastest, cache_dir=key_cache)
    assert not (tmp_path / "new").exists()
