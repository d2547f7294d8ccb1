"""The demo's report: every figure counted from the running system, its chains and its databases.

Operators' scripts read these names; their meaning is in docs/DEMO.md. Readings are slot reports: what a meter stored for
its hub and what the hub acknowledged; `polled` counts reads of the meter.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from edge_agent.wallet.note_store import PaymentState
from hub.chain.client import EvmClient
from hub.chain.deployment import Deployment
from openmg.clock import slot_of
from openmg.market.uniswap import spot_price
from workbench.demo.options import DEFAULT_START
from workbench.demo.site import Site
from workbench.supervisor import Supervisor

HTTP_SECONDS = 5.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class AgentCounts:
    """What one agent's databases say."""

    polled: int
    stored: int
    acked: int
    lost: int
    import_wh: int
    export_wh: int
    proof_ms: tuple[int, ...]
    backends: tuple[str, ...]
    paid: int
    """Private payments whose notes the wallet has seen in the tree."""
    last_slot: int
    """The newest slot that was put into the outbox; 0 before the first."""
    unsettled: int
    """Metered slots and envelopes that the wallet has still to bring to the chain."""


def hub_json(site: Site, path: str) -> dict[str, Any]:
    """A JSON document of the first hub's console; OSError when it does not answer."""
    with _opener.open(site.console_url.rstrip("/") + path, timeout=HTTP_SECONDS) as reply:
        document: dict[str, Any] = json.loads(reply.read())
        return document


def agent_counts(site: Site, name: str) -> AgentCounts:
    """Counters and live energy of one agent, read from its store and wallet."""
    state = site.agent_folder(name) / "state"
    with closing(_reading(state / "store.sqlite")) as db:
        counters = dict(db.execute("SELECT name, value FROM counters").fetchall())
        import_wh, export_wh = db.execute(
            "SELECT COALESCE(SUM(import_wh), 0), COALESCE(SUM(export_wh), 0) FROM slots WHERE slot >= ?",
            (slot_of(DEFAULT_START),),
        ).fetchone()
        (last_slot,) = db.execute("SELECT COALESCE(MAX(slot), 0) FROM slots WHERE seq IS NOT NULL").fetchone()
    proofs: list[tuple[int, str]] = []
    paid = unsettled = 0
    if (state / "wallet.sqlite").exists():
        with closing(_reading(state / "wallet.sqlite")) as db:
            proofs = db.execute("SELECT prove_ms, backend FROM payments WHERE prove_ms IS NOT NULL").fetchall()
            (paid,) = db.execute("SELECT COUNT(*) FROM payments WHERE state = ?", (PaymentState.DONE,)).fetchone()
            (unsettled,) = db.execute("SELECT (SELECT COUNT(*) FROM due_slots) + (SELECT COUNT(*) FROM envelope)").fetchone()
    return AgentCounts(
        counters["polled"],
        counters["stored"],
        counters["acked"],
        counters["lost"],
        import_wh,
        export_wh,
        tuple(row[0] for row in proofs),
        tuple(row[1] for row in proofs),
        paid,
        last_slot,
        unsettled,
    )


def _reading(path: Any) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)


def build_report(
    site: Site, deployment: Deployment, hub: dict[str, Any], supervisor: Supervisor, slots: int, seconds: float
) -> dict[str, Any]:
    """The whole report; `hub` is what the first hub reported at the end."""
    counts = {item.name: agent_counts(site, item.name) for item in site.homes}
    chain = ChainFigures(site, deployment)
    proof_ms = [ms for item in counts.values() for ms in item.proof_ms]
    backends = sorted({name for item in counts.values() for name in item.backends})
    stored = sum(item.stored for item in counts.values())
    return {
        "homes": len(site.homes),
        "slots": slots,
        "seconds": round(seconds, 1),
        "readings": {
            "polled": sum(item.polled for item in counts.values()),
            "stored": stored,
            "acked": sum(item.acked for item in counts.values()),
            "lost": sum(item.lost for item in counts.values()) + hub["readings"]["lost"],
            "duplicates_ignored": hub["readings"]["duplicates_ignored"],
        },
        "energy_wh": {
            "imported": sum(item.import_wh for item in counts.values()),
            "exported": sum(item.export_wh for item in counts.values()),
            **chain.energy_wh(),
        },
        "ppdl": {
            name: hub["ppdl"][name]
            for name in (
                "validators",
                "height",
                "rounds",
                "view_changes",
                "model_hash",
                "loss_first",
                "loss_last",
                "participants",
            )
        },
        "relay": chain.relay(),
        "plasma": chain.plasma(),
        "zk": {
            "backend": ", ".join(backends),
            "transfers": chain.transfers(),
            "paying_homes": sum(item.paid > 0 for item in counts.values()),
            "prove_seconds_median": round(statistics.median(proof_ms) / 1000, 3) if proof_ms else None,
            "verify_gas": chain.verify_gas(),
        },
        "market": chain.market(),
        "inference": chain.inference(),
        "processes": {
            name: {"rss_mb": usage.rss_mb, "cpu_percent": usage.cpu_percent}
            for name, usage in ((name, child.usage()) for name, child in supervisor.children.items())
        },
    }


class ChainFigures:
    """Figures of both chains at the time of asking."""

    def __init__(self, site: Site, deployment: Deployment) -> None:
        self._plasma = EvmClient(site.plasma_url)
        self._root = EvmClient(site.root_url)
        self._contracts = deployment.plasma
        self._root_contract = deployment.root.plasma_root
        self._last = self._plasma.block_number()

    def _total(self, name: str) -> int:
        return sum(int(self._plasma.call(market.token, name)) for market in self._contracts.markets)

    def energy_wh(self) -> dict[str, int]:
        sold = bought = 0
        for market in self._contracts.markets:
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

    def _events(self, contract: Any, name: str) -> list[Any]:
        return self._plasma.events(contract, name, 0, self._last)

    def relay(self) -> dict[str, int]:
        events = self._events(self._contracts.relay, "HeadersRelayed")
        return {
            "height": self.relay_height(),
            "relayers": len({event.args["relayer"] for event in events}),
            "submissions": len(events),
        }

    def relay_height(self) -> int:
        return int(self._plasma.call(self._contracts.relay, "height"))

    def plasma(self) -> dict[str, int]:
        blocks = (self._plasma.block(number) for number in range(self._last + 1))
        return {
            "blocks": self._last,
            "transactions": sum(block.transaction_count for block in blocks),
            "deposits": int(self._plasma.call(self._contracts.bridge, "mintedCount")),
            "checkpoints": self.checkpoints(),
        }

    def checkpoints(self) -> int:
        return int(self._root.call(self._root_contract, "checkpointCount"))

    def transfers(self) -> int:
        return int(self._plasma.call(self._contracts.confidential, "transactCount"))

    def verify_gas(self) -> int | None:
        """Gas of the verifier contract for the newest private transfer, asked of the node; None before the first."""
        from workbench.demo.verify_gas import newest_transfer_verify_gas

        return newest_transfer_verify_gas(self._plasma, self._contracts, self._last)

    def market(self) -> dict[str, Any]:
        sales, purchases, carried = 0, 0, 0
        for market in self._contracts.markets:
            sold = self._events(market.exchange, "EthPurchase")
            sales += len(sold)
            purchases += len(self._events(market.exchange, "TokenPurchase"))
        if len(self._contracts.markets) > 1:
            carried = self._token_to_token()
        reserves = {
            f"MG{market.microgrid}": tuple(map(int, self._plasma.call(market.exchange, "getReserves")))
            for market in self._contracts.markets
        }
        return {
            "swaps": sales + purchases - carried,
            "token_to_token": carried,
            "price_wei_per_wh": spot_price(sum(wei for wei, _ in reserves.values()), sum(wh for _, wh in reserves.values())),
            "price_wei_per_wh_by_microgrid": {name: spot_price(wei, wh) for name, (wei, wh) in reserves.items()},
        }

    def _token_to_token(self) -> int:
        """Transactions that sold on one exchange and bought on another."""
        sellers: dict[bytes, set[bytes]] = {}
        buyers: dict[bytes, set[bytes]] = {}
        for market in self._contracts.markets:
            for event in self._events(market.exchange, "EthPurchase"):
                sellers.setdefault(event.tx_hash, set()).add(market.exchange.address)
            for event in self._events(market.exchange, "TokenPurchase"):
                buyers.setdefault(event.tx_hash, set()).add(market.exchange.address)
        return sum(bool(buyers.get(tx, set()) - exchanges) for tx, exchanges in sellers.items())

    def inference(self) -> dict[str, int]:
        names = {"requests": "requestCount", "answered": "answeredCount"}
        return {key: int(self._plasma.call(self._contracts.inference, name)) for key, name in names.items()}
