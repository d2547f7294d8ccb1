"""The marker: a small file beside a validator's store that shows when the store went back in time.

Each store has a random name, and each of its transactions a running number. After a transaction is durable, its number
is written here, without a sync of its own. So the marker is never ahead of an honest store, on no path: a crash between
the two leaves it behind, and so does a power cut, which may lose the write. A store that is behind its marker, or has
another name, is not the file that this validator last wrote: an older copy was put in its place, its write-ahead log
was deleted or cut off, or somebody swapped files.

What it cannot show: store and marker both replaced by older copies of the same moment; an older store after a power
cut that also lost the marker's last writes (the kernel writes them within some 30 s). The chain shows these later
(`driver.py`): a certificate holds a seal of ours that the log does not.

Two slots are written in turn, each with a checksum, so that a torn write leaves the other one. Not here: what follows
(`store.py`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from openmg.hashing import keccak256

NAME_BYTES = 16
_TAG = b"ppdlmark"
_NUMBER_BYTES, _CHECK_BYTES = 8, 8
_SLOT_BYTES = len(_TAG) + NAME_BYTES + _NUMBER_BYTES + _CHECK_BYTES
_SLOTS = 2


@dataclass(frozen=True, slots=True)
class Mark:
    """Name of a store, and the number of its last transaction that is known to be durable."""

    store: bytes
    number: int

    def _encode(self) -> bytes:
        body = _TAG + self.store + self.number.to_bytes(_NUMBER_BYTES, "big")
        return body + keccak256(body)[:_CHECK_BYTES]


def _decode(slot: bytes) -> Mark | None:
    body, check = slot[:-_CHECK_BYTES], slot[-_CHECK_BYTES:]
    if len(slot) != _SLOT_BYTES or body[: len(_TAG)] != _TAG or keccak256(body)[:_CHECK_BYTES] != check:
        return None
    name = body[len(_TAG) : len(_TAG) + NAME_BYTES]
    return Mark(name, int.from_bytes(body[len(_TAG) + NAME_BYTES :], "big"))


def marker_path(store: Path) -> Path:
    """Where the marker of a store lies."""
    return store.with_name(store.name + ".mark")


class Marker:
    """The open marker of one store. Raises OSError as files do."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> Mark | None:
        """The latest whole mark; None when there is none."""
        slots = (_decode(os.pread(self._file, _SLOT_BYTES, i * _SLOT_BYTES)) for i in range(_SLOTS))
        return max((mark for mark in slots if mark is not None), key=lambda mark: mark.number, default=None)

    def write(self, mark: Mark) -> None:
        """Note a durable transaction; cheap, since it is not synced."""
        os.pwrite(self._file, mark._encode(), mark.number % _SLOTS * _SLOT_BYTES)

    def begin(self, mark: Mark) -> None:
        """Start over for a store, durably: whatever the file said before is gone."""
        os.ftruncate(self._file, 0)
        self.write(mark)
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and close; a second time does nothing."""
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
