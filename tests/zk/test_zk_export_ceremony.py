"""The .zkey of a ceremony's key: nobody knows its secrets, and snarkjs proves with it all the same.

The ceremony is a real one for `period`, the smallest circuit. Derivation of H is compared with its definition on the
development key, whose secrets are published.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openmg.zk import groth16, msm, ntt, pyecc_verify
from openmg.zk.backend import get_backend
from openmg.zk.ceremony import phase1, phase2
from openmg.zk.ceremony.arithmetic import arithmetic_of, silent
from openmg.zk.ceremony.verification import key_bytes
from openmg.zk.circuits import period
from openmg.zk.circuits.registry import circuit_named
from openmg.zk.export.example import example
from openmg.zk.export.snarkjs_json import parse_proof
from openmg.zk.export.writer import export
from openmg.zk.export.zkey_file import odd_lagrange_points_of_ceremony
from openmg.zk.field import R, invert
from openmg.zk.groth16 import Toxic
from openmg.zk.keys import DEVELOPMENT_SEED, KeysError, ensure_keys
from openmg.zk.proving_key import ProvingKeyFile
from workbench.cli import app
from workbench.zk.snarkjs import SnarkjsMissing, find_snarkjs

pytestmark = pytest.mark.slow

SEED = bytes(range(2, 34))


@dataclass(frozen=True)
class Held:
    """The key of a ceremony that was held for the test."""

    path: Path
    sha256: bytes

    @property
    def key(self) -> ProvingKeyFile:
        return ProvingKeyFile(self.path)


@pytest.fixture(scope="module")
def development(key_cache):
    return ensure_keys(period.NAME, key_cache)


@pytest.fixture(scope="module")
def held(tmp_path_factory) -> Held:
    """One party in each phase and a beacon; the secrets are drawn and forgotten."""
    draw, arithmetic = random.SystemRandom(), arithmetic_of(get_backend())
    system = circuit_named(period.NAME).build()

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(2, R) for _ in range(count))

    powers = phase1.start(system.domain_log2)
    powers = phase1.contribute(powers, "Ada", phase1.TauSecrets(*some(3), some(3)), arithmetic, silent)
    key = phase2.prepare(powers, period.NAME, system, arithmetic, silent)
    key = phase2.contribute(key, "Bea", phase2.DeltaSecret(*some(2)), arithmetic, silent)
    key = phase2.apply_beacon(key, "a public draw", bytes(32), 4, arithmetic, silent)
    data = key_bytes(key, system)
    path = tmp_path_factory.mktemp("ceremony") / "period.pk"
    path.write_bytes(data)
    return Held(path, hashlib.sha256(data).digest())


def exported(*options: object):
    return CliRunner().invoke(app, ["zk", "export", "--circuit", "period", *map(str, options)])


def test_h_from_the_key_is_h_from_the_secrets_without_the_power_that_no_key_holds(development):
    """L_(2i+1) less its coefficient of tau^(n-1), w^(2i+1) / 2n, both times Z(tau) / delta, from the published secrets."""
    key = ProvingKeyFile(development.path)
    toxic = Toxic.from_seed(DEVELOPMENT_SEED, key.header.circuit_hash)
    tau, log2 = toxic.tau, key.header.domain_log2
    n = 1 << log2
    points = odd_lagrange_points_of_ceremony(key, arithmetic_of(get_backend()))
    assert len(points) == 64 * n
    vanishing, by_delta = pow(tau, n, R) - 1, invert(toxic.delta, R)
    for i in (0, 1, n // 2, n - 1):
        node = pow(ntt.root_of_unity(log2 + 1), 2 * i + 1, R)
        whole = vanishing * (pow(tau, n, R) + 1) * node * invert(2 * n * (tau - node), R)
        top = vanishing * node * invert(2 * n, R) * pow(tau, n - 1, R)
        assert points[64 * i : 64 * i + 64] == groth16.g1_fixed_base([(whole - top) * by_delta % R])


@pytest.mark.parametrize("degree_too_high", [False, True])
def test_h_of_a_ceremonys_key_gives_the_sum_of_the_key_for_any_quotient(held, degree_too_high):
    """sum h_i [tau^i Z / delta] = sum -2 h(w^(2i+1)) H_i below degree n - 1; no quotient of a circuit has a higher one."""
    log2 = held.key.header.domain_log2
    n = 1 << log2
    draw = random.Random(6)
    h = [draw.randrange(R) for _ in range(n)]
    root = ntt.root_of_unity(log2 + 1)
    values = h if degree_too_high else [*h[:-1], 0]
    on_odd_nodes = [sum(c * p for c, p in zip(values, ntt.powers(pow(root, 2 * i + 1, R), n), strict=True)) for i in range(n)]
    ours = msm.sum_of_multiples(msm.points_from_bytes(held.key.section("H"), 2, 0), h[:-1])
    points = odd_lagrange_points_of_ceremony(held.key, arithmetic_of(get_backend()))
    theirs = msm.sum_of_multiples(msm.points_from_bytes(points, 2, 0), [-2 * value % R for value in on_odd_nodes])
    assert ours is not None and ours == theirs, "the missing power counts for nothing, whatever its coefficient"


def test_both_arithmetics_derive_the_same_h(held, native):
    portable = arithmetic_of(get_backend("portable"))
    assert odd_lagrange_points_of_ceremony(held.key, portable) == odd_lagrange_points_of_ceremony(
        held.key, arithmetic_of(native)
    )


def test_the_exported_proof_holds_under_the_ceremonys_key_and_not_under_the_development_key(held, development, tmp_path):
    result = exported("--out", tmp_path, "--key", held.path, "--sha256", "0x" + held.sha256.hex())
    assert result.exit_code == 0, result.stderr
    publics = [int(value) for value in json.loads((tmp_path / "public.json").read_text())]
    proof = parse_proof(json.loads((tmp_path / "proof.json").read_text())).to_bytes()
    assert pyecc_verify.verify(held.key.verifying_key, publics, proof)
    assert not pyecc_verify.verify(development.verifying_key, publics, proof)


def test_snarkjs_proves_with_the_zkey_of_a_ceremonys_key(held, tmp_path):
    try:
        snarkjs = find_snarkjs()
    except SnarkjsMissing as error:
        pytest.skip(str(error))
    for form in ("snarkjs", "iden3"):
        options = {"key_file": held.path, "key_sha256": held.sha256, "seed": SEED}
        export(period.NAME, form, tmp_path, get_backend(), **options)
    made, publics = tmp_path / "made.json", tmp_path / "made_public.json"
    done = snarkjs.run("groth16", "prove", tmp_path / "period.zkey", tmp_path / "period.wtns", made, publics)
    assert done.returncode == 0, done.stdout + done.stderr
    stated = [int(value) for value in json.loads(publics.read_text())]
    assert stated == list(example(period.NAME, SEED)().publics)
    proof = parse_proof(json.loads(made.read_text())).to_bytes()
    assert groth16.verify(held.key.verifying_key, stated, proof)
    assert not groth16.verify(held.key.verifying_key, [*stated[:-1], stated[-1] ^ 1], proof)
    done = snarkjs.run("groth16", "verify", tmp_path / "verification_key.json", publics, made)
    assert done.returncode == 0 and "OK!" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("sha256", "code", "why"),
    [
        ("", 2, "--key and --sha256 go together"),
        ("ab" * 31, 2, "--sha256 takes 64 hex digits"),
        ("no hex", 2, "--sha256 takes 64 hex digits"),
        ("ab" * 32, 1, "not the written-down one"),
    ],
)
def test_a_key_is_exported_only_with_the_digest_that_was_written_down(held, tmp_path, sha256, code, why):
    out = tmp_path / "out"
    result = exported("--out", out, "--key", held.path, *(["--sha256", sha256] if sha256 else []))
    assert (result.exit_code, result.stdout) == (code, "") and why in result.stderr
    assert not out.exists()


def test_a_development_key_is_not_exported_as_a_ceremonys(development, tmp_path):
    with pytest.raises(KeysError, match="is the development key of period"):
        export(period.NAME, "iden3", tmp_path, get_backend(), key_file=development.path, key_sha256=development.sha256)


def test_a_digest_without_a_key_is_refused(tmp_path):
    result = exported("--out", tmp_path / "out", "--sha256", "ab" * 32)
    assert result.exit_code == 2 and "go together" in result.stderr
