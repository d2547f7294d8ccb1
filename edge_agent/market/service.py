"""The private trade as a service of the agent: hears registry, agreed slots and pool, proves what is due, hands over calls.

Theory of operation. The chain notice says where the pool is; trade begins when the wallet, a service beside this one, knows
its notes and its way out. Once a second and after each message the service looks: calls of which no effect is seen are put
into the wallet's outbox (again), and when no job is under way the next one is begun, proved in children, one at a time, and
its call written down. Closed slots go to the journal at once; those that were closed while nobody listened are taken from the
meter's store at start.
Rules: notices are untrusted: leaves count only with our own commitments among them, a registry only if its leaves make its
root, and the chain has the last word on both. What is malformed is counted, told once and dropped. A job that fails is told
and tried again later. Bounds: MAX_WAITING_SLOTS notices whose slot the meter has not closed yet.
Not here: what is due (`planner`), what is proved (`witnesses`), when envelopes leave (`edge_agent.wallet.outbox`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from pathlib import Path

from edge_agent.market.agreed import LeftOutError, agreed_slot
from edge_agent.market.calls import PoolCalls
from edge_agent.market.journal import MarketJournal
from edge_agent.market.planner import ORDER_SLOTS
from edge_agent.market.trade import Home, Job, Trade
from edge_agent.market.witnesses import WitnessMaker
from edge_agent.services import AgentContext
from edge_agent.slots import IMPORTED
from edge_agent.store import StoreError
from edge_agent.wallet.journal import DATABASE
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import NoteStore
from edge_agent.wallet.notes import NotePurse
from edge_agent.wallet.prices import pool_price
from edge_agent.wallet.service import WalletService, payment_seconds
from openmg.envelope import Action
from openmg.identity import DeviceKey
from openmg.market.calendar import Calendar
from openmg.messages import base, topics
from openmg.messages.market import ChainNotice, EnergyPoolPlace, PoolNotice, RegistryNotice, SlotLeavesNotice
from openmg.tasks import end_tasks
from openmg.zk.meters import meter_id
from openmg.zk.slot_openings import export_opening, import_opening

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
PAUSE_SECONDS = 10.0
"""After a job that failed, until the next is begun."""
MAX_WAITING_SLOTS = 2 * ORDER_SLOTS
"""Agreed slots that the meter has not closed: its clock is behind, or the hub makes them up."""
MAX_WARNINGS = 64
"""Topics with a malformed message that are told; whoever makes more up is not heard."""


class MarketService:
    """`edge_agent.services.Service` of one home's trade; `wallet` runs beside it and stays its owner's."""

    name = "market"

    def __init__(self, wallet: WalletService, keys: OwnerKeys, state_dir: Path, calendar: Calendar) -> None:
        self._wallet = wallet
        self._keys = keys
        self._calendar = calendar
        self._journal = MarketJournal(state_dir / DATABASE)
        self._notes = NoteStore(state_dir / DATABASE)
        self._context: AgentContext | None = None
        self._chain: ChainNotice | None = None
        self._registry: RegistryNotice | None = None
        self._recorded: tuple[int, ...] = ()
        self._waiting: OrderedDict[int, SlotLeavesNotice] = OrderedDict()
        self._trade: Trade | None = None
        self._job: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._not_before = 0.0
        self._warned: set[str] = set()
        self.malformed = 0

    async def start(self, context: AgentContext) -> None:
        self._context = context
        await self._catch_up(context)
        microgrid = context.config.home.microgrid
        for topic in (topics.CHAIN, topics.REGISTRY, topics.slot_leaves_of(microgrid), topics.pool(microgrid)):
            context.subscribe(topic)
        self._tasks.append(asyncio.get_running_loop().create_task(self._tick()))

    async def _catch_up(self, context: AgentContext) -> None:
        """Slots that the meter stored and this service was not told: the agent was killed, or the market is new to it."""
        try:
            rows = await asyncio.to_thread(context.store.slots, context.clock.slot() - ORDER_SLOTS)
        except StoreError:  # said by the store; slots that are closed from now on are heard
            return
        for row in rows:
            if not row.flags & IMPORTED:
                self._journal.add_slot(row.slot, row.import_wh, row.export_wh)

    async def stop(self) -> None:
        await end_tasks([*self._tasks, *([] if self._job is None else [self._job])])
        self._journal.close()
        self._notes.close()

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        self._journal.add_slot(slot, import_wh, export_wh)
        await self._agree()
        self._step()

    async def on_message(self, topic: str, payload: bytes) -> None:
        try:
            if payload:  # an empty one takes a retained message back
                self._hear(topic, payload)
        except ValueError as error:  # InvalidMessage is one
            self.malformed += 1
            self._warn_once(topic, f"a message on {topic} is ignored (more are only counted): {error}")
            return
        await self._agree()
        self._step()

    def _warn_once(self, about: str, sentence: str) -> None:
        if about not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(about)
            log.warning("%s", sentence)

    def _hear(self, topic: str, payload: bytes) -> None:
        assert self._context is not None
        microgrid = self._context.config.home.microgrid
        if topic == topics.CHAIN:
            self._chain = base.decode(ChainNotice, payload)  # that it is the same chain, the wallet sees to
        elif topic == topics.REGISTRY:
            self._on_registry(base.decode(RegistryNotice, payload))
        elif topic == topics.pool(microgrid):
            notice = base.decode(PoolNotice, payload)
            _require(notice.microgrid == microgrid, "the pool is another microgrid's")
            self._recorded = notice.recorded_slots
            place = self._place()
            if place is not None:  # without it the limits are unknown; the next notice comes with the next block
                self._wallet.prices.hear(pool_price(self._context.clock.slot(), notice, place))
            if self._trade is not None:
                self._trade.record(self._recorded)
        elif topics.is_slot_leaves(topic):
            leaves = base.decode(SlotLeavesNotice, payload)
            _require(leaves.microgrid == microgrid, "the leaves are another microgrid's")
            self._waiting[leaves.slot] = leaves
            while len(self._waiting) > MAX_WAITING_SLOTS:
                self._waiting.popitem(last=False)

    def _on_registry(self, notice: RegistryNotice) -> None:
        if self._trade is None:
            self._registry = notice
        else:
            self._trade.registry.hear(notice)

    async def _agree(self) -> None:
        """Believe the leaves of slots that the meter has closed; decoding many points takes a thread."""
        if self._trade is None or self._context is None:
            return
        for slot in sorted(self._waiting):
            row = self._journal.slot(slot)
            if row is None or slot not in self._waiting:
                continue
            notice = self._waiting.pop(slot)
            key: DeviceKey = self._context.key
            openings = export_opening(key, slot, row.export_wh), import_opening(key, slot, row.import_wh)
            try:
                agreed = await asyncio.to_thread(agreed_slot, notice, meter_id(key.meter_secret), *openings)
            except LeftOutError as error:
                log.warning("%s", error)
                continue
            except ValueError as error:  # NotAgreedError is one
                self.malformed += 1
                self._warn_once("leaves", f"the leaves of a slot are ignored (more are only counted): {error}")
                continue
            self._trade.agree(agreed)

    # What is due

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(STEP_SECONDS)
            try:
                await self._agree()
                self._step()
            except Exception:
                log.exception("the market's step failed; trying again")

    def _step(self) -> None:
        """Put what has to be sent (again) into the outbox, and begin a job when none is under way."""
        purse = self._wallet.purse
        if self._trade is None:
            self._trade = self._begin(purse)
        if self._trade is None or purse is None or self._context is None:
            return
        self._trade.use_circuits(purse.circuit_set)
        self._send(self._trade)
        if self._job is not None or time.monotonic() < self._not_before:
            return
        slot, valid_until = self._context.clock.slot(), int(time.time()) + payment_seconds(self._context.clock)
        if self._trade.recover(slot):
            return
        job = self._trade.next_job(slot, valid_until)
        if job is not None:
            self._job = asyncio.get_running_loop().create_task(self._work(self._trade, job))
            self._job.add_done_callback(self._worked)

    def _begin(self, purse: NotePurse | None) -> Trade | None:
        """The trade, once chain and notes are known; None before that, and where there is no pool."""
        if self._context is None or self._chain is None or purse is None or self._wallet.outbox is None:
            return None
        microgrid, chain, place = self._context.config.home.microgrid, self._chain, self._place()
        if place is None:
            self._warn_once("pool", f"microgrid {microgrid} has no private market; nothing is traded there")
            return None
        calls = PoolCalls(chain.plasma_chain_id, place.address, chain.circuit_set)
        maker = WitnessMaker(self._keys.seed, self._keys.spending_key, microgrid, self._calendar, calls)
        home = Home(maker, self._context.key.meter_secret, chain.confidential_token, place.cap_wei_per_wh)
        trade = Trade(home, self._journal, self._notes, purse)
        trade.record(self._recorded)
        if self._registry is not None:
            try:
                trade.registry.hear(self._registry)
            except ValueError as error:
                self.malformed += 1
                self._warn_once(topics.REGISTRY, f"the registry notice is ignored (more are only counted): {error}")
            self._registry = None
        return trade

    def _place(self) -> EnergyPoolPlace | None:
        """Where the home's private market is; None before the chain is known, and where there is none."""
        if self._context is None or self._chain is None:
            return None
        microgrid = self._context.config.home.microgrid
        return next((pool for pool in self._chain.pools if pool.microgrid == microgrid), None)

    def _send(self, trade: Trade) -> None:
        outbox = self._wallet.outbox
        assert outbox is not None
        waiting, over = trade.outgoing(int(time.time()))
        for purpose in over:
            outbox.drop(purpose)
        for call in waiting:
            if outbox.wants_again(call.purpose):
                outbox.put(call.purpose, [Action(call.target, call.data)], call.valid_until)

    async def _work(self, trade: Trade, job: Job) -> None:
        """Prove a job and write its call down; without proofs in time, its notes are free again after `valid_until`."""
        proofs = []
        for circuit, witness in job.proofs:
            proof = await self._wallet.prover.prove(circuit, witness, job.valid_until)
            if proof is None:
                self._not_before = time.monotonic() + PAUSE_SECONDS
                return
            proofs.append(proof)
        trade.finish(job, proofs)
        log.info("ready to be sent: %s", job.purpose)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._job = None
        if not task.cancelled() and task.exception() is not None:
            self._not_before = time.monotonic() + PAUSE_SECONDS
            log.error("a step of the market failed; trying again in %.0f s", PAUSE_SECONDS, exc_info=task.exception())


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise base.InvalidMessage(sentence)
