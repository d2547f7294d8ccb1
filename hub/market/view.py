"""What the plasma chain says now: pools, accounts, notes and totals, read over JSON-RPC.

Rules: read-only; every figure is the chain's own. Calls block; roles run them in a thread, one at a time.
Not here: the private market (`hub.market.energy_view`), what is done with the figures (`hub.market.service`, `hub.status`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.chain.abi import Event
from hub.chain.client import EvmClient
from hub.chain.deploy import EnergyMarket, PlasmaContracts
from hub.plasma.note_log import NoteNews, read_note_news


@dataclass(frozen=True)
class PoolState:
    """Reserves of one microgrid's exchange and the totals of its token."""

    microgrid: int
    reserve_wei: int
    reserve_wh: int
    feed_in_wei_per_wh: int
    minted_wh: int
    burned_wh: int
    redeemed_wh: int
    expired_wh: int
    outstanding_wh: int


@dataclass(frozen=True)
class AccountState:
    """Nonce and balances of one owner's account."""

    nonce: int
    balance_wei: int
    energy_wh: int
    delivery_wh: int


@dataclass(frozen=True)
class Swap:
    """One trade on an exchange: `kind` is buy (PETH for energy) or sell."""

    block: int
    microgrid: int
    kind: str
    account: bytes
    amount_wh: int
    peth_wei: int


class ChainView:
    """Reads the plasma chain's market side."""

    def __init__(self, client: EvmClient, contracts: PlasmaContracts) -> None:
        self.client = client
        self.contracts = contracts
        self._feed_in: dict[int, int] = {}

    def pool(self, market: EnergyMarket) -> PoolState:
        """Reserves and totals at the newest block."""
        token, exchange = market.token, market.exchange
        if market.microgrid not in self._feed_in:
            self._feed_in[market.microgrid] = int(self.client.call(token, "feedInWeiPerWh"))
        names = ("totalMinted", "totalBurned", "totalRedeemed", "totalExpired", "totalSupply")
        totals = [int(self.client.call(token, name)) for name in names]
        reserve_wei, reserve_wh = self.client.call(exchange, "getReserves")
        return PoolState(
            market.microgrid,
            int(reserve_wei),
            int(reserve_wh),
            self._feed_in[market.microgrid],
            *totals,
        )

    def account(self, address: bytes, market: EnergyMarket) -> AccountState:
        """An owner's account at the newest block: what it may sell or redeem, and what it can only burn."""
        held = int(self.client.call(market.token, "balanceOf", "0x" + address.hex()))
        delivery = int(self.client.call(market.token, "deliveryOf", "0x" + address.hex()))
        nonce = self.client.rpc_int("eth_getTransactionCount", "0x" + address.hex(), "latest")
        return AccountState(nonce, self.client.balance(address), held - min(held, delivery), min(held, delivery))

    def notes(self, first_block: int, last_block: int) -> NoteNews:
        """What these blocks did to the confidential token's queue and tree."""
        return read_note_news(self.client, self.contracts.confidential, first_block, last_block)

    def nullifiers(self, first_block: int, last_block: int) -> list[int]:
        """Nullifiers that these blocks spent, in order."""
        events = self.client.events(self.contracts.confidential, "NullifierSpent", first_block, last_block)
        return [int(event.args["nullifier"]) for event in events]

    def recorded_slots(self, first_block: int, last_block: int) -> list[tuple[int, int]]:
        """(microgrid, slot) of every slot whose sums these blocks recorded."""
        events = self.client.events(self.contracts.registry, "SlotRecorded", first_block, last_block)
        return [(int(event.args["microgrid"]), int(event.args["slot"])) for event in events]

    def swaps(self, first_block: int, last_block: int) -> list[Swap]:
        """Trades in these blocks, in order."""
        found: list[tuple[Event, Swap]] = []
        for market in self.contracts.markets:
            for name, kind, amount, paid in (
                ("TokenPurchase", "buy", "tokens_bought", "eth_sold"),
                ("EthPurchase", "sell", "tokens_sold", "eth_bought"),
            ):
                for event in self.client.events(market.exchange, name, first_block, last_block):
                    account = bytes.fromhex(str(event.args["buyer"]).removeprefix("0x"))
                    swap = Swap(event.block, market.microgrid, kind, account, int(event.args[amount]), int(event.args[paid]))
                    found.append((event, swap))
        found.sort(key=lambda pair: (pair[0].block, pair[0].log_index))
        return [swap for _, swap in found]
