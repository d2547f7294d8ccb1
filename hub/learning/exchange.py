"""Blobs between hubs, by engine gossip: a want names commitments, a part is one chunk with its Merkle path.

A hub that got a blob from a meter tells its parts to all at once; who misses one still asks everybody for it, again and again
while it is wanted. Each part proves itself: length and root give the blob's hash, that must open a commitment on the chain, and
the chunk must lie under the root. So no hub can make another keep a byte that a device did not commit to.
Bounds: parts are taken for promised blobs only, MAX_OPEN blobs are put together at a time; between two steps a hub sends each
peer at most so many parts as it may and asks for MAX_WANTED blobs; what does not fit is asked for again.
Not here: which blobs are wanted (`attendant`), keeping them (`blobs`), the wire (`hub.ppdl.engine`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from hub.learning.blobs import BlobStore, Promise
from openmg.hashing import MAX_PROOF_LENGTH, merkle_proof, merkle_root, merkle_verify
from openmg.learning.blobs import CHUNK_BYTES, MAX_BLOB_BYTES, chunk_count, chunks_of, hash_of
from openmg.messages import base
from openmg.units import HASH_BYTES

log = logging.getLogger(__name__)

WANT_GOSSIP, PART_GOSSIP = "blob.want", "blob.part"
MAX_WANTED = 64
"""Blobs in one want: up to 256 parts, 4 MiB."""
MAX_OPEN = 256
"""Blobs being put together: 16 MiB."""
SENT_PER_STEP = 128
"""Parts to one peer between two steps (a second), of all models: 2 MiB, a quarter of what one peer may send."""


@dataclass(frozen=True)
class BlobWant:
    """The sender misses the blobs of these commitments."""

    PURPOSE: ClassVar[str] = "blob-want"
    commitments: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.commitments) <= MAX_WANTED or any(len(item) != HASH_BYTES for item in self.commitments):
            raise ValueError(f"a want names 1 to {MAX_WANTED} commitments of 32 bytes")


@dataclass(frozen=True)
class BlobPart:
    """Chunk `index` of the blob of a commitment, with length and root of the whole."""

    PURPOSE: ClassVar[str] = "blob-part"
    commitment: bytes
    length: int
    root: bytes
    index: int
    proof: tuple[bytes, ...]
    chunk: bytes

    def __post_init__(self) -> None:
        if len(self.commitment) != HASH_BYTES or len(self.root) != HASH_BYTES or not 1 <= self.length <= MAX_BLOB_BYTES:
            raise ValueError(f"a part is of a commitment and root of 32 bytes and a blob of 1 to {MAX_BLOB_BYTES} bytes")
        if not 0 <= self.index < chunk_count(self.length) or not 1 <= len(self.chunk) <= CHUNK_BYTES:
            raise ValueError("a part has a chunk of its blob")
        if len(self.proof) > MAX_PROOF_LENGTH or any(len(item) != HASH_BYTES for item in self.proof):
            raise ValueError("a part has a Merkle path of 32-byte hashes")


@dataclass(slots=True)
class _Assembly:
    """A blob being put together."""

    length: int
    chunks: dict[int, bytes] = field(default_factory=dict)

    def blob(self) -> bytes | None:
        """All of it; None while a chunk is missing."""
        count = chunk_count(self.length)
        return b"".join(self.chunks[index] for index in range(count)) if len(self.chunks) == count else None


def parts_of(promise: Promise, blob: bytes) -> list[BlobPart]:
    """The blob's parts, in order."""
    chunks = chunks_of(blob)
    root = merkle_root(chunks)
    return [
        BlobPart(promise.commitment, len(blob), root, index, tuple(merkle_proof(chunks, index)), chunk)
        for index, chunk in enumerate(chunks)
    ]


class BlobExchange:
    """One hub's exchange for one model, in the hub's loop. `tell` reaches every other hub, `send` one of them."""

    def __init__(
        self,
        store: BlobStore,
        tell: Callable[[str, bytes], None],
        send: Callable[[bytes, str, bytes], None],
        on_blob: Callable[[], None] = lambda: None,
        sent_per_step: int = SENT_PER_STEP,
    ) -> None:
        self.store = store
        self.refused = 0
        """Parts and blobs that were not taken: unknown, damaged, or without room."""
        self._tell, self._send, self._on_blob, self._sent_per_step = tell, send, on_blob, sent_per_step
        self._promises: dict[bytes, Promise] = {}
        self._by_device: dict[bytes, Promise] = {}
        self._open: dict[bytes, _Assembly] = {}
        self._sent: dict[bytes, int] = {}
        self._turn = 0

    def expect(self, promises: Iterable[Promise]) -> None:
        """From now on take and hand out the blobs of these commits."""
        self._promises = {promise.commitment: promise for promise in promises}
        self._by_device = {promise.device: promise for promise in self._promises.values()}
        self._open = {key: value for key, value in self._open.items() if key in self._promises}

    def missing(self) -> list[Promise]:
        """The promised blobs that are not here."""
        return [promise for promise in self._promises.values() if not self.store.holds(promise)]

    def step(self) -> None:
        """Ask for what is missing and let peers ask again; called once a second."""
        self._sent.clear()
        missing = [promise.commitment for promise in self.missing()]
        if not missing:
            return
        # In turn, so that blobs nobody has do not keep the others from being asked for.
        start = self._turn % len(missing)
        self._turn = start + MAX_WANTED
        wanted = (missing[start:] + missing[:start])[:MAX_WANTED]
        if len(self._open) >= MAX_OPEN:
            self._open = {key: value for key, value in self._open.items() if key in wanted}
        self._tell(WANT_GOSSIP, base.encode(BlobWant(tuple(wanted))))

    def offer(self, device: bytes, round_number: int, blob: bytes) -> bool:
        """A blob that a meter sent to this hub; True when it is the promised one and new here. The others are told it."""
        promise = self._by_device.get(device)
        if promise is None or promise.round != round_number or self.store.holds(promise):
            return False
        if not self.store.put(promise, blob):
            self.refused += 1
            return False
        for part in parts_of(promise, blob):
            if self._may_send(b""):
                self._tell(PART_GOSSIP, base.encode(part))
        self._on_blob()
        return True

    def on_gossip(self, kind: str, payload: bytes, sender: bytes) -> None:
        """Another hub's want or part; anything malformed is ignored."""
        with contextlib.suppress(base.InvalidMessage):
            if kind == WANT_GOSSIP:
                self._serve(base.decode(BlobWant, payload), sender)
            elif kind == PART_GOSSIP:
                self._take(base.decode(BlobPart, payload))

    def _may_send(self, peer: bytes) -> bool:
        """Whether one more part may go to the peer (empty: to all) in this step."""
        self._sent[peer] = self._sent.get(peer, 0) + 1
        return self._sent[peer] <= self._sent_per_step

    def _serve(self, want: BlobWant, sender: bytes) -> None:
        for commitment in want.commitments:
            promise = self._promises.get(commitment)
            if promise is None or not self.store.holds(promise):
                continue
            blob = self.store.get(promise)
            for part in parts_of(promise, blob) if blob is not None else ():
                if not self._may_send(sender):
                    return
                self._send(sender, PART_GOSSIP, base.encode(part))

    def _take(self, part: BlobPart) -> None:
        promise = self._promises.get(part.commitment)
        if promise is None or self.store.holds(promise):
            return
        count = chunk_count(part.length)
        whole = promise.opened_by(hash_of(part.length, part.root))
        if not whole or not merkle_verify(part.root, part.chunk, part.index, count, part.proof):
            self.refused += 1
            return
        if part.commitment not in self._open and len(self._open) >= MAX_OPEN:
            return
        assembly = self._open.setdefault(part.commitment, _Assembly(part.length))
        assembly.chunks[part.index] = part.chunk
        blob = assembly.blob()
        if blob is None:
            return
        del self._open[part.commitment]
        if self.store.put(promise, blob):
            self._on_blob()
        else:
            self.refused += 1
