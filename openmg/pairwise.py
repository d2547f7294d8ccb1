"""What two devices share: an X25519 secret, and who of them adds a mask and who subtracts it.

Rules: the device with the lower address adds, the other subtracts, so a mask cancels in any sum that holds both.
Not here: what is derived from a secret (`openmg.masking` for slots, `openmg.learning.secure` for updates).
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey


def agree(own: X25519PrivateKey, peer_public: bytes) -> bytes:
    """The 32-byte secret of two X25519 keys; ValueError for a peer's key of small order or wrong length."""
    return own.exchange(X25519PublicKey.from_public_bytes(peer_public))


def mask_sign(own: bytes, peer: bytes) -> int:
    """1 when the device of address `own` adds the mask it shares with `peer`, -1 when it subtracts it."""
    if own == peer:
        raise ValueError(f"device 0x{own.hex()} shares no mask with itself")
    return 1 if own < peer else -1
