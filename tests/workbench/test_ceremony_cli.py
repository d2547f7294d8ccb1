"""`openmg zk ceremony` as processes and files: a ceremony of three parties, and what its commands refuse."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "zk"))

from ceremony_cases import NAMES, cube_system, cube_wires  # noqa: E402
from zk_cases import R_BLIND, S_BLIND  # noqa: E402

from openmg.zk import groth16, pyecc_verify  # noqa: E402
from openmg.zk.ceremony.circuit_file import circuit_bytes  # noqa: E402
from openmg.zk.ceremony.files import read_transcript  # noqa: E402
from openmg.zk.proving_key import ProvingKeyFile  # noqa: E402
from workbench.cli import app  # noqa: E402

PTAU = Path(__file__).resolve().parents[1] / "zk" / "test_zk_ceremony_snarkjs.ptau"
PTAU_SHA256 = hashlib.sha256(PTAU.read_bytes()).hexdigest()
BEACON = "0x" + "ab" * 32
COMMAND = [sys.executable, "-m", "workbench.cli", "zk", "ceremony"]


def process(*arguments: object, typed: str = "something typed\n") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=typed, capture_output=True, text=True, check=False)


def called(*arguments: object, typed: str = "") -> tuple[int, str, str]:
    """The same command within this process, for refusals that are many."""
    result = CliRunner().invoke(app, ["zk", "ceremony", *map(str, arguments)], input=typed)
    return result.exit_code, result.stdout, result.stderr


class Held:
    """A ceremony in a folder: both phases, three parties in each, through the command line alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.circuit = folder / "cube.circuit"
        self.circuit.write_bytes(circuit_bytes(cube_system()))
        self.published: list[str] = []
        self.files = {"start": folder / "start"}
        self.good("init", "--power", 3, "--out", self.files["start"])
        tau = self.parties("tau", self.files["start"])
        self.files["prepared"] = folder / "prepared"
        self.good("init", "--circuit", self.circuit, "--phase1", tau, "--out", self.files["prepared"])
        self.delta = self.parties("delta", self.files["prepared"], "--circuit", self.circuit)
        self.keys = folder / "keys"
        final = ("--beacon", BEACON, "--hashes-log2", 6, "--name", "a public draw", "--circuit", self.circuit)
        done = process("finalise", self.delta, "--out", self.keys, *final)
        assert done.returncode == 0, done  # what takes longer than two seconds tells of its progress
        self.said = done.stdout
        self.transcript = self.keys / "cube.ceremony"

    def good(self, *arguments: object) -> str:
        code, said, complaint = called(*arguments, typed="something typed\n")
        assert (code, complaint) == (0, ""), complaint
        return said

    def parties(self, phase: str, file: Path, *options: object) -> Path:
        for name in NAMES:
            out = self.folder / f"{phase}-{name}"
            said = self.good("contribute", file, "--name", name, "--out", out, *options)
            self.published.append(said.split()[-1])
            self.files[f"{phase}-{name}"] = file = out
        return file


@pytest.fixture(scope="module")
def held(tmp_path_factory) -> Held:
    return Held(tmp_path_factory.mktemp("held"))


@pytest.mark.slow
def test_three_parties_make_keys_that_py_ecc_accepts(held):
    key = ProvingKeyFile(held.keys / "cube.pk")
    proof = groth16.PortableProver(key).prove(cube_wires(5), R_BLIND, S_BLIND).to_bytes()
    assert pyecc_verify.verify(key.verifying_key, [135], proof)
    assert not pyecc_verify.verify(key.verifying_key, [136], proof)


def test_what_finalise_leaves_agrees(held):
    manifest = json.loads((held.keys / "cube.json").read_text())
    key = ProvingKeyFile(held.keys / "cube.pk")
    digest = "0x" + key.verifying_key.digest().hex()
    assert manifest["verifying_key_hash"] == digest and held.said.endswith(f"verifying-key hash: {digest}\n")
    assert manifest["proving_key_sha256"] == hashlib.sha256((held.keys / "cube.pk").read_bytes()).hexdigest()
    assert manifest["transcript_sha256"] == hashlib.sha256(held.transcript.read_bytes()).hexdigest()
    source = (held.keys / "CubeVerifier.sol").read_text()
    assert f"KEY_HASH = {digest};" in source and "DEVELOPMENT_KEYS = false" in source
    assert f"CIRCUIT_HASH = {manifest['circuit_hash']};" in source
    assert sorted(os.listdir(held.keys)) == ["CubeVerifier.sol", "cube.ceremony", "cube.json", "cube.pk"]
    assert [one["hash"] for one in manifest["contributions"]][:-1] == held.published


def test_anybody_verifies_the_transcript_from_the_circuit_alone(held):
    done = process("verify", held.transcript, "--circuit", held.circuit, "--key", held.keys / "cube.pk", "--json")
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    digest = ProvingKeyFile(held.keys / "cube.pk").verifying_key.digest().hex()
    assert report["valid"] and report["final"] and report["verifying_key_hash"] == "0x" + digest
    assert [one["name"] for one in report["contributions"]] == [*NAMES, *NAMES, "a public draw"]
    code, text, _ = called("verify", held.transcript, "--circuit", held.circuit)
    assert code == 0 and text.endswith(f"valid and final; verifying-key hash: 0x{digest}\n")


def test_everybody_finds_the_own_contribution_again(held):
    for published in (held.published[0], held.published[-1]):
        assert called("verify", held.transcript, "--circuit", held.circuit, "--contains", published)[0] == 0
    code, text, why = called("verify", held.transcript, "--circuit", held.circuit, "--contains", "00" * 32)
    assert (code, text) == (1, "") and "it was left out" in why


def test_each_step_continues_the_one_before(held):
    steps = [held.files[f"delta-{name}"] for name in NAMES]
    for earlier, later in zip([held.files["prepared"], *steps], [*steps, held.transcript], strict=True):
        assert called("verify", later, "--circuit", held.circuit, "--after", earlier)[0] == 0
    code, _, why = called("verify", steps[0], "--circuit", held.circuit, "--after", steps[1])
    assert code == 1 and "its history is another" in why


def test_an_unfinished_ceremony_says_that_its_keys_are_not_for_use(held):
    for file, options in ((held.files["tau-Cho"], ()), (held.delta, ("--circuit", held.circuit))):
        code, text, _ = called("verify", file, *options)
        assert code == 0 and text.endswith("valid, not final: its keys are not for use\n")
        assert json.loads(called("verify", file, *options, "--json")[1])["verifying_key_hash"] is None


def test_one_changed_byte_anywhere_is_refused(held, tmp_path):
    """Every 601st byte of the final file: account, proofs, points of every section."""
    data = held.transcript.read_bytes()
    path = tmp_path / "changed"
    for i in range(0, len(data), 601):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        code, text, why = called("verify", path, "--circuit", held.circuit)
        assert (code, text) == (1, "") and len(why.splitlines()) == 1, (i, why)


def test_a_ceremony_from_a_public_file(held, tmp_path):
    start, done = tmp_path / "start", tmp_path / "done"
    public = ("--ptau", PTAU, "--ptau-hash", PTAU_SHA256)
    code, said, _ = called("init", "--circuit", held.circuit, *public, "--out", start)
    assert code == 0 and "phase 2 of cube, 2^3 powers" in said
    assert called("contribute", start, "--circuit", held.circuit, "--name", "Ada", "--out", done, typed="x\n")[0] == 0
    code, text, _ = called("verify", done, "--circuit", held.circuit, "--ptau", PTAU)
    assert code == 0 and f"powers of tau: .ptau file with sha256 {PTAU_SHA256}" in text
    code, _, why = called("verify", held.transcript, "--circuit", held.circuit, "--ptau", PTAU)
    assert code == 1 and "our own" in why
    other = "00" + PTAU_SHA256[2:]
    code, _, why = called("init", "--circuit", held.circuit, "--ptau", PTAU, "--ptau-hash", other, "--out", tmp_path / "x")
    assert code == 1 and "not the given one" in why and not (tmp_path / "x").exists()


def test_powers_that_are_not_the_named_files_are_noticed(held, tmp_path):
    """A coordinator takes its own tau, names a public file as the origin, and lets honest parties contribute."""
    from dataclasses import replace

    from openmg.zk.ceremony.transcript import Origin

    own = read_transcript(held.files["tau-Cho"])
    posing = replace(own, taus=(), origin=Origin(3, "sha256", bytes.fromhex(PTAU_SHA256)))
    files = [tmp_path / name for name in ("posing", "prepared", "given")]
    files[0].write_bytes(posing.to_bytes())
    assert called("init", "--circuit", held.circuit, "--phase1", files[0], "--out", files[1])[0] == 0
    options = ("--circuit", held.circuit)
    assert called("contribute", files[1], *options, "--name", "Ada", "--out", files[2], typed="x\n")[0] == 0
    assert called("verify", files[2], *options)[0] == 0
    code, _, why = called("verify", files[2], *options, "--ptau", PTAU)
    assert code == 1 and "are not those of" in why


def test_a_terminal_is_asked_without_echo(held, tmp_path):
    """What a party types must not stand on the screen, and an argument would stand in the shell's history."""
    out = tmp_path / "out"
    master, slave = pty.openpty()
    arguments = ["contribute", str(held.files["start"]), "--name", "Dan", "--out", str(out)]
    with subprocess.Popen([*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as child:
        os.close(slave)
        seen = b""
        while b"nobody can guess: " not in seen:  # the last space follows when echo is off
            seen += os.read(master, 1024)
        os.write(master, b"hunter2 dice 4 4 1\n")
        while True:
            try:
                part = os.read(master, 1024)
            except OSError:
                break
            if not part:
                break
            seen += part
        assert child.wait(60) == 0
    os.close(master)
    assert b"publish this hash: 0x" in seen and b"hunter2" not in seen and out.exists()


def test_equal_words_give_other_contributions(held, tmp_path):
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        assert called("contribute", held.files["start"], "--name", "Ada", "--out", out, typed="same\n")[0] == 0
    first, second = (read_transcript(out).taus[0] for out in outs)
    assert first.tau1 != second.tau1 and first.alpha1 != second.alpha1 and first.beta1 != second.beta1


def refusals(held: Held, out: Path):
    circuit = ("--circuit", held.circuit)
    to = ("--out", out)
    final = ("--beacon", BEACON, "--hashes-log2", 4)
    start, prepared = held.files["start"], held.files["prepared"]
    return {
        "no circuit": (("init", "--circuit", "cubes", *to), 1, "is no circuit"),
        "phase 1 without a contribution": (("init", *circuit, "--phase1", start, *to), 1, "anybody knows its tau"),
        "phase 2 from phase 2": (("init", *circuit, "--phase1", prepared, *to), 1, "already of phase 2"),
        "a key as phase 1": (("init", *circuit, "--phase1", held.keys / "cube.pk", *to), 1, "no ceremony file"),
        "too many powers": (("init", "--power", 22, *to), 1, "2^1 to 2^21"),
        "nothing to start": (("init", *to), 2, "give --circuit"),
        "two starts": (("init", *circuit, "--power", 3, *to), 2, "give --circuit"),
        "no hash": (("init", *circuit, "--ptau", PTAU, *to), 2, "go together"),
        "no hex": (("init", *circuit, "--ptau", PTAU, "--ptau-hash", "xyz", *to), 2, "not hex"),
        "no name": (("contribute", start, "--name", "", *to), 1, "printable"),
        "a file that is there": (("contribute", start, "--name", "A", "--out", start), 1, "not written over"),
        "no circuit given": (("contribute", prepared, "--name", "A", *to), 1, "give its file with --circuit"),
        "after the end": (("contribute", held.transcript, *circuit, "--name", "A", *to), 1, "is final"),
        "final twice": (("finalise", held.transcript, *circuit, *final, *to), 1, "is final"),
        "nobody contributed": (("finalise", prepared, *circuit, *final, *to), 1, "contribute first"),
        "phase 1 has no keys": (("finalise", start, *final, *to), 1, "of phase 1"),
        "a short beacon": (("finalise", held.delta, *circuit, "--beacon", "00", *to), 1, "beacon has 16 to"),
        "another circuit": (("verify", held.transcript, "--circuit", "transfer"), 1, "not for the given one"),
        "another key": (("verify", held.transcript, *circuit, "--key", PTAU), 1, "not the proving key"),
        "no file": (("verify", out), 1, "cannot be read"),
        "no such backend": (("verify", start, "--backend", "fast"), 2, "fast"),
    }


def test_a_refusal_is_one_sentence_and_leaves_no_file(held, tmp_path):
    out = tmp_path / "out"
    for name, (arguments, code, why) in refusals(held, out).items():
        found, said, complaint = called(*arguments, typed="x\n")
        assert (found, said) == (code, "") and why in complaint, (name, complaint)
        if code == 1:
            assert len(complaint.splitlines()) == 1, name
        assert not out.exists(), name


def test_finalise_writes_over_no_keys(held):
    final = ("--beacon", BEACON, "--hashes-log2", 4, "--circuit", held.circuit)
    code, _, why = called("finalise", held.delta, *final, "--out", held.keys)
    assert code == 1 and "not written over" in why


def test_a_tampered_contribution_is_not_built_upon(held, tmp_path):
    """Whoever contributes checks first, so that no honest name stands over a rotten start."""
    data = bytearray(held.files["delta-Ada"].read_bytes())
    data[-1] ^= 1
    bad = tmp_path / "bad"
    bad.write_bytes(data)
    for command in (
        ("contribute", bad, "--name", "Bea", "--out", tmp_path / "out"),
        ("finalise", bad, "--beacon", BEACON, "--hashes-log2", 4, "--out", tmp_path / "out"),
    ):
        code, _, why = called(*command, "--circuit", held.circuit, typed="x\n")
        assert code == 1 and "refuse this file" in why and not (tmp_path / "out").exists()
