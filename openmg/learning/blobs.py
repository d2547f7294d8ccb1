"""An update on its way outside the chain: the blob a meter sends, its hash, its chunks, and the commitment to it.

blob = salt (16 bytes) | int16 little-endian update. Its hash is over length and Merkle root of its chunks of 16 KiB, so that
each chunk is verified alone: blob_hash = keccak(tag | word(length) | merkle_root(chunks)). The salt keeps an update that
could be guessed (zeros, a copy of last round's) hidden until it is revealed.
commitment = keccak(tag | device | word(round) | base hash | blob hash). The device is inside, so a commitment that another
device copied is one that the copier can never open; the chain's id is not, since the base hash is of one chain's model.
Rules: pure; whoever holds a blob can check it against its commitment and its form without anybody's word.
Not here: where blobs are kept and how hubs exchange them (`hub.learning`), when they are asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmg.hashing import keccak256, merkle_root, word
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import norm_units, update_from_bytes

I16 = NDArray[np.int16]

BLOB_TAG = keccak256(b"openmg.learning.blob.v1")
COMMIT_TAG = keccak256(b"openmg.learning.commit.v1")
SALT_BYTES = 16
CHUNK_BYTES = 16 * 1024
MAX_RESULT_BYTES = 200 * 1024
"""Master and momentum of a model that a chain agrees on travel in one transaction of at most 256 KiB."""
MAX_BLOB_BYTES = 64 * 1024
"""An update is a quarter of master and momentum, at most 50 KiB, and a salt: one MQTT message, four chunks."""


def make_blob(salt: bytes, update: bytes) -> bytes:
    """The blob of an update's bytes (`quantise.update_bytes`). Raises ValueError for a salt of another length."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"blob: the salt has {len(salt)} bytes; give {SALT_BYTES}")
    return salt + update


def chunks_of(blob: bytes) -> list[bytes]:
    """The blob in pieces of CHUNK_BYTES, the last one shorter."""
    return [blob[start : start + CHUNK_BYTES] for start in range(0, len(blob), CHUNK_BYTES)]


def chunk_count(length: int) -> int:
    """How many chunks a blob of this length has."""
    return -(-length // CHUNK_BYTES)


def hash_of(length: int, root: bytes) -> bytes:
    """The blob hash of a length and the Merkle root of the chunks."""
    return keccak256(BLOB_TAG + word(length) + root)


def blob_hash(blob: bytes) -> bytes:
    return hash_of(len(blob), merkle_root(chunks_of(blob)))


def commitment_of(device: bytes, round_number: int, base_hash: bytes, hash_of_blob: bytes) -> bytes:
    """What the device publishes before it shows the blob."""
    return keccak256(COMMIT_TAG + device + word(round_number) + base_hash + hash_of_blob)


def open_blob(plan: LearningPlan, blob: bytes) -> I16:
    """The update in a blob. Raises ValueError, one sentence, when its form is not good: that is the device's fault."""
    update = update_from_bytes(plan.spec, blob[SALT_BYTES:])
    norm = norm_units(update)
    if norm > plan.clip_units:
        raise ValueError(f"update: its norm {norm} exceeds {plan.clip_units} units; clip it")
    return update
