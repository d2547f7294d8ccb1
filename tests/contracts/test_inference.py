"""Inference: an answer counts only as an event of the PPDL chain; the fee goes to who brings it, or back."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from evm_world import ETHER, INFERENCE_TAG, PPDL_CHAIN_ID, Chain, PpdlChain, refused, validator_keys

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from openmg.hashing import keccak256, words
from openmg.signing import address_of

ANSWERS = [(-1) ** hour * 100 * hour for hour in range(24)]
MODEL = keccak256(b"the model that answered")
FEE = 10**15


@dataclass
class World:
    chain: Chain
    ppdl: PpdlChain
    client: EvmClient
    relay: Contract
    inference: Contract

    def event(self, request_id: int, microgrid: int = 1, as_of: int = 900, answers: list[int] = ANSWERS) -> bytes:
        chain = (PPDL_CHAIN_ID, self.inference.address, self.client.chain_id())
        return words(INFERENCE_TAG, *chain, request_id, microgrid, as_of, MODEL, keccak256(words(*answers)))

    def publish(self, events: list[bytes]) -> int:
        self.ppdl.extend(events)
        height = len(self.ppdl.headers)
        self.ppdl.extend()
        self.ppdl.relay(self.client, self.relay, height, height + 1)
        return height


@pytest.fixture
def world(chain: Chain) -> World:
    ppdl = PpdlChain(validator_keys(4))
    client = chain.client("requester")
    chain.give(client.address, ETHER)
    members = [address_of(k) for k in ppdl.keys]
    relay, first = client.create(load_artifact("PpdlRelay"), PPDL_CHAIN_ID, ppdl.last_hash, members, 0, 10**9)
    client.wait(first)
    inference, second = client.create(load_artifact("Inference"), relay.address, FEE, 60)
    client.wait(second)
    return World(chain, ppdl, client, relay, inference)


def test_answer_pays_who_brings_it(world):
    world.client.transact(world.inference, "request", 1, value=FEE)
    events = [world.event(1), world.event(2)]
    height = world.publish(events)
    hub = world.chain.client("hub")
    hub.transact(world.inference, "fulfil", 1, 900, MODEL, ANSWERS, world.ppdl.proof(height, events, 0))
    assert hub.balance(hub.address) == FEE
    answered = hub.events(world.inference, "Answered", 0, hub.block_number())[0]
    assert list(answered.args["energyWh"]) == ANSWERS
    assert answered.args["fulfiller"].lower() == "0x" + hub.address.hex()
    with refused("NotOpen"):
        hub.transact(world.inference, "fulfil", 1, 900, MODEL, ANSWERS, world.ppdl.proof(height, events, 0))
    with refused("NotOpen"):  # the event exists, the request does not
        hub.transact(world.inference, "fulfil", 2, 900, MODEL, ANSWERS, world.ppdl.proof(height, events, 1))
    world.chain.skip(61)
    with refused("NotOpen"):
        world.client.transact(world.inference, "refund", 1)


def test_every_part_of_the_answer_is_bound(world):
    world.client.transact(world.inference, "request", 1, value=FEE)
    world.client.transact(world.inference, "request", 2, value=FEE)
    events = [world.event(1)]
    proof = world.ppdl.proof(world.publish(events), events, 0)
    for wrong in (
        (2, 900, MODEL, ANSWERS),
        (1, 901, MODEL, ANSWERS),
        (1, 900, bytes(32), ANSWERS),
        (1, 900, MODEL, [*ANSWERS[:-1], ANSWERS[-1] + 1]),
    ):
        with refused("EventNotProved"):
            world.client.transact(world.inference, "fulfil", *wrong, proof)
    twin, tx_hash = world.client.create(load_artifact("Inference"), world.relay.address, 0, 60)
    world.client.wait(tx_hash)
    world.client.transact(twin, "request", 1)
    with refused("EventNotProved"):
        world.client.transact(twin, "fulfil", 1, 900, MODEL, ANSWERS, proof)
    world.client.transact(world.inference, "fulfil", 1, 900, MODEL, ANSWERS, proof)


def test_fee_and_refund(world):
    with refused("FeeTooLow"):
        world.client.transact(world.inference, "request", 1, value=FEE - 1)
    world.client.transact(world.inference, "request", 1, value=FEE + 5)
    with refused("DeadlineNotPassed"):
        world.client.transact(world.inference, "refund", 1)
    world.chain.skip(61)
    before = world.client.balance(world.client.address)
    world.chain.client("anybody").transact(world.inference, "refund", 1)
    assert world.client.balance(world.client.address) - before == FEE + 5
    for request_id in (1, 0, 99):
        with refused("NotOpen"):
            world.client.transact(world.inference, "refund", request_id)


def test_a_refund_waits_for_the_whole_time(world):
    world.client.transact(world.inference, "request", 1, value=FEE)
    deadline = world.client.call(world.inference, "requests", 1)[2]
    ahead = deadline - world.client.block("latest").timestamp
    block, now = world.chain.block_at(ahead)
    assert now == deadline
    with refused("DeadlineNotPassed"):
        world.client.call(world.inference, "refund", 1, at=block)
    block, _ = world.chain.block_at(1)
    world.client.call(world.inference, "refund", 1, at=block)


def test_a_requester_that_calls_back_is_refunded_once(world):
    receiver, tx_hash = world.client.create(load_artifact("testing/HostileReceiver"))
    world.client.wait(tx_hash)
    request = world.client.call_data(world.inference, "request", 1)
    for _ in range(2):
        world.client.transact(receiver, "act", world.inference.address, FEE, request, value=FEE)
    world.chain.skip(61)
    again = world.client.call_data(world.inference, "refund", 2)
    world.client.transact(receiver, "callBack", world.inference.address, again)
    world.client.transact(world.inference, "refund", 1)
    assert world.client.call(receiver, "lastCallbackSucceeded") is False
    assert world.client.balance(receiver.address) == FEE
