"""A hub's part as one of those who learn prices: it answers its own chain's open round, as a meter answers a notice.

Prices are public, so the genesis names hubs as trainers of that model, each by the address of a key of its own. All of them
train on the same record, that of the genesis, with chance of their own; what they promise, show and judge is admitted and
aggregated by the rules of every model (`hub.ppdl.app`), so a hub that lies is one of n.
Driven by decided blocks like `attendant`: it says what its part in the phase is, and again RESEND_BLOCKS later while the chain
does not have it. What it promised is durable before its commitment leaves (`openmg.member`). Training runs in a thread; no
block waits for it, and between rounds the windows are given back.
Not here: the votes of a validator (`attendant`), the windows (`price_past`), forecasts (`hub.inference.agreed_price`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from hub.learning.price_past import pool_spans, recorded_pasts
from hub.learning.publisher import notice_of
from hub.ppdl.app.genesis_state import AppGenesis
from hub.ppdl.app.round_answers import Duties, ModelAnswer
from hub.ppdl.app.transactions import ballot_tx, commit_tx, evaluation_tx
from hub.ppdl.application import BlockResult, QueryResult
from hub.ppdl.consensus.block import Block
from hub.ppdl.mempool import TxRefused
from openmg.forecast.spec import PRICE
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.plan import LearningPlan
from openmg.member.answers import RoundAnswer, RoundAnswerer
from openmg.member.pending import PendingFile
from openmg.member.spans import LearnerNotReady
from openmg.messages import base
from openmg.messages.learning import PHASE_COMMIT, PHASE_COMMITTEE, PHASE_REVEAL
from openmg.signing import address_of

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
RESEND_BLOCKS = 3
"""A word in a block is seen within two; what was lost is said again before a phase of a few blocks ends."""
KEY_ROLE = "price-trainer"
"""Names the trainer's key among the hub's (`HubKeys.role_key`)."""
PHASES = (PHASE_COMMIT, PHASE_REVEAL, PHASE_COMMITTEE)


class PriceTrainer:
    """One hub's, of one price model; in the hub's loop.

    place: the plan's number. duties: `PpdlApplication.duties` of it. show: hands a blob to this hub's validator
    (`LearningAttendants.on_reveal`). submit: raises TxRefused. key: the trainer's private key.
    """

    def __init__(
        self,
        plan: LearningPlan,
        genesis: AppGenesis,
        duties: Callable[[], Duties | None],
        query: Callable[[str], QueryResult],
        show: Callable[[bytes, bytes, int, bytes], None],
        submit: Callable[[bytes], Awaitable[bytes]],
        chain_id: int,
        key: bytes,
        folder: Path,
    ) -> None:
        self.address, self.name = address_of(key), plan.spec.short_name
        self._duties, self._query, self._show, self._submit = duties, query, show, submit
        self._chain_id, self._key = chain_id, key
        pasts = recorded_pasts(genesis)
        self._answerer = RoundAnswerer(
            self.address,
            lambda asked: pool_spans(asked, pasts),
            PendingFile(folder, self.name),
            os.urandom,
            NumpyTrainer(plan.spec),
        )
        self._said: tuple[int, str, int] = (-1, "", 0)
        """Round and phase in which this hub spoke last, and the height then."""
        self._complained = ""
        self._wake = asyncio.Event()

    def on_block(self, block: Block, result: BlockResult) -> None:
        """A block was committed."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), STEP_SECONDS)
            self._wake.clear()
            try:
                await self.step()
            except Exception:
                log.exception("learning prices failed; it is tried again")
                await asyncio.sleep(STEP_SECONDS)

    async def step(self) -> None:
        """Say what is due now."""
        duties = self._duties()
        if duties is None or not self._is_due(duties):
            return
        known = self._query(f"model/{self.name.hex()}")
        notice = notice_of(self.name, base.decode(ModelAnswer, known.value))
        self._said = notice.round, notice.phase, notice.height
        try:
            answer = await asyncio.to_thread(self._answerer.answer, notice)
        except (LearnerNotReady, ValueError, OSError) as error:
            if str(error) != self._complained:
                log.warning("round %d of prices: %s; this hub sits it out", notice.round, error)
            self._complained = str(error)
            return
        finally:
            self._answerer.rest()
        if answer is not None:
            await self._say(answer)

    def _is_due(self, duties: Duties) -> bool:
        """Whether this hub has a part in the phase that the chain may not have yet."""
        number, phase, height = self._said
        if duties.phase not in PHASES or duties.phase == PHASE_COMMIT and self._committed(duties):
            return False
        if duties.phase == PHASE_REVEAL and not self._committed(duties):
            return False
        return (duties.round, duties.phase) != (number, phase) or duties.height >= height + RESEND_BLOCKS

    def _committed(self, duties: Duties) -> bool:
        return any(commit.device == self.address for commit in duties.commits)

    async def _say(self, answer: RoundAnswer) -> None:
        sign = partial(base.sign, chain_id=self._chain_id, private_key=self._key)
        if answer.reveal is not None:
            self._show(self.address, self.name, answer.round, answer.reveal.blob)
        txs = [evaluation_tx(sign(item)) for item in answer.evaluations[:1]]
        if answer.commit is not None:
            txs.append(commit_tx(sign(answer.commit)))
        if answer.ballot is not None:
            txs.append(ballot_tx(sign(answer.ballot)))
        for tx in txs:
            try:
                await self._submit(tx)
            except TxRefused as error:  # as a rule: the chain has it already
                log.debug("round %d of prices: %s", answer.round, error)


def price_plan(genesis: AppGenesis) -> tuple[int, LearningPlan] | None:
    """The plan of the price model and its number; None for a chain that learns no prices."""
    numbered = enumerate(genesis.plans)
    return next(((place, plan) for place, plan in numbered if plan.spec.quantity == PRICE.quantity), None)
