"""Key files: sealed or not, whole at any instant, and never opened with less than their passphrase."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from openmg.keys import passphrase as sources
from openmg.keys import sealed as sealed_form
from openmg.keys.files import (
    Protection,
    load_key,
    load_or_create_key,
    protection,
    replace_key,
    store_key,
    write_new_private,
)
from openmg.keys.passphrase import CREDENTIAL, KeyFileError, Passphrases
from openmg.keys.sealed import SEALED_BYTES, STANDARD, Cost, SealError, is_sealed, seal, unseal

KEY, SECRET = bytes(range(32)), "correct horse battery"
CHEAP = Cost(4, 1, 1)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_credentials_and_a_cheap_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_form, "STANDARD", CHEAP)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def nobody(_prompt: str) -> None:
    return None


class Typist:
    """Sits at the terminal and types these."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, _prompt: str) -> str:
        self.asked += 1
        return self.answers.pop(0)


def private(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    return path


# The sealed form


def test_a_sealed_key_opens_with_its_passphrase_only():
    content = seal(KEY, SECRET, CHEAP)
    assert len(content) == SEALED_BYTES == 85 and is_sealed(content) and KEY not in content
    assert unseal(content, SECRET) == KEY
    for wrong in ("", "correct horse batterz", SECRET + " "):
        with pytest.raises(SealError, match="wrong or the file is damaged"):
            unseal(content, wrong)
    assert seal(KEY, SECRET, CHEAP) != content


def test_sealing_is_scrypt_and_chacha20poly1305_as_documented():
    """The layout read independently, with the scrypt of OpenSSL that hashlib offers."""
    import hashlib

    content = seal(KEY, SECRET, Cost(5, 2, 3))
    assert content[:18] == b"openmg-sealed-key\x01" and tuple(content[18:21]) == (5, 2, 3)
    key = hashlib.scrypt(SECRET.encode(), salt=content[21:37], n=32, r=2, p=3, dklen=32)
    assert ChaCha20Poly1305(key).decrypt(bytes(12), content[37:], content[:37]) == KEY


def test_no_byte_of_a_sealed_key_can_be_changed():
    for place in range(SEALED_BYTES):
        content = bytearray(seal(KEY, SECRET, CHEAP))
        content[place] ^= 1
        with pytest.raises(SealError):
            unseal(bytes(content), SECRET)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (21, 1, 1), (255, 255, 255), (20, 8, 1), (4, 0, 1), (4, 1, 0), (4, 1, 17)])
def test_a_file_cannot_ask_for_endless_work(numbers):
    content = bytearray(seal(KEY, SECRET, CHEAP))
    content[18:21] = bytes(numbers)
    with pytest.raises(SealError, match="more than is allowed"):
        unseal(bytes(content), SECRET)


def test_the_standard_cost_is_the_documented_one():
    assert (STANDARD.log2_n, STANDARD.r, STANDARD.p) == (15, 8, 3)
    assert unseal(seal(KEY, SECRET, STANDARD), SECRET) == KEY


def test_only_whole_keys_are_sealed_and_opened():
    with pytest.raises(ValueError):
        seal(KEY[:31], SECRET, CHEAP)
    content = seal(KEY, SECRET, CHEAP)
    for bad in (b"", content[:-1], content + b"\0", KEY):
        with pytest.raises(SealError, match="not a sealed key"):
            unseal(bad, SECRET)


# Where the passphrase comes from


def test_a_new_key_is_in_clear_without_a_passphrase_and_sealed_with_one(tmp_path):
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    file = private(tmp_path / "passphrase", SECRET + "\n")
    key = load_or_create_key(plain, Passphrases(ask=nobody))
    assert plain.read_bytes() == key and protection(plain) is Protection.NONE
    key = load_or_create_key(sealed, Passphrases(file, nobody))
    assert unseal(sealed.read_bytes(), SECRET) == key == load_or_create_key(sealed, Passphrases(file, nobody))
    assert protection(sealed) is Protection.PASSPHRASE and stat.S_IMODE(sealed.stat().st_mode) == 0o600
    with pytest.raises(KeyFileError, match="is sealed and nothing gives its passphrase; set passphrase_file"):
        load_or_create_key(sealed, Passphrases(ask=nobody))


def test_the_terminal_is_asked_once_and_only_for_what_is_sealed(tmp_path):
    for name in ("one", "two"):
        write_new_private(tmp_path / name, seal(KEY, SECRET, CHEAP))
    typist = Typist(SECRET)
    passphrases = Passphrases(ask=typist)
    load_or_create_key(tmp_path / "clear", passphrases)
    assert typist.asked == 0
    assert load_key(tmp_path / "one", passphrases) == load_key(tmp_path / "two", passphrases) == KEY
    assert typist.asked == 1


def test_a_wrong_passphrase_is_said_and_asked_for_again(tmp_path):
    path = tmp_path / "key"
    write_new_private(path, seal(KEY, SECRET, CHEAP))
    passphrases = Passphrases(ask=Typist("something else", SECRET))
    with pytest.raises(KeyFileError, match="the passphrase is wrong") as caught:
        load_key(path, passphrases)
    assert "something else" not in str(caught.value)
    assert load_key(path, passphrases) == KEY


def test_a_program_without_terminal_never_waits_for_one(monkeypatch, tmp_path):
    with (tmp_path / "empty").open("w+") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert sources.ask_terminal("? ") is None
    monkeypatch.setattr(sys, "stdin", None)
    assert sources.ask_terminal("? ") is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path, mode):
    file = private(tmp_path / "passphrase", SECRET)
    file.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600") as caught:
        Passphrases(file, nobody).configured()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("content", "why"), [("short", "fewer than 8 characters"), ("", "fewer than 8"), ("\n" * 9, "fewer")])
def test_a_passphrase_that_protects_nothing_is_refused(tmp_path, content, why):
    with pytest.raises(KeyFileError, match=why):
        Passphrases(private(tmp_path / "passphrase", content), nobody).configured()


def test_a_passphrase_is_the_same_however_hangul_is_composed(tmp_path):
    import unicodedata

    texts = [unicodedata.normalize(form, "안전한 비밀번호 하나") for form in ("NFC", "NFD")]
    assert texts[0] != texts[1]
    found = {Passphrases(private(tmp_path / str(i), text), nobody).configured() for i, text in enumerate(texts)}
    assert len(found) == 1


def test_a_new_passphrase_is_typed_twice_alike():
    assert Passphrases(ask=Typist(SECRET, SECRET)).new() == SECRET
    for answers, why in (((SECRET, SECRET + "!"), "differ"), (("short",), "fewer than 8")):
        with pytest.raises(KeyFileError, match=why):
            Passphrases(ask=Typist(*answers)).new()
    with pytest.raises(KeyFileError, match="no terminal"):
        Passphrases(ask=nobody).new()


def test_a_credential_gives_the_passphrase_before_any_file(tmp_path, monkeypatch):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / CREDENTIAL).write_text(SECRET + "\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    other = private(tmp_path / "passphrase", "another passphrase")
    assert Passphrases(other, nobody).configured() == SECRET
    path = tmp_path / "owner.seed"
    key = load_or_create_key(path)
    assert unseal(path.read_bytes(), SECRET) == key == load_or_create_key(path)


def test_a_credential_of_the_files_name_is_the_key(tmp_path, monkeypatch):
    folder, path = tmp_path / "credentials", tmp_path / "owner.seed"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert protection(path) is Protection.MISSING
    (folder / "owner.seed").write_bytes(KEY)
    assert load_or_create_key(path) == KEY and not path.exists() and protection(path) is Protection.CREDENTIAL
    (folder / "owner.seed").write_bytes(KEY[:-1])
    with pytest.raises(KeyFileError, match="credential owner.seed has 31 bytes"):
        load_or_create_key(path)
    (folder / "owner.seed").unlink()
    (folder / "owner.seed").mkdir()
    with pytest.raises(KeyFileError, match="credential owner.seed cannot be read"):
        load_or_create_key(path)


def test_a_file_in_clear_beside_a_credential_is_still_unprotected(tmp_path, monkeypatch):
    folder, path = tmp_path / "credentials", tmp_path / "owner.seed"
    folder.mkdir()
    (folder / "owner.seed").write_bytes(KEY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    write_new_private(path, bytes(32))
    assert load_or_create_key(path) == KEY and protection(path) is Protection.NONE


# Files


def test_a_key_is_stored_once(tmp_path):
    path = tmp_path / "key"
    store_key(path, KEY, Passphrases(ask=nobody))
    with pytest.raises(KeyFileError, match="exists already; move it away"):
        store_key(path, bytes(32), Passphrases(ask=nobody))
    assert path.read_bytes() == KEY and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("umask", [0, 0o077])
def test_no_file_is_ever_open_to_others(tmp_path, umask):
    path, before = tmp_path / "key", os.umask(umask)
    try:
        write_new_private(path, KEY)
        for passphrase in (SECRET, None):
            replace_key(path, KEY, passphrase, CHEAP)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert [item.name for item in tmp_path.iterdir()] == ["key"]


def test_a_sealed_file_open_to_others_is_refused(tmp_path):
    path = tmp_path / "key"
    write_new_private(path, seal(KEY, SECRET, CHEAP))
    path.chmod(0o640)
    for look in (lambda: load_key(path, Passphrases(ask=Typist(SECRET))), lambda: protection(path)):
        with pytest.raises(KeyFileError, match="chmod 600"):
            look()


def test_drafts_of_a_killed_change_are_removed_by_the_next(tmp_path):
    path = tmp_path / "key"
    write_new_private(path, KEY)
    for name in (".key.00000000.new", ".other.00000000.new"):
        write_new_private(tmp_path / name, KEY)
    replace_key(path, KEY, SECRET, CHEAP)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".other.00000000.new", "key"]


KILLER = """
import os, signal, sys
from pathlib import Path
from openmg.keys import files, sealed, passphrase
from openmg.keys.sealed import Cost

folder, action = Path(sys.argv[1]), sys.argv[2]
KEY, SECRET, CHEAP = bytes(range(32)), "correct horse battery", Cost(4, 1, 1)
ACTIONS = {
    "make": lambda path: files.store_key(path, KEY, passphrase.Passphrases(ask=lambda prompt: None)),
    "seal": lambda path: files.replace_key(path, KEY, SECRET, CHEAP),
    "open": lambda path: files.replace_key(path, KEY, None, CHEAP),
}


def kill_at(moment):
    "Dies, as by kill -9, before the moment-th line that it executes in the module of key files or in what that calls."
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not any(item.f_code.co_filename.endswith("keys/files.py") for item in (frame, frame.f_back)):
            return None
        count += event == "line"
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


moment = 0
while True:
    moment += 1
    path = folder / action / str(moment) / "key"
    path.parent.mkdir(parents=True)
    if action != "make":
        files.write_new_private(path, KEY if action == "seal" else sealed.seal(KEY, SECRET, CHEAP))
    child = os.fork()
    if child == 0:
        kill_at(moment)
        ACTIONS[action](path)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(moment)
"""


@pytest.mark.parametrize("action", ["make", "seal", "open"])
def test_a_kill_at_any_instant_leaves_a_whole_key_or_none(tmp_path, action):
    result = subprocess.run(
        [sys.executable, "-B", "-c", KILLER, str(tmp_path), action], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert result.returncode == 0, result.stderr
    moments = int(result.stdout)
    assert moments > 30
    seen = set()
    for moment in range(1, moments + 1):
        path = tmp_path / action / str(moment) / "key"
        if not path.exists():
            seen.add(None)
            continue
        content = path.read_bytes()
        seen.add(is_sealed(content))
        assert (unseal(content, SECRET) if is_sealed(content) else content) == KEY
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert seen == {"make": {None, False}, "seal": {False, True}, "open": {False, True}}[action]
