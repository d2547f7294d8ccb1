"""A sealed file of any length: a random key under a passphrase (`openmg.keys.sealed`), then chunks of ChaCha20-Poly1305.

Layout: magic | sealed key, 85 bytes | chunks, each CHUNK_BYTES of content and 16 of tag; the last one is shorter, or empty.
The nonce of a chunk is its number, and whether it is the last, so that no chunk can be left out, moved or cut off; the key
serves one file. What stands before the chunks is authenticated with each of them.
Rules: content comes in pieces of any size and memory holds two chunks. Not here: what is in the file (`making`).
"""

from __future__ import annotations

import secrets
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from openmg.keys.sealed import KEY_BYTES, SEALED_BYTES, SealError, seal, unseal

MAGIC = b"openmg-backup\x01"
CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16


class ArchiveError(Exception):
    """The file is no backup, is damaged, or the passphrase is another."""


class SealingWriter:
    """Writes content into a file that is open for writing; `close` ends the content, not the file."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        key = secrets.token_bytes(KEY_BYTES)
        self._file, self._cipher = file, ChaCha20Poly1305(key)
        self._head = MAGIC + seal(key, passphrase)
        self._chunks, self._rest = 0, bytearray()
        file.write(self._head)

    def write(self, content: bytes) -> int:
        self._rest += content
        while len(self._rest) >= CHUNK_BYTES:
            self._put(bytes(self._rest[:CHUNK_BYTES]), last=False)
            del self._rest[:CHUNK_BYTES]
        return len(content)

    def close(self) -> None:
        self._put(bytes(self._rest), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._chunks, last), chunk, self._head))
        self._chunks += 1


class UnsealingReader:
    """Reads what a SealingWriter wrote. Raises ArchiveError; every byte that it gives is authentic and in its place."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file = file
        self._head = file.read(len(MAGIC) + SEALED_BYTES)
        if not self._head.startswith(MAGIC) or len(self._head) < len(MAGIC) + SEALED_BYTES:
            raise ArchiveError("it is no backup of this version")
        try:
            self._cipher = ChaCha20Poly1305(unseal(self._head[len(MAGIC) :], passphrase))
        except SealError as error:
            raise ArchiveError(str(error)) from None
        self._chunks, self._plain, self._ended = 0, bytearray(), False
        self._ahead = file.read(CHUNK_BYTES + TAG_BYTES)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end; all that are left for a negative one."""
        while not self._ended and (size < 0 or len(self._plain) < size):
            self._take()
        size = len(self._plain) if size < 0 else size
        content = bytes(self._plain[:size])
        del self._plain[:size]
        return content

    def _take(self) -> None:
        chunk, self._ahead = self._ahead, self._file.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = not self._ahead
        try:
            self._plain += self._cipher.decrypt(_nonce(self._chunks, self._ended), chunk, self._head)
        except InvalidTag:
            raise ArchiveError("it is damaged or cut off") from None
        self._chunks += 1


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
