"""Deployment: everything in place, every role set, and all PETH in the bridge."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from evm_world import ETHER, Chain, PpdlChain, refused, validator_keys
from plasma_world import FEED_IN, RELAYS, plasma_plan

from hub.chain.anvil import DEVELOPMENT_KEY, GENESIS_ETH
from hub.chain.deploy import MeterPlan, deploy_plasma, deploy_root, register_meters
from hub.chain.deployment import Deployment, load_deployment
from hub.chain.errors import DeploymentError
from hub.chain.verifiers import circuit_set_of
from openmg.signing import address_of


def test_deploying_leaves_everything_in_the_bridge(start_node, tmp_path):
    with start_node(7_020, 0.2) as node:
        chain = Chain(node.url)
        deployer, utility, operator = (chain.client(name) for name in (DEVELOPMENT_KEY, "utility", "operator"))
        ppdl = PpdlChain(validator_keys(4))
        turns = tuple(chain.client(name).address for name in ("relayer one", "relayer two"))
        plan = replace(plasma_plan(chain, ppdl, microgrids=(1, 2)), relay_turns=turns)
        contracts = deploy_plasma(deployer, operator, utility, plan)
        assert deployer.balance(deployer.address) == 0
        assert deployer.balance(contracts.bridge.address) == GENESIS_ETH * ETHER
        assert deployer.block_number() < 30

        assert deployer.call(contracts.registry, "operator") == "0x" + operator.address.hex()
        assert deployer.call(contracts.registry, "relay") == "0x" + contracts.relay.address.hex()
        assert deployer.call(contracts.relay, "guardian") == "0x" + operator.address.hex()
        assert deployer.call(contracts.relay, "relayers") == tuple("0x" + turn.hex() for turn in turns)
        assert deployer.call(contracts.bonds, "relay") == "0x" + contracts.relay.address.hex()
        assert deployer.call(contracts.confidential, "verifierSet") == "0x" + contracts.verifier_set.address.hex()
        assert bytes(deployer.call(contracts.verifier_set, "circuitSet")) == circuit_set_of(contracts.verifiers)
        for name in RELAYS:
            assert deployer.call(contracts.confidential, "relayQuota", chain.client(name).address)[0] == 1_000
        for market in contracts.markets:
            assert deployer.call(market.token, "microgrid") == market.microgrid
            assert deployer.call(market.token, "feedInWeiPerWh") == FEED_IN
            assert deployer.call(market.exchange, "tokenAddress") == "0x" + market.token.address.hex()
            assert deployer.call(contracts.registry, "isExchange", market.exchange.address)
            assert deployer.call(contracts.confidential, "marketOf", market.microgrid) == "0x" + market.pool.address.hex()
            assert deployer.call(market.pool, "registry") == "0x" + contracts.energy_registry.address.hex()
        with pytest.raises(DeploymentError, match="microgrid 3"):
            contracts.market(3)

        meters = [MeterPlan(bytes([i]) * 20, bytes([100 + i]) * 20, 1 + i % 2, 5, 100, 200) for i in range(1, 46)]
        register_meters(operator, utility, contracts.registry, meters)
        assert deployer.call(contracts.registry, "meterCount") == 45

        root = deploy_root(deployer, 7_020, [address_of(key) for key in ppdl.keys])
        file = tmp_path / "deployment.json"
        deployment = Deployment(root, contracts)
        file.write_text(json.dumps(deployment.to_json()))
        assert load_deployment(file) == deployment
        whole = json.dumps(deployment.to_json())
        bridge = contracts.addresses()["PethBridge"]
        for damaged in (
            "",
            "[]",
            "{}",
            whole[:-1],
            *(whole.replace(f'"{bridge}"', wrong) for wrong in ("5", '"0x12"', '"xyz"')),
        ):
            file.write_text(damaged)
            with pytest.raises(DeploymentError, match="is not complete"):
                load_deployment(file)
        with pytest.raises(DeploymentError, match="cannot be read"):
            load_deployment(tmp_path / "none.json")


def test_the_utility_signs_for_itself(chain):
    plan = plasma_plan(chain, PpdlChain(validator_keys(4)))
    with pytest.raises(DeploymentError, match="utility"):
        deploy_plasma(chain.client(DEVELOPMENT_KEY), chain.client("operator"), chain.client("somebody else"), plan)


def test_a_clock_in_the_future_is_refused(chain):
    plan = plasma_plan(chain, PpdlChain(validator_keys(4)))
    late = replace(plan, clock=replace(plan.clock, millis=plan.clock.millis + 10**9))
    with refused("InvalidClock"):
        deploy_plasma(chain.client(DEVELOPMENT_KEY), chain.client("operator"), chain.client("utility"), late)
