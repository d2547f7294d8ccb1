"""Who is asked for which snapshot and which chunk: `SnapshotSync.step`-like handlers, without input or output.

Theory of operation
- OFFERS: every peer is asked for manifests, also one that connects only now. Each manifest is verified whole (`manifest.py`)
  before anything of it is used; one that proves nothing drops its sender. At the next tick at which f + 1 validators of its
  set vouch for a snapshot the highest such one is chosen (soon, for peers keep it for some blocks only): one of them is
  honest, so the chunk hashes are those of the proved state. What blocks have overtaken meanwhile is not chosen. Without one
  the sync gives up when everybody has answered and a tick brought no more offers, at the latest after OFFER_TICKS.
- FETCH: chunks are asked for from everybody who vouched, some from each, every chunk checked against its hash when it
  comes. A wrong chunk drops its sender; an unanswered one is asked of somebody else.
- READY: all chunks are kept. Whoever runs this installs them and says how it went (`installed`). When the application
  finds that they do not make the proved state, everybody who vouched is dropped.
A dropped peer is counted, and neither asked nor heard until a snapshot is installed; also not by a sync that begins after
this one gave up. Only when the others do not vouch for any snapshot is it forgiven. A peer that is only slow, or keeps the
snapshot no longer, is passed over. When nobody is left the sync gives up; whoever runs it begins anew.

It ends: OFFERS within OFFER_TICKS. In FETCH each CHUNK_TICKS bring a chunk that was missing or a timeout of every peer that
was asked, of whom each has MAX_TIMEOUTS; chunks and peers are finite.

An interrupted sync goes on: `resume` takes the manifest and the chunks kept before, once somebody offers the same again.
Another snapshot takes their place only at a tick after which no more offers came.

Bounds: CHUNKS_UNDER_WAY chunks are asked for at once, CHUNKS_OF_ONE_PEER of them from one; OFFERS_OF_ONE_PEER manifests.
Data only passes through. Not here: clocks (a tick comes in), disks, sockets, the application.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hub.ppdl.application import SNAPSHOTS_KEPT
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.snapshots.manifest import Manifest, ManifestError
from hub.ppdl.snapshots.messages import (
    AskSnapshots,
    Chunk,
    ChunkId,
    FetchChunk,
    NothingToOffer,
    Offer,
    SnapshotMessage,
)
from openmg.hashing import keccak256

CHUNKS_UNDER_WAY = 8
"""2 MiB asked for at once: enough to keep three links busy, little beside the 16 MiB of one peer's queue."""
CHUNKS_OF_ONE_PEER = 3
OFFERS_OF_ONE_PEER = SNAPSHOTS_KEPT
OFFER_TICKS = 16
"""How long offers are waited for; a tick is at most a second. An answer needs more than a round trip: its peer may have to dial
this hub first, execute a heavy block, or send what waits before it. Waiting costs nothing, blocks are fetched meanwhile, and a
new sync would ask the same peers."""
CHUNK_TICKS = 8
"""A chunk that has not come after so many ticks is asked of another peer."""
MAX_TIMEOUTS = 2
"""Ticks at which chunks of a peer were taken back unanswered, after which it is passed over: those that were asked for together
count as one."""


class Phase(enum.Enum):
    """What the sync is doing."""

    IDLE = "idle"
    OFFERS = "collecting offers"
    FETCH = "fetching chunks"
    READY = "installing"


@dataclass(frozen=True)
class SendTo:
    """Send to one peer."""

    peer: bytes
    message: SnapshotMessage


@dataclass(frozen=True)
class Begin:
    """Keep this manifest, forgetting all chunks of another one, before any later effect."""

    manifest: Manifest


@dataclass(frozen=True)
class KeepChunk:
    """Keep a verified chunk."""

    index: int
    data: bytes


@dataclass(frozen=True)
class Ready:
    """Every chunk is kept: install the snapshot, then call `installed`."""

    manifest: Manifest


@dataclass(frozen=True)
class Dropped:
    """A peer lied: to be counted, and logged."""

    peer: bytes
    reason: str


@dataclass(frozen=True)
class GaveUp:
    """Nobody is left to ask; the sync is idle again."""

    reason: str


SyncEffect = SendTo | Begin | KeepChunk | Ready | Dropped | GaveUp


@dataclass
class _Candidate:
    """A proved manifest and who vouches for it."""

    manifest: Manifest
    tip: Tip
    vouchers: set[bytes] = field(default_factory=set)

    def trusted(self) -> bool:
        """Whether an honest validator of the snapshot's own time is among those who vouch."""
        members = [v for v in self.vouchers if v in self.tip.validators or v in self.tip.next_validators]
        most = max(self.tip.validators.max_faulty, self.tip.next_validators.max_faulty)
        return len(members) > most


@dataclass
class _Asked:
    """A chunk under way."""

    peer: bytes
    ticks: int = 0


class SnapshotSync:
    """State of one hub's sync. `verify` raises ManifestError for a manifest that proves nothing."""

    def __init__(self, me: bytes, verify: Callable[[Manifest], Tip]) -> None:
        self.phase = Phase.IDLE
        self.dropped: dict[bytes, str] = {}  # since the last snapshot that was installed; peers only, so bounded by them
        self._me, self._verify = me, verify
        self._above = 0
        self._ticks = 0
        self._candidates: dict[bytes, _Candidate] = {}
        self._offers: dict[bytes, int] = {}
        self._silent: set[bytes] = set()  # asked for offers, and no answer came yet
        self._met: set[bytes] = set()  # asked for offers
        self._heard = False  # an offer since the last tick
        self._kept: Manifest | None = None  # of an interrupted sync
        self._have: set[int] = set()
        self._chosen: _Candidate | None = None
        self._sources: set[bytes] = set()
        self._timeouts: dict[bytes, int] = {}
        self._asked: dict[int, _Asked] = {}
        self._out: list[SyncEffect] = []

    def _take(self) -> list[SyncEffect]:
        out, self._out = self._out, []
        return out

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks kept, and chunks of the snapshot being fetched; (0, 0) without one."""
        return (len(self._have), self._chosen.manifest.snapshot.chunks) if self._chosen else (0, 0)

    def resume(self, manifest: Manifest, have: Iterable[int]) -> None:
        """Tell of an interrupted sync, before `begin`: its manifest, proved when it was kept, and its chunks."""
        self._kept, self._have = manifest, set(have)

    def begin(self, above: int, peers: Sequence[bytes]) -> list[SyncEffect]:
        """Look for a snapshot above a height. Does nothing while a sync runs."""
        if self.phase is Phase.IDLE:
            self.phase, self._above, self._ticks = Phase.OFFERS, above, 0
            self._candidates, self._offers, self._timeouts = {}, {}, {}
            self._silent, self._met, self._heard = set(), set(), False
            self._ask_for_offers(peers)
        return self._take()

    def expects(self, sender: bytes) -> bool:
        """Whether a manifest or a chunk of this peer can be of use now; else it need not even be decoded."""
        if sender in self.dropped or self.phase not in (Phase.OFFERS, Phase.FETCH):
            return False
        waiting = any(asked.peer == sender for asked in self._asked.values())
        return waiting or self._offers.get(sender, 0) < OFFERS_OF_ONE_PEER

    def abort(self, reason: str) -> list[SyncEffect]:
        """What was to be kept could not be: stop here, begin anew later, and trust nothing of what seemed to be kept."""
        if self.phase is not Phase.IDLE:
            self._give_up(reason)
        self._kept, self._have = None, set()
        return self._take()

    def received(self, sender: bytes, message: Offer | NothingToOffer | Chunk) -> list[SyncEffect]:
        """Handle a peer's answer. Never raises; what was not asked for is ignored."""
        if sender in self.dropped or sender == self._me:
            return []
        match message:
            case Offer():
                self._silent.discard(sender)
                self._on_offer(sender, message.manifest)
            case Chunk():
                self._on_chunk(sender, message)
            case NothingToOffer():
                self._silent.discard(sender)
        return self._take()

    def tick(self, height: int = 0, peers: Sequence[bytes] = ()) -> list[SyncEffect]:
        """A regular pulse. `height`: of the last block here; `peers`: who can be asked now."""
        if self.phase is Phase.OFFERS:
            self._ticks += 1
            self._above = max(self._above, height)
            heard, self._heard = self._heard, False
            answered = bool(self._met) and not self._silent and not heard
            if self._usable(heard) or answered or self._ticks >= OFFER_TICKS:
                self._choose()
            else:
                self._ask_for_offers(peers)
        elif self.phase is Phase.FETCH:
            self._age()
            self._ask()
        return self._take()

    def installed(self, fault: str = "") -> list[SyncEffect]:
        """The snapshot is in force; or the application refuses its content, and who vouched for it lied."""
        if self._chosen is not None and fault:
            for peer in sorted(self._chosen.vouchers):
                self._drop(peer, f"vouched for a snapshot whose chunks do not make the proved state: {fault}")
        if not fault:
            self.dropped = {}
        self._end()
        return self._take()

    # handlers

    def _ask_for_offers(self, peers: Sequence[bytes]) -> None:
        """Ask who was not asked yet."""
        asked = [peer for peer in sorted(peers) if peer != self._me and peer not in self.dropped and peer not in self._met]
        self._met.update(asked)
        self._silent.update(asked)
        self._out.extend(SendTo(peer, AskSnapshots(self._above)) for peer in asked)

    def _on_offer(self, sender: bytes, manifest: Manifest) -> None:
        """Prove a manifest, note who vouches for it."""
        count = self._offers.get(sender, 0)
        if self.phase not in (Phase.OFFERS, Phase.FETCH) or count >= OFFERS_OF_ONE_PEER or manifest.height <= self._above:
            return
        self._offers[sender] = count + 1
        self._heard = True
        try:
            tip = self._verify(manifest)
        except ManifestError as error:
            self._drop(sender, f"offered a snapshot that nothing proves: {error}")
            return
        candidate = self._candidates.setdefault(manifest.key, _Candidate(manifest, tip))
        candidate.vouchers.add(sender)
        if candidate is self._chosen:
            self._sources.add(sender)
            self._ask()

    def _usable(self, more: bool = False) -> list[_Candidate]:
        """Candidates above this hub's blocks: the interrupted snapshot when it is offered again, else those that can be
        trusted, unless it is among what may come (`more`).
        """
        above = [c for c in self._candidates.values() if c.manifest.height > self._above]
        again = [c for c in above if self._is_kept(c)]
        if more and not again and self._kept is not None and self._kept.height > self._above:
            return []
        return again or [c for c in above if c.trusted()]

    def _is_kept(self, candidate: _Candidate) -> bool:
        return self._kept is not None and candidate.manifest.key == self._kept.key

    def _choose(self) -> None:
        """The highest that is usable."""
        chosen = max(self._usable(), key=lambda c: (c.manifest.height, c.manifest.key), default=None)
        if chosen is None:
            self.dropped = {}
            self._give_up(f"no snapshot above height {self._above} is vouched for by enough validators")
            return
        self.phase, self._chosen, self._sources = Phase.FETCH, chosen, set(chosen.vouchers)
        if not self._is_kept(chosen):
            self._kept, self._have = chosen.manifest, set()
            self._out.append(Begin(chosen.manifest))
        self._ask()

    def _on_chunk(self, sender: bytes, message: Chunk) -> None:
        """Keep what was asked for and has the right hash."""
        index, chosen = message.chunk.index, self._chosen
        asked = self._asked.get(index)
        if self.phase is not Phase.FETCH or chosen is None or asked is None or asked.peer != sender:
            return
        if message.chunk != self._id(chosen, index):
            return
        del self._asked[index]
        if not message.data:
            self._pass_over(sender)
        elif keccak256(message.data) != chosen.manifest.snapshot.chunk_hash(index):
            self._drop(sender, f"sent a wrong chunk {index} of the snapshot at height {chosen.manifest.height}")
        else:
            self._have.add(index)
            self._out.append(KeepChunk(index, message.data))
        self._ask()

    def _age(self) -> None:
        """Take back chunks that were not answered."""
        for asked in self._asked.values():
            asked.ticks += 1
        late = {asked.peer for asked in self._asked.values() if asked.ticks >= CHUNK_TICKS}
        self._asked = {index: asked for index, asked in self._asked.items() if asked.ticks < CHUNK_TICKS}
        for peer in sorted(late):
            self._timeouts[peer] = self._timeouts.get(peer, 0) + 1
            if self._timeouts[peer] >= MAX_TIMEOUTS:
                self._pass_over(peer)

    def _ask(self) -> None:
        """Ask for chunks that are missing, as many as the bounds allow, each of the source with least to do."""
        chosen = self._chosen
        if self.phase is not Phase.FETCH or chosen is None:
            return
        total = chosen.manifest.snapshot.chunks
        if len(self._have) == total:
            self.phase = Phase.READY
            self._out.append(Ready(chosen.manifest))
            return
        if not self._sources:
            self._give_up("no peer is left that has the snapshot")
            return
        missing = (i for i in range(total) if i not in self._have and i not in self._asked)
        load = dict.fromkeys(sorted(self._sources), 0)
        for asked in self._asked.values():
            load[asked.peer] = load.get(asked.peer, 0) + 1
        while len(self._asked) < CHUNKS_UNDER_WAY:
            peer = min(sorted(self._sources), key=load.__getitem__)
            index = next(missing, None)
            if index is None or load[peer] >= CHUNKS_OF_ONE_PEER:
                break
            load[peer] += 1
            self._asked[index] = _Asked(peer)
            self._out.append(SendTo(peer, FetchChunk(self._id(chosen, index))))

    @staticmethod
    def _id(chosen: _Candidate, index: int) -> ChunkId:
        snapshot = chosen.manifest.snapshot
        return ChunkId(snapshot.height, snapshot.format, snapshot.hash, index)

    def _pass_over(self, peer: bytes) -> None:
        self._sources.discard(peer)
        self._asked = {index: asked for index, asked in self._asked.items() if asked.peer != peer}

    def _drop(self, peer: bytes, reason: str) -> None:
        """A liar: nothing it vouched for counts, nothing more is asked of it."""
        self.dropped[peer] = reason
        self._out.append(Dropped(peer, reason))
        self._silent.discard(peer)
        self._pass_over(peer)
        for candidate in self._candidates.values():
            candidate.vouchers.discard(peer)

    def _give_up(self, reason: str) -> None:
        """Nothing goes on. What was kept stays kept, for a peer that comes back."""
        kept, have = self._kept, self._have
        self._end()
        self._kept, self._have = kept, have
        self._out.append(GaveUp(reason))

    def _end(self) -> None:
        self.phase, self._chosen, self._kept = Phase.IDLE, None, None
        self._have, self._sources, self._asked, self._candidates = set(), set(), {}, {}
