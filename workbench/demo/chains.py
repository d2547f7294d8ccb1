"""The demo's two EVM chains: contracts deployed, meters registered, deposits made on the root chain.

Rules: PETH circulates only by deposits on the root chain, so everybody who needs some is a recipient of one: homes, hubs,
relayers' fund, the utility's escrow. The root chain's development account pays, as an owner's exchange would.
"""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from hub.chain.anvil import DEVELOPMENT_KEY
from hub.chain.client import EvmClient
from hub.chain.deploy import (
    Calendar,
    MeterPlan,
    PlasmaContracts,
    PlasmaPlan,
    PrivatePlan,
    RelayPlan,
    RootContracts,
    SlotClock,
    deploy_plasma,
    deploy_root,
    register_meters,
)
from hub.chain.deployment import Deployment
from hub.chain.energy_leaves import OPEN_END, MeterLeaf, register_leaves
from hub.keys import HubKeys
from hub.ppdl.genesis import Genesis
from openmg.clock import VirtualClock, slot_of
from openmg.hashing import keccak256
from openmg.signing import address_of
from openmg.zk.meters import RegistryLeaf, meter_id
from workbench.demo.options import DemoOptions
from workbench.demo.site import (
    DEPOSIT_WEI,
    ENVELOPE_RELAYS,
    FEED_IN_WEI_PER_WH,
    GRID_FEE_WEI_PER_WH,
    PERIOD_DAYS,
    PLASMA_CHAIN_ID,
    RETAIL_WEI_PER_WH,
    UTC_OFFSET_SLOTS,
    WEI,
    Site,
)

SLOTS_BEFORE_START = 100
"""The contracts' slot count begins so many slots before the demo does, because its start lies ahead when they are deployed."""
RELAY_REWARD_WEI = 10**12
RELAY_FUND_WEI = WEI
ESCROW_WEI = WEI
INFERENCE_FEE_WEI = 10**14
OPERATOR_ROOT_WEI = 10 * WEI
OPERATOR_DEPOSIT_WEI = 20 * WEI
MAX_EPOCH_SECONDS = 2
"""Notes wait for an epoch's end to enter the tree; a demo has seconds for what takes a quarter of an hour elsewhere."""
PROVIDED_WEI = WEI // 100
PROVIDED_DAYS = 3
"""What the utility brings to each private pool for a day, enough for some 300 kWh, and for how many days of a demo."""
RELAY_QUOTA = 4_096
"""Calls that pay nothing out, in an epoch: above all that a demo's homes can send."""
REGISTRATION_SECONDS = 4.0
"""Within which meters are registered on a busy machine; a leaf that would be in force by then is refused."""


class Deployed(NamedTuple):
    """What stands on both chains, and the slot from which the meters are registered."""

    deployment: Deployment
    first_slot: int


def deploy(site: Site, genesis: Genesis, w0: float) -> Deployed:
    """Contracts on both chains and every meter registered; writes the deployment file."""
    root_contracts = _deploy_root(site)
    plasma = EvmClient(site.plasma_url, DEVELOPMENT_KEY)
    utility = EvmClient(site.plasma_url, site.utility_key)
    operator = EvmClient(site.plasma_url, site.hubs["hub-1"].account_key)
    slot_millis = round(site.options.slot_seconds * 1000)
    plan = PlasmaPlan(
        operator=operator.address,
        utility=utility.address,
        ppdl_chain_id=genesis.chain_id,
        ppdl_genesis_hash=genesis.hash,
        ppdl_validators=genesis.validators,
        clock=SlotClock(
            slot_of(site.options.start) - SLOTS_BEFORE_START,
            round(w0 * 1000) - SLOTS_BEFORE_START * slot_millis,
            slot_millis,
        ),
        microgrids=tuple(range(1, site.options.microgrids + 1)),
        feed_in_wei_per_wh=FEED_IN_WEI_PER_WH,
        private=_private_plan(site),
        relay_reward_wei=RELAY_REWARD_WEI,
        relay_turns=tuple(address_of(hub.role_key("relayer")) for hub in _relaying(site)),
        inference_min_fee_wei=INFERENCE_FEE_WEI,
    )
    contracts = deploy_plasma(plasma, operator, utility, plan)
    first_slot = first_registrable(site.options, w0)
    register_meters(operator, utility, contracts.registry, _meters(site, first_slot))
    register_leaves(operator, utility, contracts.energy_registry, _leaves(site, first_slot))
    deployment = Deployment(root_contracts, contracts)
    site.deployment_file.write_text(json.dumps(deployment.to_json(), indent=2) + "\n", encoding="utf-8")
    return Deployed(deployment, first_slot)


def first_registrable(options: DemoOptions, w0: float) -> int:
    """The demo's first slot, or the next that can be registered for when a slow machine is late for it."""
    clock = VirtualClock(options.start, w0, options.speed)
    reached = clock.slot() + math.ceil(REGISTRATION_SECONDS / clock.slot_wall_seconds())
    return max(slot_of(options.start), reached + 1)


def _relaying(site: Site) -> list[HubKeys]:
    """The hubs that relay headers and envelopes."""
    return [site.hubs[f"hub-{number}"] for number in ENVELOPE_RELAYS if number <= site.options.validators]


def _private_plan(site: Site) -> PrivatePlan:
    """Development keys, Korean days, and every envelope relay admitted for calls that pay nothing out."""
    return PrivatePlan(
        epoch_seconds=max(1, min(MAX_EPOCH_SECONDS, int(site.options.slot_seconds))),
        floor_wei_per_wh=FEED_IN_WEI_PER_WH,
        cap_wei_per_wh=RETAIL_WEI_PER_WH - GRID_FEE_WEI_PER_WH,
        relays=tuple(RelayPlan(address_of(hub.role_key("envelope-relay")), RELAY_QUOTA) for hub in _relaying(site)),
        verifying_keys=None,
        calendar=Calendar(utc_offset_slots=UTC_OFFSET_SLOTS, period_days=PERIOD_DAYS),
    )


def _leaves(site: Site, first_slot: int) -> list[MeterLeaf]:
    """Every home's leaf of the energy registry, in force from `first_slot` on."""
    found = []
    for item in site.homes:
        owner, device = site.owners[item.name], site.devices[item.name]
        capacities = item.cap_export_wh, item.cap_import_wh
        leaf = RegistryLeaf(
            meter_id(device.meter_secret), owner.spending_key.public_key, *capacities, item.microgrid, first_slot, OPEN_END
        )
        found.append(MeterLeaf(leaf, keccak256(item.name.encode())))
    return found


def _deploy_root(site: Site) -> RootContracts:
    client = EvmClient(site.root_url, DEVELOPMENT_KEY, free_gas=False)
    operator = site.hubs["hub-1"].account
    paid = client.send_raw_call(operator, b"", value=OPERATOR_ROOT_WEI, gas=21_000, where="funding of the operator")
    contracts = deploy_root(client, PLASMA_CHAIN_ID, [hub.validator for hub in site.hubs.values()])
    client.wait(paid, where="funding of the operator")
    return contracts


def _meters(site: Site, first_slot: int) -> list[MeterPlan]:
    return [
        MeterPlan(
            site.devices[item.name].address,
            site.owners[item.name].account,
            item.microgrid,
            first_slot,
            item.cap_export_wh,
            item.cap_import_wh,
        )
        for item in site.homes
    ]


def deposit_all(site: Site, contracts: RootContracts) -> int:
    """Deposits on the root chain for every account that needs PETH; returns how many."""
    client = EvmClient(site.root_url, DEVELOPMENT_KEY, free_gas=False)
    wanted = {site.hubs["hub-1"].account: OPERATOR_DEPOSIT_WEI, address_of(site.utility_key): ESCROW_WEI * 4}
    wanted |= {owner.account: DEPOSIT_WEI for owner in site.owners.values()}
    sent = [
        client.send(contracts.plasma_root, "deposit", "0x" + account.hex(), value=amount_wei, gas=200_000)
        for account, amount_wei in wanted.items()
    ]
    for tx_hash in sent:
        client.wait(tx_hash, where="PlasmaRoot.deposit")
    return len(sent)


def fund_contracts(site: Site, contracts: PlasmaContracts) -> None:
    """The utility pays into every escrow and into the relayers' fund, once its PETH has arrived.

    On the private market it also provides for the first days, before the first order fixes a day's curve.
    """
    utility = EvmClient(site.plasma_url, site.utility_key)
    escrow_wei = ESCROW_WEI // len(contracts.markets)
    sent = [utility.send(contracts.relay, "fund", value=RELAY_FUND_WEI, gas=200_000)]
    for market in contracts.markets:
        escrow = market.pool if site.options.private else market.token
        sent.append(utility.send(escrow, "fund", value=escrow_wei, gas=200_000))
        if site.options.private:
            first = int(utility.call(contracts.energy_registry, "keyOf", slot_of(site.options.start)))
            keys = [first + (day << 8) for day in range(PROVIDED_DAYS)]
            sent += [utility.send(market.pool, "provide", key, value=PROVIDED_WEI, gas=200_000) for key in keys]
    for tx_hash in sent:
        utility.wait(tx_hash, where="funding")


def request_inference(site: Site, contracts: PlasmaContracts, microgrid: int) -> None:
    """The utility asks for the next day's net energy of a microgrid and pays the fee."""
    utility = EvmClient(site.plasma_url, site.utility_key)
    utility.transact(contracts.inference, "request", microgrid, value=INFERENCE_FEE_WEI)
