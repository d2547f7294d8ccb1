"""The owner's trader: settles each recorded slot on chain with at most one envelope of transactions under way.

A slot is due when its readings are closed, and can be settled once its group's sums are recorded on chain. Its orders
(mint and sell, buy and burn) leave in one envelope with consecutive nonces; a shielding has an envelope of its own. An
envelope is done when the account's nonce on chain has passed its last one, whatever the receipt says. Until then the
very same transactions are sent again every RESEND_SECONDS: whichever copy arrives, the chain takes each nonce once. Only
when no relay may submit them any more are they given up, and what they carried is due again. An order that the chain
refused (the pool moved) is not repeated for its slot: unsold energy stays in the account and goes with the next offer,
what was not bought stays on the utility's bill.

No clock, socket or key file here: the caller passes wall time and carries the envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.wallet.journal import DueShielding, DueSlot, Journal, UnderWay
from edge_agent.wallet.orders import Call, Desk, Partner
from edge_agent.wallet.trading import Pool, Provide, Sell, Share, demand, offer, share
from openmg.messages.market import AccountNotice, MarketNotice

RESEND_SECONDS = 10
"""Blocks come every second and a relay submits at once: without effect after so long, an envelope goes out again."""
ORDER_SECONDS = 60
"""An order that has not executed so long after it was signed must not surprise its owner later; where slots are long it
needs more, since relays submit at their end."""
GIVE_UP_SECONDS = 15
"""So long after its last valid second an envelope counts as lost: a relay collects, then the chain mines."""
MAX_SLOTS_PER_ENVELOPE = 1
"""One slot with all of its calls (mint, approve, share, sell, redeem, buy, two burns) fits the envelope's one size."""
MAX_AMOUNT, MAX_COUNT = 2**96, 2**62
"""Bounds of amounts, and of blocks and nonces, in a notice: above all there is, and no order made of them outgrows its
256 bits nor the journal's 64."""
GIFT_SHARE = 4
"""A quarter of the surplus goes to the partner, if there is one."""


class Trader:
    """State of one owner's account, pool and due slots."""

    def __init__(
        self,
        desk: Desk,
        journal: Journal,
        *,
        provides_liquidity: bool,
        shield_call: Callable[[DueShielding], Call],
        partner: Partner | None = None,
        tokens: Mapping[int, bytes] | None = None,
        order_seconds: int = ORDER_SECONDS,
        settles: bool = True,
    ) -> None:
        self.desk = desk
        self.shield_call = shield_call
        self.partner = partner
        self.tokens = tokens or {}
        self.journal = journal
        self.order_seconds = order_seconds
        self.settles = settles
        """False for a home that trades privately: then only shieldings go out, and slots are not due here."""
        self.provides_liquidity = provides_liquidity
        self.account: AccountNotice | None = None
        self.market: MarketNotice | None = None
        self.other_markets: dict[int, MarketNotice] = {}
        self.approved = False
        self._sent_at: int | None = None

    def on_account(self, notice: AccountNotice) -> None:
        """News of the account; older news than what is known is ignored. ValueError for impossible numbers."""
        _require_possible(MAX_COUNT, notice.block, notice.nonce)
        _require_possible(MAX_AMOUNT, notice.balance_wei, notice.energy_wh, notice.delivery_wh)
        if self.account is None or notice.block >= self.account.block:
            self.account = notice

    def on_market(self, notice: MarketNotice) -> None:
        """News of a pool: the home's own, or another microgrid's. ValueError for impossible numbers."""
        _require_possible(MAX_COUNT, notice.block)
        _require_possible(MAX_AMOUNT, notice.reserve_wei, notice.reserve_wh)
        _require_possible(MAX_AMOUNT, notice.feed_in_wei_per_wh, notice.retail_wei_per_wh)
        if notice.microgrid != self.desk.market.microgrid:
            self.other_markets[notice.microgrid] = notice
        elif self.market is None or notice.block >= self.market.block:
            self.market = notice

    def next_envelope(self, now: int) -> UnderWay | None:
        """What to send now: a new envelope, or what is left of the one under way; None when there is nothing to do."""
        if self.account is None:
            return None
        waiting = self.journal.under_way()
        if waiting is not None and not self._closed(waiting, now):
            return self._again(waiting, now)
        envelope = self._shielding(now) or self._settlement(now)
        if envelope is not None:
            self._sent_at = now
        return envelope

    def _closed(self, waiting: UnderWay, now: int) -> bool:
        """Close an envelope that executed or was lost; False while it still waits for the chain."""
        assert self.account is not None
        if self.account.nonce >= waiting.first_nonce + len(waiting.raw):
            self.journal.finish()
        elif now >= waiting.valid_until + GIVE_UP_SECONDS:
            self.journal.give_up()
            self.approved = False  # the approval may have been lost along; a second one harms nothing
        else:
            return False
        return True

    def _again(self, waiting: UnderWay, now: int) -> UnderWay | None:
        """The transactions under way that have not executed, when it is time to send them again."""
        assert self.account is not None
        recent = self._sent_at is not None and now - self._sent_at < RESEND_SECONDS
        if recent or now > waiting.valid_until:
            return None
        self._sent_at = now
        done = max(0, self.account.nonce - waiting.first_nonce)
        return UnderWay(waiting.first_nonce + done, waiting.valid_until, waiting.raw[done:])

    def _shielding(self, now: int) -> UnderWay | None:
        """The next shielding that the account can pay."""
        assert self.account is not None
        balance_wei = self.account.balance_wei
        due = next((item for item in self.journal.due_shieldings() if item.amount_wei <= balance_wei), None)
        return None if due is None else self._submit([self.shield_call(due)], (), (due.number,), now)

    def _settlement(self, now: int) -> UnderWay | None:
        """The orders of the next recorded slot; slots that need none are dropped."""
        slots = self._recorded()
        calls = self._orders(slots, now) if slots and self.settles else []
        numbers = tuple(item.slot for item in slots)
        if not calls:
            self.journal.drop_slots(numbers)
            return None
        return self._submit(calls, numbers, (), now)

    def _submit(self, calls: list[Call], slots: tuple[int, ...], shieldings: tuple[int, ...], now: int) -> UnderWay:
        assert self.account is not None
        nonce = self.account.nonce
        envelope = UnderWay(nonce, now + self.order_seconds, self.desk.sign(calls, nonce))
        self.journal.submit(slots, shieldings, envelope)
        return envelope

    def _recorded(self) -> list[DueSlot]:
        """The oldest due slots whose group's sums stand on chain."""
        if self.market is None:
            return []
        recorded = set(self.market.recorded_slots)
        return [item for item in self.journal.due_slots() if item.slot in recorded][:MAX_SLOTS_PER_ENVELOPE]

    def _orders(self, slots: list[DueSlot], now: int) -> list[Call]:
        assert self.account is not None
        deadline, pool = now + self.order_seconds, _pool(self.market)
        calls = [self.desk.mint(item.slot, item.export_wh) for item in slots if item.export_wh]
        energy_wh = self.account.energy_wh + sum(item.export_wh for item in slots)
        sales: list[Call] = []
        gift = self._gift(energy_wh, pool)
        if gift is not None and self.partner is not None:
            energy_wh -= gift.energy_wh
            sales.append(self.desk.share(gift, self.partner, self.tokens[self.partner.microgrid], deadline))
        balance_wei = self.account.balance_wei
        orders = offer(energy_wh, pool, provides=self.provides_liquidity, balance_wei=balance_wei)
        sales += [self.desk.order(order, deadline) for order in orders]
        balance_wei -= sum(order.value_wei for order in orders if isinstance(order, Provide))
        if not self.approved and (gift or any(isinstance(order, Sell | Provide) for order in orders)):
            calls.append(self.desk.approve())
            self.approved = True
        return calls + sales + self._purchases(slots, pool, deadline, balance_wei)

    def _gift(self, energy_wh: int, pool: Pool) -> Share | None:
        """A part of the surplus for the partner, when both pools can carry it."""
        if self.partner is None or self.partner.microgrid not in self.tokens:
            return None
        return share(energy_wh // GIFT_SHARE, pool, _pool(self.other_markets.get(self.partner.microgrid)))

    def _purchases(self, slots: list[DueSlot], pool: Pool, deadline: int, balance_wei: int) -> list[Call]:
        """For each slot's import: burn what was delivered already, buy and burn what the pool sells of the rest."""
        assert self.account is not None
        calls: list[Call] = []
        delivery_wh = self.account.delivery_wh
        for item in slots:
            burned_wh = min(delivery_wh, item.import_wh)
            delivery_wh -= burned_wh
            wanted_wh = item.import_wh - burned_wh
            purchase = demand(wanted_wh, pool, balance_wei) if wanted_wh else None
            if purchase is not None:
                balance_wei -= purchase.max_wei
                calls.append(self.desk.order(purchase, deadline))
                calls.append(self.desk.burn(item.slot, purchase.energy_wh, item.import_wh))
            if burned_wh:
                calls.append(self.desk.burn(item.slot, burned_wh, item.import_wh))
        return calls


def _require_possible(limit: int, *values: int) -> None:
    if not all(0 <= value <= limit for value in values):
        raise ValueError("a number of the notice is negative or larger than any chain of ours says")


def _pool(notice: MarketNotice | None) -> Pool:
    if notice is None:
        return Pool(0, 0, 0, 0)
    return Pool(notice.reserve_wei, notice.reserve_wh, notice.feed_in_wei_per_wh, notice.retail_wei_per_wh)
