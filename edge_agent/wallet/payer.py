"""Makes payments, and gathers small notes: one spend at a time, proved, sent, and sent again until the chain took it.

Rules: a spend is journalled before its proof is begun (`edge_agent.wallet.notes`). While it is under way the same content
is put again and again, newly proved only when the chain's circuits changed; that nothing is paid twice rests on the
nullifiers, never on what a relay answers. Not here: when something is due (`edge_agent.wallet.service`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from edge_agent.wallet.note_store import NoteStore
from edge_agent.wallet.notes import NotePurse
from edge_agent.wallet.outbox import Outbox
from edge_agent.wallet.proving import Prover
from edge_agent.wallet.spends import Spend
from openmg.envelope import Action
from openmg.tasks import end_task

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks whether the chain took a spend; memory and disk only."""


class Payer:
    """The one spend that this wallet works on."""

    def __init__(self, store: NoteStore, purse: NotePurse, prover: Prover, outbox: Outbox) -> None:
        self._store = store
        self._purse = purse
        self._prover = prover
        self._outbox = outbox
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None

    def begin(self, begin: Callable[[], Spend | None]) -> bool:
        """Begin a spend unless one is being made; False when `begin` has none. What `begin` raises goes through."""
        spend = None if self.is_busy else begin()
        if spend is None:
            return False
        self._task = asyncio.get_running_loop().create_task(self._make(spend))
        self._task.add_done_callback(self._done)
        return True

    async def stop(self) -> None:
        if self._task is not None:
            await end_task(self._task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("a payment failed", exc_info=task.exception())

    async def _make(self, spend: Spend) -> None:
        """Prove and send until the chain took it or its time is over."""
        action: Action | None = None
        try:
            while self._is_open(spend):
                if action is None or spend.circuit_set != self._purse.circuit_set:
                    self._outbox.drop(spend.purpose)
                    spend = spend.bound_to(self._purse.circuit_set)
                    action = await self._prove(spend)
                    if action is None:
                        return
                    continue
                if self._outbox.wants_again(spend.purpose):
                    self._outbox.put(spend.purpose, [action], spend.valid_until)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._outbox.drop(spend.purpose)

    async def _prove(self, spend: Spend) -> Action | None:
        proof = await self._prover.prove(spend.circuit, spend.witness, spend.valid_until)
        if proof is None:
            return None
        log.info("proof of %s made in %.2f s (%s)", spend.circuit, proof.prove_seconds, proof.backend)
        call = self._purse.payment_call(spend, proof)
        return Action(call.to, call.data)

    def _is_open(self, spend: Spend) -> bool:
        under_way = self._store.payment_under_way(spend.number) and not self._store.is_landed(spend.number)
        return under_way and time.time() < spend.valid_until
