"""The registry of the private market on a chain, and a pool whose batches are only numbers.

Rules: time is the chain's and moves when a test says so; slots are agreed on a PPDL chain that is built by hand (`evm_world`).
Not here: orders with proofs (`tests/edge_market/trade_world.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evm_world import ETHER, GENESIS_HASH, PPDL_CHAIN_ID, Chain, PpdlChain, validator_keys
from pool_world import create

from hub.chain.client import Contract, EvmClient
from openmg.hashing import keccak256, words
from openmg.market.calendar import Calendar
from openmg.market.collar import Collar
from openmg.signing import address_of

MICROGRID = 7
SLOT_SECONDS = 600
SLOT = 20_000 * 96 + 40
CALENDAR = Calendar(36, 28, bytes([0] * 9 + [1] * 12 + [0] * 3))
"""Nine hours before UTC, band 1 from 9 to 21 o'clock."""
KEY = CALENDAR.key_of(SLOT)
OPEN = 2**32 - 1
SLOT_ROOT_TAG = keccak256(b"openmg.event.slotroot.v1")

Leaf = tuple[int, int, bytes, int, int, int, int, int]
Closing = tuple[int, int]
"""Index of the leaf, first slot that no longer counts."""


def leaf(name: str = "ada", **changed: Any) -> Leaf:
    """A registration of that name's meter, from the next slot on."""
    number = int.from_bytes(keccak256(name.encode())) >> 8
    fields = {"meter_id": number, "public_key": number + 1, "number": keccak256(name.encode())}
    fields |= {"cap_export_wh": 1_500, "cap_import_wh": 4_000, "microgrid": MICROGRID, "from_slot": SLOT + 1, "to_slot": OPEN}
    assert changed.keys() <= fields.keys()
    return tuple((fields | changed).values())  # type: ignore[return-value]


@dataclass
class RegistryWorld:
    """A registry whose chain is in SLOT."""

    chain: Chain
    operator: EvmClient
    utility: EvmClient
    relay: Contract
    registry: Contract
    ppdl: PpdlChain
    genesis: int
    """Time at which SLOT began."""

    def change(self, added: list[Leaf], closed: list[Closing] | None = None, root: int = 11) -> None:
        """Both roles agree."""
        self.operator.transact(self.registry, "propose", added, closed or [], root)
        self.utility.transact(self.registry, "approve", added, closed or [], root)

    def read(self, function: str, *arguments: int) -> Any:
        return self.operator.call(self.registry, function, *arguments)

    def to_slot(self, slot: int) -> None:
        """The first second of the slot."""
        self.chain.skip(self.genesis + (slot - SLOT) * SLOT_SECONDS - self.operator.block("latest").timestamp)
        assert self.read("currentSlot") == slot

    def agreed(self, slot: int, root: int, leaves: int = 3, microgrid: int = MICROGRID) -> tuple[tuple[int, ...], Any]:
        """A slot root that the PPDL chain agreed on and the relay knows: the struct and its proof."""
        event = words(SLOT_ROOT_TAG, PPDL_CHAIN_ID, microgrid, slot, root, leaves)
        self.ppdl.extend([event])
        self.ppdl.extend()
        height = len(self.ppdl.headers)
        self.ppdl.relay(self.operator, self.relay, height - 1, height)
        return (microgrid, slot, root, leaves), self.ppdl.proof(height - 1, [event], 0)


def new_registry(chain: Chain, slot: int = SLOT, slot_millis: int = SLOT_SECONDS * 1000) -> RegistryWorld:
    """A registry that begins in that slot."""
    operator, utility = chain.client("registry operator"), chain.client("registry utility")
    for role in (operator, utility):
        chain.give(role.address, 1_000 * ETHER)
    ppdl = PpdlChain(validator_keys(4))
    members = ["0x" + address_of(key).hex() for key in ppdl.keys]
    relay = create(operator, "PpdlRelay", PPDL_CHAIN_ID, GENESIS_HASH, members, 0, 2**62)
    genesis = operator.block("latest").timestamp
    clock, calendar = (slot, genesis * 1000, slot_millis), (CALENDAR.utc_offset_slots, 28, CALENDAR.band_of_hour)
    registry = create(operator, "EnergyRegistry", operator.address, utility.address, relay.address, clock, calendar)
    return RegistryWorld(chain, operator, utility, relay, registry, ppdl, genesis)


def new_pool(world: RegistryWorld, collar: Collar, escrow_wei: int) -> Contract:
    """A pool of that collar; `trade` offers, clears and settles a batch at once."""
    limits = collar.floor_wei_per_wh, collar.cap_wei_per_wh
    pool = create(world.operator, "testing/CurveHarness", world.registry.address, *limits)
    world.utility.transact(pool, "fund", value=escrow_wei)
    return pool
