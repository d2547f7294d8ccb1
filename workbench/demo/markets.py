"""What the demo's markets did, counted from the plasma chain: the public one by its tokens and exchanges, the private one by
its pools.

Rules: both give the names that docs/DEMO.md lists. What the private market does not show, such as how much was minted, is not
here: the report asks the homes, whose owner the demo plays. Not here: the report, what it is held against.
"""

from __future__ import annotations

from typing import Any, Protocol

from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaContracts
from openmg.market.uniswap import spot_price
from openmg.zk.meters import LOT_WH


class Market(Protocol):
    """Figures of a market at the block of asking."""

    def energy_wh(self) -> dict[str, int]:
        """Sums over all microgrids."""
        ...

    def figures(self) -> dict[str, Any]:
        """Trades and prices."""
        ...


class _OnChain:
    def __init__(self, client: EvmClient, contracts: PlasmaContracts, last_block: int) -> None:
        self._client, self._markets, self._last = client, contracts.markets, last_block

    def _events(self, contract: Any, name: str) -> list[Any]:
        return self._client.events(contract, name, 0, self._last)


class PublicMarket(_OnChain):
    """Energy tokens and their exchanges."""

    def energy_wh(self) -> dict[str, int]:
        sold = bought = 0
        for market in self._markets:
            sold += sum(int(e.args["tokens_sold"]) for e in self._events(market.exchange, "EthPurchase"))
            bought += sum(int(e.args["tokens_bought"]) for e in self._events(market.exchange, "TokenPurchase"))
        return {
            "minted": self._total("totalMinted"),
            "sold": sold,
            "bought": bought,
            "burned": self._total("totalBurned"),
            "redeemed": self._total("totalRedeemed"),
            "expired": self._total("totalExpired"),
            "outstanding": self._total("totalSupply"),
        }

    def _total(self, name: str) -> int:
        return sum(int(self._client.call(market.token, name)) for market in self._markets)

    def figures(self) -> dict[str, Any]:
        sales, purchases, carried = 0, 0, 0
        for market in self._markets:
            sales += len(self._events(market.exchange, "EthPurchase"))
            purchases += len(self._events(market.exchange, "TokenPurchase"))
        if len(self._markets) > 1:
            carried = self._token_to_token()
        reserves = {
            f"MG{market.microgrid}": tuple(map(int, self._client.call(market.exchange, "getReserves")))
            for market in self._markets
        }
        return {
            "kind": "public",
            "swaps": sales + purchases - carried,
            "token_to_token": carried,
            "price_wei_per_wh": spot_price(sum(wei for wei, _ in reserves.values()), sum(wh for _, wh in reserves.values())),
            "price_wei_per_wh_by_microgrid": {name: spot_price(wei, wh) for name, (wei, wh) in reserves.items()},
        }

    def _token_to_token(self) -> int:
        """Transactions that sold on one exchange and bought on another."""
        sellers: dict[bytes, set[bytes]] = {}
        buyers: dict[bytes, set[bytes]] = {}
        for market in self._markets:
            for event in self._events(market.exchange, "EthPurchase"):
                sellers.setdefault(event.tx_hash, set()).add(market.exchange.address)
            for event in self._events(market.exchange, "TokenPurchase"):
                buyers.setdefault(event.tx_hash, set()).add(market.exchange.address)
        return sum(bool(buyers.get(tx, set()) - exchanges) for tx, exchanges in sellers.items())


class PrivateMarket(_OnChain):
    """Energy pools; the last price of a pool that cleared nothing is null."""

    def energy_wh(self) -> dict[str, int]:
        sold = cleared = 0
        for event in self._all("BatchClosed"):
            sold += int(event.args["soldLots"]) * LOT_WH
            cleared += int(event.args["clearedLots"]) * LOT_WH
        return {"sold": sold, "bought": cleared}

    def figures(self) -> dict[str, Any]:
        prices = {f"MG{market.microgrid}": self._last_price(market.pool) for market in self._markets}
        known = [price for price in prices.values() if price is not None]
        return {
            "kind": "private",
            "mints": len(self._all("Minted")),
            "sales": len(self._all("SellPlaced")),
            "purchases": len(self._all("BuyPlaced")),
            "batches": len(self._all("BatchClosed")),
            "settled_batches": len(self._all("BatchSettled")),
            "price_wei_per_wh": sum(known) // len(known) if known else None,
            "price_wei_per_wh_by_microgrid": prices,
        }

    def _all(self, name: str) -> list[Any]:
        return [event for market in self._markets for event in self._events(market.pool, name)]

    def _last_price(self, pool: Any) -> int | None:
        closed = self._events(pool, "BatchClosed")
        return int(closed[-1].args["priceWeiPerLot"]) // LOT_WH if closed else None
