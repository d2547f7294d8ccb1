"""The plasma contracts on a real chain beside a real PPDL application whose headers a light client takes.

Rules: headers and seals are written by hand (`evm_world.PpdlChain`), but what they commit to is the application's own
hash, so that an event is proved exactly as on a hub.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import app_world
from evm_world import ETHER, Chain, PpdlChain, key, validator_keys
from plasma_world import FIRST_SLOT, plasma_plan

from hub.chain.anvil import DEVELOPMENT_KEY, AnvilNode
from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaContracts, deploy_plasma
from hub.market.courier import EventCourier
from hub.market.view import ChainView
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.application import BlockResult, QueryResult

GROUP_IMPORT_WH = sum(100 + i for i in range(6))
GROUP_EXPORT_WH = sum(range(6))
"""What `app_world.slot_tx` reports for the six meters of microgrid 1."""


def deploy(chain: Chain) -> PlasmaContracts:
    chain.give(chain.client("utility").address, 100 * ETHER)
    plan = plasma_plan(chain, PpdlChain(validator_keys(4)), microgrids=(1, 2))
    return deploy_plasma(chain.client(DEVELOPMENT_KEY), chain.client("operator"), chain.client("utility"), plan)


@dataclass
class MarketWorld:
    node: AnvilNode
    chain: Chain
    contracts: PlasmaContracts
    app: PpdlApplication
    ppdl: PpdlChain = field(default_factory=lambda: PpdlChain(validator_keys(4)))
    relayed: int = 0

    def __post_init__(self) -> None:
        self.client = self.chain.client("anybody")

    def query(self, path: str) -> QueryResult:
        return self.app.query(path, b"")

    def courier(self, name: str = "courier", **options: float) -> EventCourier:
        client = EvmClient(self.chain.url, key(name), **options)  # type: ignore[arg-type]
        return EventCourier(client, self.contracts, self.query)

    def view(self) -> ChainView:
        return ChainView(EvmClient(self.chain.url), self.contracts)

    def decide(self, *txs: bytes) -> tuple[int, BlockResult]:
        """The next PPDL block, executed, with its header; every transaction must be taken."""
        result = app_world.block(self.app, txs)
        assert all(item.ok for item in result.tx_results), result.tx_results
        self.ppdl.extend(list(result.events))
        self.ppdl.app_hash = result.app_hash
        return len(self.ppdl.headers), result

    def decide_slot(self, courier: EventCourier, slot: int = FIRST_SLOT) -> int:
        """A block with a whole group's slot, heard by the courier as a hub's courier hears it."""
        height, result = self.decide(app_world.slot_tx(slot))
        courier.on_block(height, result.events)
        return height

    def relay(self) -> None:
        """Bring every header to the light client."""
        last = len(self.ppdl.headers)
        self.ppdl.relay(self.client, self.contracts.relay, self.relayed + 1, last)
        self.relayed = last

    def settle(self) -> None:
        """Wait until the node has mined what was sent to it."""
        deadline = time.monotonic() + 10
        while int(self.client.rpc("txpool_status")["pending"], 16):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def recorded(self) -> list[tuple[int, ...]]:
        """(microgrid, slot, members, import_wh, export_wh) in the order of recording."""
        self.settle()
        events = self.client.events(self.contracts.registry, "SlotRecorded", 0, self.client.block_number())
        return [tuple(int(value) for value in event.args.values()) for event in events]

    def rooted(self) -> list[tuple[int, ...]]:
        """(microgrid, slot, root, leaves) in the order of recording."""
        self.settle()
        events = self.client.events(self.contracts.energy_registry, "SlotRootRecorded", 0, self.client.block_number())
        return [tuple(int(value) for value in event.args.values()) for event in events]

    def sent(self, name: str) -> int:
        """Transactions that an account ever sent."""
        self.settle()
        address = self.chain.client(name).address
        return self.client.rpc_int("eth_getTransactionCount", "0x" + address.hex(), "latest")
