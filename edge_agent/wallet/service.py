"""The wallet as a service of the agent: hears what the hub says of the chain, and sends envelopes.

Theory of operation. The first chain notice says where the contracts are; then trader and purse begin, and hear of account,
pools, recorded slots and notes. After each message, and once a second, the wallet looks whether something is to be sent:
the trader's transactions, or a payment whose time has come. A payment's proof is made in a child process while everything
else goes on. Each envelope goes to a relay chosen at random; what comes of it is seen on chain, so a lost receipt harms
nothing, and what is not seen there is sent again. Closed slots go to the journal at once; those that were closed while
nobody listened are taken from the meter's store at start.
Rules: notices are untrusted: rosters count only with the operator's signature, anything malformed is counted, logged once
and dropped. After a restore, nothing is shielded or paid until what an earlier meter of the owner may have sent is in the
tree or can no longer come. Not here: what to trade (`trader`), which notes to spend (`notes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from pathlib import Path

from edge_agent.config import WalletSection
from edge_agent.services import AgentContext
from edge_agent.slots import IMPORTED
from edge_agent.store import StoreError
from edge_agent.wallet.journal import MAX_DUE_SLOTS, Journal, WalletError
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS, NoteStore
from edge_agent.wallet.notes import NotePurse, Payment
from edge_agent.wallet.orders import Desk, Partner
from edge_agent.wallet.trader import Trader
from openmg.envelope import Action, Content, Receipt, seal
from openmg.keys.text import decode_address
from openmg.messages import base, topics
from openmg.messages.market import AccountNotice, ChainNotice, MarketNotice, NotesBatch
from openmg.messages.telemetry import Roster, RosterMember
from openmg.zk.notes import ShieldedAddress
from openmg.zk.prover import ProofResult, ProverError, TransferRequest, prove_in_child

log = logging.getLogger(__name__)

DATABASE = "wallet.sqlite"
"""Journal and notes, in the agent's state folder."""
FIRST_SHIELDING = 1
"""Number of the shielding that the configuration asks for."""
STEP_SECONDS = 1.0
PAYMENT_SECONDS = 300
"""A payment is valid so long: proving may take half a minute on a small board, and relays may be busy."""
FIRST_PROOF_PAUSE_SECONDS = 2.0
"""Before a proof that failed is tried again (the child may have been short of memory); doubled each time."""
RESTORE_SECONDS = PAYMENT_SECONDS + EXPIRY_MARGIN_SECONDS
"""So long after it hears of the chain, a restored wallet has seen in the tree whatever its predecessor had sent."""
MAX_WARNINGS = 64
"""Topics with a malformed message, and payments that cannot be made, that are told; whoever makes more up is not heard."""
RESEND_SECONDS = 10.0
"""A payment whose notes are not in the tree after so long goes out again, to a relay chosen anew: gossip between hubs may
lose an envelope, and nullifiers make a repetition harmless."""


class WalletService:
    """`edge_agent.services.Service` of the owner's money."""

    name = "wallet"

    def __init__(self, section: WalletSection, keys: OwnerKeys, state_dir: Path) -> None:
        self._section = section
        self._keys = keys
        self._journal = Journal(state_dir / DATABASE)
        try:
            self._journal.claim(keys.account)
        except WalletError:
            self._journal.close()
            raise
        self._notes = NoteStore(state_dir / DATABASE)
        self._context: AgentContext | None = None
        self._chain: ChainNotice | None = None
        self._trader: Trader | None = None
        self._purse: NotePurse | None = None
        self._members: dict[str, RosterMember] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._paying: asyncio.Task[None] | None = None
        self._pay_not_before = 0.0
        self._restored_until: float | None = None
        self._warned: set[str] = set()
        self.malformed = 0

    async def start(self, context: AgentContext) -> None:
        self._context = context
        self._journal.begin(context.clock.slot() - 1)
        await self._catch_up(context)
        for topic in (topics.CHAIN, topics.ALL_ROSTERS, topics.receipt(context.config.device.name)):
            context.subscribe(topic)
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _catch_up(self, context: AgentContext) -> None:
        """Slots that the meter stored and this service was not told: the agent was killed between the two."""
        first = max(self._journal.last_slot() + 1, context.clock.slot() - MAX_DUE_SLOTS)
        try:
            rows = await asyncio.to_thread(context.store.slots, first)
        except StoreError:  # said by the store; slots that are closed from now on are heard
            return
        for row in rows:
            if not row.flags & IMPORTED:
                self._journal.add_slot(row.slot, row.import_wh, row.export_wh)

    async def stop(self) -> None:
        for task in (self._ticker, self._paying):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._journal.close()
        self._notes.close()

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        self._journal.add_slot(slot, import_wh, export_wh)
        self._step()

    async def on_message(self, topic: str, payload: bytes) -> None:
        try:
            self._hear(topic, payload)
        except ValueError as error:  # InvalidMessage is one
            self.malformed += 1
            self._warn_once(topic, f"a message on {topic} is ignored (more are only counted): {error}")
            return
        self._step()

    def _warn_once(self, about: str, sentence: str) -> None:
        if about not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(about)
            log.warning("%s", sentence)

    def _hear(self, topic: str, payload: bytes) -> None:
        assert self._context is not None
        name = self._context.config.device.name
        if topic == topics.CHAIN:
            self._on_chain(base.decode(ChainNotice, payload))
        elif topics.is_roster(topic):
            self._on_roster(payload)
        elif topic == topics.receipt(name):
            receipt = base.decode(Receipt, payload)
            if receipt.error:
                log.info("a relay could not submit an envelope: %.200r", receipt.error)
        elif self._trader is None or self._purse is None:
            return
        elif topic == topics.account(name):
            self._trader.on_account(base.decode(AccountNotice, payload))
        elif topics.is_market(topic):
            self._trader.on_market(base.decode(MarketNotice, payload))
        elif topics.is_notes(topic):
            batch = base.decode(NotesBatch, payload)
            self._purse.learn(batch.first_position, batch.notes)

    def _on_roster(self, payload: bytes) -> None:
        assert self._context is not None
        hub = self._context.config.hub
        signed = base.open_signed(Roster, payload, hub.chain_id)
        if signed.signer != hub.address:
            raise base.InvalidMessage("a roster is not signed by the operator")
        self._members |= {member.device: member for member in signed.message.members}

    def _on_chain(self, notice: ChainNotice) -> None:
        """Where the contracts are: trader and purse begin with the first notice; another chain needs a restart."""
        assert self._context is not None
        if self._chain is not None:
            if notice != self._chain:
                raise base.InvalidMessage("the contracts are not those this wallet started with; restart the agent")
            return
        microgrid = self._context.config.home.microgrid
        market = next((item for item in notice.markets if item.microgrid == microgrid), None)
        if market is None or not notice.relays:
            raise base.InvalidMessage(f"there is no market of microgrid {microgrid} or no relay")
        self._chain = notice
        desk = Desk(self._keys, self._context.key, market, notice.plasma_chain_id)
        self._purse = NotePurse(self._keys, self._notes, notice.plasma_chain_id, notice.confidential_token)
        self._trader = Trader(
            desk,
            self._journal,
            provides_liquidity=self._section.provides_liquidity,
            shield_call=self._purse.shield_call,
            partner=self._partner(),
            tokens={item.microgrid: item.token for item in notice.markets},
        )
        if self._journal.is_restored():
            self._restored_until = time.monotonic() + RESTORE_SECONDS
        else:
            self._shield_once()
        for topic in (topics.account(self._context.config.device.name), topics.ALL_NOTES, topics.ALL_MARKETS):
            self._context.subscribe(topic)

    def _shield_once(self) -> None:
        assert self._purse is not None
        if self._section.shield_wei and not self._journal.shieldings():
            self._journal.add_shielding(self._section.shield_wei, done=self._purse.was_shielded(FIRST_SHIELDING))

    def _wait_restored(self) -> bool:
        """Whether payments of an earlier meter may still come; shields what that meter did not when it no longer can."""
        if self._restored_until is None:
            return False
        if time.monotonic() < self._restored_until:
            return True
        self._restored_until = None
        self._shield_once()
        self._journal.settle_restored()
        return False

    def _partner(self) -> Partner | None:
        section = self._section
        if not section.share_account:
            return None
        return Partner(bytes.fromhex(section.share_account[2:]), section.share_microgrid)

    # Sending

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(STEP_SECONDS)
            try:
                self._notes.expire(int(time.time()))
                self._step()
            except Exception:
                log.exception("the wallet's step failed; trying again")

    def _step(self) -> None:
        """Send what is due: at most one envelope of transactions, and a payment beside it."""
        if self._trader is None:
            return
        waiting, now = self._wait_restored(), int(time.time())
        envelope = self._trader.next_envelope(now)
        if envelope is not None:
            self._send([Action(b"", item) for item in envelope.raw], envelope.valid_until)
        if self._paying is None and not waiting and self._payment_due():
            self._paying = asyncio.get_running_loop().create_task(self._pay())
            self._paying.add_done_callback(self._paid)

    def _purpose(self) -> str:
        """Name of the payment that is due now: one after the first slots, then one every so many slots."""
        every = self._section.pay_every_slots
        past = self._journal.slots_seen() - self._section.pay_after_slots
        return f"pay {past // every if every else 0}"

    def _payment_due(self) -> bool:
        section = self._section
        return (
            (section.pay_to in self._members or section.pays_address)
            and time.monotonic() >= self._pay_not_before
            and self._journal.slots_seen() >= section.pay_after_slots
            and not self._notes.payment_under_way()
            and not self._notes.has_payment(self._purpose())
            and self._purse is not None
            and self._purse.balance_wei() >= section.pay_wei
        )

    def _receiver(self) -> ShieldedAddress:
        """Whom to pay: an address, or a meter that the roster names. ValueError for a key that is none."""
        section = self._section
        if section.pays_address:
            return decode_address(section.pay_to, section.network)
        member = self._members[section.pay_to]
        return ShieldedAddress(member.payment_key, member.payment_box)

    async def _pay(self) -> None:
        section = self._section
        assert self._purse is not None
        valid_until = int(time.time()) + PAYMENT_SECONDS
        try:
            receiver = self._receiver()
            payment = self._purse.begin_payment(self._purpose(), receiver, section.pay_wei, valid_until)
        except ValueError as error:  # a meter without a wallet announces a key that no note can be encrypted to
            self._warn_once("pay", f"{section.pay_to} cannot be paid (told once): {error}")
            return
        if payment is None:
            return
        proof = await self._prove(payment)
        if proof is None:
            return
        log.info("proof made in %.2f s (%s)", proof.prove_seconds, proof.backend)
        call = self._purse.payment_call(payment, proof)
        await self._deliver(Action(call.to, call.data), payment.valid_until)

    async def _prove(self, payment: Payment) -> ProofResult | None:
        """The payment's proof, tried again while there is time; None when there was not enough."""
        section = self._section
        request = TransferRequest(
            payment.witness,
            section.prover,
            section.cache_dir,
            key_file=section.key_file,
            key_sha256=section.key_sha256,
            demo=section.demo,
        )
        pause = FIRST_PROOF_PAUSE_SECONDS
        while True:
            try:
                return await prove_in_child(request, timeout_seconds=max(1.0, payment.valid_until - time.time()))
            except ProverError as error:
                if time.time() + pause >= payment.valid_until:
                    log.warning("no proof was made in time, the payment begins anew later: %s", error)
                    return None
                log.warning("no proof was made, trying again in %.0f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause *= 2

    async def _deliver(self, action: Action, valid_until: int) -> None:
        """Send a payment until its notes are in the tree or its time is over."""
        while self._notes.payment_under_way() and time.time() < valid_until:
            self._send([action], valid_until)
            deadline = time.monotonic() + RESEND_SECONDS
            while self._notes.payment_under_way() and time.monotonic() < deadline:
                await asyncio.sleep(STEP_SECONDS)

    def _paid(self, task: asyncio.Task[None]) -> None:
        self._paying = None
        self._pay_not_before = time.monotonic() + RESEND_SECONDS
        if not task.cancelled() and task.exception() is not None:
            log.error("a payment failed", exc_info=task.exception())

    def _send(self, actions: list[Action], valid_until: int) -> None:
        """Seal to a relay chosen at random and hand to the hub; what is lost is sent again by its owner's rules."""
        assert self._context is not None and self._chain is not None
        content = Content(secrets.token_bytes(16), valid_until, tuple(actions))
        envelope = seal(secrets.choice(self._chain.relays), content)
        topic = topics.from_meter(self._context.config.device.name, topics.ENVELOPE)
        self._context.publish(topic, base.encode(envelope))
