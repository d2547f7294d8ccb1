"""State transfer fed with manifests and chunks of liars, in any order with ticks.

Rules: nothing raises; only a chunk with the hash that a proved manifest names is kept; a dropped peer is asked nothing more;
what is asked for at once keeps to its bound.
"""

from __future__ import annotations

from hub.ppdl.genesis import make_genesis
from hub.ppdl.sim.keys import CHAIN_ID
from hub.ppdl.snapshots.manifest import Manifest, verify
from hub.ppdl.snapshots.messages import (
    AskSnapshots,
    Chunk,
    ChunkId,
    FetchChunk,
    Offer,
    SnapshotMessageError,
    decode_snapshot_message,
    encode_snapshot_message,
)
from hub.ppdl.snapshots.sync import CHUNKS_UNDER_WAY, Begin, Dropped, KeepChunk, Ready, SendTo, SnapshotSync, SyncEffect
from openmg.hashing import keccak256
from workbench.ppdl_fuzz import chain
from workbench.ppdl_fuzz.tape import Tape, require
from workbench.ppdl_fuzz.wires import drawn

MAX_EVENTS = 200
"""Of one run."""


class TransferRun:
    """One sync and those who answer it."""

    def __init__(self, tape: Tape) -> None:
        made = chain.chain()
        genesis = make_genesis(CHAIN_ID, made.addresses, b"", 0)
        self.tape, self.peers = tape, [*made.addresses, bytes(20)]
        self.sync = SnapshotSync(made.addresses[3], lambda manifest: verify(made.scheme.domain, genesis, manifest))
        self.proved: Manifest | None = None
        self.outcomes: set[str] = set()

    def run(self) -> set[str]:
        """Events until the tape ends."""
        for _ in range(MAX_EVENTS):
            if not self.tape.left:
                break
            self._check(self._one())
        return self.outcomes

    def _one(self) -> list[SyncEffect]:
        tape = self.tape
        match tape.below(12):
            case 0:
                return self.sync.begin(tape.below(2), self.peers)
            case 1 | 2:
                return self.sync.tick()
            case 3:
                return self.sync.installed("its content is another" if tape.below(2) else "")
            case 4:
                return self.sync.abort("the disk is full") if tape.rarely(4) else []
            case 5 | 6:
                return [effect for peer in self.peers for effect in self.sync.received(peer, Offer(chain.manifest()))]
            case 7:
                return self._answer()
            case _:
                return self._hear(drawn(tape, chain.snapshot_wires()))

    def _answer(self) -> list[SyncEffect]:
        """Who was asked for a chunk sends it, or something else."""
        asked = {index: one.peer for index, one in self.sync._asked.items()}
        if not asked:
            return []
        index = self.tape.pick(sorted(asked))
        snapshot = chain.manifest().snapshot
        place = ChunkId(snapshot.height, snapshot.format, snapshot.hash, index)
        data = self.tape.pick((chain.CHUNK, chain.CHUNK, b"", b"another"))
        return self.sync.received(asked[index], Chunk(place, data))

    def _hear(self, wire: bytes) -> list[SyncEffect]:
        try:
            message = decode_snapshot_message(wire)
        except SnapshotMessageError:
            return []
        if isinstance(message, AskSnapshots | FetchChunk):
            return []  # answered elsewhere
        require(encode_snapshot_message(message) == wire, "one message has two encodings")
        return self.sync.received(self.tape.pick(self.peers), message)

    def _check(self, effects: list[SyncEffect]) -> None:
        for effect in effects:
            self.outcomes.add(type(effect).__name__)
            match effect:
                case Begin():
                    verify(
                        chain.chain().scheme.domain, make_genesis(CHAIN_ID, chain.chain().addresses, b"", 0), effect.manifest
                    )
                    self.proved = effect.manifest
                case KeepChunk():
                    require(self.proved is not None, "a chunk is kept of no manifest")
                    assert self.proved is not None
                    snapshot = self.proved.snapshot
                    require(keccak256(effect.data) == snapshot.chunk_hash(effect.index), "a wrong chunk is kept")
                case SendTo():
                    require(effect.peer not in self.sync.dropped, "a liar is asked again")
                case Ready():
                    require(effect.manifest is not None and self.proved is not None, "ready without a manifest")
                case Dropped():
                    require(effect.peer in self.peers, "one who sent nothing is dropped")
                case _:
                    pass
        require(len(self.sync._asked) <= CHUNKS_UNDER_WAY, "too many chunks are under way")
        require(len(self.sync._candidates) <= 2 * len(self.peers), "too many manifests are kept")


def transfer(tape: Tape) -> set[str]:
    """The target: one run."""
    return TransferRun(tape).run()
