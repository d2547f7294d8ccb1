"""The owner's trader: settles each recorded slot on chain with at most one envelope of transactions under way.

A slot is due when its readings are closed, and can be settled once its group's sums are recorded on chain. Its orders
(mint and sell, buy and burn) leave in one envelope with consecutive nonces. The envelope is done when the account's
nonce on chain has passed its last one, whatever the receipt says; when it has not after ENVELOPE_SECONDS, the slots are
due again. An order that the chain refused (the pool moved) is not repeated for its slot: unsold energy stays in the
account and goes with the next offer, what was not bought stays on the utility's bill.

No clock, socket or key file here: the caller passes wall time and carries the envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.wallet.journal import DueShielding, DueSlot, Journal
from edge_agent.wallet.orders import Call, Desk, Partner
from edge_agent.wallet.trading import Pool, Provide, Sell, Share, demand, offer, share
from openmg.messages.market import AccountNotice, MarketNotice

ENVELOPE_SECONDS = 30
"""Blocks come every second and a relay submits at once; half a minute without effect means that it was lost."""
ORDER_SECONDS = 60
"""An order that has not executed a minute after it was signed must not surprise its owner later."""
MAX_SLOTS_PER_ENVELOPE = 1
"""One slot with all of its calls (mint, approve, share, sell, redeem, buy, burn) fits the envelope's one size."""
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
    ) -> None:
        self.desk = desk
        self.shield_call = shield_call
        self.partner = partner
        self.tokens = tokens or {}
        self.journal = journal
        self.provides_liquidity = provides_liquidity
        self.account: AccountNotice | None = None
        self.market: MarketNotice | None = None
        self.other_markets: dict[int, MarketNotice] = {}
        self.approved = False
        self._sent_at: int | None = None

    def on_account(self, notice: AccountNotice) -> None:
        """News of the account; older news than what is known is ignored."""
        if self.account is None or notice.block >= self.account.block:
            self.account = notice

    def on_market(self, notice: MarketNotice) -> None:
        """News of a pool: the home's own, or another microgrid's."""
        if notice.microgrid != self.desk.market.microgrid:
            self.other_markets[notice.microgrid] = notice
        elif self.market is None or notice.block >= self.market.block:
            self.market = notice

    def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """A slot was closed by the meter; slots without energy need no settlement."""
        if import_wh or export_wh:
            self.journal.add_slot(slot, import_wh, export_wh)

    def next_transactions(self, now: int) -> tuple[bytes, ...]:
        """Raw transactions to send now; empty while an envelope is under way or nothing can be settled."""
        if self.account is None or self._under_way(now):
            return ()
        slots, shieldings = self._recorded(), self.journal.due_shieldings()[:1]
        calls = [self.shield_call(item) for item in shieldings] + (self._orders(slots, now) if slots else [])
        numbers = tuple(item.slot for item in slots)
        if not calls:
            self.journal.drop_slots(numbers)
            return ()
        self.journal.submit(numbers, tuple(item.number for item in shieldings), self.account.nonce + len(calls))
        self._sent_at = now
        return self.desk.sign(calls, self.account.nonce)

    def _recorded(self) -> list[DueSlot]:
        """The oldest due slots whose group's sums stand on chain."""
        if self.market is None:
            return []
        recorded = set(self.market.recorded_slots)
        return [item for item in self.journal.due_slots() if item.slot in recorded][:MAX_SLOTS_PER_ENVELOPE]

    def _under_way(self, now: int) -> bool:
        """Whether an envelope still waits for the chain; closes one that executed, gives up one that was lost."""
        assert self.account is not None
        next_nonce = self.journal.under_way()
        if next_nonce is None:
            return False
        if self.account.nonce >= next_nonce:
            self.journal.finish()
            return False
        self._sent_at = now if self._sent_at is None else self._sent_at  # after a restart the wait begins anew
        if now - self._sent_at < ENVELOPE_SECONDS:
            return True
        self.journal.give_up()
        return False

    def _orders(self, slots: list[DueSlot], now: int) -> list[Call]:
        assert self.account is not None
        deadline, pool = now + ORDER_SECONDS, _pool(self.market)
        calls = [self.desk.mint(item.slot, item.export_wh) for item in slots if item.export_wh]
        energy_wh = self.account.energy_wh + sum(item.export_wh for item in slots)
        sales: list[Call] = []
        gift = self._gift(energy_wh, pool)
        if gift is not None and self.partner is not None:
            energy_wh -= gift.energy_wh
            sales.append(self.desk.share(gift, self.partner, self.tokens[self.partner.microgrid], deadline))
        orders = offer(energy_wh, pool, provides=self.provides_liquidity, balance_wei=self.account.balance_wei)
        sales += [self.desk.order(order, deadline) for order in orders]
        if not self.approved and (gift or any(isinstance(order, Sell | Provide) for order in orders)):
            calls.append(self.desk.approve())
            self.approved = True
        return calls + sales + self._purchases(slots, pool, deadline)

    def _gift(self, energy_wh: int, pool: Pool) -> Share | None:
        """A part of the surplus for the partner, when both pools can carry it."""
        if self.partner is None or self.partner.microgrid not in self.tokens:
            return None
        return share(energy_wh // GIFT_SHARE, pool, _pool(self.other_markets.get(self.partner.microgrid)))

    def _purchases(self, slots: list[DueSlot], pool: Pool, deadline: int) -> list[Call]:
        """For each slot's import: burn what was delivered already, buy and burn what the pool sells of the rest."""
        assert self.account is not None
        calls: list[Call] = []
        balance_wei, delivery_wh = self.account.balance_wei, self.account.delivery_wh
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


def _pool(notice: MarketNotice | None) -> Pool:
    if notice is None:
        return Pool(0, 0, 0, 0)
    return Pool(notice.reserve_wei, notice.reserve_wh, notice.feed_in_wei_per_wh, notice.retail_wei_per_wh)
