"""The market role: keeps meters informed of the plasma chain and brings agreed slots and answers to their contracts.

Theory of operation. Once per STEP_SECONDS, in a worker thread: look at the blocks since the last step, collect new notes,
recorded slots and trades, read pools, and accounts when something happened, and hand changed notices to MQTT (retained, so
that a meter that comes back has them at once). Then deliver proven events. A chain that does not answer is said once and
tried again; nothing is skipped, because the next step starts where the last good one ended. A broker may lose a notice, and
a wallet that never hears of its account would wait for ever: so now and then one current notice is told again, in turn.
Not here: decisions of owners (`edge_agent.wallet`), what the operator sees (`hub.status`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hub.chain.errors import ChainError
from hub.market.courier import EventCourier
from hub.market.noticeboard import Noticeboard, Outgoing
from hub.market.view import AccountState, ChainView, PoolState, Swap
from openmg.messages.market import ChainNotice, NoteEntry

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
REFRESH_STEPS = 2
"""One notice is told again every so many steps: all of a demo's within half a minute, a wallet's patience."""
MAX_SWAPS_KEPT = 200
MAX_BLOCKS_PER_STEP = 500


@dataclass(frozen=True)
class Owner:
    """Whose account a device's wallet trades with."""

    account: bytes
    microgrid: int


Owners = Callable[[], Mapping[str, Owner]]
"""Device name to owner, of the meters that announced a wallet."""
Publish = Callable[[str, bytes], bool]
"""Hands a retained message to the broker; False when it is away."""


@dataclass(frozen=True)
class _News:
    """Everything that one step read."""

    swaps: tuple[Swap, ...]
    recorded: tuple[tuple[int, int], ...]
    notes: tuple[tuple[int, NoteEntry], ...]
    pools: tuple[PoolState, ...]
    accounts: dict[str, AccountState]


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
    ) -> None:
        self._view = view
        self.courier = courier
        self._notice = notice
        self._board = Noticeboard(retail_wei_per_wh)
        self._owners = owners
        self._publish = publish
        self._next_block = 0
        self._known_owners: set[str] = set()
        self._unsent: dict[str, bytes] = {}
        self._complaints: dict[str, str] = {}
        self._resend = False
        self.pools: tuple[PoolState, ...] = ()
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
        """Read the new blocks and queue the notices that changed. Blocks on the chain.

        Everything is read before anything is taken over, so that a chain that stops answering half way loses nothing.
        """
        if self._resend:
            self._queue(self._board.again())
            self._resend = False
        self._queue(self._board.chain(self._notice))
        newest = self._view.client.block_number()
        owners = dict(self._owners())
        if newest >= self._next_block:
            last = min(newest, self._next_block + MAX_BLOCKS_PER_STEP - 1)
            self._take(last, self._read(self._next_block, last, owners))
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
        """Queue the notice whose turn it is once more."""
        for topic, payload in self._board.next_again():
            self._unsent.setdefault(topic, payload)

    def forget(self) -> None:
        """The broker may have lost retained notices: the next step sends all of them again."""
        self._resend = True

    @property
    def notes(self) -> int:
        """Leaves of the note tree seen so far."""
        return len(self._board.notes)

    def _read(self, first: int, last: int, owners: Mapping[str, Owner]) -> _News:
        view = self._view
        return _News(
            tuple(view.swaps(first, last)),
            tuple(view.recorded_slots(first, last)),
            tuple(view.notes(first, last)),
            tuple(view.pool(market) for market in view.contracts.markets),
            self._read_accounts(owners),
        )

    def _read_accounts(self, owners: Mapping[str, Owner]) -> dict[str, AccountState]:
        """Accounts of owners whose microgrid has a market; others cannot trade."""
        markets = {market.microgrid: market for market in self._view.contracts.markets}
        return {
            device: self._view.account(owner.account, markets[owner.microgrid])
            for device, owner in owners.items()
            if owner.microgrid in markets
        }

    def _take(self, last: int, news: _News) -> None:
        """Take over what was read of the blocks up to `last`."""
        self.swaps.extend(news.swaps)
        self.swap_count += len(news.swaps)
        self.sold_wh += sum(swap.amount_wh for swap in news.swaps if swap.kind == "sell")
        self.bought_wh += sum(swap.amount_wh for swap in news.swaps if swap.kind == "buy")
        self._board.add_recorded(news.recorded)
        self._queue(self._board.add_notes(news.notes))
        self.pools = news.pools
        for pool in news.pools:
            self._queue(self._board.market(last, pool))
        self._take_accounts(last, news.accounts)
        self._next_block = last + 1

    def _take_accounts(self, block: int, accounts: Mapping[str, AccountState]) -> None:
        for device, state in accounts.items():
            self._queue(self._board.account(block, device, state))
            self._known_owners.add(device)
