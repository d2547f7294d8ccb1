"""The public energy token on a chain: homes, readings that a PPDL chain agreed on, and an exchange.

Rules: time is the chain's and moves when a test says so. Not here: the private market's registry and pool (`energy_world`).
"""

from __future__ import annotations

from dataclasses import dataclass

from evm_world import ETHER, Chain, PpdlChain, key, slot_event, validator_keys

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.deploy import MeterPlan, contract_at, register_meters
from openmg.evm.eip712 import domain_separator, typed_digest
from openmg.signing import address_of, sign_digest

DEADLINE = 2**40
SLOT_MILLIS = 600_000
"""Long against the wall time of a test, so that no slot ends by itself; time is skipped, not waited for."""
FIRST_SLOT = 1_979_428
FEED_IN = 70 * 10**9
EXPORT, IMPORT = 1, 2
READING = "MeterReading(uint8 kind,address meter,uint256 slot,uint256 energyWh)"


@dataclass
class Home:
    """A home with its account and its meter's key."""

    name: str
    client: EvmClient
    device_key: bytes

    @property
    def device(self) -> bytes:
        return address_of(self.device_key)

    @property
    def address(self) -> bytes:
        return self.client.address


@dataclass
class World:
    """The contracts of microgrid 1 and who acts on them."""

    chain: Chain
    ppdl: PpdlChain
    operator: EvmClient
    utility: EvmClient
    relay: Contract
    registry: Contract
    token: Contract
    microgrid: int = 1

    def home(self, name: str, export_wh: int = 2_000, import_wh: int = 3_000, microgrid: int = 1) -> Home:
        home = Home(name, self.chain.client(name), key("device of " + name))
        self.chain.give(home.address, 10 * ETHER)
        plan = MeterPlan(home.device, home.address, microgrid, FIRST_SLOT, export_wh, import_wh)
        register_meters(self.operator, self.utility, self.registry, [plan])
        return home

    def slot(self) -> int:
        return int(self.operator.call(self.registry, "currentSlot"))

    def next_slot(self, slots: int = 1) -> int:
        self.chain.skip(slots * int(self.operator.call(self.registry, "slotWallMillis")) // 1000)
        return self.slot()

    def record(self, slot: int, import_wh: int, export_wh: int, microgrid: int = 1, members: int = 6) -> None:
        """A PPDL block with the slot's event, relayed and recorded."""
        event = slot_event(microgrid, slot, members, import_wh, export_wh)
        self.ppdl.extend([event])
        height = len(self.ppdl.headers)
        self.ppdl.extend()
        self.ppdl.relay(self.operator, self.relay, height, height + 1)
        proof = self.ppdl.proof(height, [event], 0)
        self.operator.transact(self.registry, "recordSlot", (microgrid, slot, members, import_wh, export_wh), proof)

    def sign(self, home: Home, kind: int, slot: int, energy_wh: int) -> bytes:
        domain = domain_separator("OpenMG EnergyToken", "1", self.operator.chain_id(), self.token.address)
        return sign_digest(home.device_key, typed_digest(domain, READING, kind, home.device, slot, energy_wh))

    def mint(self, home: Home, slot: int, wh: int) -> None:
        signature = self.sign(home, EXPORT, slot, wh)
        home.client.transact(self.token, "mint", home.device, slot, wh, signature)

    def burn(self, home: Home, slot: int, amount_wh: int, import_wh: int) -> None:
        signature = self.sign(home, IMPORT, slot, import_wh)
        home.client.transact(self.token, "burn", home.device, slot, amount_wh, import_wh, signature)

    def balance(self, account: bytes) -> int:
        return int(self.operator.call(self.token, "balanceOf", account))

    def supply_is_accounted_for(self) -> bool:
        read = lambda name: int(self.operator.call(self.token, name))  # noqa: E731
        gone = read("totalBurned") + read("totalRedeemed") + read("totalExpired")
        return read("totalMinted") == gone + read("totalSupply")


def create(client: EvmClient, name: str, *args: object) -> Contract:
    contract, tx_hash = client.create(load_artifact(name), *args)
    client.wait(tx_hash)
    return contract


def new_world(chain: Chain) -> World:
    """Contracts with four validators, an operator and a utility; no homes."""
    ppdl = PpdlChain(validator_keys(4))
    operator, utility = chain.client("operator"), chain.client("utility")
    chain.give(utility.address, 100 * ETHER)
    members = [address_of(k) for k in ppdl.keys]
    relay = create(operator, "PpdlRelay", 770_077, ppdl.last_hash, members, 0, 10**9)
    now_ms = operator.block("latest").timestamp * 1000
    clock = (FIRST_SLOT, now_ms, SLOT_MILLIS)
    registry = create(operator, "MeterRegistry", operator.address, utility.address, relay.address, *clock)
    token = create(operator, "EnergyToken", "Energy", "MG1", registry.address, 1, FEED_IN)
    return World(chain, ppdl, operator, utility, relay, registry, token)


def open_exchange(world: World, provider: Home, tokens: int, wei: int) -> Contract:
    factory = create(world.operator, "ExchangeFactory")
    world.operator.transact(factory, "createExchange", world.token.address)
    exchange = contract_at("Exchange", world.operator.call(factory, "getExchange", world.token.address))
    world.utility.transact(world.registry, "registerExchange", exchange.address)
    provider.client.transact(world.token, "approve", exchange.address, 2**256 - 1)
    provider.client.transact(exchange, "addLiquidity", 0, tokens, DEADLINE, value=wei)
    return exchange


# ---- registry ---------------------------------------------------------------------------------------------------


def world_home(world: World, home: Home) -> Home:
    """The same home with a client that knows nothing of taken back transactions."""
    return Home(home.name, world.chain.client(home.name), home.device_key)
