"""The device key: made on the meter, kept there, and split by HKDF labels (RFC 5869).

Rules: a device key signs telemetry and updates, and never money; the owner's seed signs money, and never telemetry.
Each use has its own label, so that one derived key says nothing of another. Key files are mode 0600, written once, and
stand under their name only when they are whole.
Not here: the owner's keys (`edge_agent.wallet.keys`).
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from openmg.signing import SECP256K1_ORDER, address_of

KEY_BYTES = 32


class KeyFileError(Exception):
    """A key file cannot be used; the text says which and what to do."""


def hkdf(root: bytes, label: str, length: int = KEY_BYTES) -> bytes:
    """`length` bytes derived from the root for the label."""
    return HKDF(hashes.SHA256(), length, salt=b"openmg", info=label.encode("ascii")).derive(root)


def signing_key(root: bytes, label: str) -> bytes:
    """A secp256k1 private key for the label; 16 extra bytes make the reduction's bias negligible."""
    wide = int.from_bytes(hkdf(root, label, KEY_BYTES + 16), "big")
    return (wide % (SECP256K1_ORDER - 1) + 1).to_bytes(KEY_BYTES, "big")


@dataclass(frozen=True)
class DeviceKey:
    """A meter's root secret and what is derived from it."""

    root: bytes

    def __post_init__(self) -> None:
        if len(self.root) != KEY_BYTES:
            raise KeyFileError(f"a device key has {KEY_BYTES} bytes, not {len(self.root)}; make a new one")

    def __repr__(self) -> str:
        return f"DeviceKey(0x{self.address.hex()})"

    @cached_property
    def signing_key(self) -> bytes:
        """secp256k1 key for telemetry, updates and meter statements."""
        return signing_key(self.root, "device/sign")

    @cached_property
    def address(self) -> bytes:
        """20 bytes that name the device in rosters, on the PPDL chain and in the meter registry."""
        return address_of(self.signing_key)

    @cached_property
    def mask_key(self) -> X25519PrivateKey:
        """X25519 key with which pairwise masks are agreed."""
        return X25519PrivateKey.from_private_bytes(hkdf(self.root, "device/mask"))

    @cached_property
    def mask_public(self) -> bytes:
        return self.mask_key.public_key().public_bytes_raw()


def load_or_create_key(path: Path) -> bytes:
    """The 32-byte secret in the file; a new one is made (0600) when the file is missing.

    Raises KeyFileError when the file is readable by others, has a wrong length or cannot be read.
    """
    if path.exists():
        return _load_key(path)
    # A kill or a full disk on the way leaves at most a file of another name, not a key that is too short.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        _write_durably(draft, secrets.token_bytes(KEY_BYTES))
        try:
            os.link(draft, path)  # unlike a rename it never replaces a key that another process has just made
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    except FileExistsError:
        pass
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise KeyFileError(f"key file {path} cannot be made: {error.strerror}; check folder and free space") from error
    return _load_key(path)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load_key(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}; check its owner") from error
    if mode & 0o077:
        raise KeyFileError(f"key file {path} is open to other users; run chmod 600 on it")
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"key file {path} has {len(key)} bytes instead of {KEY_BYTES}; restore it from backup")
    return key
