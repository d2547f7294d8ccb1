"""snarkjs, run as a process, reads what we export: it verifies our proof, checks our witness, and proves with our key.

It shares no code with us: JavaScript and WebAssembly, written by others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from openmg.zk import pyecc_verify
from openmg.zk.backend import get_backend
from openmg.zk.circuits import transfer
from openmg.zk.export.example import example
from openmg.zk.export.snarkjs_json import parse_proof
from openmg.zk.export.writer import export
from openmg.zk.export.wtns_file import wtns_bytes
from workbench.zk.snarkjs import SnarkjsMissing, find_snarkjs

SEED = bytes(range(1, 33))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def snarkjs():
    try:
        return find_snarkjs()
    except SnarkjsMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(snarkjs, transfer_key, key_cache, tmp_path_factory) -> Path:
    """One statement in both formats."""
    place = tmp_path_factory.mktemp("exported")
    for form in ("snarkjs", "iden3"):
        export(transfer.NAME, form, place, get_backend(), cache_dir=key_cache, seed=SEED)
    return place


@dataclass(frozen=True)
class Made:
    """What snarkjs wrote."""

    publics: list[int]
    proof: bytes


@pytest.fixture(scope="module")
def made_by_snarkjs(snarkjs, folder, tmp_path_factory) -> Made:
    place = tmp_path_factory.mktemp("made")
    done = snarkjs.run(
        "groth16", "prove", folder / "transfer.zkey", folder / "transfer.wtns", place / "proof.json", place / "public.json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    publics = [int(value) for value in json.loads((place / "public.json").read_text())]
    return Made(publics, parse_proof(json.loads((place / "proof.json").read_text())).to_bytes())


def verified(snarkjs, key: Path, publics: Path, proof: Path) -> bool:
    done = snarkjs.run("groth16", "verify", key, publics, proof)
    assert ("OK!" in done.stdout) == (done.returncode == 0), done.stdout + done.stderr
    assert done.returncode == 0 or "Invalid proof" in done.stdout, done.stdout + done.stderr
    return done.returncode == 0


def test_snarkjs_accepts_our_proof_and_refuses_it_for_other_public_inputs(snarkjs, folder, tmp_path):
    key, proof, publics = (folder / name for name in ("verification_key.json", "proof.json", "public.json"))
    assert verified(snarkjs, key, publics, proof)
    values = json.loads(publics.read_text())
    flipped = tmp_path / "flipped.json"
    flipped.write_text(json.dumps([*values[:-1], str(int(values[-1]) ^ 1)]))
    assert not verified(snarkjs, key, flipped, proof)


def test_our_verification_key_is_what_snarkjs_exports_from_our_zkey(snarkjs, folder, tmp_path):
    theirs = tmp_path / "theirs.json"
    done = snarkjs.run("zkey", "export", "verificationkey", folder / "transfer.zkey", theirs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(theirs.read_text()) == json.loads((folder / "verification_key.json").read_text())


def test_snarkjs_finds_our_witness_right_and_a_changed_one_wrong(snarkjs, folder, tmp_path):
    right = snarkjs.run("wtns", "check", folder / "transfer.r1cs", folder / "transfer.wtns")
    assert right.returncode == 0 and "WITNESS IS CORRECT" in right.stdout, right.stdout + right.stderr
    wires = list(example(transfer.NAME, SEED)().wires)
    wires[-1] += 1  # the square of ext
    changed = tmp_path / "changed.wtns"
    changed.write_bytes(wtns_bytes(wires))
    wrong = snarkjs.run("wtns", "check", folder / "transfer.r1cs", changed)
    assert "WITNESS IS NOT CORRECT" in wrong.stdout and "at constraint 13828" in wrong.stdout, wrong.stdout + wrong.stderr


@pytest.mark.parametrize("backend", ["portable", "native"])
def test_our_verifiers_accept_a_proof_that_snarkjs_makes_with_our_zkey(made_by_snarkjs, transfer_key, backend, request):
    verifier = request.getfixturevalue(backend)
    assert made_by_snarkjs.publics == list(example(transfer.NAME, SEED)().publics)
    assert verifier.verify(transfer_key.verifying_key, made_by_snarkjs.publics, made_by_snarkjs.proof)
    others = [*made_by_snarkjs.publics[:-1], made_by_snarkjs.publics[-1] ^ 1]
    assert not verifier.verify(transfer_key.verifying_key, others, made_by_snarkjs.proof)


def test_py_ecc_accepts_a_proof_that_snarkjs_makes_with_our_zkey(made_by_snarkjs, transfer_key):
    assert pyecc_verify.verify(transfer_key.verifying_key, made_by_snarkjs.publics, made_by_snarkjs.proof)
