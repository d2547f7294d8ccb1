"""`openmg zk verify` as a process: exit code 0 for a proof that holds, 1 for one that does not, 2 for what is no proof."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "zk"))

from zk_cases import R_BLIND, S_BLIND, Cases, assignment  # noqa: E402

from openmg.zk import curve  # noqa: E402
from openmg.zk.backend import get_backend  # noqa: E402
from openmg.zk.circuits import transfer  # noqa: E402
from openmg.zk.field import R  # noqa: E402
from openmg.zk.keys import ensure_keys  # noqa: E402
from openmg.zk.proof import Proof, VerifyingKey  # noqa: E402
from workbench.cli import app  # noqa: E402


@pytest.fixture(scope="module")
def cache(key_cache: Path) -> Path:
    return key_cache


@pytest.fixture(scope="module")
def document(cache: Path) -> dict[str, object]:
    """A proof file's content, made by the fastest backend."""
    witness, backend = Cases(seed=5).unshield(), get_backend("auto")
    key = ensure_keys(transfer.NAME, cache, backend)
    proof = backend.prover(key.path).prove(assignment(witness), R_BLIND, S_BLIND)
    publics = [hex(value) for value in transfer.publics_of(witness).as_list()]
    return {"circuit": transfer.NAME, "proof": "0x" + proof.hex(), "publics": publics}


def verify(path: Path, cache: Path, *options: str) -> Result:
    """The command in this process; its start as a program costs more than what most tests here ask of it."""
    return CliRunner(env={"OPENMG_CACHE": str(cache)}).invoke(app, ["zk", "verify", str(path), *options])


@pytest.fixture
def check(tmp_path: Path, cache: Path):
    """Verifies a document, or text that is none."""

    def run(content: object, *options: str) -> Result:
        path = tmp_path / "proof.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return verify(path, cache, *options)

    return run


def test_a_proof_that_holds(check, document, cache):
    done = check(document)
    key = "0x" + ensure_keys(transfer.NAME, cache).verifying_key.digest().hex()
    said = f"valid under the development key, which anybody can forge with ({key})\n"
    assert (done.exit_code, done.stdout, done.stderr) == (0, said, "")
    as_json = check(document, "--json")
    assert as_json.exit_code == 0
    assert json.loads(as_json.stdout) == {"valid": True, "key": key, "development": True}


def test_the_program_ends_with_the_code_of_its_command(document, cache, tmp_path):
    path = tmp_path / "proof.json"
    for content, code in ((document, 0), ({"circuit": "transfer"}, 2)):
        path.write_text(json.dumps(content))
        command = [sys.executable, "-m", "workbench.cli", "zk", "verify", str(path)]
        environment = os.environ | {"OPENMG_CACHE": str(cache)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stdout) == (code, verify(path, cache).stdout)


def test_a_proof_of_something_else(check, document):
    publics = list(document["publics"])
    publics[-1] = hex(int(publics[-1], 16) ^ 1)
    done = check(document | {"publics": publics})
    assert (done.exit_code, done.stderr) == (1, "") and done.stdout.startswith("not valid under the development key")


def test_a_damaged_proof(check, document):
    proof = bytearray.fromhex(str(document["proof"])[2:])
    proof[-1] ^= 1
    done = check(document | {"proof": proof.hex()}, "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["valid"] is False


def test_a_forgery_under_a_key_of_the_files_own_is_not_passed_off_as_ours(check, document):
    """Whoever makes a key can prove anything under it: the secrets of this one are in the test."""
    alpha, beta, gamma, delta = 3, 5, 7, 11
    publics = list(range(9))
    g1, g2 = curve.G1, curve.G2
    points = [curve.multiply_g1(g1, 13 + i) for i in range(10)]
    key = VerifyingKey(
        curve.multiply_g1(g1, alpha), *(curve.multiply_g2(g2, secret) for secret in (beta, gamma, delta)), tuple(points)
    )
    inputs = 13 + sum((14 + i) * value for i, value in enumerate(publics))
    # a b = alpha beta + inputs gamma + c delta with a = 1, b = 1
    c = (1 - alpha * beta - inputs * gamma) * pow(delta, -1, R) % R
    proof = Proof(g1, g2, curve.multiply_g1(g1, c)).to_bytes()
    forged = document | {"proof": proof.hex(), "publics": publics, "vk": key.to_bytes().hex()}
    done = check(forged)
    assert (done.exit_code, done.stdout) == (0, f"valid under a key of the file's own (0x{key.digest().hex()})\n")
    assert json.loads(check(forged, "--json").stdout)["development"] is False
    assert check(forged | {"vk": None}).exit_code == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is not a proof file"),
        ({"circuit": "transfer"}, "needs the keys"),
        ("[]", "needs the keys"),
        ("", "is not a proof file"),
    ],
)
def test_what_is_no_proof_file(check, content, why):
    done = check(content)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert why in line and "proof.json" in line


def test_a_deeply_nested_file_is_no_proof_file(check):
    done = check("[" * 50_000)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path, cache):
    done = verify(tmp_path / "none.json", cache)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "") and "cannot be read" in line


def test_no_place_for_keys_is_one_sentence(check, document, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder of keys should be")
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(document))
    done = verify(path, blocked)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "") and "set OPENMG_CACHE" in line
