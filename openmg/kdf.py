"""Key derivation: HKDF-SHA256 (RFC 5869) with the project's salt and a label for each use.

Rules: each use has its own label, so that one derived key says nothing of another.
Not here: what is derived from a device's root (`openmg.identity`), agreement of secrets (`openmg.pairwise`).
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def hkdf(root: bytes, label: str, length: int = KEY_BYTES) -> bytes:
    """`length` bytes derived from the root for the label."""
    return HKDF(hashes.SHA256(), length, salt=b"openmg", info=label.encode("ascii")).derive(root)
