"""The market role: keeps meters informed of the plasma chain and brings agreed slots and answers to their contracts.

Theory of operation. Once per STEP_SECONDS, in a worker thread: look at the blocks since the last step, collect new leaves,
nullifiers, recorded slots and trades, read pools and accounts when the chain has a new block, and hand changed notices to
MQTT (retained, so that a meter that comes back has them at once). Then deliver proven events. A chain that does not answer
is said once and tried again; nothing is skipped, because the next step starts where the last good one ended. When blocks
that were read vanish from the chain, everything is read again from the start, and leaves are told only when the end is
reached, so that wrong ones are replaced and never mixed with right ones. A broker may lose a notice, and a wallet that
never hears of its account would wait for ever: so now and then some current notices are told again, in turn.
Not here: decisions of owners (`edge_agent.wallet`), what the operator sees (`hub.status`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hub.chain.cursor import ChainRewritten
from hub.chain.errors import ChainError
from hub.market.courier import EventCourier
from hub.market.energy_view import EnergyView, RegistryBook, RegistryOutOfOrder
from hub.market.news import News, NewsReader
from hub.market.noticeboard import Noticeboard, Outgoing
from hub.market.view import AccountState, ChainView, PoolState, Swap
from hub.plasma.note_log import NoteLog, NotesOutOfOrder
from openmg.messages.market import ChainNotice, PoolNotice, SlotLeavesNotice

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
REFRESH_STEPS = 2
"""Notices are told again every so many steps: all of them within half a minute, a wallet's patience."""
MAX_SWAPS_KEPT = 200
START_OVER = "start over"
"""Among the complaints, why everything is being read again."""


@dataclass(frozen=True)
class Owner:
    """Whose account a device's wallet trades with."""

    account: bytes
    microgrid: int


Owners = Callable[[], Mapping[str, Owner]]
"""Device name to owner, of the meters that announced a wallet."""
Publish = Callable[[str, bytes], bool]
"""Hands a retained message to the broker; False when it is away."""
SlotLeaves = Callable[[int, int], SlotLeavesNotice | None]
"""The leaves of a microgrid's agreed slot; None when this hub does not have them (yet, or any more)."""


class MarketService:
    """Runs the market role until `stop` is set."""

    def __init__(
        self,
        view: ChainView,
        courier: EventCourier,
        notice: ChainNotice,
        retail_wei_per_wh: int,
        owners: Owners,
        publish: Publish,
        slot_leaves: SlotLeaves,
        *,
        confirmations: int = 0,
    ) -> None:
        self._view = view
        self._energy = EnergyView(view.client, view.contracts)
        self._reader = NewsReader(view, self._energy, confirmations)
        self.courier = courier
        self._notice = notice
        self._board = Noticeboard(retail_wei_per_wh)
        self._owners = owners
        self._publish = publish
        self._slot_leaves = slot_leaves
        self._state_block = -1
        self._known_owners: set[str] = set()
        self._unsent: dict[str, bytes] = {}
        self._complaints: dict[str, str] = {}
        self._resend = False
        self.pools: tuple[PoolState, ...] = ()
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of the chain's past."""
        self._notes = NoteLog()
        self._registry = RegistryBook()
        self._prices: dict[int, int] = {}
        self._caught_up = False
        self.swaps: deque[Swap] = deque(maxlen=MAX_SWAPS_KEPT)
        self.swap_count = self.sold_wh = self.bought_wh = 0

    async def run(self, stop: asyncio.Event) -> None:
        """One step after the other; returns when `stop` is set."""
        steps = 0
        while not stop.is_set():
            steps += 1
            if steps % REFRESH_STEPS == 0:
                self.refresh()
            for part in (self.step, self.courier.step):
                try:
                    await asyncio.to_thread(part)
                    self._complaints.pop(part.__qualname__, None)
                except ChainError as error:
                    if self._complaints.get(part.__qualname__) != str(error):
                        log.warning("market: %s; trying again", error)
                    self._complaints[part.__qualname__] = str(error)
            self.send()
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    def step(self) -> None:
        """Read the new blocks and queue the notices that changed. Blocks on the chain."""
        if self._resend and self._caught_up:
            self._queue(self._board.again())
            self._resend = False
        try:
            news = self._reader.next()
            if news is not None:
                self._take(news)
        except (ChainRewritten, NotesOutOfOrder, RegistryOutOfOrder) as error:
            self._start_over(error)
        if not self._caught_up:
            return
        newest = self._view.client.block_number()
        owners = dict(self._owners())
        if newest != self._state_block:
            self._read_states(newest, owners)
        elif set(owners) - self._known_owners:
            self._take_accounts(newest, self._read_accounts(owners))

    def send(self) -> None:
        """Hand queued notices to the broker; what it does not take now is sent later, newest per topic."""
        for topic, payload in list(self._unsent.items()):
            if not self._publish(topic, payload):
                return
            if self._unsent.get(topic) == payload:
                del self._unsent[topic]

    def _queue(self, outgoing: list[Outgoing]) -> None:
        self._unsent.update(outgoing)

    def refresh(self) -> None:
        """Queue the notices whose turn it is once more; nothing while the past is being read."""
        if self._caught_up:
            for topic, payload in self._board.next_again():
                self._unsent.setdefault(topic, payload)

    def forget(self) -> None:
        """The broker may have lost retained notices: the next step sends all of them again."""
        self._resend = True

    @property
    def notes(self) -> int:
        """Leaves of the note tree seen so far, padding included."""
        return len(self._notes.leaves)

    @property
    def nullifiers(self) -> int:
        """Nullifiers seen so far: notes that were spent, whoever's they are."""
        return len(self._board.nullifiers.items)

    # What happened

    def _take(self, news: News) -> None:
        """Take over a span's events."""
        self._notes.take(news.notes)
        for change in news.registry:
            self._registry.take(change)
        self.swaps.extend(news.swaps)
        self.swap_count += len(news.swaps)
        self.sold_wh += sum(swap.amount_wh for swap in news.swaps if swap.kind == "sell")
        self.bought_wh += sum(swap.amount_wh for swap in news.swaps if swap.kind == "buy")
        self._prices |= news.prices
        board = self._board
        board.add_recorded(news.recorded)
        gone = board.add_rooted(news.rooted)
        new_leaves = board.notes.add(len(board.notes.items), self._notes.leaves[len(board.notes.items) :])
        new_nullifiers = board.nullifiers.add(len(board.nullifiers.items), news.nullifiers)
        if self._caught_up:
            self._queue(gone + new_leaves + new_nullifiers)
        elif news.span.is_newest:
            self._caught_up = True
            self._complaints.pop(START_OVER, None)
            self._queue(gone + board.notes.all() + board.nullifiers.all())
        self._state_block = -1  # what was read may change a notice

    def _start_over(self, error: ChainError) -> None:
        if self._complaints.get(START_OVER) != str(error):
            log.error("market: %s; everything is read and told again", error)
        self._complaints[START_OVER] = str(error)
        self._reader.restart()
        self._board.clear()
        self._begin()

    # What is now

    def _read_states(self, newest: int, owners: Mapping[str, Owner]) -> None:
        """Read everything, then tell what changed."""
        notice = replace(
            self._notice, circuit_set=self._energy.circuit_set(), pools=self._notice.pools or self._energy.places()
        )
        pools = tuple(self._view.pool(market) for market in self._view.contracts.markets)
        private = self._read_private(newest)
        accounts = self._read_accounts(owners)
        self._notice, self.pools = notice, pools
        self._queue(self._board.chain(notice))
        for pool in pools:
            self._queue(self._board.market(newest, pool))
        for item in private:
            self._queue(self._board.private_pool(item))
        registry = self._registry.notice()
        if registry is not None:
            self._queue(self._board.registry(registry))
        self._tell_slot_leaves()
        self._take_accounts(newest, accounts)
        self._state_block = newest

    def _read_private(self, block: int) -> list[PoolNotice]:
        key, notices = self._energy.key_now(), []
        for market in self._view.contracts.markets:
            held = self._energy.reserves(market, key)
            slots = tuple(self._board.rooted.get(market.microgrid, ()))
            price = self._prices.get(market.microgrid, 0)
            amounts = held.wei, held.wh, held.virtual_wei, held.virtual_wh
            notices.append(PoolNotice(market.microgrid, block, key, slots, *amounts, price))
        return notices

    def _tell_slot_leaves(self) -> None:
        """Leaves of slots whose root the chain has; those that this hub does not have are asked for at the next block."""
        for place in self._board.untold_slots():
            leaves = self._slot_leaves(*place)
            if leaves is not None:
                self._queue(self._board.slot_leaves(leaves))

    def _read_accounts(self, owners: Mapping[str, Owner]) -> dict[str, AccountState]:
        """Accounts of owners whose microgrid has a market; others cannot trade."""
        markets = {market.microgrid: market for market in self._view.contracts.markets}
        return {
            device: self._view.account(owner.account, markets[owner.microgrid])
            for device, owner in owners.items()
            if owner.microgrid in markets
        }

    def _take_accounts(self, block: int, accounts: Mapping[str, AccountState]) -> None:
        for device, state in accounts.items():
            self._queue(self._board.account(block, device, state))
            self._known_owners.add(device)
