"""The parts of a ceremony: its arithmetic, the .ptau reader, proofs of knowledge, randomness, files."""

import hashlib
import os
import random
import secrets
import struct
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from ceremony_cases import LOG2, Known, cube_system, cube_wires, ecc_g1, ecc_g2, lagrange_products, naive_key
from zk_cases import R_BLIND, S_BLIND

from openmg import codec
from openmg.hashing import keccak256
from openmg.zk import curve, groth16, pyecc_verify
from openmg.zk.backend import get_backend
from openmg.zk.ceremony import files, knowledge, phase1, phase2, ptau, verification
from openmg.zk.ceremony.arithmetic import LONG_ROW, NativeArithmetic, PortableArithmetic, arithmetic_of, silent
from openmg.zk.ceremony.circuit_file import circuit_bytes, circuit_from_bytes, load_circuit
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.output import contract_name
from openmg.zk.ceremony.randomness import Pool, hashed_beacon
from openmg.zk.ceremony.sparse import GROUP1, GROUP2, matrix_of, point_of
from openmg.zk.ceremony.transcript import Transcript
from openmg.zk.ceremony.transform import scaled_lagrange
from openmg.zk.circuits import transfer
from openmg.zk.field import Q, R
from openmg.zk.keys import KeysError, ensure_keys, open_ceremony_key
from openmg.zk.proving_key import ProvingKeyFile
from openmg.zk.r1cs import Matrix, circuit_hash

PTAU = Path(__file__).with_name("test_zk_ceremony_snarkjs.ptau")
"""Made by snarkjs 0.7.5: `powersoftau new bn128 3`, two contributions and a beacon."""
PTAU_BLAKE2B = bytes.fromhex(
    "1873ee90e03447819e8f5a337b787bc5656bc8c16b8e84a37b568a6a3315f82b"
    "a599b512063c648abde74f41fe629b2d017c23995de2e41a4761f1cf087352b6"
)


@pytest.fixture(scope="module")
def arithmetic():
    return arithmetic_of(get_backend("auto"))


@pytest.fixture(scope="module", params=["portable", pytest.param("native", marks=pytest.mark.native)])
def each(request):
    """Both arithmetics in turn."""
    if request.param == "portable":
        return PortableArithmetic()
    made = arithmetic_of(request.getfixturevalue("native"))
    assert isinstance(made, NativeArithmetic)
    return made


# Arithmetic


POINTS = [0, 1, 2, 3, 3, R - 3, 5, 0, 1 << 200]
"""Multiples of the generator: infinity twice, a point twice, and its negative."""
EDGES = [0, 1, R - 1, 2, R - 2, 8, 16, 17, (R - 1) // 2, (R + 1) // 2, 1 << 252, R // 3]


def sample_matrix():
    """Rows of nothing, of one entry each with every edge, of sums that cancel, and of everything."""
    rows = [[], [(3, 1), (5, 1)], [(3, 7), (4, R - 7)], [(3, 1), (3, 1)], [(0, 5), (7, 9)]]
    rows += [[(6, edge)] for edge in EDGES] + [[(8, edge), (2, R - 1)] for edge in EDGES]
    drawn = random.Random(3)
    return rows + [[(k, drawn.randrange(R)) for k in range(len(POINTS))]]


@pytest.mark.parametrize("group", [GROUP1, GROUP2], ids=["G1", "G2"])
def test_combinations_are_those_of_py_ecc(each, group):
    ecc = ecc_g1 if group is GROUP1 else ecc_g2
    rows = sample_matrix()
    expected = ecc([sum(POINTS[column] * factor for column, factor in row) for row in rows])
    assert each.combinations(group, ecc(POINTS), matrix_of(rows), silent) == expected


@pytest.mark.parametrize("group", [GROUP1, GROUP2], ids=["G1", "G2"])
def test_a_total_is_that_of_py_ecc(each, group):
    ecc = ecc_g1 if group is GROUP1 else ecc_g2
    drawn = random.Random(4)
    factors = [drawn.randrange(R) for _ in POINTS]
    total = sum(p * f for p, f in zip(POINTS, factors, strict=True))
    assert each.total(group, ecc(POINTS), factors) == point_of(group, ecc([total]))
    assert each.total(group, ecc([3, R - 3]), [5, 5]) is None
    assert each.total(group, b"", []) is None


def test_long_rows_go_another_way_and_give_the_same(each):
    points = groth16.g1_fixed_base(range(1, 2 * LONG_ROW))
    rows = [[(k, k + 1) for k in range(2 * LONG_ROW - 1)], [(0, 1), (0, 2)]]
    expected = ecc_g1([sum((k + 1) * factor for k, factor in row) for row in rows])
    assert each.combinations(GROUP1, points, matrix_of(rows), silent) == expected


def test_no_rows_are_no_points(each):
    assert each.combinations(GROUP1, ecc_g1([1]), Matrix(array("I", [0]), array("I"), []), silent) == b""


def test_the_transform_gives_lagrange_polynomials(each):
    tau, n = 12345678901234567890, 1 << LOG2
    expected = [n * value for value in lagrange_products(tau, LOG2)]
    for group, ecc in ((GROUP1, ecc_g1), (GROUP2, ecc_g2)):
        powers = ecc([pow(tau, i, R) for i in range(n)])
        assert scaled_lagrange(group, powers, LOG2, each, silent) == ecc(expected)


def test_long_work_says_how_far_it_is():
    said = []
    PortableArithmetic().combinations(GROUP1, ecc_g1([1, 2]), matrix_of([[(0, R // 3)], [(1, R // 5)]]), said.append)
    assert said[0] == "0 %" and said[-1] == "98 %" and len(said) == 64


# .ptau


def test_a_file_of_snarkjs_is_read_and_is_powers_of_one_tau(arithmetic):
    origin, sections = ptau.read_powers(PTAU, PTAU_BLAKE2B, 3)
    assert (origin.log2, origin.algorithm, origin.digest) == (3, "blake2b", PTAU_BLAKE2B)
    phase1.check(Transcript(3, origin, None, (), (), sections), arithmetic, secrets.randbelow, silent)
    by_sha = ptau.read_powers(PTAU, hashlib.sha256(PTAU.read_bytes()).digest(), 3)
    assert by_sha[1] == sections and by_sha[0].algorithm == "sha256"


def test_a_ceremony_over_powers_of_snarkjs(arithmetic, tmp_path):
    """Nobody here knows its tau: the keys are shown to be right by proofs that py_ecc accepts."""
    origin, sections = ptau.read_powers(PTAU, PTAU_BLAKE2B, 3)
    system = cube_system()
    transcript = phase2.prepare(Transcript(3, origin, None, (), (), sections), "cube", system, arithmetic, silent)
    transcript = phase2.contribute(transcript, "Ada", phase2.DeltaSecret(3, 5), arithmetic, silent)
    transcript = phase2.apply_beacon(transcript, "beacon", bytes(32), 0, arithmetic, silent)
    verification.verify(transcript, system, arithmetic, secrets.randbelow, silent)
    path = tmp_path / "cube.pk"
    path.write_bytes(verification.key_bytes(transcript, system))
    key = ProvingKeyFile(path)
    proof = groth16.PortableProver(key).prove(cube_wires(4), R_BLIND, S_BLIND).to_bytes()
    assert pyecc_verify.verify(key.verifying_key, [73], proof)


def test_a_part_of_a_file_is_taken(arithmetic):
    origin, sections = ptau.read_powers(PTAU, PTAU_BLAKE2B, 2)
    assert origin.log2 == 3 and {name: len(data) for name, data in sections.items()} == {
        "tau1": 7 * 64, "tau2": 4 * 128, "alpha1": 4 * 64, "beta1": 4 * 64, "beta2": 128,
    }  # fmt: skip
    phase1.check(Transcript(2, origin, None, (), (), sections), arithmetic, secrets.randbelow, silent)


def section_start(data, wanted):
    offset = 12
    while True:
        kind, size = struct.unpack_from("<IQ", data, offset)
        if kind == wanted:
            return offset + 12
        offset += 12 + size


def changed_ptau(data, how):
    data = bytearray(data)
    if how == "magic":
        data[0] ^= 1
    elif how == "version":
        data[4] = 2
    elif how == "curve":
        data[section_start(data, 1) + 4] ^= 1
    elif how == "power":
        data[section_start(data, 1) + 36] = 4
    elif how == "cut":
        del data[section_start(data, 6) + 100 :]
    elif how == "twice":
        struct.pack_into("<I", data, section_start(data, 3) - 12, 2)
    elif how == "missing":
        struct.pack_into("<I", data, section_start(data, 6) - 12, 66)
    elif how == "unreduced":
        start = section_start(data, 4)
        value = int.from_bytes(data[start : start + 32], "little") + Q
        data[start : start + 32] = value.to_bytes(32, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("magic", "no .ptau file"),
        ("version", "no .ptau file"),
        ("curve", "another curve"),
        ("power", "section 2 of .* has 960 bytes instead of 1984"),
        ("cut", "cut off"),
        ("twice", "section 2 twice"),
        ("missing", "section 6 of"),
        ("unreduced", "not below the field's modulus"),
    ],
)
def test_a_file_that_is_none_is_refused_even_with_its_own_hash(tmp_path, how, why):
    path = tmp_path / "bad.ptau"
    path.write_bytes(changed_ptau(PTAU.read_bytes(), how))
    with pytest.raises(CeremonyError, match=why):
        ptau.read_powers(path, hashlib.sha256(path.read_bytes()).digest(), 3)


def test_a_file_with_another_hash_is_refused(tmp_path):
    path = tmp_path / "other.ptau"
    path.write_bytes(PTAU.read_bytes()[:-1] + b"\0")
    with pytest.raises(CeremonyError, match="not the given one"):
        ptau.read_powers(path, PTAU_BLAKE2B, 3)
    with pytest.raises(CeremonyError, match="BLAKE2b-512 or SHA-256"):
        ptau.read_powers(PTAU, PTAU_BLAKE2B[:20], 3)
    with pytest.raises(CeremonyError, match="take a larger file"):
        ptau.read_powers(PTAU, PTAU_BLAKE2B, 4)
    with pytest.raises(CeremonyError, match="cannot be read"):
        ptau.read_powers(tmp_path / "none", PTAU_BLAKE2B, 3)


def test_a_public_file_whose_points_are_not_powers_is_refused(tmp_path, arithmetic):
    """Two powers exchanged, under the hash of that very file: who publishes the hash need not be honest."""
    data = bytearray(PTAU.read_bytes())
    start = section_start(data, 2) + 2 * 64
    data[start : start + 128] = data[start + 64 : start + 128] + data[start : start + 64]
    path = tmp_path / "exchanged.ptau"
    path.write_bytes(data)
    origin, sections = ptau.read_powers(path, hashlib.sha256(data).digest(), 3)
    with pytest.raises(CeremonyError, match="tau1 does not hold the powers of one tau"):
        phase1.check(Transcript(3, origin, None, (), (), sections), arithmetic, secrets.randbelow, silent)


# Proofs of knowledge


def test_a_proof_of_knowledge_holds_for_its_own_statement_only():
    base = curve.multiply_g1(curve.G1, 77)
    image, other = curve.multiply_g1(base, 5), curve.multiply_g1(base, 6)
    proof = knowledge.prove(base, 5, 1234, b"here")
    assert knowledge.holds(base, image, proof, b"here")
    again = knowledge.Knowledge.from_bytes(proof.to_bytes())
    assert knowledge.holds(base, image, again, b"here")
    assert not knowledge.holds(base, image, proof, b"there")
    assert not knowledge.holds(base, other, proof, b"here")
    assert not knowledge.holds(curve.G1, image, proof, b"here")
    assert not knowledge.holds(base, image, replace(proof, response=(proof.response + 1) % R), b"here")
    assert not knowledge.holds(base, image, replace(proof, commitment=curve.G1), b"here")


def test_a_proof_of_knowledge_shows_nothing_of_an_old_nonce():
    """Response = nonce + challenge * secret, with the challenge of exactly this text: recomputed here from outside."""
    proof = knowledge.prove(curve.G1, 5, 9, b"context")
    points = ecc_g1([1, 5, 9])
    material = b"openmg.zk.ceremony.knowledge.v1\0" + points + keccak256(b"context")
    challenge = int.from_bytes(keccak256(material + b"\0") + keccak256(material + b"\1"), "big") % R
    assert proof.response == (9 + challenge * 5) % R


# Randomness


def test_typed_text_and_system_randomness_both_matter(monkeypatch):
    with Pool("same") as one, Pool("same") as two:
        assert one.scalar() != two.scalar()
    monkeypatch.setattr(secrets, "token_bytes", lambda count: bytes(range(1, count + 1)))
    with Pool("same") as one, Pool("same") as two, Pool("sane") as other:
        first, second = one.scalar(), one.scalar()
        assert first == two.scalar() != other.scalar() and first != second
        assert all(2 <= value < R for value in (first, second))


def test_a_seed_is_overwritten_and_then_gives_nothing():
    with Pool("typed") as pool:
        pool.scalar()
        seed = pool._seed
        assert any(seed)
    assert not any(seed) and len(seed) > 64
    with pytest.raises(ValueError, match="wiped"):
        pool.scalar()


def test_a_beacon_is_hashed_two_to_the_n_times():
    value = bytes(range(16))
    once = hashlib.sha256(value).digest()
    assert hashed_beacon(value, 0) == once
    assert hashed_beacon(value, 1) == hashlib.sha256(once).digest()
    for beacon, log2 in ((b"short", 1), (value, 33), (value, -1), (value, True)):
        with pytest.raises(CeremonyError, match="beacon"):
            hashed_beacon(beacon, log2)


# Circuits and files


def test_a_circuit_file_hashes_to_the_circuits_name(tmp_path):
    system = cube_system()
    data = circuit_bytes(system)
    assert keccak256(data) == circuit_hash(system)
    path = tmp_path / "cube.circuit"
    path.write_bytes(data)
    name, read = load_circuit(str(path))
    assert name == "cube" and circuit_hash(read) == circuit_hash(system)
    assert load_circuit("transfer")[0] == "transfer"
    with pytest.raises(CeremonyError, match="name the file by letters"):
        load_circuit(str(tmp_path / "two words.circuit"))
    with pytest.raises(CeremonyError, match="name one of .*transfer"):
        load_circuit(str(tmp_path / "none"))


def test_every_damage_to_a_circuit_file_is_seen():
    """Whatever byte changes, the file is refused or is another circuit with another hash; no third thing."""
    data = circuit_bytes(cube_system())
    for i in range(len(data)):
        changed = data[:i] + bytes([data[i] ^ 255]) + data[i + 1 :]
        try:
            system = circuit_from_bytes(changed, "file")
        except CeremonyError:
            continue
        assert circuit_hash(system) == keccak256(changed) != keccak256(data)
    for bad in (data[:-1], data + b"\0", data[:40], b""):
        with pytest.raises(CeremonyError, match="no circuit file"):
            circuit_from_bytes(bad, "file")


@pytest.fixture(scope="module")
def known(arithmetic) -> Known:
    return Known(arithmetic)


def with_head(data: bytes, change) -> bytes:
    """The file with its account changed by a function."""
    size = struct.unpack_from("<I", data, 8)[0]
    document = codec.decode(data[12 : 12 + size])
    change(document)
    head = codec.encode(document)
    return data[:8] + struct.pack("<I", len(head)) + head + data[12 + size :]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(log2=2),
        lambda d: d.update(log2=22),
        lambda d: d.update(log2=0),
        lambda d: d["origin"].update(log2=2),
        lambda d: d["origin"].update(algorithm="sha256"),
        lambda d: d["origin"].update(algorithm="md5"),
        lambda d: d["origin"].update(algorithm="sha256", digest=bytes(32)),
        lambda d: d["circuit"].update(public=64),
        lambda d: d["circuit"].update(wires=1 << 30),
        lambda d: d["circuit"].update(hash=b""),
        lambda d: d["circuit"].update(name="../cube"),
        lambda d: d["circuit"].update(name="cube\n"),
        lambda d: d["circuit"].update(constraints=-1),
        lambda d: d.update(circuit=None),
        lambda d: d.pop("taus"),
        lambda d: d.update(deltas=d["taus"]),
        lambda d: d.update(taus=d["taus"] * 400),
        lambda d: d["deltas"][0].update(name="\x1b[2J"),
        lambda d: d["deltas"][0].update(name="n" * 65),
        lambda d: d["deltas"][0].update(extra=1),
        lambda d: d["deltas"][0].update(delta1=bytes(63)),
        lambda d: d["deltas"][0].update(proof=bytes(95)),
        lambda d: d["deltas"][-1].update(log2=33),
        lambda d: d["deltas"][-1].update(beacon=b"short"),
        lambda d: d["taus"][0].update(proofs=[]),
    ],
)
def test_an_account_that_cannot_be_is_refused(known, change):
    with pytest.raises(CeremonyError):
        Transcript.from_bytes(with_head(known.final.to_bytes(), change), "file")
    assert Transcript.from_bytes(with_head(known.final.to_bytes(), lambda d: None), "file") == known.final


def test_a_damaged_file_is_refused(known):
    data = known.final.to_bytes()
    for bad, why in (
        (data[:-1], "cut off or too long"),
        (data + b"\0", "cut off or too long"),
        (data[:11], "no ceremony file"),
        (b"OMGPK" + data[5:], "no ceremony file"),
        (data[:12] + b"\xff" + data[13:], "no readable account"),
    ):
        with pytest.raises(CeremonyError, match=f"^file .*{why}"):
            Transcript.from_bytes(bad, "file")


def test_no_file_is_written_over(tmp_path):
    path = tmp_path / "made" / "file"
    files.write_new(path, b"first")
    with pytest.raises(CeremonyError, match="is not written over"):
        files.write_new(path, b"second")
    assert path.read_bytes() == b"first" and os.listdir(path.parent) == ["file"]
    with pytest.raises(CeremonyError, match="cannot be written"):
        files.write_new(path / "below", b"")


def test_contract_names():
    assert [contract_name(name) for name in ("transfer", "my-cube_2", "2cubes")] == ["Transfer", "MyCube2", "Circuit2cubes"]


# Keys of a ceremony in use


def test_a_ceremony_key_is_opened_by_its_written_down_digest(known, tmp_path):
    path = tmp_path / "transfer.pk"
    path.write_bytes(verification.key_bytes(known.final, known.system))
    digest = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(KeysError, match="not the written-down one"):
        open_ceremony_key(transfer.NAME, path, bytes(32))
    with pytest.raises(KeysError, match="of another circuit"):
        open_ceremony_key(transfer.NAME, path, digest)
    with pytest.raises(KeysError, match="cannot be read"):
        open_ceremony_key(transfer.NAME, tmp_path / "none", digest)


def test_a_development_key_is_not_opened_as_a_ceremonys(transfer_key):
    with pytest.raises(KeysError, match="is the development key"):
        open_ceremony_key(transfer.NAME, transfer_key.path, transfer_key.sha256)


def test_naive_key_and_set_up_agree(tmp_path):
    """The oracle itself, against the development set-up with gamma = 1 left to it: A, B and H do not know gamma."""
    system = cube_system()
    path = tmp_path / "cube.pk"
    path.write_bytes(groth16.setup(system, b"seed", groth16.g1_fixed_base, groth16.g2_fixed_base))
    toxic = groth16.Toxic.from_seed(b"seed", circuit_hash(system))
    naive = naive_key(system, toxic.tau, toxic.alpha, toxic.beta, toxic.delta)
    file = ProvingKeyFile(path)
    assert all(file.section(name) == naive[name] for name in ("A", "B1", "B2", "L", "H", "delta2", "alpha1"))


@pytest.mark.slow
@pytest.mark.native
@pytest.mark.timeout(1200)
def test_a_ceremony_for_transfer_in_files(tmp_path, key_cache):
    """Phase 1 of 2^14 powers, two parties, beacon, proof: the whole of it through the command line."""
    from zk_cases import Cases, assignment

    def run(*arguments, typed="typed\n"):
        command = [sys.executable, "-m", "workbench.cli", "zk", "ceremony", *map(str, arguments)]
        done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    steps = [tmp_path / f"step{i}" for i in range(5)]
    run("init", "--circuit", "transfer", "--out", steps[0])
    run("contribute", steps[0], "--name", "Ada", "--out", steps[1])
    began = run("init", "--circuit", "transfer", "--phase1", steps[1], "--out", steps[2])
    assert "transform of tau1" in began.stderr
    run("contribute", steps[2], "--name", "Ada", "--out", steps[3])
    run("contribute", steps[3], "--name", "Bea", "--out", steps[4])
    keys = tmp_path / "keys"
    run("finalise", steps[4], "--beacon", "00" * 32, "--hashes-log2", "10", "--out", keys)
    run("verify", keys / "transfer.ceremony", "--key", keys / "transfer.pk", "--after", steps[3])
    digest = hashlib.sha256((keys / "transfer.pk").read_bytes()).digest()
    key = open_ceremony_key(transfer.NAME, keys / "transfer.pk", digest)
    assert not key.development and key.verifying_key != ensure_keys(transfer.NAME, key_cache).verifying_key
    witness = Cases().transfer()
    proof = get_backend("native").prover(key.path).prove(assignment(witness), R_BLIND, S_BLIND)
    assert pyecc_verify.verify(key.verifying_key, transfer.publics_of(witness).as_list(), proof)
