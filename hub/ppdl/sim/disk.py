"""A disk that loses what was not synced.

`write` puts one entry into the machine's cache, `sync` makes it durable. A crash between the two leaves the entry whole,
torn or not at all; every entry is framed with its length and a checksum, so that a torn one is seen at the next start and
dropped. That is harmless: nothing that depends on an entry happens before its sync. A log that is gone or damaged *before*
its end is another matter (a new `Disk(log_complete=False)`, `lose_votes`): the replica is told and abstains
(`consensus/catchup.py`).

Production's disk is `hub.ppdl.store`; the promises are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.decoding import decode_cert, decode_message
from hub.ppdl.consensus.effects import LogComplete, Persist, PreparedProof, Restored, Tip, VoteRecord
from hub.ppdl.consensus.messages import Decided, Kind, encode_cert, encode_message
from openmg import codec
from openmg.hashing import keccak256

_HEAD_BYTES = 4 + 8
"""Length and checksum before each entry."""


class TornEntry(ValueError):
    """The last entry of the disk ends too early, or its checksum does not hold."""


class SecondVote(ValueError):
    """The disk holds another vote at this (kind, height, view) and refuses."""


@dataclass(frozen=True)
class SaveBlock:
    """A decided block and the outcome of its execution, durable in one step."""

    decided: Decided
    tip: Tip


Entry = Persist | LogComplete | SaveBlock


class Disk:
    """What survives a crash: votes of the current height, the prepared certificate, the chain.

    `app_height`: the application's own durable state, which may lag behind the chain by a crash.
    """

    def __init__(self, log_complete: bool = True) -> None:
        self.votes: dict[tuple[Kind, int, int], VoteRecord] = {}
        self.prepared: PreparedProof | None = None
        self.blocks: list[SaveBlock] = []
        self.app_height = 0
        self.log_complete = log_complete
        self.torn = 0
        self._cache: Entry | None = None

    @property
    def height(self) -> int:
        """Decided blocks on the disk."""
        return len(self.blocks)

    def write(self, entry: Entry) -> None:
        """Put an entry into the cache; the one before it must have been synced."""
        assert self._cache is None
        if isinstance(entry, Persist):
            for vote in entry.votes:
                known = self.votes.get((vote.kind, vote.height, vote.view))
                if known is not None and known.digest != vote.digest:
                    raise SecondVote(f"{vote.kind.name} height {vote.height} view {vote.view}")
        self._cache = entry

    def sync(self) -> None:
        """Make what was written durable."""
        entry, self._cache = self._cache, None
        match entry:
            case Persist():
                for vote in entry.votes:
                    self.votes.setdefault((vote.kind, vote.height, vote.view), vote)
                if entry.prepared is not None:
                    self.prepared = entry.prepared
            case SaveBlock():
                self.blocks.append(entry)
                decided_height = entry.decided.height
                self.votes = {place: vote for place, vote in self.votes.items() if vote.height > decided_height}
            case LogComplete():
                self.log_complete = True

    def crash(self, random: Random) -> str:
        """The machine goes down: what happens to an entry that was written but not synced. Says what did."""
        entry = self._cache
        if entry is None:
            return "nothing unsynced"
        data = frame(entry)
        left = random.choice((0, len(data), random.randrange(len(data))))
        self._cache = None
        try:
            self._cache = unframe(data[:left], entry)
        except TornEntry:
            self.torn += left > 0
            return f"unsynced entry torn after {left} of {len(data)} bytes"
        if self._cache is None:
            return "unsynced entry lost"
        self.sync()
        return "unsynced entry survived"

    def lose_votes(self) -> None:
        """The vote log is damaged before its end; the chain is whole."""
        self.votes.clear()
        self.prepared = None
        self.log_complete = False

    def forget_votes(self) -> None:
        """A planted fault: the votes are gone and nobody knows (a disk that lied about its sync)."""
        self.votes.clear()
        self.prepared = None

    def restored(self, height: int) -> Restored:
        """What a replica of this height starts from."""
        votes = tuple(record for _, record in sorted(self.votes.items()) if record.height == height)
        prepared = self.prepared
        if prepared is not None and prepared.block.height != height:
            prepared = None
        return Restored(votes, prepared, self.log_complete)


def frame(entry: Entry) -> bytes:
    """Length, checksum and content of an entry, as it lies on the disk."""
    body = codec.encode(_fields(entry))
    return len(body).to_bytes(4, "big") + keccak256(body)[:8] + body


def unframe(data: bytes, written: Entry) -> Entry | None:
    """The entry that a start finds in these bytes: None when there are none. Raises TornEntry."""
    if not data:
        return None
    length, body = int.from_bytes(data[:4], "big"), data[_HEAD_BYTES:]
    if len(data) < _HEAD_BYTES or len(body) != length or keccak256(body)[:8] != data[4:_HEAD_BYTES]:
        raise TornEntry(f"{len(data)} bytes")
    return _parsed(codec.decode(body, max_bytes=1 << 23), written)


def _fields(entry: Entry) -> list[object]:
    match entry:
        case Persist():
            votes = [[int(v.kind), v.height, v.view, v.digest, v.wire] for v in entry.votes]
            proof = entry.prepared
            return [1, votes, None if proof is None else [encode_cert(proof.cert), proof.block.encoded]]
        case SaveBlock():
            return [2, encode_message(entry.decided)]
        case LogComplete():
            return [3]


def _parsed(fields: list[object], written: Entry) -> Entry:
    """Exact inverse of `_fields`; the outcome of a block's execution is computed again in production, taken over here."""
    match fields, written:
        case [1, [*votes], proof], _:
            records = tuple(VoteRecord(Kind(v[0]), *v[1:]) for v in votes if isinstance(v, list))
            match proof:
                case [bytes(cert), bytes(block)]:
                    return Persist(records, PreparedProof(decode_cert(cert), Block.decode(block)))
            return Persist(records)
        case [2, bytes(wire)], SaveBlock():
            decided = decode_message(wire)
            assert isinstance(decided, Decided)
            return SaveBlock(decided, written.tip)
    return LogComplete()
