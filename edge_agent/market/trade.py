"""One home's trade: from what it knows to the next thing to prove, and from proofs to calls that may leave.

Theory of operation. `next_job` looks what is due (`planner`), begins the first step that can begin now, and returns what has
to be proved for it; `finish` makes the call of the proofs and writes it down. `outgoing` names the calls of which no effect is
seen yet; whoever carries them may lose or repeat them. The effect of a mint is its note in the tree, of everything that spends
notes what the note store says of them.
Crash at any instant: before its notes are set aside an order leaves no trace but its lots; after that, and before its call is
written down, its notes wait until `valid_until` and the same order is tried again with the same notes; after that the same
call is sent again. N, T and nullifiers let the chain take each once, whatever happens here.
Rules: a job is made for one circuit set; when it changes, calls under the old one are forgotten and their steps due again.
Not here: sockets, clock and proofs (`service`), decisions (`planner`), spending notes (`edge_agent.wallet.notes`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge_agent.market import blindings
from edge_agent.market.agreed import AgreedSlot
from edge_agent.market.blindings import Outcome
from edge_agent.market.journal import Kind, MarketJournal, Order, SentCall
from edge_agent.market.planner import (
    BURN_LAST_SLOTS,
    ORDER_SLOTS,
    SPEND_NOTES,
    Burn,
    Buy,
    MergeDelivery,
    MergePeth,
    MeteredSlot,
    Mint,
    Sell,
    Step,
    View,
    plan,
)
from edge_agent.market.registry_trees import RegistryTrees
from edge_agent.market.witnesses import WitnessMaker, asset_of
from edge_agent.wallet.forest import tree_of
from edge_agent.wallet.note_store import NoteStore, OwnNote, PaymentState
from edge_agent.wallet.notes import PETH, NotePurse
from edge_agent.wallet.orders import Call
from edge_agent.wallet.spends import Ciphertexts, ExtBuilder, Spend, private_ext
from openmg.units import SLOTS_PER_DAY
from openmg.zk import assets
from openmg.zk.circuits import burn, buy, mint, transfer
from openmg.zk.circuits.joinsplit import JoinSplitPublics
from openmg.zk.meters import LOT_WH, Registration
from openmg.zk.prover import ProofResult

RECOVERED_SLOTS = 32
"""Slots whose outcomes are looked for in one step after a restore; each costs some ten writes."""

SETTLED_SLOTS = 8
"""Older mints that were seen in the tree are not looked up again; a younger note may be taken back with its block."""


@dataclass(frozen=True)
class Home:
    """Who trades: the owner's keys are in `maker`, the meter's secret proves registration."""

    maker: WitnessMaker
    meter_secret: int = field(repr=False)
    token: bytes
    """The confidential token's address."""
    cap_wei_per_wh: int


@dataclass(frozen=True)
class Job:
    """A step that was begun: what to prove, each with its circuit, and how its call is made of the proofs."""

    purpose: str
    proofs: tuple[tuple[str, object], ...] = field(repr=False)
    valid_until: int
    circuit_set: bytes
    call: Callable[[Sequence[ProofResult]], Call] = field(repr=False, compare=False)


class Trade:
    """The trade of one home in one microgrid."""

    def __init__(self, home: Home, journal: MarketJournal, store: NoteStore, purse: NotePurse) -> None:
        self._home = home
        self._maker = home.maker
        self._journal = journal
        self._store = store
        self._purse = purse
        self._agreed: dict[int, AgreedSlot] = {}
        self._recorded: frozenset[int] = frozenset()
        self.registry = RegistryTrees()

    # What the home hears

    def metered(self, slot: int, import_wh: int, export_wh: int) -> None:
        """A slot was closed."""
        self._journal.add_slot(slot, import_wh, export_wh)

    def agree(self, agreed: AgreedSlot) -> None:
        """A slot's leaves hold our own; the oldest are forgotten when nothing can be done for them any more."""
        self._agreed[agreed.slot] = agreed
        self._journal.mark_agreed(agreed.slot)
        for slot in [slot for slot in self._agreed if slot < max(self._agreed) - 2 * ORDER_SLOTS]:
            del self._agreed[slot]

    def record(self, slots: Iterable[int]) -> None:
        """The slots whose roots are on chain."""
        self._recorded = frozenset(slots)

    def use_circuits(self, circuit_set: bytes) -> None:
        """Proofs are bound to another set from now on."""
        self._maker = replace(self._maker, calls=replace(self._maker.calls, circuit_set=circuit_set))

    # What is due

    def view(self, slot: int) -> View:
        """What the home knows in a slot."""
        keys = self._keys(slot)
        rows = self._journal.slots(slot - ORDER_SLOTS, slot - 1)
        return View(
            slot=slot,
            slots=tuple(
                MeteredSlot(
                    row.slot,
                    row.import_wh,
                    row.export_wh,
                    minted=(row.minted and row.slot < slot - SETTLED_SLOTS) or self._is_minting(row.slot),
                    bought=self._store.has_payment(self._order(Kind.BUY, row.slot).purpose),
                )
                for row in rows
            ),
            agreed=self._recorded & self._agreed.keys(),
            cap_wei_per_wh=self._home.cap_wei_per_wh,
            peth=tuple(note.amount for note in self._store.spendable(PETH)),
            supply=self._amounts(assets.Kind.SUPPLY, keys),
            delivery=self._amounts(assets.Kind.DELIVERY, keys),
            sold=frozenset(key for key in keys if self._store.has_payment(Order(Kind.SELL, slot, key, 0).purpose)),
            burned=frozenset(key for key in keys if self._store.has_payment(Order(Kind.BURN, 0, key, 0).purpose)),
            awaited=self._awaited(slot),
        )

    def _keys(self, slot: int) -> list[int]:
        """Keys that may still be sold or burned."""
        first = slot - SLOTS_PER_DAY - BURN_LAST_SLOTS
        return sorted({self._maker.calendar.key_of(item) for item in range(first, slot + 1)})

    def _amounts(self, kind: assets.Kind, keys: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
        found = {key: tuple(note.amount for note in self._store.spendable(self._asset(kind, key))) for key in keys}
        return {key: amounts for key, amounts in found.items() if amounts}

    def _asset(self, kind: assets.Kind, key: int) -> int:
        return asset_of(kind, self._maker.microgrid, key)

    def _order(self, kind: Kind, slot: int, amount: int = 0) -> Order:
        return Order(kind, slot, self._maker.calendar.key_of(slot), amount)

    def _is_minting(self, slot: int) -> bool:
        """Whether the slot's mint may have left, or is in the tree."""
        return self._journal.call(self._order(Kind.MINT, slot).purpose) is not None or self._is_minted(slot)

    def _is_minted(self, slot: int) -> bool:
        found = self._store.has_blinding(blindings.mint_blinding(self._maker.seed, slot))
        if found:
            self._journal.mark_minted(slot)
        return found

    def _awaited(self, slot: int) -> frozenset[int]:
        orders = self._journal.orders(Kind.BUY, slot - SLOTS_PER_DAY - BURN_LAST_SLOTS, slot)
        return frozenset(
            it.key for it in orders if self._store.has_payment(it.purpose) and not self._purse.received(it.purpose)
        )

    def next_job(self, slot: int, valid_until: int) -> Job | None:
        """Begin the most pressing step that can begin now; None when there is none. `valid_until` in Unix seconds."""
        for step in plan(self.view(slot), self._maker.calendar):
            job = self._begin(step, slot, valid_until)
            if job is not None:
                return job
        return None

    def _begin(self, step: Step, slot: int, valid_until: int) -> Job | None:
        match step:
            case Mint():
                return self._mint(step, valid_until)
            case Buy():
                return self._buy(step, valid_until)
            case Sell():
                return self._sell(step, slot, valid_until)
            case Burn():
                return self._burn(step, valid_until)
            case MergePeth():
                return self._gather(self._store.spendable(PETH), valid_until)
            case MergeDelivery():
                return self._gather(self._store.spendable(self._asset(assets.Kind.DELIVERY, step.key)), valid_until)

    def _registered(self, slot: int, first_slot: int | None = None) -> Registration | None:
        secret, public_key = self._home.meter_secret, self._maker.owner.public_key
        return self.registry.registration(secret, public_key, self._maker.microgrid, slot, first_slot)

    # Beginning

    def _mint(self, step: Mint, valid_until: int) -> Job | None:
        registration = self._registered(step.slot)
        if registration is None:
            return None
        witness, sealed = self._maker.mint(registration, self._agreed[step.slot], valid_until, secrets.token_bytes(32))
        calls, stated = self._maker.calls, mint.publics_of(witness)

        def call(proofs: Sequence[ProofResult]) -> Call:
            return calls.mint(proofs[0].words, stated, valid_until, sealed)

        return self._job(self._order(Kind.MINT, step.slot).purpose, [(mint.NAME, witness)], valid_until, call)

    def _buy(self, step: Buy, valid_until: int) -> Job | None:
        registration = self._registered(step.slot)
        order = self._place(self._order(Kind.BUY, step.slot, step.lots))
        amount_wei = order.amount * LOT_WH * self._home.cap_wei_per_wh
        inputs = self._purse.select(PETH, amount_wei, transfer.INPUTS, purpose=order.purpose)
        if registration is None or inputs is None:
            return None
        purchase = self._maker.purchase(self._home.meter_secret, step.slot, order.amount)

        def ext(circuit_set: bytes, stated: JoinSplitPublics, sealed: Ciphertexts) -> int:
            calls = replace(self._maker.calls, circuit_set=circuit_set)
            parts = (stated.root, stated.nullifiers, stated.commitments)
            return calls.purchase_ext(purchase, *parts, valid_until, sealed)

        self._expect_purchase(step.slot)
        spend = self._spend(order, PETH, inputs, amount_wei, ext, valid_until)
        if spend is None:
            return None
        witness = self._maker.buy(registration, self._agreed[step.slot], purchase, spend.witness.ext)
        calls, stated = self._maker.calls, spend.publics

        def call(proofs: Sequence[ProofResult]) -> Call:
            bought, paid = (proof.words for proof in proofs)
            return calls.buy(purchase, bought, paid, stated, valid_until, spend.ciphertexts)

        return self._job(order.purpose, [(buy.NAME, witness), (spend.circuit, spend.witness)], valid_until, call)

    def _sell(self, step: Sell, slot: int, valid_until: int) -> Job | None:
        order = self._place(Order(Kind.SELL, slot, step.key, step.lots))
        asset = self._asset(assets.Kind.SUPPLY, step.key)
        inputs = self._purse.select(asset, order.amount * LOT_WH, step.notes, purpose=order.purpose)
        if inputs is None:
            return None
        sale = self._maker.sale(step.key, order.amount, slot)

        def ext(circuit_set: bytes, _stated: JoinSplitPublics, sealed: Ciphertexts) -> int:
            return replace(self._maker.calls, circuit_set=circuit_set).sale_ext(sale, valid_until, sealed)

        self._expect(Outcome.PAYOUT, order, step.key)
        spend = self._spend(order, asset, inputs, order.amount * LOT_WH, ext, valid_until)
        if spend is None:
            return None
        calls, stated = self._maker.calls, spend.publics

        def call(proofs: Sequence[ProofResult]) -> Call:
            return calls.sell(sale, proofs[0].words, stated, valid_until, spend.ciphertexts)

        return self._job(order.purpose, [(spend.circuit, spend.witness)], valid_until, call)

    def _burn(self, step: Burn, valid_until: int) -> Job | None:
        first, last = self._maker.calendar.first_slot_of(step.key), self._maker.calendar.last_slot_of(step.key)
        asset = self._asset(assets.Kind.DELIVERY, step.key)
        registration, free = self._registered(last, first), self._store.spendable(asset)
        order = Order(Kind.BURN, first, step.key, 0)
        tied = self._store.tied_inputs(order.purpose)
        total_wh = sum(note.amount for note in (tied or free) if note is not None)
        inputs = self._purse.select(asset, total_wh, burn.INPUTS, purpose=order.purpose)
        if registration is None:
            return None
        if inputs is None:  # in more than one tree: what is left in the older one moves to the newest
            return None if tied else self._gather(free, valid_until)
        self._journal.replace(replace(order, amount=total_wh))
        consumed = self._purse.begin_consumption(order.purpose, asset, inputs, valid_until)
        if consumed is None:
            return None
        witness = self._maker.burn(registration, step.key, consumed)
        calls, stated = self._maker.calls, burn.publics_of(witness)

        def call(proofs: Sequence[ProofResult]) -> Call:
            return calls.burn(step.key, proofs[0].words, stated, valid_until)

        return self._job(order.purpose, [(burn.NAME, witness)], valid_until, call)

    def _gather(self, free: Sequence[OwnNote], valid_until: int) -> Job | None:
        """Make one note of the largest, at most eight, of the oldest tree in which there are some."""
        if not free:
            return None
        oldest = min(tree_of(note.position) for note in free)
        notes = [note for note in free if tree_of(note.position) == oldest][:SPEND_NOTES]
        purpose = f"{Kind.GATHER} " + " ".join(str(note.position) for note in notes)
        ext = private_ext(self._maker.calls.chain_id, self._home.token, valid_until)
        spend = self._purse.begin_spend(purpose, notes[0].asset, notes, [], 0, ext, valid_until)
        if spend is None:
            return None

        def call(proofs: Sequence[ProofResult]) -> Call:
            return self._purse.payment_call(spend, proofs[0])

        return self._job(purpose, [(spend.circuit, spend.witness)], valid_until, call)

    def _place(self, order: Order) -> Order:
        """Written down with these lots, unless an attempt was made before: then with the lots of that."""
        if self._store.tied_inputs(order.purpose):
            return self._journal.place(order)
        self._journal.replace(order)
        return order

    def _spend(
        self, order: Order, asset: int, inputs: Sequence[OwnNote], amount: int, ext: ExtBuilder, valid_until: int
    ) -> Spend | None:
        return self._purse.begin_spend(order.purpose, asset, inputs, [], amount, ext, valid_until)

    def _expect_purchase(self, slot: int) -> None:
        for outcome in (Outcome.DELIVERY, Outcome.CHANGE):
            self._expect(outcome, self._order(Kind.BUY, slot), 0)

    def _expect(self, outcome: Outcome, order: Order, key: int) -> None:
        blinding = blindings.outcome_blinding(self._maker.seed, outcome, order.slot, key)
        partial = blindings.outcome_partial(self._maker.seed, self._maker.owner.public_key, outcome, order.slot, key)
        self._purse.expect_partial(partial, blinding, order.purpose)

    def _job(
        self,
        purpose: str,
        proofs: Sequence[tuple[str, object]],
        valid_until: int,
        call: Callable[[Sequence[ProofResult]], Call],
    ) -> Job:
        return Job(purpose, tuple(proofs), valid_until, self._maker.calls.circuit_set, call)

    # Sending

    def finish(self, job: Job, proofs: Sequence[ProofResult]) -> SentCall:
        """The call of a job, written down; only then it may leave."""
        call = job.call(proofs)
        sent = SentCall(job.purpose, call.to, call.data, job.valid_until, job.circuit_set)
        self._journal.keep_call(sent)
        return sent

    def outgoing(self, now: int) -> tuple[list[SentCall], list[str]]:
        """Calls whose effect is not seen yet, and purposes that are over; `now` in Unix seconds."""
        waiting, over = [], []
        for call in self._journal.calls():
            if self._is_over(call, now):
                self._journal.drop_call(call.purpose)
                over.append(call.purpose)
            else:
                waiting.append(call)
        return waiting, over

    def _is_over(self, call: SentCall, now: int) -> bool:
        if now > call.valid_until or call.circuit_set != self._maker.calls.circuit_set:
            return True
        kind, _, slot = call.purpose.partition(" ")
        if kind == Kind.MINT:
            return self._is_minted(int(slot))
        return self._store.state_of(call.purpose) is not PaymentState.UNDER_WAY

    # After a restore

    def recover(self, slot: int) -> bool:
        """Look for the outcomes of orders that another database may have placed; False when there is nothing left.

        Begins with the slot from which our leaf is in force, and takes RECOVERED_SLOTS at a time. Waits for the registry.
        """
        registration = self._registered(slot)
        if registration is None:
            return False
        first = self._journal.recovered_to()
        first = registration.leaf.from_slot if first is None else first
        if first >= slot:
            return False
        stop = min(slot, first + RECOVERED_SLOTS)
        for item in range(first, stop):
            self._expect_purchase(item)
            for key in {self._maker.calendar.key_of(sold) for sold in range(item - SLOTS_PER_DAY - ORDER_SLOTS, item + 1)}:
                self._expect(Outcome.PAYOUT, Order(Kind.SELL, item, key, 0), key)
        self._journal.recover_from(stop)
        return stop < slot
