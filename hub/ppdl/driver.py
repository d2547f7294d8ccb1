"""Runs a replica in real time: feeds it events, carries its effects out in order, keeps its one timer.

One task steps the replica and carries out all effects of a step before the next; at a `Persist` it waits for
the store's thread, so nothing said later leaves before the disk has it, while other tasks go on reading
sockets. The application has a thread of its own: a slow block delays no message handling. What the replica
asks of the application comes back as events, at most one of each kind at a time.

A decided block whose certificate holds a seal of this validator that the vote log does not hold shows that the log is
not the one it wrote (an older copy, with its marker): from then on it is not trusted, as if it were lost.

A driver lives as long as its replica. A replica that starts on another tip, after a snapshot, gets a new driver, which
takes over inbox and counters. Not here: mempool policy and public interface (`engine.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent import futures
from typing import Protocol, assert_never

from hub.ppdl.application import Application, Verdict
from hub.ppdl.chain import Executed, context_of, finalise
from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
    CancelTimer,
    Complaint,
    Decide,
    Effect,
    Event,
    LogComplete,
    Persist,
    Propose,
    Report,
    Send,
    ServeBlocks,
    SetTimer,
    Timeout,
    Tip,
    Validate,
    Validated,
)
from hub.ppdl.consensus.evidence import Evidence
from hub.ppdl.consensus.messages import (
    MAX_SYNC_BLOCKS,
    MAX_SYNC_BYTES,
    Decided,
    Kind,
    MessageError,
    SyncRequest,
    SyncResponse,
    encode_message,
)
from hub.ppdl.consensus.reading import read_message
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.net.limits import NO_PROGRESS, Progress
from hub.ppdl.net.queues import FairInbox
from hub.ppdl.net.transport import LARGE_PAYLOAD_BYTES, Channel, Transport
from hub.ppdl.store import PpdlStore, StoredBlock
from hub.ppdl.tasks import TaskSet

log = logging.getLogger(__name__)

MAX_CLOCK_DRIFT_MS = 10_000  # a fresh block may not be further in the future than this
MAX_BACKOFF_VIEWS = 6
MAX_LOGGED_SENDERS = 256
CBOR_LIST, CBOR_SMALL_INTS = 4, 24  # RFC 8949: the major type of a list; smaller numbers are one byte

Item = Event | tuple[bytes, bytes]
"""An event of this machine, or (sender, encoded message)."""


class Shell(Protocol):
    """What the driver asks of the engine around it."""

    def proposal_wanted(self, effect: Propose) -> None:
        """The replica waits for a fresh block."""
        ...

    def executed(self, executed: Executed) -> None:
        """A block is committed."""
        ...

    def equivocated(self, evidence: Evidence) -> None:
        """A validator signed two statements that contradict each other."""
        ...

    def failed(self, reason: str) -> None:
        """This replica must stop."""
        ...


class Threads:
    """Where blocking calls run, one at a time each: those of the application, and those that write to the store."""

    def __init__(self) -> None:
        self.app = futures.ThreadPoolExecutor(1, thread_name_prefix="ppdl-app")
        self.store = futures.ThreadPoolExecutor(1, thread_name_prefix="ppdl-store")

    async def close(self) -> None:
        """Let calls under way finish, and take no more."""
        for thread in (self.app, self.store):
            await asyncio.to_thread(thread.shutdown)


def kind_byte(wire: bytes) -> int:
    """The kind that an encoded message names, seen without decoding it; -1 when it names none."""
    return wire[1] if len(wire) > 1 and wire[0] >> 5 == CBOR_LIST and wire[1] < CBOR_SMALL_INTS else -1


class Driver:
    """Event loop of one replica.

    `view_timeout_s`: T0; `idle_s`: how long a healthy view may be silent before T0 starts to count.
    """

    def __init__(
        self,
        replica: Replica,
        app: Application,
        store: PpdlStore,
        transport: Transport,
        shell: Shell,
        now_ms: Callable[[], int],
        view_timeout_s: float,
        idle_s: float,
        before: Driver | None = None,
    ) -> None:
        self.replica = replica
        self.inbox: FairInbox[Item] = before.inbox if before else FairInbox()
        self.malformed: int = before.malformed if before else 0
        self.complaints: dict[Complaint, int] = before.complaints if before else {complaint: 0 for complaint in Complaint}
        self.threads: Threads = before.threads if before else Threads()
        self.quiescent: bool = before.quiescent if before else False
        self.progress: Progress = before.progress if before else NO_PROGRESS
        self.last_large_height: int = before.last_large_height if before else 0
        self.asked: bytes | None = None  # the peer whose answer of block sync is waited for
        self._app, self._store, self._transport, self._shell = app, store, transport, shell
        self._now_ms = now_ms
        self._view_timeout_s, self._idle_s = view_timeout_s, idle_s
        self._timer: asyncio.TimerHandle | None = None
        self._idle: SetTimer | None = None  # the idle timer that runs, or that would without quiescence
        self._logged: set[tuple[bytes, Complaint | None]] = set()
        self._tasks = TaskSet()
        self._writing: futures.Future[None] | None = None  # the last vote on its way to the disk

    async def run(self) -> None:
        """Step the replica for ever; ends by cancellation or when the store fails."""
        try:
            await self._carry_out(self.replica.start())
            while True:
                await self._take_one()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("PPDL replica stops")
            self._shell.failed(f"replica stopped: {error}")

    async def _take_one(self) -> None:
        """Take one item. It is gone before the next one is waited for: it may be a message of 2 MiB."""
        event = self._event_of(await self.inbox.get())
        if event is not None:
            await self._carry_out(self.replica.step(event))

    async def close(self) -> None:
        """Stop the timer and let calls into application and store finish, so that no block is left half
        committed. The threads go on.

        After `run` has ended: a vote that it was writing when it was cancelled is still on its way to the disk.
        """
        self._stop_timer()
        await self._tasks.finish()
        if self._writing is not None:
            await asyncio.to_thread(futures.wait, [self._writing])

    def _event_of(self, item: Item) -> Event | None:
        """Read a received message; a malformed one is counted, logged once for its sender, dropped."""
        if not isinstance(item, tuple):
            return item
        sender, wire = item
        if kind_byte(wire) == Kind.SYNC_RESPONSE:
            if sender != self.asked:
                return None  # too late, or nobody asked: not even decoded
            self.asked = None
        try:
            return read_message(self.replica, sender, wire)
        except MessageError as error:
            self.malformed += 1
            self._transport.blame(sender)
            self._log_once(sender, None, f"malformed consensus message dropped: {error}")
            return None

    def _log_once(self, sender: bytes, what: Complaint | None, text: str) -> None:
        if (sender, what) not in self._logged and len(self._logged) < MAX_LOGGED_SENDERS:
            self._logged.add((sender, what))
            log.warning("PPDL peer %s: %s", sender.hex(), text)

    async def _in_store(self, call: Callable[[], None]) -> None:
        self._writing = self.threads.store.submit(call)
        await asyncio.wrap_future(self._writing)

    async def _carry_out(self, effects: list[Effect]) -> None:
        """Invariant: in order, and nothing after a Persist before it is on disk."""
        for effect in effects:
            match effect:
                case Persist():
                    votes, prepared = effect.votes, effect.prepared
                    await self._in_store(lambda v=votes, p=prepared: self._store.persist(v, p))  # type: ignore[misc]
                case LogComplete():
                    await self._in_store(self._store.mark_log_complete)
                case _:
                    self._carry_out_now(effect)

    def _carry_out_now(self, effect: Effect) -> None:
        """Effects that need no waiting, or answer later with an event."""
        match effect:
            case Broadcast():
                self._transport.broadcast(Channel.CONSENSUS, encode_message(effect.message))
            case Send():
                if isinstance(effect.message, SyncRequest):
                    self.asked = effect.peer
                self._transport.send(effect.peer, Channel.CONSENSUS, encode_message(effect.message))
            case SetTimer():
                self._set_timer(effect)
            case CancelTimer():
                self._stop_timer()
            case Propose():
                self._shell.proposal_wanted(effect)
            case Validate():
                self._tasks.spawn(self._validate(effect))
            case Decide():
                self._tasks.spawn(self._execute(effect.decided))
            case ServeBlocks():
                self._tasks.spawn(self._serve(effect))
            case Report():
                self._report(effect)
            case Persist() | LogComplete():
                raise AssertionError("durable effects are awaited in _carry_out")
            case _:
                assert_never(effect)

    def _report(self, effect: Report) -> None:
        self.complaints[effect.complaint] += 1
        if effect.evidence is not None:
            self._shell.equivocated(effect.evidence)
        if effect.complaint is Complaint.DIVERGED:
            self._shell.failed(f"{effect.complaint.value}: {effect.detail}")
        else:
            if effect.complaint is Complaint.INVALID:
                self._transport.blame(effect.sender)
            self._log_once(effect.sender, effect.complaint, f"{effect.complaint.value}: {effect.detail}")

    async def _validate(self, effect: Validate) -> None:
        block = effect.block
        verdict = Verdict.UNAVAILABLE  # a block from the future: asked again, perhaps our clock is behind
        if block.header.timestamp_ms <= self._now_ms() + MAX_CLOCK_DRIFT_MS:
            verdict = await asyncio.get_running_loop().run_in_executor(self.threads.app, self._judge, effect)
        self.inbox.put_local(Validated(effect.height, effect.view, block.hash, verdict))

    def _judge(self, effect: Validate) -> Verdict:
        try:
            return self._app.process_proposal(context_of(effect.block), effect.block.txs)
        except Exception:
            log.exception("application failed to judge block %d; it gets no vote", effect.height)
            return Verdict.REJECT

    async def _execute(self, decided: Decided) -> None:
        """Execute, store, commit, then the next height."""
        loop, tip = asyncio.get_running_loop(), self.replica.tip
        try:
            executed, forgotten = await loop.run_in_executor(self.threads.app, self._finish, tip, decided)
        except Exception as error:
            log.exception("PPDL block %d cannot be executed", decided.height)
            self._shell.failed(f"block {decided.height} cannot be executed: {error}")
            return
        if forgotten:
            self._distrust_log(decided.height)
        size = decided.block.size
        self.progress = Progress(self.progress.blocks + 1, self.progress.size + size)
        if size > LARGE_PAYLOAD_BYTES:
            self.last_large_height = decided.height
        self._shell.executed(executed)
        self.inbox.put_local(Advanced(executed.tip))

    def _finish(self, tip: Tip, decided: Decided) -> tuple[Executed, bool]:
        """finalise -> store block and outcome -> commit; and whether the vote log turned out to be another one.

        One call of the application's thread, which waits for the store's: going through the loop between the three costs
        more than they do. The store's thread never waits for the application's.
        """
        executed = finalise(self._app, tip, decided)
        forgotten = self.threads.store.submit(self._save, executed.stored).result()
        self._app.commit()
        return executed, forgotten

    def _save(self, stored: StoredBlock) -> bool:
        """Make a block durable; returns whether its certificate holds a seal of ours that the vote log does not."""
        header, view, seals = stored.decided.block.header, stored.decided.qc.view, stored.decided.qc.seals
        forgotten = False
        if self._store.log_complete() and not self._store.knows_vote(Kind.COMMIT, header.height, view):
            domain, me = self.replica.domain, self.replica.address
            forgotten = any(domain.signer(Kind.COMMIT, header.height, view, header.hash, seal) == me for seal in seals)
        if forgotten:
            self._store.mark_log_lost()
        self._store.save_block(stored)
        return forgotten

    def _distrust_log(self, height: int) -> None:
        """The vote log is not the one this validator wrote: silent until caught up, as after its loss."""
        log.critical("PPDL block %d holds a seal of this hub that its vote log does not: the store is an older copy", height)
        self.replica.log_lost = True
        self.replica.abstain_through = None
        self.replica.hints.clear()

    async def _serve(self, effect: ServeBlocks) -> None:
        """In a thread of its own: who asks for many large blocks delays no vote on its way to the disk."""
        stored = await asyncio.to_thread(self._store.blocks_from, effect.height, MAX_SYNC_BLOCKS, MAX_SYNC_BYTES)
        message = encode_message(SyncResponse(tuple(one.decided for one in stored)))  # none: so that another one is asked
        self._transport.send(effect.peer, Channel.CONSENSUS, message)

    def _set_timer(self, effect: SetTimer) -> None:
        self._stop_timer()
        wait = self._view_timeout_s * 2.0 ** min(effect.view, MAX_BACKOFF_VIEWS)
        if effect.idle:
            self._idle = effect
            wait += self._idle_s
            if self.quiescent:
                return
        self._arm(effect, wait)

    def _arm(self, effect: SetTimer, wait_s: float) -> None:
        event = Timeout(effect.height, effect.view)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.inbox.put_local, event)

    def _stop_timer(self) -> None:
        self._idle = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expect_block_soon(self, wait_s: float) -> None:
        """A transaction waits: an idle proposer must act within `wait_s` and T0, not only at its heartbeat."""
        if self._idle is None or self._timer is None:
            return
        loop = asyncio.get_running_loop()
        wait = self._view_timeout_s + wait_s
        if self._timer.when() - loop.time() > wait:
            self._timer.cancel()
            self._arm(self._idle, wait)

    def set_quiescent(self, quiescent: bool) -> None:
        """While quiescent, silence of an idle view 0 is expected and suspected by nobody here."""
        self.quiescent = quiescent
        idle = self._idle
        if idle is not None:
            self._set_timer(idle)
