"""MeterRegistry and EnergyToken: meters need both roles, slots enter once, and no more is minted than was agreed on."""

from __future__ import annotations

import pytest
from evm_world import Chain, refused, slot_event
from token_world import EXPORT, FEED_IN, FIRST_SLOT, IMPORT, SLOT_MILLIS, World, create, new_world, world_home

from hub.chain.deploy import MeterPlan


@pytest.fixture
def world(chain: Chain) -> World:
    return new_world(chain)


def test_a_meter_needs_both_roles_and_the_same_content(world):
    plan = MeterPlan(b"\1" * 20, b"\2" * 20, 1, FIRST_SLOT, 100, 100)
    other = MeterPlan(b"\1" * 20, b"\2" * 20, 1, FIRST_SLOT, 101, 100)
    with refused("NotOperator"):
        world.utility.transact(world.registry, "proposeMeters", [plan.as_abi()])
    with refused("NotProposed"):
        world.utility.transact(world.registry, "approveMeters", [plan.as_abi()])
    world.operator.transact(world.registry, "proposeMeters", [plan.as_abi()])
    with refused("NotUtility"):
        world.operator.transact(world.registry, "approveMeters", [plan.as_abi()])
    with refused("NotProposed"):
        world.utility.transact(world.registry, "approveMeters", [other.as_abi()])
    with refused("MeterNotActive"):
        world.operator.call(world.registry, "activeMeter", plan.device)
    world.utility.transact(world.registry, "approveMeters", [plan.as_abi()])
    assert world.operator.call(world.registry, "isOwner", 1, plan.owner)
    with refused("MeterAlreadyActive"):
        world.operator.transact(world.registry, "proposeMeters", [plan.as_abi()])
    with refused("NotProposed"):
        world.utility.transact(world.registry, "approveMeters", [plan.as_abi()])


def test_nonsense_meters_are_refused(world):
    good = MeterPlan(b"\1" * 20, b"\2" * 20, 1, FIRST_SLOT, 100, 100).as_abi()
    for wrong in (
        (bytes(20), *good[1:]),
        (good[0], bytes(20), *good[2:]),
        (*good[:4], 0, 0, True),
        (*good[:6], False),
    ):
        with refused("InvalidMeter"):
            world.operator.transact(world.registry, "proposeMeters", [wrong])


def test_revoked_meter_no_longer_counts(world):
    home = world.home("home")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 500, 500)
    with refused("NotUtility"):
        home.client.transact(world.registry, "revokeMeter", home.device)
    world.operator.transact(world.registry, "revokeMeter", home.device)
    with refused("MeterNotActive"):
        world.mint(home, slot, 10)
    assert world.operator.call(world.registry, "importCapWh", 1, home.address) == 0


def test_slots_follow_the_virtual_clock(world):
    genesis_ms, slot_seconds = world.operator.call(world.registry, "genesisMillis"), SLOT_MILLIS // 1000
    to_next = slot_seconds - (world.operator.block("latest").timestamp - genesis_ms // 1000) % slot_seconds
    expected = world.slot()
    for ahead, slots in ((to_next - 1, 0), (1, 1), (slot_seconds - 1, 0), (1, 1), (3 * slot_seconds, 3)):
        block, _ = world.chain.block_at(ahead)
        expected += slots
        assert world.operator.call(world.registry, "currentSlot", at=block) == expected


def test_slot_sums_need_a_proof_and_enter_once(world):
    slot = world.slot()
    event = slot_event(1, slot, 6, 700, 300)
    world.ppdl.extend([event])
    world.ppdl.extend()
    world.ppdl.relay(world.operator, world.relay, 1, 2)
    proof = world.ppdl.proof(1, [event], 0)
    for wrong in (
        (2, slot, 6, 700, 300),
        (1, slot + 1, 6, 700, 300),
        (1, slot, 7, 700, 300),
        (1, slot, 6, 701, 300),
        (1, slot, 6, 700, 301),
        (1, slot, 0, 700, 300),
    ):
        with refused("EventNotProved"):
            world.operator.transact(world.registry, "recordSlot", wrong, proof)
    with refused("SlotNotRecorded"):
        world.operator.call(world.registry, "slotSum", 1, slot)
    world.operator.transact(world.registry, "recordSlot", (1, slot, 6, 700, 300), proof)
    with refused("SlotAlreadyRecorded"):
        world.operator.transact(world.registry, "recordSlot", (1, slot, 6, 700, 300), proof)
    assert world.operator.call(world.registry, "slotSum", 1, slot) == (1, slot, 6, 700, 300)


def test_mint_once_and_only_up_to_the_agreed_sum(world):
    one, two = world.home("one"), world.home("two")
    slot = world.slot()
    world.next_slot()
    with refused("SlotNotRecorded"):
        world.mint(one, slot, 600)
    world.record(slot, 0, 1_000)
    world.mint(one, slot, 600)
    with refused("AlreadyMinted"):
        world.mint(one, slot, 1)
    with refused("OverAgreedSum"):
        world.mint(two, slot, 401)
    world.mint(two, slot, 400)
    assert world.balance(one.address) == 600
    assert world.operator.call(world.token, "slotUse", slot) == (1_000, 0)
    assert world.supply_is_accounted_for()


def test_mint_respects_capacity_owner_and_microgrid(world):
    home, other = world.home("home", export_wh=500), world.home("other")
    far = world.home("far", microgrid=2)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 10_000)
    with refused("OverCapacity"):
        world.mint(home, slot, 501)
    with refused("ZeroAmount"):
        world.mint(home, slot, 0)
    signature = world.sign(home, EXPORT, slot, 500)
    with refused("NotMeterOwner"):
        other.client.transact(world.token, "mint", home.device, slot, 500, signature)
    with refused("WrongMicrogrid"):
        world.mint(far, slot, 10)
    home.client.transact(world.token, "mint", home.device, slot, 500, signature)


def test_mint_needs_the_meters_own_signature(world):
    home, other = world.home("home"), world.home("other")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 10_000, 10_000)
    for signature in (
        world.sign(home, IMPORT, slot, 500),
        world.sign(home, EXPORT, slot + 1, 500),
        world.sign(home, EXPORT, slot, 501),
        world.sign(other, EXPORT, slot, 500),
    ):
        with refused("WrongMeterSignature"):
            home.client.transact(world.token, "mint", home.device, slot, 500, signature)
    twin = create(world.operator, "EnergyToken", "Energy", "MG1", world.registry.address, 1, FEED_IN)
    with refused("WrongMeterSignature"):
        home.client.transact(twin, "mint", home.device, slot, 500, world.sign(home, EXPORT, slot, 500))


def test_mint_only_for_ended_slots_of_the_last_day(world):
    home = world.home("home")
    slot = world.next_slot()
    with refused("SlotOutOfRange"):
        world.mint(home, slot + 2, 5)
    with refused("SlotOutOfRange"):
        world.mint(home, FIRST_SLOT - 1, 5)
    world.next_slot()
    world.record(slot, 0, 500)
    with world.chain.undone():
        world.chain.skip((slot + 96 - world.slot()) * SLOT_MILLIS // 1000)
        assert world.slot() - slot == 96
        world.mint(world_home(world, home), slot, 5)
    world.chain.skip((slot + 98 - world.slot()) * SLOT_MILLIS // 1000)
    with refused("SlotOutOfRange"):
        world.mint(world_home(world, home), slot, 5)
