"""A validator's duties in one model's rounds: fetch the blobs, say which are there, lead the aggregate, judge another's.

Driven by decided blocks: after each one, and once a second, it looks at the committed state and does what is its turn. Nothing
is remembered that the chain does not say, but when a transaction was last handed in: one that is not on the chain
RESEND_BLOCKS later is handed in again. So a restart, a lost transaction or a blob that comes late repair themselves.
Rules: an honest validator votes for blobs that it holds and has checked, and says `ok` only to an aggregate that it computed
itself, byte for byte. Aggregation runs in a thread; consensus waits for none of this.
Not here: what the votes lead to (`hub.ppdl.app`), the blobs' way between hubs (`exchange`), the other models (`attendants`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from hub.learning.blobs import Promise
from hub.learning.exchange import BlobExchange
from hub.learning.private_sum import check_masked
from hub.learning.results import aggregate_of
from hub.ppdl.app.duties import AggregateProposal, Availability, Verdict, bitmap_of
from hub.ppdl.app.round_answers import Duties
from hub.ppdl.app.transactions import duty_tx
from hub.ppdl.app.verdicts import proposal_hash
from hub.ppdl.application import BlockResult
from hub.ppdl.consensus.block import Block
from hub.ppdl.mempool import TxRefused
from openmg.learning.blobs import open_blob
from openmg.learning.plan import LearningPlan
from openmg.messages.learning import PHASE_AGGREGATE, PHASE_COMMIT, PHASE_REVEAL
from openmg.messages.private import PHASE_DEAL, PHASE_MASK
from openmg.signing import address_of

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
SETTLE_SECONDS = 0.05
"""Between a block and what it asks for: the other hubs decide it in the same moment, and refuse what they cannot place yet."""
RESEND_BLOCKS = 2
MAX_SENT = 4096
"""Transactions whose height of handing in is remembered; of one round there are as many as attempts and votes."""


class LearningAttendant:
    """One validator's, of one model; in the hub's loop.

    duties: of the model (`PpdlApplication.duties`). submit: raises TxRefused. key: the validator's private key.
    """

    def __init__(
        self,
        duties: Callable[[], Duties | None],
        exchange: BlobExchange,
        submit: Callable[[bytes], Awaitable[bytes]],
        chain_id: int,
        key: bytes,
    ) -> None:
        self.exchange = exchange
        self.address = address_of(key)
        self._duties, self._submit, self._chain_id, self._key = duties, submit, chain_id, key
        self._sent: dict[tuple[object, ...], int] = {}
        self._good: dict[bytes, bool] = {}
        self._result: AggregateProposal | None = None
        self._round = -1
        self._looked = (-1, "", 0)
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something changed: look again soon."""
        self._wake.set()

    def on_block(self, block: Block, result: BlockResult) -> None:
        """A block was committed."""
        self.wake()

    def on_reveal(self, device: bytes, round_number: int, blob: bytes) -> None:
        """A meter showed its blob to this hub."""
        duties = self._duties()
        if duties is not None:
            self._look(duties)
        if self.exchange.offer(device, round_number, blob):
            self.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Attend until `stop` is set."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), STEP_SECONDS)
                await asyncio.sleep(SETTLE_SECONDS)
            self._wake.clear()
            try:
                if loop.time() - asked >= STEP_SECONDS:
                    asked = loop.time()
                    self.exchange.step()
                await self.step()
            except Exception:
                log.exception("attending to a learning round failed; it is tried again")
                await asyncio.sleep(STEP_SECONDS)

    async def step(self) -> None:
        """Do what is due now."""
        duties = self._duties()
        if duties is None:
            return
        self._look(duties)
        if self.address not in duties.validators:
            return
        if duties.phase == PHASE_REVEAL:
            await self._vote(duties)
        elif duties.phase == PHASE_AGGREGATE:
            await self._judge(duties)

    def _look(self, duties: Duties) -> None:
        """Follow the chain to its round, and expect the blobs that it promises."""
        if duties.round != self._round:
            self._round, self._result = duties.round, None
            self._good.clear()
            self._sent.clear()
            self.exchange.store.prune(duties.round)
        looked = duties.round, duties.phase, len(duties.commits)
        if looked != self._looked:
            self._looked = looked
            self.exchange.expect(_promises(duties))

    # The blobs

    async def _vote(self, duties: Duties) -> None:
        promises = _promises(duties)
        good = [self._is_good(promise, duties) for promise in promises]
        present, malformed = bitmap_of([mark is True for mark in good]), bitmap_of([mark is False for mark in good])
        former = next((vote for vote in duties.votes if vote.validator == self.address), None)
        if not any(mark is not None for mark in good) or former and (former.present, former.malformed) == (present, malformed):
            return
        age, whole = duties.height - duties.phase_height, all(mark is not None for mark in good)
        if whole or 2 * (age + 1) >= duties.plan.reveal_blocks:
            vote = Availability(duties.name, duties.round, present, malformed)
            await self._hand_in(vote, duties, "availability", present, malformed)

    def _is_good(self, promise: Promise, duties: Duties) -> bool | None:
        """Whether the blob's form is good; None when it is not here."""
        if not self.exchange.store.holds(promise):
            return None
        if promise.commitment not in self._good:
            blob = self.exchange.store.get(promise)
            if blob is None:
                return None
            try:
                _check_form(duties.plan, blob)
            except ValueError as error:
                log.warning("round %d: blob of 0x%s is malformed: %s", duties.round, promise.device.hex(), error)
                self._good[promise.commitment] = False
            else:
                self._good[promise.commitment] = True
        return self._good[promise.commitment]

    # The aggregate

    async def _judge(self, duties: Duties) -> None:
        leads = duties.leader == self.address
        if duties.proposal_hash and self.address in duties.spoken or not duties.proposal_hash and not leads:
            return
        result = await self.computed(duties)
        if result is None:
            return
        own = replace(result, attempt=duties.attempt)
        if not duties.proposal_hash:
            await self._hand_in(own, duties, "aggregate", duties.attempt)
            return
        right = proposal_hash(own) == duties.proposal_hash
        if not right:
            leader = duties.leader.hex()
            log.warning("round %d, attempt %d: 0x%s proposed a wrong aggregate", duties.round, duties.attempt, leader)
        verdict = Verdict(duties.name, duties.round, duties.attempt, duties.proposal_hash, right)
        await self._hand_in(verdict, duties, "verdict", duties.attempt)

    async def computed(self, duties: Duties) -> AggregateProposal | None:
        """The right aggregate; None while blobs are missing."""
        if self._result is None:
            blobs = {p.device: self.exchange.store.get(p) for p in _promises(duties)}
            whole = {device: blob for device, blob in blobs.items() if blob is not None}
            if len(whole) < len(duties.included):
                return None
            self._result = await asyncio.to_thread(aggregate_of, duties, whole)
            if not self._result.master:
                log.warning("round %d: the sum of its updates is not to be used", duties.round)
        return self._result

    async def _hand_in(self, duty: Availability | AggregateProposal | Verdict, duties: Duties, *name: object) -> None:
        """Submit a duty, unless that was done a moment ago."""
        sent = self._sent.get(name)
        if sent is not None and duties.height < sent + RESEND_BLOCKS:
            return
        if len(self._sent) >= MAX_SENT:
            self._sent.clear()
        self._sent[name] = duties.height
        try:
            await self._submit(duty_tx(duty, self._chain_id, self._key))
        except TxRefused as error:
            del self._sent[name]
            log.info("round %d: %s was refused: %s", duties.round, name[0], error)


def _check_form(plan: LearningPlan, blob: bytes) -> None:
    """Raises ValueError, one sentence, for a blob that cannot be an update: in the clear, or under its masks."""
    if plan.privacy == "none":
        open_blob(plan, blob)
    else:
        check_masked(plan, blob)


def _promises(duties: Duties) -> list[Promise]:
    """The blobs that matter now, in the order of the commits: none while devices still commit, then all, then the included."""
    if duties.phase in (PHASE_COMMIT, PHASE_DEAL, PHASE_MASK):
        return []
    wanted = set(duties.included) if duties.phase != PHASE_REVEAL else None
    base_hash = duties.model.model_hash
    return [
        Promise(commit.device, duties.round, base_hash, commit.commitment)
        for commit in duties.commits
        if wanted is None or commit.device in wanted
    ]
