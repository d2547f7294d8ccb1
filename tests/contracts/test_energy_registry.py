"""The registry: leaves need both roles and never overlap, roots of past slots are frozen, slots come from the PPDL chain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from energy_world import CALENDAR, KEY, OPEN, SLOT, SLOT_SECONDS, RegistryWorld, leaf, new_registry
from evm_world import Chain, PpdlChain, refused, validator_keys

from openmg.zk.field import R


@pytest.fixture(scope="module")
def made(node: Chain) -> Iterator[RegistryWorld]:
    with node.undone():
        yield new_registry(node)


@pytest.fixture
def world(made: RegistryWorld, node: Chain) -> Iterator[RegistryWorld]:
    with node.undone():
        yield made
    for client in (made.operator, made.utility):
        client.forget_nonce()  # what it counted was taken back
    made.ppdl = PpdlChain(validator_keys(4))


@pytest.mark.parametrize(
    ("attack", "changed"),
    [
        ("a leaf that counts in a slot that is over", {"from_slot": SLOT - 1}),
        ("a leaf that counts in the slot of its approval", {"from_slot": SLOT}),
        ("a leaf that never counts", {"from_slot": OPEN}),
        ("a leaf that ends before anybody closes it", {"to_slot": SLOT + 9}),
        ("a meter id's alias", {"meter_id": R + 5}),
        ("an owner's alias", {"public_key": R}),
        ("a meter that can do nothing", {"cap_export_wh": 0, "cap_import_wh": 0}),
    ],
)
def test_leaves_that_are_refused(world, attack, changed):
    with refused("InvalidLeaf"):
        world.change([leaf(**changed)])
    assert world.read("leafCount") == 0


@pytest.mark.parametrize("same", ["meter_id", "public_key", "number"])
def test_an_open_leaf_has_its_meter_owner_and_number_alone(world, same):
    place = ("meter_id", "public_key", "number").index(same)
    world.change([leaf()])
    with refused("InUse"):
        world.change([leaf("ben", **{same: leaf()[place]})])
    with refused("InUse"):  # two in one change
        world.change([leaf("cho"), leaf("dae", **{same: leaf("cho")[place]})])


def test_one_role_changes_nothing(world):
    with refused("NotOperator"):
        world.utility.transact(world.registry, "propose", [leaf()], [], 11)
    with refused("NotProposed"):
        world.utility.transact(world.registry, "approve", [leaf()], [], 11)
    world.operator.transact(world.registry, "propose", [leaf()], [], 11)
    with refused("NotUtility"):
        world.operator.transact(world.registry, "approve", [leaf()], [], 11)
    for other in (([leaf("ben")], [], 11), ([leaf()], [(0, SLOT + 9)], 11), ([leaf()], [], 12)):
        with refused("NotProposed"):
            world.utility.transact(world.registry, "approve", *other)
    world.utility.transact(world.registry, "approve", [leaf()], [], 11)
    with refused("NotProposed"):  # approved once
        world.utility.transact(world.registry, "approve", [leaf()], [], 11)


def test_changes_of_nothing_and_roots_outside_the_field_are_refused(world):
    with refused("NothingChanges"):
        world.change([])
    with refused("OutsideField"):
        world.change([leaf()], root=R)


def test_a_leaf_is_closed_once_and_later_than_now(world):
    world.change([leaf()])
    for closing in ((0, SLOT), (0, OPEN), (1, SLOT + 9)):
        with refused("InvalidClosing"):
            world.change([], [closing])
    with refused("InvalidClosing"):
        world.change([], [(0, SLOT + 9), (0, SLOT + 20)])
    world.change([], [(0, SLOT + 9)])
    assert world.read("leafAt", 0)[-1] == SLOT + 9
    with refused("InvalidClosing"):
        world.change([], [(0, SLOT + 20)])


def test_a_replaced_meter_begins_where_the_old_one_ended(world):
    world.change([leaf()])
    early, on_time = leaf(from_slot=SLOT + 8), leaf(from_slot=SLOT + 9)
    with refused("InvalidLeaf"):
        world.change([early], [(0, SLOT + 9)])
    world.change([on_time], [(0, SLOT + 9)])
    assert world.read("leafCount") == 2


def test_a_leaf_closed_before_it_began_frees_nothing_that_an_earlier_one_holds(world):
    """Else two leaves of one meter, with other owners or capacities, would count in the same slots."""
    later = SLOT + 400
    world.change([leaf()])
    world.change([leaf(from_slot=later)], [(0, later)])
    world.change([], [(1, SLOT + 20)])
    with refused("InvalidLeaf"):
        world.change([leaf(from_slot=SLOT + 20)])
    world.change([leaf(from_slot=later)])


def test_a_physical_meter_counts_under_one_id_at_a_time(world):
    """Its number is of use again where the old leaf ends, and not before."""
    later, number = SLOT + 400, leaf()[2]
    world.change([leaf()])
    world.change([], [(0, later)])
    with refused("InvalidLeaf"):
        world.change([leaf("ben", number=number, from_slot=later - 1)])
    world.change([leaf("ben", number=number, from_slot=later)])


def test_the_root_of_a_past_slot_is_frozen(world):
    with refused("NoRegistry"):
        world.read("rootAt", SLOT)
    world.change([leaf()], root=21)
    world.change([leaf("ben")], root=22)  # the last one of the slot counts
    world.to_slot(SLOT + 3)
    world.change([leaf("cho", from_slot=SLOT + 9)], root=23)
    roots = [world.read("rootAt", slot) for slot in range(SLOT, SLOT + 4)]
    assert roots == [22, 22, 22, 23]
    with refused("NoRegistry"):
        world.read("rootAt", SLOT - 1)
    with refused("FutureSlot"):
        world.read("rootAt", SLOT + 4)


def test_a_slot_root_is_what_the_ppdl_chain_agreed_on_and_comes_once(world):
    stated, proof = world.agreed(SLOT, 77)
    with refused("SlotRootUnknown"):
        world.read("slotRoot", 7, SLOT)
    for place, value in ((0, 8), (1, SLOT + 1), (2, 78), (3, 4), (3, 0)):
        forged = tuple(value if i == place else item for i, item in enumerate(stated))
        with refused("EventNotProved"):
            world.operator.transact(world.registry, "recordSlotRoot", forged, proof)
    world.operator.transact(world.registry, "recordSlotRoot", stated, proof)
    assert world.read("slotRoot", 7, SLOT) == 77
    with refused("SlotRootAlreadyRecorded"):
        world.operator.transact(world.registry, "recordSlotRoot", stated, proof)


def test_an_alias_of_a_slot_root_is_not_recorded(world):
    stated, proof = world.agreed(SLOT, R + 1)
    with refused("OutsideField"):
        world.operator.transact(world.registry, "recordSlotRoot", stated, proof)


def test_the_calendar_is_the_references(world):
    """Day, band, key and period of slots around a day's and a band's ends."""
    first = CALENDAR.first_slot_of(KEY)
    for slot in (first - 1, first, first + 35, first + 36, SLOT, first + 83, first + 84, first + 95, first + 96):
        key = world.read("keyOf", slot)
        assert key == CALENDAR.key_of(slot)
        assert world.read("periodOf", slot) == CALENDAR.period_of(slot)
        assert world.read("firstSlotOf", key) == CALENDAR.first_slot_of(key)
        assert world.read("lastSlotOf", key) == CALENDAR.last_slot_of(key)


CENTURY_MILLIS = 100 * 365 * 86_400 * 1000


def test_slots_so_short_that_their_number_would_wrap(made, node):
    """Cut to 32 bits, slots of old come again: their meters' energy could be minted and bought once more."""
    left = OPEN - SLOT
    shortest = CENTURY_MILLIS // left + 1
    for slot, millis in ((SLOT, 1), (SLOT, 0), (SLOT, shortest - 1), (OPEN - 1, SLOT_SECONDS * 1000), (OPEN, 1)):
        with node.undone(), refused("InvalidClock"):
            new_registry(node, slot, millis)
    with node.undone():
        new_registry(node, SLOT, shortest)
    for client in (made.operator, made.utility):
        client.forget_nonce()  # what it counted was taken back


def test_a_key_of_a_far_day_has_not_the_slots_of_a_near_one(world):
    """2^27 days have 3 * 2^32 slots: cut to 32 bits, such a key could be traded and burned beside the day's own."""
    alias = KEY + (2**27 << 8)
    for function in ("firstSlotOf", "lastSlotOf"):
        with refused("InvalidKey"):
            world.read(function, alias)
