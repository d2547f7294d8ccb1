"""snarkjs, run as a process, reads what we export: it verifies our proof, checks our witness, and proves with our key.

It shares no code with us: JavaScript and WebAssembly, written by others. It proves `transfer`, which is looked into closely,
and `period`, the smallest; of every circuit it verifies a proof and checks a witness.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from openmg.zk import pyecc_verify
from openmg.zk.backend import get_backend
from openmg.zk.circuits import period, transfer
from openmg.zk.export.example import EXAMPLES, example
from openmg.zk.export.snarkjs_json import parse_proof
from openmg.zk.export.writer import export
from openmg.zk.export.wtns_file import wtns_bytes
from openmg.zk.keys import ensure_keys
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


def proved_by(snarkjs, circuit: str, folder: Path, place: Path) -> Made:
    """snarkjs proves the statement exported to `folder` and writes to `place`."""
    zkey, wtns, proof, public = (
        folder / f"{circuit}.zkey",
        folder / f"{circuit}.wtns",
        place / "proof.json",
        place / "public.json",
    )
    done = snarkjs.run("groth16", "prove", zkey, wtns, proof, public)
    assert done.returncode == 0, done.stdout + done.stderr
    publics = [int(value) for value in json.loads(public.read_text())]
    return Made(publics, parse_proof(json.loads(proof.read_text())).to_bytes())


@pytest.fixture(scope="module")
def made_by_snarkjs(snarkjs, folder, tmp_path_factory) -> Made:
    return proved_by(snarkjs, transfer.NAME, folder, tmp_path_factory.mktemp("made"))


def verified(snarkjs, key: Path, publics: Path, proof: Path) -> bool:
    done = snarkjs.run("groth16", "verify", key, publics, proof)
    assert ("OK!" in done.stdout) == (done.returncode == 0), done.stdout + done.stderr
    assert done.returncode == 0 or "Invalid proof" in done.stdout, done.stdout + done.stderr
    return done.returncode == 0


def accepts_only_its_publics(snarkjs, folder: Path, place: Path) -> None:
    """snarkjs takes the exported proof for its public inputs, and not with one bit of the last of them changed."""
    key, proof, publics = (folder / name for name in ("verification_key.json", "proof.json", "public.json"))
    assert verified(snarkjs, key, publics, proof)
    values = json.loads(publics.read_text())
    flipped = place / "flipped.json"
    flipped.write_text(json.dumps([*values[:-1], str(int(values[-1]) ^ 1)]))
    assert not verified(snarkjs, key, flipped, proof)


def test_snarkjs_accepts_our_proof_and_refuses_it_for_other_public_inputs(snarkjs, folder, tmp_path):
    accepts_only_its_publics(snarkjs, folder, tmp_path)


@pytest.mark.parametrize("circuit", sorted(set(EXAMPLES) - {transfer.NAME}))
def test_snarkjs_accepts_proof_and_witness_of_every_other_circuit(snarkjs, key_cache, tmp_path, circuit):
    for form in ("snarkjs", "iden3"):
        export(circuit, form, tmp_path, get_backend(), cache_dir=key_cache, seed=SEED)
    accepts_only_its_publics(snarkjs, tmp_path, tmp_path)
    right = snarkjs.run("wtns", "check", tmp_path / f"{circuit}.r1cs", tmp_path / f"{circuit}.wtns")
    assert right.returncode == 0 and "WITNESS IS CORRECT" in right.stdout, right.stdout + right.stderr


def test_snarkjs_proves_the_smallest_circuit_with_our_zkey(snarkjs, key_cache, tmp_path):
    export(period.NAME, "iden3", tmp_path, get_backend(), cache_dir=key_cache, seed=SEED)
    made = proved_by(snarkjs, period.NAME, tmp_path, tmp_path)
    assert made.publics == list(example(period.NAME, SEED)().publics)
    verifying_key = ensure_keys(period.NAME, key_cache).verifying_key
    assert pyecc_verify.verify(verifying_key, made.publics, made.proof)
    assert not pyecc_verify.verify(verifying_key, [*made.publics[:-1], made.publics[-1] ^ 1], made.proof)


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
