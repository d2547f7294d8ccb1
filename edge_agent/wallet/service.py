"""The wallet as a service of the agent: hears what the hub says of the chain, and decides when something is due.

Theory of operation. The first chain notice says where the contracts are; then trader and purse begin, and hear of account,
pools, recorded slots, notes and nullifiers. From then on envelopes leave at the times of the schedule, dummies when there is
nothing to say. After each message, and once a second, the wallet looks whether something is due: the trader's transactions,
a payment, or small notes to be gathered. What comes of it is seen on chain; what is not seen there is sent again. Closed
slots go to the journal at once; those that were closed while nobody listened are taken from the meter's store at start.
Rules: notices are untrusted: rosters count only with the operator's signature, anything malformed is counted, logged once
and dropped. After a restore, nothing is shielded or paid until what an earlier meter of the owner may have sent is in the
tree or can no longer come. Not here: what to trade (`trader`), which notes to spend (`notes`), how spends are made and sent
(`payer`, `outbox`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import replace
from pathlib import Path

from edge_agent.config import WalletSection
from edge_agent.services import AgentContext
from edge_agent.slots import IMPORTED
from edge_agent.store import StoreError
from edge_agent.wallet.envelopes import MIN_VALID_SLOTS
from edge_agent.wallet.journal import DATABASE, MAX_DUE_SLOTS, Journal, WalletError
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS, NoteStore
from edge_agent.wallet.notes import NotePurse
from edge_agent.wallet.orders import Desk, Partner
from edge_agent.wallet.outbox import Outbox
from edge_agent.wallet.payer import Payer
from edge_agent.wallet.prices import PriceRecord, exchange_price
from edge_agent.wallet.proving import Prover
from edge_agent.wallet.spends import Spend
from edge_agent.wallet.trader import ORDER_SECONDS, Trader
from openmg.clock import VirtualClock
from openmg.envelope import Action
from openmg.keys.text import decode_address
from openmg.messages import base, topics
from openmg.messages.market import AccountNotice, ChainNotice, MarketNotice, NotesBatch, NullifiersBatch
from openmg.messages.telemetry import Roster, RosterMember
from openmg.tasks import end_tasks
from openmg.zk.notes import ShieldedAddress

log = logging.getLogger(__name__)

FIRST_SHIELDING = 1
"""Number of the shielding that the configuration asks for."""
STEP_SECONDS = 1.0
PROVING_SECONDS = 120
"""A proof may take half a minute on a small board, and another may be made before it."""
MIN_PAYMENT_SECONDS = 300
QUEUE_SLOTS = 2
"""A note is in the tree an epoch after it was made, and the hub's news of it come in the next slot."""
PAUSE_SECONDS = 10.0
"""After a payment ended, until the next is begun."""
MAX_WARNINGS = 64
"""Topics with a malformed message, and payments that cannot be made, that are told; whoever makes more up is not heard."""
_TRANSACTIONS = "transactions"
"""Key of the trader's content in the outbox."""


def payment_seconds(clock: VirtualClock) -> int:
    """How long a payment is valid: it is proved, waits for a place in a slot, and perhaps for one in another."""
    slots = (MIN_VALID_SLOTS + 1) * clock.slot_wall_seconds()
    return max(MIN_PAYMENT_SECONDS, PROVING_SECONDS + math.ceil(slots))


def order_seconds(clock: VirtualClock) -> int:
    """How long the trader's transactions are valid: until they had a place in a slot and its end has come."""
    return max(ORDER_SECONDS, math.ceil((MIN_VALID_SLOTS + 1) * clock.slot_wall_seconds()))


def restore_seconds(clock: VirtualClock) -> float:
    """So long after it hears of the chain, a restored wallet has seen in the tree whatever its predecessor had sent."""
    return payment_seconds(clock) + EXPIRY_MARGIN_SECONDS + QUEUE_SLOTS * clock.slot_wall_seconds()


class WalletService:
    """`edge_agent.services.Service` of the owner's money; `trades`: whether it trades in the public market too.

    one_proof: held while a child proves; of the process, where it has several wallets.
    """

    name = "wallet"

    def __init__(
        self,
        section: WalletSection,
        keys: OwnerKeys,
        state_dir: Path,
        one_proof: asyncio.Lock | None = None,
        *,
        trades: bool = True,
    ) -> None:
        self._section = section
        self._trades = trades
        self._keys = keys
        self._journal = Journal(state_dir / DATABASE)
        try:
            self._journal.claim(keys.account)
        except WalletError:
            self._journal.close()
            raise
        self._notes = NoteStore(state_dir / DATABASE)
        self.prices = PriceRecord(state_dir / DATABASE)
        """Of the market that the home trades in: this service's, or the private one's that is beside it."""
        self._context: AgentContext | None = None
        self._chain: ChainNotice | None = None
        self._trader: Trader | None = None
        self._payer: Payer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.prover = Prover(section, one_proof or asyncio.Lock())
        """Makes the proofs of wallet and market, one at a time."""
        self.purse: NotePurse | None = None
        """The owner's notes, once the contracts are known."""
        self.outbox: Outbox | None = None
        """The one way out of the meter to the relays, once the contracts are known."""
        self._members: dict[str, RosterMember] = {}
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
        self._tasks.append(asyncio.get_running_loop().create_task(self._tick()))

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
        await end_tasks(self._tasks)
        if self._payer is not None:
            await self._payer.stop()
        self.prices.close()
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
            if payload:  # an empty one takes a retained roster back
                self._on_roster(payload)
        elif self._trader is None or self.purse is None or self.outbox is None:
            return
        elif topic == topics.receipt(name):
            self.outbox.on_receipt(payload)
        elif topic == topics.account(name):
            self._trader.on_account(base.decode(AccountNotice, payload))
        elif topics.is_market(topic):
            self._on_market(self._trader, base.decode(MarketNotice, payload))
        elif topics.is_notes(topic):
            self._on_notes(self.purse, base.decode(NotesBatch, payload))
        elif topics.is_nullifiers(topic):
            self._on_nullifiers(self.purse, base.decode(NullifiersBatch, payload))

    def _on_market(self, trader: Trader, notice: MarketNotice) -> None:
        assert self._context is not None
        trader.on_market(notice)
        if self._trades and notice.microgrid == self._context.config.home.microgrid:
            self.prices.hear(exchange_price(self._context.clock.slot(), notice))

    def _on_notes(self, purse: NotePurse, batch: NotesBatch) -> None:
        purse.learn(batch.first_position, batch.notes)
        if purse.taken_back_to is not None:
            self._warn_once(
                "rewritten", f"the chain was rewritten (told once): notes from {purse.taken_back_to} on are read anew"
            )

    def _on_nullifiers(self, purse: NotePurse, batch: NullifiersBatch) -> None:
        strange = purse.learn_nullifiers(batch.first_index, batch.nullifiers)
        if strange and not self._journal.is_restored():
            where = ", ".join(str(note.position) for note in strange)
            self._warn_once(
                "strange",
                f"somebody else spent the owner's notes at {where} (told once): if there is no second wallet with this seed, "
                "it is known to others; move the money to a new seed",
            )

    def _on_roster(self, payload: bytes) -> None:
        assert self._context is not None
        hub = self._context.config.hub
        signed = base.open_signed(Roster, payload, hub.chain_id)
        if signed.signer != hub.address:
            raise base.InvalidMessage("a roster is not signed by the operator")
        self._members |= {member.device: member for member in signed.message.members}

    def _on_chain(self, notice: ChainNotice) -> None:
        """Where the contracts are: all begins with the first notice; another chain needs a restart, other circuits do not."""
        assert self._context is not None
        if self._chain is not None and self.purse is not None:
            if replace(notice, circuit_set=self._chain.circuit_set) != self._chain:
                raise base.InvalidMessage("the contracts are not those this wallet started with; restart the agent")
            self._chain = notice
            self.purse.circuit_set = notice.circuit_set  # spends under way are proved again
            return
        microgrid = self._context.config.home.microgrid
        market = next((item for item in notice.markets if item.microgrid == microgrid), None)
        if market is None or not notice.relays:
            raise base.InvalidMessage(f"there is no market of microgrid {microgrid} or no relay")
        self._chain = notice
        desk = Desk(self._keys, self._context.key, market, notice.plasma_chain_id)
        self.purse = NotePurse(self._keys, self._notes, notice.plasma_chain_id, notice.confidential_token, notice.circuit_set)
        self.outbox = Outbox(notice.relays, self._context.clock, self._publish)
        self._payer = Payer(self._notes, self.purse, self.prover, self.outbox)
        self._tasks.append(asyncio.get_running_loop().create_task(self.outbox.run()))
        self._trader = Trader(
            desk,
            self._journal,
            provides_liquidity=self._section.provides_liquidity,
            shield_call=self.purse.shield_call,
            partner=self._partner(),
            tokens={item.microgrid: item.token for item in notice.markets},
            order_seconds=order_seconds(self._context.clock),
            settles=self._trades,
        )
        if self._journal.is_restored():
            self._restored_until = time.monotonic() + restore_seconds(self._context.clock)
        else:
            self._shield_once()
        account = topics.account(self._context.config.device.name)
        for topic in (account, topics.ALL_NULLIFIERS, topics.ALL_NOTES, topics.ALL_MARKETS):
            self._context.subscribe(topic)

    def _publish(self, payload: bytes) -> bool:
        assert self._context is not None
        return self._context.publish(topics.from_meter(self._context.config.device.name, topics.ENVELOPE), payload)

    def _shield_once(self) -> None:
        assert self.purse is not None
        if self._section.shield_wei and not self._journal.shieldings():
            self._journal.add_shielding(self._section.shield_wei, done=self.purse.was_shielded(FIRST_SHIELDING))

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

    # What is due

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(STEP_SECONDS)
            try:
                self._notes.expire(int(time.time()))
                self._step()
            except Exception:
                log.exception("the wallet's step failed; trying again")

    def _step(self) -> None:
        """Hand over what is due: the trader's transactions, and one spend beside them."""
        if self._trader is None or self.outbox is None:
            return
        waiting, now = self._wait_restored(), int(time.time())
        envelope = self._trader.next_envelope(now)
        if envelope is not None:
            self.outbox.put(_TRANSACTIONS, [Action(b"", item) for item in envelope.raw], envelope.valid_until)
        if not waiting:
            self._spend()

    def _spend(self) -> None:
        """Begin a payment that is due; in an idle moment, gather small notes."""
        assert self._payer is not None and self._context is not None and self.purse is not None
        if self._payer.is_busy:
            self._pay_not_before = time.monotonic() + PAUSE_SECONDS
        elif time.monotonic() >= self._pay_not_before:
            purse, valid_until = self.purse, int(time.time()) + payment_seconds(self._context.clock)
            if self._payment_due():
                self._pay(self._payer, purse, valid_until)
            elif not self._notes.payment_under_way():
                self._payer.begin(lambda: purse.begin_gathering(valid_until))

    def _purpose(self) -> str:
        """Name of the payment that is due now: one after the first slots, then one every so many slots."""
        every = self._section.pay_every_slots
        past = self._journal.slots_seen() - self._section.pay_after_slots
        return f"pay {past // every if every else 0}"

    def _payment_due(self) -> bool:
        section = self._section
        return (
            (section.pay_to in self._members or section.pays_address)
            and self._journal.slots_seen() >= section.pay_after_slots
            and not self._notes.has_payment(self._purpose())
            and self.purse is not None
            and self.purse.balance_wei() >= section.pay_wei
        )

    def _receiver(self) -> ShieldedAddress:
        """Whom to pay: an address, or a meter that the roster names. ValueError for a key that is none."""
        section = self._section
        if section.pays_address:
            return decode_address(section.pay_to, section.network)
        member = self._members[section.pay_to]
        return ShieldedAddress(member.payment_key, member.payment_box)

    def _pay(self, payer: Payer, purse: NotePurse, valid_until: int) -> None:
        """Begin the payment, or what makes it possible when one proof cannot take all the notes it needs."""
        section = self._section

        def begin() -> Spend | None:
            payment = purse.begin_payment(self._purpose(), self._receiver(), section.pay_wei, valid_until)
            return payment or purse.begin_gathering(valid_until, amount_wei=section.pay_wei)

        try:
            payer.begin(begin)
        except ValueError as error:  # a meter without a wallet announces a key that no note can be encrypted to
            self._warn_once("pay", f"{section.pay_to} cannot be paid (told once): {error}")
