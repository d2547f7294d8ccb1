"""The courier: an event reaches its contract once the relay can prove it, once, and in spite of refusals and restarts."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading

import app_world
import pytest
from app_world import VALIDATOR_KEYS
from evm_world import PPDL_CHAIN_ID, key
from market_world import GROUP_EXPORT_WH, GROUP_IMPORT_WH, MarketWorld
from plasma_world import FIRST_SLOT

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.errors import ChainError
from hub.market.courier import MAX_WAITING, EventCourier, WaitingEvent
from hub.ppdl.app.answers import InferenceAnswer
from hub.ppdl.app.transactions import InferenceRequest, inference_tx
from hub.ppdl.application import QueryResult
from openmg.hashing import words
from openmg.messages import base
from openmg.messages.market import SlotLeavesNotice
from openmg.zk.babyjub import decompress
from openmg.zk.meters import SlotLeaf
from openmg.zk.tree import NoteTree

REPORT = (1, FIRST_SLOT, 6, GROUP_IMPORT_WH, GROUP_EXPORT_WH)


def request(world: MarketWorld, microgrid: int, contract: Contract | None = None) -> bytes:
    """A request on a chain, and the transaction with which a validator witnesses it."""
    target = contract or world.contracts.inference
    world.client.transact(target, "request", microgrid)
    number = int(world.client.events(target, "Requested", 0, world.client.block_number())[-1].args["id"])
    made = InferenceRequest(world.client.chain_id(), target.address, number, microgrid)
    return inference_tx(made, PPDL_CHAIN_ID, VALIDATOR_KEYS[0])


def answered(world: MarketWorld) -> list[dict[str, object]]:
    world.settle()
    events = world.client.events(world.contracts.inference, "Answered", 0, world.client.block_number())
    return [dict(event.args) for event in events]


def test_a_slot_waits_for_the_header_after_its_block(world):
    courier = world.courier()
    world.decide_slot(courier)
    courier.step()
    world.relay()  # the block's own header proves the state before it, not its events
    courier.step()
    assert (courier.waiting, courier.delivered, world.recorded(), world.sent("courier")) == (2, 0, [], 0)
    world.decide()
    courier.step()  # decided, but not relayed
    assert courier.waiting == 2
    world.relay()
    courier.step()
    assert (courier.waiting, courier.delivered) == (0, 2)
    assert world.recorded() == [REPORT]
    assert world.rooted() == [(1, FIRST_SLOT, leaves_root(world), 6)]


def leaves_root(world: MarketWorld) -> int:
    """Root of the leaves that meters are told of, computed anew."""
    notice = base.decode(SlotLeavesNotice, world.query(f"slot-leaves/1/{FIRST_SLOT}").value)
    points = [(leaf.meter_id, decompress(leaf.export_commitment), decompress(leaf.import_commitment)) for leaf in notice.leaves]
    return NoteTree(SlotLeaf(mid, FIRST_SLOT, exported, imported).digest for mid, exported, imported in points).root()


def test_nothing_is_delivered_twice(world):
    courier = world.courier()
    height, result = world.decide(app_world.slot_tx(FIRST_SLOT))
    for _ in range(2):
        courier.on_block(height, result.events)
    world.decide()
    world.relay()
    for _ in range(3):
        courier.step()
        world.settle()
    assert courier.waiting == 0
    assert world.recorded() == [REPORT] and len(world.rooted()) == 1
    assert world.sent("courier") == 2


def test_the_oldest_events_go_first_and_a_step_is_bounded(world, monkeypatch):
    monkeypatch.setattr("hub.market.courier.EVENTS_PER_STEP", 6)  # a slot has two: its sums and its root
    courier = world.courier()
    slots = [FIRST_SLOT + i for i in range(5)]
    for slot in slots:
        world.decide_slot(courier, slot)
    world.relay()  # proves all but the last
    for expected in (3, 4, 4):
        courier.step()
        assert [item[1] for item in world.recorded()] == slots[:expected]
    world.decide()
    world.relay()
    courier.step()
    assert [item[1] for item in world.recorded()] == slots
    assert courier.waiting == 0


def test_other_events_and_empty_blocks_are_not_kept(world):
    courier = world.courier()
    courier.on_block(1, ())
    courier.on_block(2, (words(b"\1" * 32, 5), b"", b"short"))
    assert courier.waiting == 0


def test_a_refused_event_is_tried_again(world, caplog):
    """The light client follows a header with another application hash, until the chain takes that back."""
    courier = world.courier()
    world.decide_slot(courier)
    with world.chain.undone():
        wrong = world.ppdl.header(app_hash=b"\1" * 32)
        batch = world.ppdl.headers[0] + wrong
        liar = world.chain.client("another relayer")
        liar.transact(world.contracts.relay, "submitHeaders", batch, 0, world.ppdl.seals(wrong, 2))
        with caplog.at_level(logging.WARNING):
            courier.step()
        assert (courier.waiting, courier.delivered, world.recorded(), world.rooted()) == (2, 0, [], [])
        assert "EventNotProved" in caplog.text and "block 1" in caplog.text
    world.decide()
    world.relay()
    courier.step()
    assert (courier.waiting, courier.delivered, world.recorded()) == (0, 2, [REPORT])


def test_a_restarted_courier_looks_through_the_last_blocks(world):
    courier = world.courier()
    for slot in (FIRST_SLOT, FIRST_SLOT + 1):
        world.decide_slot(courier, slot)
    world.relay()
    courier.step()
    assert [item[1] for item in world.recorded()] == [FIRST_SLOT]
    world.decide()
    world.relay()
    restarted = world.courier("restarted courier")
    restarted.replay(world.app.info().last_height)
    assert restarted.waiting == 4
    restarted.step()
    assert [item[1] for item in world.recorded()] == [FIRST_SLOT, FIRST_SLOT + 1]
    assert (restarted.waiting, world.sent("restarted courier")) == (0, 2)


def test_replay_before_the_first_block_finds_nothing(world):
    courier = world.courier()
    courier.replay(0)
    assert courier.waiting == 0


def test_an_answer_reaches_the_contract_that_asked(world):
    courier = world.courier()
    height, result = world.decide(request(world, 2))
    courier.on_block(height, result.events)
    world.decide()
    world.relay()
    courier.step()
    expected = base.decode(InferenceAnswer, world.query("inference/1").value).answer
    (given,) = answered(world)
    assert tuple(given["energyWh"]) == expected.answer_wh and given["asOfSlot"] == expected.as_of_slot
    other = world.courier("second courier")
    other.replay(height)
    other.step()
    assert (other.waiting, world.sent("second courier"), len(answered(world))) == (0, 0, 1)


def twin_inference(world: MarketWorld) -> Contract:
    twin, tx_hash = world.client.create(load_artifact("Inference"), world.contracts.relay.address, 0, 60)
    world.client.wait(tx_hash)
    return twin


def test_an_answer_for_another_contract_is_left_to_its_hub(world):
    courier = world.courier()
    height, result = world.decide(request(world, 1, twin_inference(world)))
    courier.on_block(height, result.events)
    world.decide()
    world.relay()
    courier.step()
    assert (courier.waiting, world.sent("courier"), answered(world)) == (0, 0, [])


def test_two_contracts_may_use_the_same_number(world):
    courier = world.courier()
    height, result = world.decide(request(world, 1), request(world, 2, twin_inference(world)))
    courier.on_block(height, result.events)
    world.decide()
    world.relay()
    courier.step()
    assert len(answered(world)) == 1


def test_blocks_come_while_a_step_delivers(world):
    """The hub's loop adds events while the step's thread takes some out, with refused ones ahead of them."""
    courier, heights = world.courier(), itertools.count(100)
    event = world.decide(app_world.slot_tx(FIRST_SLOT))[1].events[0]
    ahead = [WaitingEvent(next(heights), event) for _ in range(400)]
    courier.on_block(ahead[0].height, (event,))
    for item in ahead[1:]:
        courier.on_block(item.height, (event,))
    stop, failures = threading.Event(), []

    def add() -> None:
        while not stop.is_set():
            courier.on_block(next(heights), (event,))

    loop = threading.Thread(target=add)
    loop.start()
    try:
        for item in reversed(ahead):
            courier._drop(item)
    except (IndexError, RuntimeError) as error:
        failures.append(error)
    finally:
        stop.set()
        loop.join()
    assert failures == []
    assert courier.waiting <= MAX_WAITING


def test_the_oldest_waiting_event_gives_way_and_that_is_said(world, monkeypatch, caplog):
    monkeypatch.setattr("hub.market.courier.MAX_WAITING", 4)
    courier = world.courier()
    with caplog.at_level(logging.ERROR):
        for i in range(3):
            world.decide_slot(courier, FIRST_SLOT + i)
    assert courier.waiting == 4 and "more than 4 are waiting" in caplog.text
    world.decide()
    world.relay()
    courier.step()
    assert [item[1] for item in world.recorded()] == [FIRST_SLOT + 1, FIRST_SLOT + 2]


def test_events_outlast_a_chain_that_stops_answering(world):
    """The node falls silent between the look at the relay's height and the delivery."""
    pid, silent = world.node.process.pid, []

    def query(path: str) -> QueryResult:
        if not silent:
            os.kill(pid, signal.SIGSTOP)
            silent.append(path)
        return world.query(path)

    client = EvmClient(world.chain.url, key("courier"), timeout_seconds=0.4)
    courier = EventCourier(client, world.contracts, query)
    world.decide_slot(courier)
    world.decide_slot(courier, FIRST_SLOT + 1)
    world.decide()
    world.relay()
    try:
        with pytest.raises(ChainError):
            courier.step()
    finally:
        os.kill(pid, signal.SIGCONT)
    courier.step()
    assert [item[1] for item in world.recorded()] == [FIRST_SLOT, FIRST_SLOT + 1]
