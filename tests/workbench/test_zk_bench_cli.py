"""`openmg zk bench` and `openmg-agent doctor --bench` print one row, whose memory is the prover's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_agent.cli import main as agent_main
from openmg.zk import memory
from openmg.zk.backend import BackendError, get_backend
from openmg.zk.circuits import period, transfer
from openmg.zk.export.example import EXAMPLES
from openmg.zk.keys import ensure_keys
from workbench.cli import app

KEYS = {"backend", "prove_seconds_median", "witness_seconds_median", "verify_seconds_median", "rss_mb", "threads"}
ZK_BENCH = ("-m", "workbench.cli", "zk", "bench")
DOCTOR = ("-m", "edge_agent.cli", "doctor", "--bench")


@pytest.fixture(scope="module")
def cache(key_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the key of the transfer circuit alone: what else is in it afterwards was asked for."""
    folder, made = tmp_path_factory.mktemp("bench-cache"), ensure_keys(transfer.NAME, key_cache).path
    (folder / "zk").mkdir()
    (folder / "zk" / made.name).symlink_to(made)
    return folder


@pytest.fixture
def run(cache: Path):
    def python(*arguments: str, cache: Path = cache) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OPENMG_CACHE": str(cache)}
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)

    return python


@pytest.fixture(scope="module")
def native() -> None:
    try:
        get_backend("native")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("program", [ZK_BENCH, DOCTOR])
def test_the_row_as_json_and_the_progress_beside_it(run, program):
    done = run(*program, "--runs", "1", "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row.keys() == KEYS and row["backend"] in ("native", "portable") and row["threads"] >= 1
    assert all(row[name] > 0 for name in KEYS - {"backend", "threads"})
    assert f"{row['backend']}: proof 1 of 1 in" in done.stderr


@pytest.mark.parametrize(
    "circuit", [pytest.param(c, marks=() if c == period.NAME else pytest.mark.slow) for c in sorted(EXAMPLES)]
)
def test_every_circuit_is_measured_by_both_programs(run, cache, circuit, monkeypatch):
    done = run(*ZK_BENCH, "--circuit", circuit, "--runs", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prove_seconds_median"] > 0
    monkeypatch.setenv("OPENMG_CACHE", str(cache))
    assert agent_main(["doctor", "--bench", "--circuit", circuit, "--runs", "1"]) == 0
    assert list(cache.glob(f"**/{circuit}-*.pk")), "the key of this circuit was taken, not another's"


@pytest.mark.native
def test_the_row_in_words_is_of_the_backend_that_was_asked_for(run, native):
    done = run(*ZK_BENCH, "--backend", "native", "--runs", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("native, ") and " MB" in done.stdout and done.stdout.count("\n") == 1
    assert "proof 2 of 2" in done.stderr


@pytest.mark.skipif(not memory.STATUS.exists(), reason="without /proc a child's peak counts its parent's memory along")
def test_the_memory_is_not_that_of_the_program_that_asks(run):
    script = (
        "held = bytes([1]) * 400_000_000\n"
        "from openmg.zk.bench import measure\n"
        "from openmg.zk.memory import peak_rss_mb\n"
        "print(measure('transfer', 'auto', 1).rss_mb, peak_rss_mb(), len(held))\n"
    )
    done = run("-c", script)
    assert done.returncode == 0, done.stderr
    prover, asking, _ = map(float, done.stdout.split())
    assert 20 < prover < 300 and asking > 400


@pytest.fixture
def refused(monkeypatch, tmp_path, capsys):
    """Both programs in this process, since they refuse before they measure: exit code and the sentence they say."""

    def call(program: tuple[str, ...], *options: str) -> tuple[int, list[str]]:
        if program == DOCTOR:
            try:
                code = agent_main(["doctor", "--bench", *options])
            except SystemExit as usage:
                code = int(usage.code or 0)
            said = capsys.readouterr()
            return code, said.err.splitlines()
        result = CliRunner().invoke(app, ["zk", "bench", *options])
        assert result.stdout == ""
        return result.exit_code, result.stderr.splitlines()

    monkeypatch.setenv("OPENMG_CACHE", str(tmp_path / "blocked"))
    (tmp_path / "blocked").write_text("a file where the folder of keys should be")
    return call


@pytest.mark.parametrize("program", [ZK_BENCH, DOCTOR])
def test_what_cannot_be_measured_is_one_sentence(refused, program):
    for runs in ("0", "101"):
        assert refused(program, "--runs", runs) == (2, [f"runs is {runs}; choose 1 to 100"])
    code, (*_, line) = refused(program, "--runs", "1")
    assert code == 1 and "set OPENMG_CACHE" in line
    code, lines = refused(program, "--backend", "gpu")
    assert code == 2 and any("gpu" in line for line in lines)


@pytest.mark.parametrize("program", [ZK_BENCH, DOCTOR])
def test_an_unknown_circuit_is_one_sentence(refused, program):
    code, (line,) = refused(program, "--circuit", "transfers")
    assert code == 2 and "no example of a circuit 'transfers'" in line


def test_doctor_without_bench_still_needs_a_config(capsys):
    assert agent_main(["doctor"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "give --config FILE" in said.err


def agent_file(folder: Path, keys: Path) -> Path:
    """A configuration with a wallet that proves portably with the keys of a folder of its own."""
    path = folder / "agent.toml"
    path.write_text(
        '[device]\nname = "home-1"\nkey_file = "device.key"\nstate_dir = "state"\n'
        '[meter]\nhost = "127.0.0.1"\n[mqtt]\nurl = "mqtt://127.0.0.1:1883"\n'
        f'[hub]\noperator = "0x{"11" * 20}"\nchain_id = 7\n[home]\nmicrogrid = 1\n'
        f'[wallet]\nseed_file = "owner.seed"\ndemo = true\nprover = "portable"\ncache_dir = "{keys}"\n'
    )
    return path


def test_doctor_takes_the_keys_of_the_wallet_and_makes_nothing(refused, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a file where the folder of keys should be")
    code, (line,) = refused(DOCTOR, "--config", str(agent_file(tmp_path, keys)), "--runs", "1")
    assert code == 1 and str(keys) in line
    assert {path.name for path in tmp_path.iterdir()} == {"agent.toml", "blocked", "keys"}


@pytest.mark.slow
def test_doctor_takes_the_prover_of_the_wallet(run, cache, tmp_path):
    config = agent_file(tmp_path, cache)
    done = run(*DOCTOR, "--config", str(config), "--runs", "1", "--json", cache=config)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["backend"], row["threads"]) == ("portable", 1)
