"""The appender: brings queued notes into the note tree, sixteen at a time, each batch with a proof.

Theory of operation. A turn reads the token's new events into a copy of queue and tree, asks what the next batch takes,
proves it in a child process, and submits. Anybody may append, so several appenders race: the chain has moved on when the
slower one submits, its transaction is refused, and the next turn continues from there; that is no error. Nothing is kept
on disk: a start reads all events again. A turn proves nothing while its own root is not the chain's.
Not here: the statement (`openmg.zk.circuits.append`), which notes make a short batch (the contract).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hub.chain.client import Contract, EvmClient
from hub.chain.cursor import BlockCursor, ChainRewritten
from hub.chain.errors import CallReverted, ChainError
from hub.plasma.note_log import NoteLog, NotesOutOfOrder, read_note_news
from openmg.zk.circuits.append import LEAVES, AppendWitness, next_batch
from openmg.zk.prover import ProofResult, ProverError
from openmg.zk.tree import CAPACITY, NoteTree, named_root

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
APPEND_GAS = 1_500_000
"""A proof of nineteen inputs is checked for some 450,000; unused gas is not taken."""
MINED_SECONDS = 15.0
RACE_ERRORS = ("StaleRoot", "NothingToAppend", "InvalidProof")
"""What the token answers when another batch came first: other leaves are due, so the proof is of no use."""

Prove = Callable[[AppendWitness], Awaitable[ProofResult]]


class WrongRoot(ChainError):
    """The tree made of the events does not have the chain's root; nothing may be proved on it."""


@dataclass(frozen=True)
class AppenderStatus:
    """Counted since start, but for `queued` and `in_tree`, which are the chain's."""

    queued: int
    in_tree: int
    batches: int
    overtaken: int
    failed: int
    prove_seconds_last: float


@dataclass(frozen=True)
class _Due:
    """The next batch: its witness, and the root that it continues."""

    witness: AppendWitness
    start: int
    old_root: int


class Appender:
    """Appends until stopped; `client` signs for the appender's account, `prove` makes a proof of circuit append."""

    def __init__(self, client: EvmClient, token: Contract, prove: Prove, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._client = client
        self._token = token
        self._prove = prove
        self._poll_seconds = poll_seconds
        self._cursor = BlockCursor(client)
        self._notes = NoteLog()
        self._tree = NoteTree()
        self._tree_number = 0
        self._batches = self._overtaken = self._failed = 0
        self._prove_seconds = 0.0
        self._last_trouble = ""

    def status(self) -> AppenderStatus:
        """Figures for the console and the report."""
        notes = self._notes
        counts = self._batches, self._overtaken, self._failed
        return AppenderStatus(len(notes.queue), notes.appended, *counts, self._prove_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Turn after turn until `stop` is set; a proof under way is given up then."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                turn = asyncio.create_task(self._guarded_turn())
                await asyncio.wait({turn, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not turn.done():
                    turn.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await turn
                elif not turn.result():
                    await asyncio.wait({stopped}, timeout=self._poll_seconds)
        finally:
            stopped.cancel()

    async def _guarded_turn(self) -> bool:
        try:
            appended = await self.turn()
            self._last_trouble = ""
            return appended
        except (ChainError, ProverError) as error:
            self._failed += isinstance(error, ProverError)
            if str(error) != self._last_trouble:
                log.warning("appender: %s; trying again", error)
                self._last_trouble = str(error)
            return False

    async def turn(self) -> bool:
        """Append what is due; whether this appender's batch entered the tree. ChainError, ProverError."""
        due = await asyncio.to_thread(self._look)
        if due is None:
            return False
        result = await self._prove(due.witness)
        self._prove_seconds = result.prove_seconds
        return await asyncio.to_thread(self._submit, due, result)

    # ---- inner parts ------------------------------------------------------------------------------------------

    def _look(self) -> _Due | None:
        """Read the chain and say what is due; None when nothing is, or the chain moves at this moment."""
        self._catch_up()
        call = self._client.call
        start, root = int(call(self._token, "nextPosition")), int(call(self._token, "currentRoot"))
        if start != len(self._notes.leaves):
            return None  # a batch came after the events were read
        number, index = divmod(start, CAPACITY)
        if index and root != named_root(number, self._tree_of(number).root()):
            raise WrongRoot(
                f"the chain's note tree has the root {root:#x}, but its events lead to another; nothing is proved on it"
            )
        # On the next block, since the time of the newest may be long ago and a short batch waits for an epoch's end.
        leaves, count = call(self._token, "pendingLeaves", at="pending")
        first = self._notes.appended
        known = [note.commitment for note in self._notes.queue[first : first + int(count)]]
        if not known or known != [int(leaf) for leaf in leaves[: int(count)]]:
            return None  # nothing is due, or what is due was not read yet
        return _Due(next_batch(number, self._tree_of(number), known), start, root)

    def _catch_up(self) -> None:
        try:
            while (span := self._cursor.ahead()) is not None:
                news = read_note_news(self._client, self._token, span.first, span.last.number)
                self._cursor.advance(span)
                self._notes.take(news)
        except (ChainRewritten, NotesOutOfOrder):
            self._cursor.restart()
            self._client.forget_nonce()
            self._notes, self._tree, self._tree_number = NoteLog(), NoteTree(), 0
            raise

    def _tree_of(self, number: int) -> NoteTree:
        """The tree that grows now, with all leaves of the log that belong to it."""
        if number != self._tree_number:
            self._tree, self._tree_number = NoteTree(), number
        first = number * CAPACITY
        self._tree.extend(leaf.commitment for leaf in self._notes.leaves[first + len(self._tree) :])
        return self._tree

    def _submit(self, due: _Due, result: ProofResult) -> bool:
        old_root, new_root = result.publics[:2]
        try:
            sent = self._client.send(self._token, "append", list(result.words), old_root, new_root, gas=APPEND_GAS)
            self._client.wait(sent, seconds=MINED_SECONDS, where="ConfidentialToken.append")
        except CallReverted as error:
            if error.error in RACE_ERRORS and self._has_moved(due):
                self._overtaken += 1
                return False
            self._failed += 1
            raise
        self._batches += 1
        log.info("notes up to leaf %d are in the tree", due.start + LEAVES - 1)
        return True

    def _has_moved(self, due: _Due) -> bool:
        """Whether other leaves are due now than when the proof was begun."""
        start = int(self._client.call(self._token, "nextPosition"))
        leaves, _ = self._client.call(self._token, "pendingLeaves", at="pending")
        return start != due.start or tuple(int(leaf) for leaf in leaves) != due.witness.leaves
