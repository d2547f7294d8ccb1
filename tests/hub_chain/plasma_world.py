"""A plan for the plasma contracts with roles that tests know by name."""

from __future__ import annotations

from evm_world import GENESIS_HASH, PPDL_CHAIN_ID, Chain, PpdlChain

from hub.chain.client import EvmClient
from hub.chain.deploy import PlasmaPlan, PrivatePlan, RelayPlan, SlotClock
from openmg.signing import address_of

FEED_IN = 70 * 10**9
FIRST_SLOT = 1_979_428
RELAYS = ("envelope relay", "home")
"""Accounts that may bring proofs without a fee."""


def plasma_plan(chain: Chain, ppdl: PpdlChain, microgrids: tuple[int, ...] = (1,)) -> PlasmaPlan:
    now_ms = EvmClient(chain.url).block("latest").timestamp * 1000
    return PlasmaPlan(
        operator=chain.client("operator").address,
        utility=chain.client("utility").address,
        ppdl_chain_id=PPDL_CHAIN_ID,
        ppdl_genesis_hash=GENESIS_HASH,
        ppdl_validators=tuple(address_of(key) for key in ppdl.keys),
        clock=SlotClock(FIRST_SLOT, now_ms, 4_000),
        microgrids=microgrids,
        feed_in_wei_per_wh=FEED_IN,
        private=private_plan(chain),
        relay_reward_wei=7,
    )


def private_plan(chain: Chain) -> PrivatePlan:
    """Development keys; an epoch is a second."""
    relays = tuple(RelayPlan(chain.client(name).address, 1_000) for name in RELAYS)
    return PrivatePlan(1, FEED_IN, 2 * FEED_IN, relays, None)
