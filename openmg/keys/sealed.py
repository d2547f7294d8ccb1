"""A 32-byte key sealed with a passphrase: scrypt (RFC 7914), then ChaCha20-Poly1305 (RFC 8439).

Layout: magic 18 | log2 N, r, p (1 byte each) | salt 16 | ciphertext 32 | tag 16; what stands before the ciphertext is
authenticated along. The nonce is zero: the salt, new each time, makes each encryption key serve once.
Rules: a file may ask for no more than MAX_MEMORY and MAX_LOG2_N; a wrong passphrase and a damaged file look the same.
Not here: where the passphrase comes from (`openmg.keys.passphrase`), files (`openmg.keys.files`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # eight megabytes, for whoever seals or opens a key
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEY_BYTES = 32
MAGIC = b"openmg-sealed-key\x01"
SALT_BYTES = 16
TAG_BYTES = 16
_HEADER_BYTES = len(MAGIC) + 3 + SALT_BYTES
SEALED_BYTES = _HEADER_BYTES + KEY_BYTES + TAG_BYTES
MAX_MEMORY = 256 * 1024 * 1024
MAX_LOG2_N = 20
MAX_P = 16
_NONCE = bytes(12)


class SealError(ValueError):
    """The bytes are no sealed key, or the passphrase is another."""


@dataclass(frozen=True)
class Cost:
    """scrypt's N = 2^log2_n, r and p; it needs 128 * N * r bytes of memory."""

    log2_n: int = 15
    r: int = 8
    p: int = 3

    def __post_init__(self) -> None:
        possible = 1 <= self.log2_n <= MAX_LOG2_N and self.r >= 1 and 1 <= self.p <= MAX_P
        if not possible or 128 * self.r << self.log2_n > MAX_MEMORY:
            raise SealError(f"scrypt with N = 2^{self.log2_n}, r = {self.r}, p = {self.p} is more than is allowed here")


STANDARD = Cost()
"""32 MiB, which a meter's board has: half a second to a few there, and each guess of a thief costs as much."""


def _cipher(passphrase: str, salt: bytes, cost: Cost) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    kdf = Scrypt(salt=salt, length=KEY_BYTES, n=1 << cost.log2_n, r=cost.r, p=cost.p)
    return ChaCha20Poly1305(kdf.derive(passphrase.encode("utf-8")))


def is_sealed(content: bytes) -> bool:
    """Whether the bytes say that they are a sealed key; a key itself is shorter."""
    return content.startswith(MAGIC)


def seal(key: bytes, passphrase: str, cost: Cost | None = None) -> bytes:
    """The sealed form of a 32-byte key, 85 bytes, at STANDARD cost or another; ValueError for another length."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    cost, salt = cost or STANDARD, secrets.token_bytes(SALT_BYTES)
    header = MAGIC + bytes([cost.log2_n, cost.r, cost.p]) + salt
    return header + _cipher(passphrase, salt, cost).encrypt(_NONCE, key, header)


def unseal(content: bytes, passphrase: str) -> bytes:
    """The 32-byte key; SealError when the bytes are not a sealed key or the passphrase does not open it."""
    if len(content) != SEALED_BYTES or not is_sealed(content):
        raise SealError("it is not a sealed key of this version")
    from cryptography.exceptions import InvalidTag

    header, ciphertext = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
    log2_n, r, p = header[len(MAGIC) : len(MAGIC) + 3]
    try:
        return _cipher(passphrase, header[-SALT_BYTES:], Cost(log2_n, r, p)).decrypt(_NONCE, ciphertext, header)
    except InvalidTag:
        raise SealError("the passphrase is wrong or the file is damaged") from None
