"""The clearing role: closes and settles the private market's batches when their slot is over, and keys after their last day.

Theory of operation. Orders are found by their events, span by span of the chain; a batch that was seen waits here until the
contract's clock is past its slot, is closed then, and settled in chunks of SETTLE_ORDERS. A key is closed once no order of
it can come any more. Anybody may do the same: whoever comes second is told so by the contract, which is no error. After a
restart, or when the chain was rewritten, everything is read again, and the contract says what is done already.
Bounds: MAX_BATCHES_PER_STEP batches a step; what is not closed (the utility's escrow is too low, say) is told once and
tried again at every step, after the others.
Not here: orders (`edge_agent.market`), prices (`openmg.market.collar`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from hub.chain.client import Contract, EvmClient
from hub.chain.cursor import BlockCursor, ChainRewritten
from hub.chain.deploy import PlasmaContracts
from hub.chain.errors import CallReverted, ChainError

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
SETTLE_ORDERS = 40
"""An order makes up to two notes, some 200,000 gas in all; forty stay below a fifth of a block."""
CLEARING_GAS = 12_000_000
MAX_BATCHES_PER_STEP = 64
DONE_BY_OTHERS = ("BatchAlreadyClosed", "NothingToSettle", "KeyAlreadyClosed")
"""What a pool answers to whoever comes second."""


@dataclass(frozen=True, order=True)
class BatchPlace:
    """Orders of one slot for one key; `microgrid` names the pool."""

    slot: int
    microgrid: int
    key: int


@dataclass(frozen=True)
class ClearingStatus:
    """Counted since start, but for `waiting`, the batches that are known and not settled."""

    waiting: int
    closed: int
    settled_orders: int
    closed_keys: int
    failures: int


class Clearing:
    """Clears until stopped; `client` signs for the clearing account."""

    def __init__(self, client: EvmClient, contracts: PlasmaContracts, *, confirmations: int = 0) -> None:
        self._client = client
        self._registry = contracts.energy_registry
        self._pools = {market.microgrid: market.pool for market in contracts.markets}
        self._cursor = BlockCursor(client, confirmations)
        self._waiting: set[BatchPlace] = set()
        self._keys: set[tuple[int, int]] = set()
        """(microgrid, key) that had an order and is not closed."""
        self._complaints: dict[object, str] = {}
        self._closed = self._settled = self._closed_keys = self._failures = 0

    def status(self) -> ClearingStatus:
        """Figures for the console and the report."""
        return ClearingStatus(len(self._waiting), self._closed, self._settled, self._closed_keys, self._failures)

    async def run(self, stop: asyncio.Event) -> None:
        """Step after step until `stop` is set."""
        while not stop.is_set():
            try:
                await asyncio.to_thread(self.step)
                self._complaints.pop(None, None)
            except ChainError as error:
                self._complain(None, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STEP_SECONDS)

    def step(self) -> None:
        """Find new orders, clear what is over (blocking); ChainError when the chain does not answer."""
        self._find()
        current = int(self._client.call(self._registry, "currentSlot", at="pending"))
        over = sorted(place for place in self._waiting if place.slot < current)
        # What failed before comes last, so that it never keeps others waiting.
        over.sort(key=lambda place: place in self._complaints)
        for place in over[:MAX_BATCHES_PER_STEP]:
            self._guarded(place, self._clear)
        for key in sorted(self._keys):
            self._guarded(key, self._close_key, current)

    # ---- inner parts ------------------------------------------------------------------------------------------

    def _find(self) -> None:
        try:
            while (span := self._cursor.ahead()) is not None:
                found = self._orders(span.first, span.last.number)
                self._cursor.advance(span)
                self._waiting |= found
                self._keys |= {(place.microgrid, place.key) for place in found}
        except ChainRewritten:
            self._cursor.restart()
            self._client.forget_nonce()
            self._waiting.clear()
            self._keys.clear()
            raise

    def _orders(self, first: int, last: int) -> set[BatchPlace]:
        return {
            BatchPlace(int(event.args["batch"]), microgrid, int(event.args["key"]))
            for microgrid, pool in self._pools.items()
            for name in ("SellPlaced", "BuyPlaced")
            for event in self._client.events(pool, name, first, last)
        }

    def _guarded(self, what: BatchPlace | tuple[int, int], action: object, *arguments: int) -> None:
        """One failure is told once and harms no other batch; a chain that does not answer ends the step."""
        assert callable(action)
        try:
            action(what, *arguments)
            self._complaints.pop(what, None)
        except CallReverted as error:
            self._failures += 1
            self._complain(what, error)

    def _complain(self, what: object, error: ChainError) -> None:
        if self._complaints.get(what) != str(error):
            log.warning("clearing: %s; trying again", error)
        self._complaints[what] = str(error)

    def _clear(self, place: BatchPlace) -> None:
        """Close and settle the batch as far as it is not."""
        pool = self._pools[place.microgrid]
        sells, buys, settled, closed, _price = self._client.call(pool, "orderCounts", place.key, place.slot)
        if not closed:
            self._closed += self._send(pool, "close", place.key, place.slot)
        orders = int(sells) + int(buys)
        for first in range(int(settled), orders, SETTLE_ORDERS):
            if self._send(pool, "settle", place.key, place.slot, SETTLE_ORDERS):
                self._settled += min(SETTLE_ORDERS, orders - first)
        self._waiting.discard(place)

    def _close_key(self, name: tuple[int, int], current: int) -> None:
        microgrid, key = name
        pool = self._pools[microgrid]
        last = int(self._client.call(self._registry, "lastSlotOf", key)) + int(self._client.call(pool, "ORDER_SLOTS"))
        open_batches, _opened, closed = self._client.call(pool, "keyState", key)
        if not closed and (current <= last or open_batches):
            return
        if not closed:
            self._closed_keys += self._send(pool, "closeKey", key)
        self._keys.discard(name)

    def _send(self, pool: Contract, function: str, *arguments: int) -> bool:
        """Whether this call did it; False when somebody else was faster."""
        try:
            sent = self._client.send(pool, function, *arguments, gas=CLEARING_GAS)
            self._client.wait(sent, where=f"EnergyPool.{function}")
        except CallReverted as error:
            if error.error in DONE_BY_OTHERS:
                return False
            raise
        return True
