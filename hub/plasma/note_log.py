"""The confidential token's queue and note tree, as its events tell them.

Definitions: a note enters the queue (NoteQueued, counted from 0) and later, sixteen at a time, the tree (BatchAppended):
the leaf at position start + i is the queued note first + i, and a batch with fewer notes ends in leaves of 0. Positions
run on over all trees. Rules: events are taken in their order and must fit each other; anything else is NotesOutOfOrder.
Not here: reading again after a chain was rewritten (`hub.chain.cursor`), proofs (`hub.plasma.appender`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.chain.client import Contract, EvmClient
from hub.chain.errors import ChainError
from openmg.messages.market import PADDING, NoteEntry
from openmg.zk.circuits.append import LEAVES


class NotesOutOfOrder(ChainError):
    """The token's events do not follow each other; another contract, or a node that leaves events out."""


@dataclass(frozen=True)
class AppendedBatch:
    """Queued notes `first_index` to `first_index + count - 1` stand in the tree from position `start` on; then its root'."""

    start: int
    first_index: int
    count: int
    root: int


@dataclass(frozen=True)
class NoteNews:
    """What a span of blocks did: (index, note) as queued, and batches as appended."""

    queued: tuple[tuple[int, NoteEntry], ...]
    batches: tuple[AppendedBatch, ...]


def read_note_news(client: EvmClient, token: Contract, first_block: int, last_block: int) -> NoteNews:
    """The token's note events in these blocks, both inclusive; blocks on the chain."""
    queued = client.events(token, "NoteQueued", first_block, last_block)
    appended = client.events(token, "BatchAppended", first_block, last_block)
    names = ("start", "firstIndex", "count", "root")
    return NoteNews(
        tuple((int(e.args["index"]), NoteEntry(int(e.args["cm"]), bytes(e.args["ciphertext"]))) for e in queued),
        tuple(AppendedBatch(*(int(event.args[name]) for name in names)) for event in appended),
    )


class NoteLog:
    """All notes that were queued, all leaves by position, and the newest root'."""

    def __init__(self) -> None:
        self.queue: list[NoteEntry] = []
        self.leaves: list[NoteEntry] = []
        self.appended = 0
        """Queued notes that are in the tree."""
        self.root = 0

    def take(self, news: NoteNews) -> None:
        """Go on with a span's events. A batch's notes were queued before it, so the order of the two kinds is right."""
        for index, note in news.queued:
            if index != len(self.queue):
                raise NotesOutOfOrder(f"the chain queued note {index} where {len(self.queue)} was due; is the node complete?")
            self.queue.append(note)
        for batch in news.batches:
            self._append(batch)

    def _append(self, batch: AppendedBatch) -> None:
        end = batch.first_index + batch.count
        fits = batch.start == len(self.leaves) and batch.first_index == self.appended
        if not fits or not 0 < batch.count <= LEAVES or end > len(self.queue):
            raise NotesOutOfOrder(
                f"the chain appended notes {batch.first_index} to {end - 1} at {batch.start}, which does not follow "
                f"{self.appended} notes and {len(self.leaves)} leaves; is the node complete?"
            )
        self.leaves += self.queue[batch.first_index : end]
        self.leaves += [PADDING] * (LEAVES - batch.count)
        self.appended, self.root = end, batch.root
