"""Puts the contracts on the two chains and says where they are.

Rules: all creations of a chain are sent at once with known nonces, then awaited; each must succeed. On the plasma chain
the last act is to give the bridge everything that the genesis account owns, so that PETH circulates only by deposits.
What a contract is told here (roles, validators, prices, clock) comes from the caller; nothing is invented.
Not here: the node (`hub.chain.anvil`), what the roles do afterwards (`hub.plasma`, `hub.relay`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient, Receipt
from hub.chain.errors import DeploymentError

DEPLOY_GAS = 12_000_000
"""Above any creation here; five fit in a block."""
CALL_GAS = 1_000_000
METERS_PER_CALL = 20
"""A registration writes about ten words; twenty stay below a tenth of a block."""


@dataclass(frozen=True)
class RootContracts:
    """Contracts on the root chain."""

    chain_id: int
    plasma_root: Contract


@dataclass(frozen=True)
class EnergyMarket:
    """The energy token of a microgrid and its exchange."""

    microgrid: int
    token: Contract
    exchange: Contract


@dataclass(frozen=True)
class PlasmaContracts:
    """Contracts on the plasma chain."""

    chain_id: int
    bridge: Contract
    confidential: Contract
    registry: Contract
    relay: Contract
    factory: Contract
    inference: Contract
    verifier: Contract
    markets: tuple[EnergyMarket, ...]

    def market(self, microgrid: int) -> EnergyMarket:
        """The market of a microgrid; DeploymentError when it has none."""
        for market in self.markets:
            if market.microgrid == microgrid:
                return market
        raise DeploymentError(f"microgrid {microgrid} has no energy token; it was not deployed")

    def addresses(self) -> dict[str, str]:
        """Checksummed addresses by name, for endpoint files and the console."""
        named = {
            "PethBridge": self.bridge,
            "ConfidentialToken": self.confidential,
            "MeterRegistry": self.registry,
            "PpdlRelay": self.relay,
            "ExchangeFactory": self.factory,
            "Inference": self.inference,
            "TransferVerifier": self.verifier,
        }
        for market in self.markets:
            named[f"EnergyToken{market.microgrid}"] = market.token
            named[f"Exchange{market.microgrid}"] = market.exchange
        return {name: contract.checksum_address for name, contract in named.items()}


@dataclass(frozen=True)
class SlotClock:
    """How the plasma chain counts slots: `slot` began at wall time `millis`, and a slot lasts `wall_millis`."""

    slot: int
    millis: int
    wall_millis: int


@dataclass(frozen=True)
class PlasmaPlan:
    """What the plasma contracts are told. Addresses and hashes are bytes; validators of PPDL in ascending order."""

    operator: bytes
    utility: bytes
    ppdl_chain_id: int
    ppdl_genesis_hash: bytes
    ppdl_validators: tuple[bytes, ...]
    clock: SlotClock
    microgrids: tuple[int, ...]
    feed_in_wei_per_wh: int
    relay_reward_wei: int = 0
    relay_max_drift_ms: int = 60_000
    inference_min_fee_wei: int = 0
    inference_answer_seconds: int = 3_600


@dataclass(frozen=True)
class MeterPlan:
    """One registration; 20-byte addresses, capacities in Wh per slot."""

    device: bytes
    owner: bytes
    microgrid: int
    from_slot: int
    cap_export_wh: int
    cap_import_wh: int

    def as_abi(self) -> tuple[bytes, bytes, int, int, int, int, bool]:
        """The `Meter` struct of the registry."""
        capacities = (self.cap_export_wh, self.cap_import_wh)
        return self.device, self.owner, self.microgrid, self.from_slot, *capacities, True


@dataclass
class _Batch:
    """Creations and calls sent but not awaited yet."""

    client: EvmClient
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    def create(self, name: str, *args: object, libraries: Mapping[str, bytes] | None = None, value: int = 0) -> Contract:
        contract, tx_hash = self.client.create(load_artifact(name), *args, libraries=libraries, value=value, gas=DEPLOY_GAS)
        self.sent.append((f"creation of {name}", tx_hash))
        return contract

    def send(self, contract: Contract, function: str, *args: object, gas: int = CALL_GAS) -> None:
        self.sent.append((f"{contract.name}.{function}", self.client.send(contract, function, *args, gas=gas)))

    def finish(self) -> list[Receipt]:
        receipts = [self.client.wait(tx_hash, where=where) for where, tx_hash in self.sent]
        self.sent.clear()
        return receipts


def deploy_root(client: EvmClient, plasma_chain_id: int, validators: Sequence[bytes]) -> RootContracts:
    """Put `PlasmaRoot` on the root chain; validators are those of the plasma chain, in any order."""
    batch = _Batch(client)
    root = batch.create("PlasmaRoot", plasma_chain_id, sorted(validators))
    batch.finish()
    return RootContracts(client.chain_id(), root)


def deploy_plasma(client: EvmClient, utility: EvmClient, plan: PlasmaPlan) -> PlasmaContracts:
    """Put all contracts on the plasma chain and empty the deploying account into the bridge.

    `client` signs as the genesis account, `utility` as the utility (it approves the exchanges).
    """
    if utility.address != plan.utility:
        raise DeploymentError("the utility's client does not sign for the plan's utility; give its own key")
    batch = _Batch(client)
    libraries = {name: batch.create(name).address for name in ("PoseidonT3", "PoseidonT4")}
    verifier = batch.create("TransferVerifier")
    confidential = batch.create("ConfidentialToken", plan.operator, verifier.address, libraries=libraries)
    relay = batch.create(
        "PpdlRelay",
        plan.ppdl_chain_id,
        plan.ppdl_genesis_hash,
        sorted(plan.ppdl_validators),
        plan.relay_reward_wei,
        plan.relay_max_drift_ms,
    )
    registry = batch.create(
        "MeterRegistry",
        plan.operator,
        plan.utility,
        relay.address,
        plan.clock.slot,
        plan.clock.millis,
        plan.clock.wall_millis,
    )
    factory = batch.create("ExchangeFactory")
    inference = batch.create("Inference", relay.address, plan.inference_min_fee_wei, plan.inference_answer_seconds)
    tokens = [_create_token(batch, registry, plan, microgrid) for microgrid in plan.microgrids]
    for token in tokens:
        batch.send(factory, "createExchange", token.address, gas=DEPLOY_GAS)
    batch.finish()
    bridge = batch.create("PethBridge", plan.operator, value=_spendable(client))
    batch.finish()
    markets = _open_markets(client, utility, factory, registry, plan.microgrids, tokens)
    return PlasmaContracts(client.chain_id(), bridge, confidential, registry, relay, factory, inference, verifier, markets)


def register_meters(operator: EvmClient, utility: EvmClient, registry: Contract, meters: Sequence[MeterPlan]) -> None:
    """The operator proposes the meters and the utility approves them."""
    for start in range(0, len(meters), METERS_PER_CALL):
        chunk = [meter.as_abi() for meter in meters[start : start + METERS_PER_CALL]]
        operator.transact(registry, "proposeMeters", chunk)
        utility.transact(registry, "approveMeters", chunk)


def contract_at(name: str, address: str | bytes) -> Contract:
    """A deployed contract by its artifact's name and its address (20 bytes or hex)."""
    raw = address if isinstance(address, bytes) else bytes.fromhex(address.removeprefix("0x"))
    if len(raw) != 20:
        raise DeploymentError(f"the address of {name} has {len(raw)} bytes; an address has 20")
    return Contract(name, raw, load_artifact(name).abi)


def _create_token(batch: _Batch, registry: Contract, plan: PlasmaPlan, microgrid: int) -> Contract:
    name, symbol = f"Energy of microgrid {microgrid}", f"MG{microgrid}"
    return batch.create("EnergyToken", name, symbol, registry.address, microgrid, plan.feed_in_wei_per_wh)


def _open_markets(
    client: EvmClient,
    utility: EvmClient,
    factory: Contract,
    registry: Contract,
    microgrids: Sequence[int],
    tokens: Sequence[Contract],
) -> tuple[EnergyMarket, ...]:
    batch, markets = _Batch(utility), []
    for microgrid, token in zip(microgrids, tokens, strict=True):
        exchange = contract_at("Exchange", client.call(factory, "getExchange", token.address))
        batch.send(registry, "registerExchange", exchange.address)
        markets.append(EnergyMarket(microgrid, token, exchange))
    batch.finish()
    return tuple(markets)


def _spendable(client: EvmClient) -> int:
    """All that the account owns; on a chain with free gas nothing has to stay behind."""
    if not client.free_gas:
        raise DeploymentError("the plasma chain must have free gas, or PETH would be burnt as fees")
    return client.balance(client.address)
