"""`openmg-agent keys`: sealing, opening and changing passphrases, and what doctor says of it."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys

import pytest
from owner_kit import ROOT, SECRET, SEED, config_of, run, seed_of, with_passphrase

from edge_agent import doctor, key_tool
from edge_agent.compose import make_agent
from edge_agent.wallet.keys import OwnerKeys
from openmg.identity import load_or_create_key
from openmg.keys.passphrase import CREDENTIAL, KeyFileError
from openmg.keys.sealed import is_sealed, unseal

pytestmark = pytest.mark.usefixtures("nobody_at_a_terminal_and_a_cheap_seal")


def test_doctor_says_unprotected_until_keys_are_sealed(owner, tmp_path):
    assert key_tool.describe(owner).count("unprotected") == 2
    path = with_passphrase(owner.device.key_file.parent)
    config = config_of(path)
    before = [load_or_create_key(item, config.passphrases) for item in config.key_files]
    assert run("keys", "protect", "--config", path) == 0
    assert key_tool.describe(config) == "device.key sealed with a passphrase; owner.seed sealed with a passphrase"
    assert all(is_sealed(item.read_bytes()) for item in config.key_files)
    assert [load_or_create_key(item, config_of(path).passphrases) for item in config.key_files] == before
    assert run("keys", "unprotect", "--config", path) == 0
    assert [item.read_bytes() for item in config.key_files] == before


def test_doctor_lists_how_keys_are_kept(owner, monkeypatch):
    monkeypatch.setattr(doctor, "BROKER_SECONDS", 0.1)
    (finding,) = [item for item in asyncio.run(doctor.examine(owner)) if item.check == "keys"]
    assert finding.ok and "owner.seed unprotected (of mode 0600, but whoever takes the disk can read it" in finding.text


def test_a_credential_is_a_protection(owner, tmp_path, monkeypatch):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "owner.seed").write_bytes(SEED)
    (folder / CREDENTIAL).write_text(SECRET, encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    owner.wallet.seed_file.unlink()
    owner.device.key_file.unlink()
    load_or_create_key(owner.device.key_file)
    assert key_tool.describe(owner) == "device.key sealed with a passphrase; owner.seed a systemd credential"
    assert seed_of(owner) == SEED


def test_an_agent_with_sealed_keys_starts_with_its_credential_and_not_without(owner, tmp_path, monkeypatch):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / CREDENTIAL).write_text(SECRET, encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    list(key_tool.protect(owner))
    keys = OwnerKeys(seed_of(owner))
    again = config_of(owner.device.key_file.parent / "agent.toml")
    agent = make_agent(again)
    assert agent.payment.owner == keys.account
    agent.store.close()
    agent._lock.close()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(KeyFileError, match="is sealed and nothing gives its passphrase"):
        make_agent(config_of(owner.device.key_file.parent / "agent.toml"))


class Typist:
    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def __call__(self, _prompt: str) -> str:
        return self.answers.pop(0)


def test_a_passphrase_is_typed_at_a_real_terminal_unseen(owner, config_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge_agent.cli", "keys", "protect", "--config", str(config_path)]
    streams = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, bufsize=0, **streams) as child:
        for prompt in (b"New passphrase: ", b"The same again: "):
            asked = b""
            while not asked.endswith(prompt):
                read = child.stderr.read(1)
                assert read, asked
                asked += read
            os.write(ours, SECRET.encode() + b"\n")
        told, rest = child.communicate(timeout=60)
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        shown = os.read(ours, 65_536)
    except OSError:
        shown = b""
    os.close(ours)
    assert child.returncode == 0, rest
    assert told.count(b"is sealed now") == 2
    assert SECRET.encode() not in shown + told + rest
    assert all(unseal(path.read_bytes(), SECRET) for path in owner.key_files)


def test_a_change_of_passphrase_that_was_interrupted_can_be_repeated(owner, config_path):
    before = [load_or_create_key(path) for path in owner.key_files]
    old, new = "the old passphrase", "the new passphrase"
    owner.passphrases.ask = Typist(old, old)
    list(key_tool.protect(owner))
    config = config_of(config_path)
    config.passphrases.ask = Typist(old, new, new)
    next(iter(key_tool.protect(config)))  # and killed after the first file
    passphrases = [[opens(path.read_bytes(), text) for text in (old, new)] for path in owner.key_files]
    assert passphrases == [[False, True], [True, False]]
    config = config_of(config_path)
    config.passphrases.ask = Typist(old, new, new)
    list(key_tool.protect(config))
    assert [unseal(path.read_bytes(), new) for path in owner.key_files] == before


def opens(content: bytes, passphrase: str) -> bool:
    try:
        unseal(content, passphrase)
    except ValueError:
        return False
    return True


def test_a_wrong_present_passphrase_changes_nothing(owner):
    owner.passphrases.ask = Typist("the old passphrase", "the old passphrase")
    list(key_tool.protect(owner))
    before = [path.read_bytes() for path in owner.key_files]
    config = config_of(owner.device.key_file.parent / "agent.toml")
    config.passphrases.ask = Typist("a wrong passphrase", "the new passphrase", "the new passphrase")
    with pytest.raises(KeyFileError, match="the passphrase is wrong"):
        list(key_tool.protect(config))
    assert [path.read_bytes() for path in owner.key_files] == before


def test_without_a_terminal_or_file_nothing_is_sealed(owner, config_path, capsys):
    assert run("keys", "protect", "--config", config_path) == 1
    assert "set passphrase_file in [keys]" in capsys.readouterr().err
    assert run("keys", "show", "--config", config_path) == 0 and "unprotected" in capsys.readouterr().out
