"""A contribution's secrets: from the system's randomness and whatever a person typed, and gone when they were used.

Rules: SHAKE-256 mixes both, so that the typed text can only add. The seed is overwritten as soon as the scalars are
drawn; Python's integers cannot be, so `forget_on_exit` sees to it that no core file is written and whoever contributes
does it in a process that ends right after. Not here: how the text is asked for (`workbench.ceremony_cli`).
"""

from __future__ import annotations

import hashlib
import resource
import secrets

from openmg.zk.ceremony.entries import require_beacon
from openmg.zk.field import R, reduce_wide

SEED_BYTES = 64
WIDE_BYTES = 64
SECRET_TAG = b"openmg.zk.ceremony.secret.v1\0"
BEACON_TAG = b"openmg.zk.ceremony.beacon.v1\0"


def _scalar(tag: bytes, material: bytes | bytearray) -> int:
    """2 to r - 1: neither 0 nor 1, which would change nothing."""
    mixer = hashlib.shake_256(tag)
    mixer.update(material)
    return 2 + reduce_wide(mixer.digest(WIDE_BYTES)) % (R - 2)


class Pool:
    """Draws scalars from one seed; a context manager that overwrites the seed at its end."""

    def __init__(self, typed: str) -> None:
        text = typed.encode("utf-8", "surrogateescape")
        self._seed = bytearray(secrets.token_bytes(SEED_BYTES) + len(text).to_bytes(8, "big") + text)
        self._drawn = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def scalar(self) -> int:
        """The next scalar; ValueError after the seed was wiped."""
        if not any(self._seed):
            raise ValueError("the randomness of this contribution was wiped; begin a new one")
        self._drawn += 1
        return _scalar(SECRET_TAG + self._drawn.to_bytes(8, "big"), self._seed)

    def wipe(self) -> None:
        for i in range(len(self._seed)):
            self._seed[i] = 0


def forget_on_exit() -> None:
    """No core file of this process: it would hold the secrets."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def hashed_beacon(beacon: bytes, log2: int) -> bytes:
    """SHA-256 applied 2^log2 times, so that who could choose the beacon could not try many."""
    require_beacon(beacon, log2)
    for _ in range(1 << log2):
        beacon = hashlib.sha256(beacon).digest()
    return beacon


def beacon_scalar(beacon: bytes, log2: int, bound_to: bytes) -> int:
    """The public factor of delta that follows from a beacon, for one transcript and one name of the beacon."""
    return _scalar(BEACON_TAG, hashed_beacon(beacon, log2) + bound_to)
