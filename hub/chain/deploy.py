"""Puts the contracts on the two chains and says where they are.

Rules: all creations of a chain are sent at once with known nonces, then awaited; each must succeed. Outside demonstrations
the verifiers must hold the ceremonies' keys before the token is told of them. On the plasma chain the last act of the
genesis account is to give the bridge everything that it owns, so that PETH circulates only by deposits.
What a contract is told here (roles, validators, prices, clock) comes from the caller; nothing is invented.
Not here: the node (`hub.chain.anvil`), who is registered (`hub.chain.energy_leaves`), what the roles do afterwards
(`hub.plasma`, `hub.relay`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient, Receipt
from hub.chain.errors import DeploymentError
from hub.chain.verifiers import CIRCUITS, UntrustedKeys, contract_name, require_ceremony_keys

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
    """The markets of one microgrid: the public token with its exchange, and the private pool."""

    microgrid: int
    token: Contract
    exchange: Contract
    pool: Contract


@dataclass(frozen=True)
class PlasmaContracts:
    """Contracts on the plasma chain; `verifiers` in the order of `CIRCUITS`."""

    chain_id: int
    bridge: Contract
    confidential: Contract
    registry: Contract
    relay: Contract
    factory: Contract
    inference: Contract
    verifier_set: Contract
    verifiers: tuple[Contract, ...]
    energy_registry: Contract
    markets: tuple[EnergyMarket, ...]
    bonds: Contract

    def market(self, microgrid: int) -> EnergyMarket:
        """The market of a microgrid; DeploymentError when it has none."""
        for market in self.markets:
            if market.microgrid == microgrid:
                return market
        raise DeploymentError(f"microgrid {microgrid} has no energy token; it was not deployed")

    def verifier(self, circuit: str) -> Contract:
        """The verifier of a circuit; ValueError for a circuit that no contract verifies."""
        return self.verifiers[CIRCUITS.index(circuit)]

    def addresses(self) -> dict[str, str]:
        """Checksummed addresses by name, for endpoint files and the console."""
        named = {
            "PethBridge": self.bridge,
            "ConfidentialToken": self.confidential,
            "MeterRegistry": self.registry,
            "PpdlRelay": self.relay,
            "SealBonds": self.bonds,
            "ExchangeFactory": self.factory,
            "Inference": self.inference,
            "VerifierSet": self.verifier_set,
            "EnergyRegistry": self.energy_registry,
        }
        named |= {verifier.name: verifier for verifier in self.verifiers}
        for market in self.markets:
            named[f"EnergyToken{market.microgrid}"] = market.token
            named[f"Exchange{market.microgrid}"] = market.exchange
            named[f"EnergyPool{market.microgrid}"] = market.pool
        return {name: contract.checksum_address for name, contract in named.items()}


@dataclass(frozen=True)
class SlotClock:
    """How the plasma chain counts slots: `slot` began at wall time `millis`, and a slot lasts `wall_millis`."""

    slot: int
    millis: int
    wall_millis: int


@dataclass(frozen=True)
class Calendar:
    """How slots make days, bands and periods: offset of local time in slots, days of a period, the band of each hour."""

    utc_offset_slots: int = 0
    period_days: int = 28
    band_of_hour: tuple[int, ...] = (0,) * 24

    def as_abi(self) -> tuple[int, int, bytes]:
        """The `Calendar` struct of the energy registry."""
        return self.utc_offset_slots, self.period_days, bytes(self.band_of_hour)


@dataclass(frozen=True)
class RelayPlan:
    """An account that may submit proofs that pay nothing out, and how many in an epoch of the token."""

    account: bytes
    quota_per_epoch: int


@dataclass(frozen=True)
class PrivatePlan:
    """What the token of notes and the private market are told.

    `verifying_keys`: by circuit the digest that its ceremony printed; None takes development keys, for a demonstration.
    """

    epoch_seconds: int
    floor_wei_per_wh: int
    cap_wei_per_wh: int
    relays: tuple[RelayPlan, ...]
    verifying_keys: Mapping[str, bytes] | None
    calendar: Calendar = Calendar()
    exit_window_seconds: int = 7 * 86_400
    verifier_delay_seconds: int = 14 * 86_400


@dataclass(frozen=True)
class PlasmaPlan:
    """What the plasma contracts are told. Addresses and hashes are bytes; validators of PPDL in ascending order.

    `relay_turns`: accounts that take turns at the relay; none means that all compete at once. The operator is its guardian.
    """

    operator: bytes
    utility: bytes
    ppdl_chain_id: int
    ppdl_genesis_hash: bytes
    ppdl_validators: tuple[bytes, ...]
    clock: SlotClock
    microgrids: tuple[int, ...]
    feed_in_wei_per_wh: int
    private: PrivatePlan
    relay_reward_wei: int = 0
    relay_max_drift_ms: int = 60_000
    relay_turns: tuple[bytes, ...] = ()
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


def deploy_plasma(client: EvmClient, operator: EvmClient, utility: EvmClient, plan: PlasmaPlan) -> PlasmaContracts:
    """Put all contracts on the plasma chain and empty the deploying account into the bridge.

    `client` signs as the genesis account; `operator` as the operator, the guardian of the token, who registers markets and
    relays; `utility` as the utility, who approves the exchanges.
    """
    if utility.address != plan.utility or operator.address != plan.operator:
        raise DeploymentError("a client does not sign for the plan's operator or utility; give each role its own key")
    batch = _Batch(client)
    verifiers = _create_verifiers(batch, plan.private)
    libraries = {name: batch.create(name).address for name in _libraries("ConfidentialToken", "EnergyPool", "EnergyRegistry")}
    seconds = plan.private.exit_window_seconds, plan.private.verifier_delay_seconds
    verifier_set = batch.create("VerifierSet", plan.operator, *seconds, [verifier.address for verifier in verifiers])
    epoch_seconds = plan.private.epoch_seconds
    confidential = batch.create("ConfidentialToken", plan.operator, verifier_set.address, epoch_seconds, libraries=libraries)
    relay = batch.create(
        "PpdlRelay",
        plan.ppdl_chain_id,
        plan.ppdl_genesis_hash,
        sorted(plan.ppdl_validators),
        plan.relay_reward_wei,
        plan.relay_max_drift_ms,
    )
    bonds = batch.create("SealBonds", relay.address)
    batch.send(relay, "setGuardian", plan.operator)
    clock = plan.clock.slot, plan.clock.millis, plan.clock.wall_millis
    registry = batch.create("MeterRegistry", plan.operator, plan.utility, relay.address, *clock)
    calendar = plan.private.calendar.as_abi()
    energy_registry = batch.create(
        "EnergyRegistry", plan.operator, plan.utility, relay.address, clock, calendar, libraries=libraries
    )
    factory = batch.create("ExchangeFactory")
    inference = batch.create("Inference", relay.address, plan.inference_min_fee_wei, plan.inference_answer_seconds)
    tokens = [_create_token(batch, registry, plan, microgrid) for microgrid in plan.microgrids]
    places = confidential.address, verifier_set.address, energy_registry.address
    limits = plan.private.floor_wei_per_wh, plan.private.cap_wei_per_wh
    pools = [batch.create("EnergyPool", *places, microgrid, *limits, libraries=libraries) for microgrid in plan.microgrids]
    for token in tokens:
        batch.send(factory, "createExchange", token.address, gas=DEPLOY_GAS)
    batch.finish()
    bridge = batch.create("PethBridge", plan.operator, value=_spendable(client))
    batch.finish()
    exchanges = _open_exchanges(client, utility, factory, registry, tokens)
    _admit(operator, confidential, dict(zip(plan.microgrids, pools, strict=True)), plan.private.relays)
    if plan.relay_turns:
        operator.transact(relay, "setRelayers", list(plan.relay_turns))
    markets = tuple(EnergyMarket(*market) for market in zip(plan.microgrids, tokens, exchanges, pools, strict=True))
    return PlasmaContracts(
        client.chain_id(),
        bridge,
        confidential,
        registry,
        relay,
        factory,
        inference,
        verifier_set,
        verifiers,
        energy_registry,
        markets,
        bonds,
    )


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


def _libraries(*contracts: str) -> list[str]:
    """Names of the libraries that these contracts are linked to."""
    return sorted({library.name for name in contracts for library in load_artifact(name).libraries})


def _create_verifiers(batch: _Batch, plan: PrivatePlan) -> tuple[Contract, ...]:
    """The verifiers in the order of their numbers; DeploymentError when one holds another key than its ceremony made."""
    verifiers = tuple(batch.create(contract_name(circuit)) for circuit in CIRCUITS)
    if plan.verifying_keys is not None:
        batch.finish()
        try:
            require_ceremony_keys(batch.client, verifiers, plan.verifying_keys)
        except UntrustedKeys as error:
            raise DeploymentError(f"nothing else was deployed: {error}") from error
    return verifiers


def _open_exchanges(
    client: EvmClient, utility: EvmClient, factory: Contract, registry: Contract, tokens: Sequence[Contract]
) -> list[Contract]:
    """The utility approves the exchange of every token."""
    batch = _Batch(utility)
    exchanges = [contract_at("Exchange", client.call(factory, "getExchange", token.address)) for token in tokens]
    for exchange in exchanges:
        batch.send(registry, "registerExchange", exchange.address)
    batch.finish()
    return exchanges


def _admit(operator: EvmClient, confidential: Contract, pools: Mapping[int, Contract], relays: Sequence[RelayPlan]) -> None:
    """The guardian tells the token of its markets, by microgrid, and of the relays that need no fee."""
    batch = _Batch(operator)
    for microgrid, pool in pools.items():
        batch.send(confidential, "registerMarket", microgrid, pool.address)
    for relay in relays:
        batch.send(confidential, "setRelay", relay.account, relay.quota_per_epoch)
    batch.finish()


def _spendable(client: EvmClient) -> int:
    """All that the account owns; on a chain with free gas nothing has to stay behind."""
    if not client.free_gas:
        raise DeploymentError("the plasma chain must have free gas, or PETH would be burnt as fees")
    return client.balance(client.address)
