"""Damaged key files: each is refused with one sentence that names the file and the place, whatever the damage."""

import random
import struct

import pytest
from groth16_oracle import R, le

pytestmark = pytest.mark.native

Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583
TOO_LARGE = (1 << 256) - 1


@pytest.fixture
def refused(native, tmp_path):
    path = tmp_path / "damaged.key"

    def check(data, problem):
        path.write_bytes(data)
        with pytest.raises(ValueError) as caught:
            native.Prover(path)
        sentence = str(caught.value)
        assert sentence.startswith(f"the proving key {path} ")
        assert problem in sentence
        assert sentence.endswith(": delete it and run the set-up again")

    return check


def sizes(wires=5, public=1, log2=6, constraints=58):
    return struct.pack("<4I", wires, public, log2, constraints)


def test_a_file_that_is_not_there_is_named(native, tmp_path):
    sentence = r"^cannot open the proving key .*gone\.key \(No such file.*\): run the set-up first$"
    with pytest.raises(ValueError, match=sentence):
        native.Prover(tmp_path / "gone.key")


def test_a_folder_is_not_a_key(native, tmp_path):
    with pytest.raises(ValueError, match=r"^the proving key "):
        native.Prover(tmp_path)


def test_another_magic_is_refused(small, refused):
    refused(small.key.bytes(magic=b"OMGPK\0\0\2"), "is not a version 1 proving key")
    refused(b"", "ends inside the magic")


def test_a_file_cut_anywhere_is_refused(small, refused):
    whole = small.key.bytes()
    start = 0
    for section in small.key.sections.values():
        refused(whole[:start], "ends inside")
        refused(whole[: start + len(section) - 1], "ends inside")
        start += len(section)


def test_bytes_after_the_end_are_refused(small, refused):
    refused(small.key.bytes() + b"\0", "has 1 bytes too many at its end")


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (sizes(log2=5), "has a domain of 2^5 for 60 rows"),
        (sizes(log2=23), "has a domain of 2^23"),
        (sizes(log2=TOO_LARGE & 0xFFFFFFFF), "has a domain of 2^4294967295"),
        (sizes(constraints=63), "has a domain of 2^6 for 65 rows"),
        (sizes(constraints=0xFFFFFFFF), "has a domain of 2^6 for 4294967297 rows"),
        (sizes(wires=0, public=0), "has 0 wires of which 0 are public"),
        (sizes(wires=1, public=1), "has 1 wires of which 1 are public"),
        (sizes(wires=0xFFFFFFFF), "has 4294967295 wires"),
        (sizes(wires=(1 << 22) - 1), "ends inside A"),
        (sizes(constraints=57), "has 58 rows in matrix A for 57 constraints"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_anything_is_allocated(small, refused, header, problem):
    refused(small.key.bytes(sizes=header), problem)


@pytest.mark.parametrize("matrix", ["a", "b", "c"])
def test_matrices_are_checked(small, refused, matrix):
    name = f"matrix {matrix.upper()}"
    parts = small.key.sections
    rows = list(struct.unpack("<59I", parts[f"{matrix}_rows"]))
    for damaged in ([1, *rows[1:]], [*rows[:-1], rows[-1] + 1], [rows[0], rows[2], rows[1] - 1, *rows[3:]]):
        data = small.key.bytes(**{f"{matrix}_rows": struct.pack("<59I", *damaged)})
        refused(data, f"has row pointers out of order in {name}")
    columns = struct.pack("<I", 5) + parts[f"{matrix}_columns"][4:]
    refused(small.key.bytes(**{f"{matrix}_columns": columns}), f"names a wire that does not exist in {name}")
    coefficients = R.to_bytes(32, "little") + parts[f"{matrix}_coefficients"][32:]
    refused(
        small.key.bytes(**{f"{matrix}_coefficients": coefficients}),
        f"has a field element that is too large in {name}",
    )
    entries = struct.pack("<2I", 58, 0xFFFFFFFF)
    refused(small.key.bytes(**{f"{matrix}_sizes": entries}), f"has row pointers out of order in {name}")


@pytest.mark.parametrize("section", ["g1", "g2", "A", "B1", "B2", "L", "H", "IC"])
def test_coordinates_above_the_modulus_are_refused(small, refused, section):
    data = small.key.sections[section]
    refused(
        small.key.bytes(**{section: Q.to_bytes(32, "little") + data[32:]}),
        "has a field element that is too large in",
    )


def test_no_damage_does_more_than_a_value_error(native, small, tmp_path):
    """Points are not checked, so a damaged one gives a proof that fails; nothing may panic or read out of bounds."""
    rng, path, whole = random.Random(12), tmp_path / "damaged.key", small.key.bytes()
    witness, blinding, public = le(small.witness), le([1]), le(small.publics)
    outcomes = {"refused": 0, "proved": 0}
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 2, 40])):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
        path.write_bytes(data)
        try:
            prover = native.Prover(path)
            proof = prover.prove(witness, blinding, blinding)
            native.verify(prover.vk(), public, proof)
            outcomes["proved"] += 1
        except ValueError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10
