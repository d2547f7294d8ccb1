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
from openmg.zk.meters import LOT_WH
from workbench.demo.markets import Market, PrivateMarket, PublicMarket
from workbench.demo.site import Site
from workbench.supervisor import Supervisor

HTTP_SECONDS = 5.0
_PRIVATE_TRADE = """
SELECT COALESCE(SUM(export_wh * minted), 0), COUNT(*) - COALESCE(SUM(minted), 0) + (SELECT COUNT(*) FROM market_calls),
    COALESCE(SUM(import_wh >= ?), 0)
FROM market_slots WHERE slot >= ?
"""
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class PrivateCounts:
    """What a home's own journal says of the private market."""

    minted_wh: int = 0
    """Exports that were minted."""
    untraded: int = 0
    """Slots still to be minted, and calls of which no effect was seen."""
    buying_slots: int = 0
    """Slots in which at least a lot was imported."""


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
    private: PrivateCounts


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
            (slot_of(site.options.start),),
        ).fetchone()
        (last_slot,) = db.execute("SELECT COALESCE(MAX(slot), 0) FROM slots WHERE seq IS NOT NULL").fetchone()
    proofs: list[tuple[int, str]] = []
    paid = unsettled = 0
    private = PrivateCounts()
    if (state / "wallet.sqlite").exists():
        with closing(_reading(state / "wallet.sqlite")) as db:
            proofs = db.execute("SELECT prove_ms, backend FROM payments WHERE prove_ms IS NOT NULL").fetchall()
            (paid,) = db.execute("SELECT COUNT(*) FROM payments WHERE state = ?", (PaymentState.DONE,)).fetchone()
            (unsettled,) = db.execute("SELECT (SELECT COUNT(*) FROM due_slots) + (SELECT COUNT(*) FROM envelope)").fetchone()
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'market_slots'").fetchone():
                private = PrivateCounts(*db.execute(_PRIVATE_TRADE, (LOT_WH, slot_of(site.options.start))).fetchone())
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
        private,
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
    # On the private market nobody but the homes knows what was minted, and which slots allowed a purchase.
    private = [item.private for item in counts.values()]
    minted = {"minted": sum(item.minted_wh for item in private)} if site.options.private else {}
    buying = {"buying_slots": sum(item.buying_slots for item in private)} if site.options.private else {}
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
        "sums": {name: hub["readings"][name] for name in ("groups_opened", "left_out", "gaps")},
        "energy_wh": {
            "imported": sum(item.import_wh for item in counts.values()),
            "exported": sum(item.export_wh for item in counts.values()),
            **minted,
            **chain.market.energy_wh(),
        },
        "ppdl": {
            name: hub["ppdl"][name]
            for name in (
                "validators",
                "height",
                "rounds",
                "price_rounds",
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
        "market": {**chain.market.figures(), **buying},
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
        kind = PrivateMarket if site.options.private else PublicMarket
        self.market: Market = kind(self._plasma, self._contracts, self._last)

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

    def inference(self) -> dict[str, int]:
        names = {"requests": "requestCount", "answered": "answeredCount"}
        return {key: int(self._plasma.call(self._contracts.inference, name)) for key, name in names.items()}
