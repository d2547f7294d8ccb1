"""Key files: 32 secret bytes of mode 0600, in clear or sealed with a passphrase, or a systemd credential instead.

Rules: a credential that has the file's name (`owner.seed`, `device.key`) is the key, and the file is not looked at. A
missing key is made; it is sealed from the start when a credential or a configured file gives a passphrase. A file stands
under its name only when it is whole: it is written and synced under another name, then linked (made) or renamed
(replaced), so that a kill or a full disk at any instant leaves the old key or the new one.
Not here: where passphrases come from (`openmg.keys.passphrase`), the sealing (`openmg.keys.sealed`).
"""

from __future__ import annotations

import contextlib
import enum
import os
import secrets
from pathlib import Path

from openmg.durable import sync_folder
from openmg.keys.passphrase import KeyFileError, Passphrases, read_credential
from openmg.keys.sealed import KEY_BYTES, Cost, SealError, is_sealed, seal, unseal

MAX_FILE_BYTES = 4096


class Protection(enum.StrEnum):
    """What keeps a key from whoever takes the disk."""

    MISSING = "not made yet"
    NONE = "unprotected"
    PASSPHRASE = "sealed with a passphrase"
    CREDENTIAL = "a systemd credential"


def load_or_create_key(path: Path, passphrases: Passphrases | None = None) -> bytes:
    """The 32-byte secret in the file; a new one is made (0600) when the file is missing.

    Raises KeyFileError when the file is readable by others, has a wrong length, cannot be read or cannot be opened.
    """
    passphrases = passphrases or Passphrases()
    credential = read_credential(path.name)
    if credential is not None:
        return _key(credential, path, f"credential {path.name}", passphrases)
    if not path.exists():
        key, passphrase = secrets.token_bytes(KEY_BYTES), passphrases.configured()
        with contextlib.suppress(FileExistsError):
            _make(path, key if passphrase is None else seal(key, passphrase))
    return load_key(path, passphrases)


def load_key(path: Path, passphrases: Passphrases | None = None) -> bytes:
    """The 32-byte secret in the file; KeyFileError when it is missing or cannot be used."""
    return _key(_read(path), path, f"key file {path}", passphrases or Passphrases())


def store_key(path: Path, key: bytes, passphrases: Passphrases | None = None) -> None:
    """Write a new key file; KeyFileError when there is one already or it cannot be written."""
    passphrase = (passphrases or Passphrases()).configured()
    try:
        _make(path, key if passphrase is None else seal(key, passphrase))
    except FileExistsError:
        raise KeyFileError(f"key file {path} exists already; move it away first") from None


def replace_key(path: Path, key: bytes, passphrase: str | None, cost: Cost | None = None) -> None:
    """Write the file's key anew, sealed with the passphrase, or in clear for None; KeyFileError when it cannot be."""
    _replace(path, key if passphrase is None else seal(key, passphrase, cost))


def protection(path: Path) -> Protection:
    """How the key is kept; a file in clear counts even beside a credential. KeyFileError when it cannot be read."""
    if path.exists():
        return Protection.PASSPHRASE if is_sealed(_read(path)) else Protection.NONE
    return Protection.MISSING if read_credential(path.name) is None else Protection.CREDENTIAL


def _key(content: bytes, path: Path, what: str, passphrases: Passphrases) -> bytes:
    if is_sealed(content):
        try:
            return unseal(content, passphrases.opening(path))
        except SealError as error:
            passphrases.forget()
            raise KeyFileError(f"{what} cannot be opened: {error}; try again, or restore it from backup") from None
    if len(content) != KEY_BYTES:
        raise KeyFileError(f"{what} has {len(content)} bytes instead of {KEY_BYTES}; restore it from backup")
    return content


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}; check its owner") from error
    if mode & 0o077:
        raise KeyFileError(f"key file {path} is open to other users; run chmod 600 on it")
    return content


def write_new_private(path: Path, content: bytes) -> None:
    """A new file of mode 0600, on disk when this returns; FileExistsError when there is one, OSError otherwise."""
    draft = _write_draft(path, content)
    try:
        os.link(draft, path)  # unlike a rename it never replaces a file that another process has just made
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _make(path: Path, content: bytes) -> None:
    try:
        write_new_private(path, content)
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be made: {error.strerror}; check folder and free space") from error


def _replace(path: Path, content: bytes) -> None:
    try:
        draft = _write_draft(path, content)
        try:
            os.replace(draft, path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        for left in path.parent.glob(_draft_name(path.name, "*")):  # of a change that was killed: it may be in clear
            left.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}; check folder and free space") from error


def _draft_name(name: str, middle: str) -> str:
    return f".{name}.{middle}.new"


def _write_draft(path: Path, content: bytes) -> Path:
    # A kill or a full disk on the way leaves at most a file of another name, not a key that is too short.
    draft = path.with_name(_draft_name(path.name, secrets.token_hex(4)))
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft
