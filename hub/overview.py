"""Gathers the state of every part of the operator's hub for the console and the report.

Rules: every figure is read from the part that owns it or from the chain; a part that does not run leaves its section out.
`refresh` blocks on the chains and runs in a thread once a second; `report` gives what the last refresh found.
Not here: how it is shown (`hub.console`), the microgrids' sums and groups (`grid_view`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hub.chain.client import EvmClient
from hub.chain.errors import ChainError
from hub.console.values import MAX_SAFE_INTEGER
from hub.grid_view import GridView
from hub.ingest.registry import FEEDER, HOME
from hub.milestones import Milestones
from hub.peers import SeenPeer
from hub.plasma.operator import PlasmaOperator
from hub.ppdl.app.answers import InferenceAnswer
from hub.ppdl.app.genesis_state import AppGenesis
from hub.privacy import rows as privacy_rows
from hub.status import comparable_losses, learning_section
from openmg.clock import slot_start
from openmg.forecast.spec import PRICE
from openmg.market.uniswap import spot_price
from openmg.messages import base

if TYPE_CHECKING:
    from hub.operator_roles import OperatorRoles

log = logging.getLogger(__name__)

TRADES_SHOWN = 20
CHECKPOINTS_SHOWN = 8
HEIGHTS_KEPT = 30
BLOCK_TIMES_KEPT = 512
"""Blocks whose time is remembered for the trades shown: over eight minutes."""


class Overview:
    """The console's sections and the hub's part of the report."""

    def __init__(self, roles: OperatorRoles, operator: PlasmaOperator | None) -> None:
        self._roles = roles
        self._operator = operator
        self._board = roles.board
        self._milestones = Milestones(roles.board.event)
        self._client = roles.node.plasma_client()
        self._root = EvmClient(roles.node.config.chains.root_url) if operator else None
        self._started = int(time.time())
        self.grid = GridView(roles.board, roles.registry, roles.ingest.rosters)
        self._heights: deque[tuple[float, int]] = deque(maxlen=HEIGHTS_KEPT)
        self._checkpoints: deque[dict[str, Any]] = deque(maxlen=CHECKPOINTS_SHOWN)
        self._checkpoints_read, self._root_scanned = 0, -1
        self._block_times: deque[tuple[int, int]] = deque(maxlen=BLOCK_TIMES_KEPT)
        self._transactions = self._transfers = 0
        self._counted_to = -1
        self._report: dict[str, Any] = {}
        self._complained = ""
        others = set(roles.relays) - {roles.node.keys.envelope_public}
        plan = AppGenesis.decode(roles.node.genesis.app_state).plans[0]  # all hide updates, or none does
        self._board.put("privacy", privacy_rows(other_relay=bool(others), sums_only=plan.privacy != "none"))

    # Once a second, in a thread

    def refresh(self) -> None:
        """Read everything and put the sections on the board."""
        self._guarded("grid", self._put_grid)
        self._guarded("ppdl", self._put_ppdl)
        self._guarded("learning", self._put_learning)
        self._guarded("market", self._put_market)
        self._guarded("plasma", self._put_chains)
        self._guarded("report", self._make_report)

    def report(self) -> dict[str, Any]:
        """The hub's part of the report, as of the last refresh."""
        return self._report

    def _guarded(self, what: str, call: Any) -> None:
        try:
            call()
        except ChainError as error:
            if str(error) != self._complained:
                log.warning("console section %s: %s", what, error)
                self._complained = str(error)
        except Exception:
            log.exception("console section %s failed", what)

    def _put_grid(self) -> None:
        roles, clock = self._roles, self._roles.clock
        stats = roles.ingest.stats()
        homes = [device for device in roles.registry.by_name.values() if device.role == HOME]
        self._board.put(
            "overview",
            {
                "started_wall": self._started,
                "sim_time": int(clock.now()),
                "slot": clock.slot(),
                "slot_seconds": clock.slot_wall_seconds(),
                "homes": len(homes),
                "hubs": len(roles.node.genesis.validators),
                "speed": clock.speed,
                "phase": "quiescent" if roles.engine.status().quiescent else "running",
            },
        )
        counts = roles.store.counts()
        devices = [
            {
                "name": item.name,
                "microgrid": item.microgrid,
                "kind": item.role,
                "online": item.online,
                "last_seen_s": max(0, round(time.time() - item.last_seen)) if item.last_seen else None,
                "seq": counts.get(item.name, 0) + (item.health.outbox_rows - 1 if item.health else 0),
                "acked": counts.get(item.name, 0),
            }
            for item in roles.ingest.devices()
        ]
        self._board.put(
            "grid",
            {
                "microgrids": self.grid.sections(),
                "devices": devices,
                "readings": {
                    "stored": stats.stored,
                    "acked": stats.stored,
                    "lost": stats.lost,
                    "duplicates_ignored": stats.duplicates_ignored,
                    "failed": stats.failed,
                },
            },
        )

    def _put_ppdl(self) -> None:
        status, peers = self._roles.engine.status(), self._roles.node.peers.peers()
        self._heights.append((time.monotonic(), status.height))
        (first_at, first), (last_at, last) = self._heights[0], self._heights[-1]
        validators = [_validator(peer) for peer in peers]
        self._board.put(
            "ppdl",
            {
                "height": status.height,
                "view": status.view,
                "view_changes": status.view_changes,
                "validators": validators,
                "mempool": status.mempool,
                "block_seconds": round((last_at - first_at) / (last - first), 2) if last > first else None,
            },
        )
        self._milestones.view_changes(status.view_changes)
        contracts = self._roles.node.deployment.plasma
        relayers = [peer for peer in peers if peer.status.relay_account]
        self._board.put(
            "relay",
            {
                "height": int(self._client.call(contracts.relay, "height")),
                "ppdl_height": status.height,
                "relayers": [
                    {
                        "name": peer.status.name,
                        "address": "0x" + peer.status.relay_account.hex(),
                        "submissions": peer.status.relay_submissions,
                        "rewards_wei": str(
                            self._client.call(contracts.relay, "earned", "0x" + peer.status.relay_account.hex())
                        ),
                    }
                    for peer in relayers
                ],
            },
        )

    def _put_learning(self) -> None:
        section = learning_section(self._roles.node.query)
        if section is not None:
            self._board.put("learning", section)
            self._milestones.rounds(section["completed"], section["last_participants"], section["registered"])

    def _put_market(self) -> None:
        market = self._roles.market
        if market is None:
            return
        retail, block_times = self._roles.node.config.market.retail_wei_per_wh, dict(self._block_times)
        # One point a slot, which goes on with the price: a day at any speed of the clock fits the series.
        slot_began, pools = slot_start(self._roles.clock.slot()), market.pools
        for pool in pools:
            price = spot_price(pool.reserve_wei, pool.reserve_wh)
            if pool.reserve_wh and price <= MAX_SAFE_INTEGER:
                self._board.append(f"market.mg{pool.microgrid}.price", slot_began, price)
        self._board.put(
            "market",
            {
                "microgrids": [
                    {
                        "id": pool.microgrid,
                        "token": self._roles.node.deployment.plasma.market(pool.microgrid).token.checksum_address,
                        "exchange": self._roles.node.deployment.plasma.market(pool.microgrid).exchange.checksum_address,
                        "reserve_peth_wei": str(pool.reserve_wei),
                        "reserve_wh": pool.reserve_wh,
                        "price_wei_per_wh": spot_price(pool.reserve_wei, pool.reserve_wh),
                        "feed_in_wei_per_wh": pool.feed_in_wei_per_wh,
                        "retail_wei_per_wh": retail,
                    }
                    for pool in pools
                ],
                "energy_wh": {
                    "minted": sum(pool.minted_wh for pool in pools),
                    "sold": market.sold_wh,
                    "bought": market.bought_wh,
                    "burned": sum(pool.burned_wh for pool in pools),
                    "redeemed": sum(pool.redeemed_wh for pool in pools),
                    "expired": sum(pool.expired_wh for pool in pools),
                    "outstanding": sum(pool.outstanding_wh for pool in pools),
                },
                "swaps": market.swap_count,
                "last_trades": [
                    {
                        "t": int(self._roles.clock.at(block_times.get(swap.block, 0))),
                        "kind": swap.kind,
                        "microgrid": swap.microgrid,
                        "amount_wh": swap.amount_wh,
                        "peth_wei": str(swap.peth_wei),
                    }
                    for swap in list(market.swaps)[-TRADES_SHOWN:]
                    if swap.block in block_times
                ],
            },
        )

    def _put_chains(self) -> None:
        contracts, client = self._roles.node.deployment.plasma, self._client
        newest = client.block_number()
        for number in range(self._counted_to + 1, newest + 1):
            block = client.block(number)
            self._transactions += block.transaction_count
            self._block_times.append((number, block.timestamp))
        self._counted_to = newest
        status = self._operator.status() if self._operator else None
        self._read_checkpoints(status.checkpoints if status else 0)
        notes, market = int(client.call(contracts.confidential, "queuedCount")), self._roles.market
        transfers = self._transfers = int(client.call(contracts.confidential, "transactCount"))
        self._board.put(
            "plasma",
            {
                "chain_id": contracts.chain_id,
                "block": newest,
                "transactions": self._transactions,
                "deposits": status.minted if status else None,
                "peth_supply_wei": str(client.call(contracts.bridge, "mintedTotal")),
                "checkpoints": list(self._checkpoints),
                "checkpoint_count": status.checkpoints if status else 0,
                "notes": notes,
                "nullifiers": market.nullifiers if market else None,
                "shielded_wei": str(client.call(contracts.confidential, "shielded", "0x" + bytes(20).hex())),
                "contracts": contracts.addresses(),
            },
        )
        self._board.put("zk", {"transfers": transfers})
        requests = int(client.call(contracts.inference, "requestCount"))
        answered = int(client.call(contracts.inference, "answeredCount"))
        self._board.put("inference", {"requests": requests, "answered": answered, "last": self._last_answer(answered)})
        self._milestones.answers(answered, requests)
        if self._root is not None and status is not None:
            root = self._roles.node.deployment.root
            self._board.put(
                "root",
                {
                    "chain_id": root.chain_id,
                    "block": self._root.block_number(),
                    "deposits": status.deposits,
                    "contracts": {"PlasmaRoot": root.plasma_root.checksum_address},
                },
            )

    def _read_checkpoints(self, committed: int) -> None:
        """The newest checkpoints as the root chain has them."""
        if self._root is None or committed == self._checkpoints_read:
            return
        newest = self._root.block_number()
        contract = self._roles.node.deployment.root.plasma_root
        for event in self._root.events(contract, "CheckpointCommitted", self._root_scanned + 1, newest):
            checkpoint = event.args["checkpoint"]
            self._checkpoints.append(
                {
                    "epoch": int(checkpoint["epoch"]),
                    "first_block": int(checkpoint["firstBlock"]),
                    "last_block": int(checkpoint["lastBlock"]),
                    "block_hash": "0x" + bytes(checkpoint["blockHash"]).hex(),
                    "signatures": int(event.args["signatures"]),
                    "root_tx": "0x" + event.tx_hash.hex(),
                }
            )
        self._root_scanned, self._checkpoints_read = newest, committed
        if self._checkpoints:
            last = self._checkpoints[-1]
            self._milestones.checkpoint(last["epoch"], last["last_block"], last["signatures"])

    def _last_answer(self, answered: int) -> dict[str, Any] | None:
        contracts = self._roles.node.deployment.plasma
        place = f"{contracts.chain_id}/0x{contracts.inference.address.hex()}"
        result = self._roles.node.query(f"inference/{answered}/{place}")
        if not answered or not result.ok:
            return None
        answer = base.decode(InferenceAnswer, result.value).answer
        return {
            "id": answer.request_id,
            "microgrid": answer.microgrid,
            "as_of_slot": answer.as_of_slot,
            "model_hash": "0x" + answer.model_hash.hex(),
            "answers_wh": list(answer.answer_wh),
        }

    def _make_report(self) -> None:
        roles = self._roles
        learning, stats, engine = learning_section(roles.node.query), roles.ingest.stats(), roles.engine.status()
        homes = sum(device.role != FEEDER for device in roles.registry.by_name.values())
        others = learning["others"] if learning else []
        first, last = comparable_losses(roles.node.query, homes)
        peers = roles.node.peers.peers()
        appender, clearing = roles.node.appender, roles.node.clearing
        self._report = {
            "readings": {
                "stored": stats.stored,
                "lost": stats.lost,
                "duplicates_ignored": stats.duplicates_ignored,
                "malformed": stats.malformed,
                "failed": stats.failed,
                "groups_opened": stats.groups_opened,
                "gaps": stats.gaps,
                "left_out": stats.left_out,
            },
            "ppdl": {
                "validators": engine.validators,
                "height": engine.height,
                "mempool": engine.mempool,
                "rounds": learning["completed"] if learning else 0,
                "price_rounds": next((m["completed"] for m in others if m["quantity"] == PRICE.quantity), None),
                "voting": engine.voting,
                "stores_set_aside": engine.stores_set_aside,
                "view_changes": sum(peer.status.view_changes for peer in peers),
                "model_hash": learning["model_hash"] if learning else None,
                "loss_first": first,
                "loss_last": last,
                "participants": learning["last_participants"] if learning else 0,
                "peer_heights": {peer.status.name: peer.status.height for peer in peers},
            },
            "online": sum(device.online for device in roles.ingest.devices()),
            "transfers": self._transfers,
            "swaps": roles.market.swap_count if roles.market else 0,
            "waiting_events": roles.market.courier.waiting if roles.market else 0,
            "appender": asdict(appender.status()) if appender else None,
            "clearing": asdict(clearing.status()) if clearing else None,
        }


def _validator(peer: SeenPeer) -> dict[str, Any]:
    return {
        "name": peer.status.name,
        "address": "0x" + peer.address.hex(),
        "height": peer.status.height,
        "view": peer.status.view,
        "online": peer.online,
    }
