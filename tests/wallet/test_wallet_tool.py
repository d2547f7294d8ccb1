"""`openmg-agent wallet`: address, words and restoring; what an owner types, what is written, and what never is."""

from __future__ import annotations

import os
import pty
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from owner_kit import ROOT, SECRET, SEED, agent_file, config_of, make_wallet_database, run, seed_of, with_passphrase

from edge_agent.cli import _parser, main
from edge_agent.compose import make_agent
from edge_agent.config import AgentConfig
from edge_agent.store import StoreError
from edge_agent.wallet import tool
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.service import DATABASE
from openmg.keys.sealed import unseal
from openmg.keys.text import decode_address
from openmg.keys.words import from_words, to_words

pytestmark = pytest.mark.usefixtures("nobody_at_a_terminal_and_a_cheap_seal")


@pytest.mark.parametrize("language", ["english", "korean"])
def test_backup_writes_the_words_into_a_private_file_and_nowhere_else(owner, config_path, tmp_path, capfd, caplog, language):
    output = tmp_path / "words.txt"
    assert run("wallet", "backup", "--config", config_path, "--language", language, "--output", output) == 0
    words = output.read_text(encoding="utf-8")
    assert from_words(words) == seed_of(owner) and stat.S_IMODE(output.stat().st_mode) == 0o600
    told = "".join(capfd.readouterr()) + caplog.text
    assert not any(f" {word} " in f" {told} " for word in words.split() if len(word) > 3 and word not in "which only read can")
    assert run("wallet", "backup", "--config", config_path, "--output", output) == 1
    assert output.read_text(encoding="utf-8") == words, "an older backup is not overwritten"


def test_words_do_not_go_into_a_pipe(owner, config_path):
    command = [sys.executable, "-m", "edge_agent.cli", "wallet", "backup", "--config", str(config_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert result.returncode == 1 and result.stdout == "" and "--output FILE" in result.stderr
    assert result.stderr.count("\n") == 1


def test_words_are_shown_at_a_terminal(owner, config_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge_agent.cli", "wallet", "backup", "--config", str(config_path)]
    result = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 65_536).decode("utf-8")
    os.close(ours)
    assert result.returncode == 0 and from_words(shown) == seed_of(owner)


def words_file(folder: Path, seed: bytes = SEED, language: str = "english") -> Path:
    path = folder / "words.txt"
    path.write_text(to_words(seed, language), encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("language", ["english", "korean"])
def test_restore_makes_the_same_owner_on_another_meter(owner, tmp_path, capsys, language):
    seed = seed_of(owner)
    path = agent_file(tmp_path / "new")
    assert run("wallet", "restore", "--config", path, "--words", words_file(tmp_path, seed, language)) == 0
    restored, account = config_of(path), OwnerKeys(seed).account.hex()
    assert seed_of(restored) == seed and account in capsys.readouterr().out
    assert stat.S_IMODE(restored.wallet.seed_file.stat().st_mode) == 0o600
    assert tool.address(restored) == tool.address(owner)
    assert decode_address(tool.address(restored), "test") == OwnerKeys(seed).spending_key.address


def test_restore_seals_the_seed_where_a_passphrase_is_configured(tmp_path):
    path = with_passphrase(tmp_path / "new")
    assert run("wallet", "restore", "--config", path, "--words", words_file(tmp_path)) == 0
    assert unseal((tmp_path / "new" / "owner.seed").read_bytes(), SECRET) == SEED


def test_restore_again_changes_nothing(tmp_path):
    path = agent_file(tmp_path / "new")
    for _ in range(2):
        assert run("wallet", "restore", "--config", path, "--words", words_file(tmp_path)) == 0
    assert (tmp_path / "new" / "owner.seed").read_bytes() == SEED


def test_restore_never_overwrites_another_owner(owner, config_path, tmp_path, capsys):
    before = seed_of(owner)
    assert run("wallet", "restore", "--config", config_path, "--words", words_file(tmp_path)) == 1
    assert "holds another seed; move it" in capsys.readouterr().err and seed_of(owner) == before
    assert not (owner.device.state_dir / DATABASE).exists()


def test_restore_refuses_the_database_of_another_owner(owner, config_path, tmp_path, capsys):
    make_wallet_database(owner)
    owner.wallet.seed_file.unlink()
    assert run("wallet", "restore", "--config", config_path, "--words", words_file(tmp_path)) == 1
    assert "is the wallet of 0x" in capsys.readouterr().err and not owner.wallet.seed_file.exists()


def test_an_agent_refuses_the_database_of_another_owner(owner, tmp_path):
    make_wallet_database(owner)
    owner.wallet.seed_file.unlink()
    with pytest.raises(StoreError, match="move one away"):
        make_agent(owner)


def test_words_that_others_can_read_or_that_are_none_restore_nothing(tmp_path, capsys):
    path, words = agent_file(tmp_path / "new"), words_file(tmp_path)
    words.chmod(0o644)
    assert run("wallet", "restore", "--config", path, "--words", words) == 1
    assert "chmod 600" in capsys.readouterr().err
    words.chmod(0o600)
    words.write_text(words.read_text(encoding="utf-8").rsplit(" ", 1)[0], encoding="utf-8")
    assert run("wallet", "restore", "--config", path, "--words", words) == 1
    assert "no seed is made: there are 23 words" in capsys.readouterr().err
    assert run("wallet", "restore", "--config", path, "--words", tmp_path / "none") == 1
    assert sorted(item.name for item in (tmp_path / "new").iterdir()) == ["agent.toml"]


def test_a_device_without_wallet_says_so(tmp_path, capsys):
    path = agent_file(tmp_path / "meter")
    path.write_text(path.read_text(encoding="utf-8").partition("[wallet]")[0], encoding="utf-8")
    for command in (["address"], ["backup"], ["restore", "--words", "w"], ["viewing-key", "--kind", "full"]):
        assert run("wallet", *command, "--config", path) == 2
        assert "add [wallet] with seed_file" in capsys.readouterr().err


def test_looking_at_a_wallet_makes_none(tmp_path, capsys):
    path = agent_file(tmp_path / "meter")
    for command in (["address"], ["backup"], ["viewing-key", "--kind", "full"]):
        assert run("wallet", *command, "--config", path) == 1
        assert "does not exist; start the agent once" in capsys.readouterr().err
    assert sorted(item.name for item in (tmp_path / "meter").iterdir()) == ["agent.toml"]


RESTORE_KILLER = """
import os, signal, sys
from pathlib import Path
from edge_agent.config import AgentConfig
from edge_agent.wallet import tool, journal, keys, service
from openmg.config import load_toml
from openmg.keys import files, words

folder, text = Path(sys.argv[1]), words.to_words(bytes(range(32)))
CODE = ("wallet/tool.py", "keys/files.py")

def kill_at(moment):
    count = 0
    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.endswith(CODE) and frame.f_code.co_name not in ("claim", "open_private"):
            return None
        count += event == "line"
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

moment = 0
while True:
    moment += 1
    home = folder / str(moment)
    home.mkdir()
    (home / "agent.toml").write_text((folder / "agent.toml").read_text())
    config = load_toml(home / "agent.toml", AgentConfig)
    child = os.fork()
    if child == 0:
        kill_at(moment)
        tool.restore(config, text)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(moment)
"""


def test_a_restore_killed_at_any_instant_can_be_repeated(tmp_path):
    agent_file(tmp_path / "homes")
    command = [sys.executable, "-B", "-c", RESTORE_KILLER, str(tmp_path / "homes")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
    moments, without_seed = int(result.stdout), 0
    assert moments > 30
    for moment in range(1, moments + 1):
        config = config_of(tmp_path / "homes" / str(moment) / "agent.toml")
        exists = config.wallet.seed_file.exists()
        without_seed += not exists
        assert not exists or config.wallet.seed_file.read_bytes() == SEED
        assert not exists or is_marked_restored(config), "a seed without the mark would pay again"
        if not exists:
            tool.restore(config, to_words(SEED))
            assert config.wallet.seed_file.read_bytes() == SEED and is_marked_restored(config)
    assert 0 < without_seed < moments


def is_marked_restored(config: AgentConfig) -> bool:
    from edge_agent.wallet.journal import Journal

    journal = Journal(config.device.state_dir / DATABASE)
    try:
        return journal.is_restored()
    finally:
        journal.close()


@pytest.mark.parametrize(
    "command",
    [["keys", "show"], ["keys", "protect"], ["keys", "unprotect"]]
    + [["wallet", action] for action in ("address", "backup", "restore", "viewing-key")],
)
def test_help_shows_an_example_that_is_a_right_command(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    example = " ".join(capsys.readouterr().out.split("example: ")[1].split())
    assert _parser().parse_args(shlex.split(example)[1:]).config == Path("agent.toml")
    assert example.startswith(f"openmg-agent {' '.join(command)} ")


def test_no_command_takes_a_passphrase_or_words_as_argument(capsys):
    for command in (["keys", "protect"], ["wallet", "restore"], ["wallet", "backup"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        options = {word for word in capsys.readouterr().out.split() if word.startswith("--")}
        assert options <= {"--help", "--config", "--words", "--language", "--output", "--help]"}
