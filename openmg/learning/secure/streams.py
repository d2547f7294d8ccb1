"""Key streams: ChaCha20 (RFC 8439) as masks of 32-bit words and as a source of secret chance.

Rules: every key is derived for one use and one round, so the nonce is zero and no stream is used twice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
Draw = Callable[[int], bytes]
"""Gives that many uniform secret bytes, new ones each time."""


def byte_stream(key: bytes) -> Draw:
    """Chance expanded from a 32-byte key, up to the 256 GiB of the cipher's counter."""
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return lambda size: encryptor.update(bytes(size))


def mask_words(key: bytes, count: int) -> U32:
    """A mask: that many uniform words, the same on every machine."""
    return np.frombuffer(byte_stream(key)(4 * count), dtype="<u4").astype(np.uint32)
