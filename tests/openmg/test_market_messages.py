"""What a hub tells of the chain: every notice comes back as it was, the largest fits a message, malformed ones are refused."""

from __future__ import annotations

import pytest

from openmg import codec
from openmg.messages import base, topics
from openmg.messages.market import (
    MAX_REGISTRY_LEAVES,
    MAX_REGISTRY_ROOTS,
    NO_ADDRESS,
    NOTES_PER_BATCH,
    NULLIFIERS_PER_BATCH,
    PADDING,
    RECORDED_SLOTS,
    ChainNotice,
    EnergyMarket,
    EnergyPoolPlace,
    NoteEntry,
    NotesBatch,
    NullifiersBatch,
    PoolNotice,
    RegistryEntry,
    RegistryNotice,
    RegistryRoot,
    SlotLeafEntry,
    SlotLeavesNotice,
)
from openmg.zk.field import R

FELT = R - 1
WORD = 2**32 - 1
SEALED = bytes(114)
POOL_PLACE = EnergyPoolPlace(1, b"\6" * 20, 5, 9)
CHAIN = ChainNotice(
    7,
    b"\1" * 20,
    b"\2" * 20,
    (EnergyMarket(1, b"\3" * 20, b"\4" * 20),),
    (b"\5" * 32,),
    b"\7" * 32,
    (POOL_PLACE,),
    b"\x08" * 20,
)
LARGEST = (
    CHAIN,
    NotesBatch(NOTES_PER_BATCH, (NoteEntry(FELT, SEALED),) * (NOTES_PER_BATCH - 1) + (PADDING,)),
    NullifiersBatch(NULLIFIERS_PER_BATCH, (FELT,) * NULLIFIERS_PER_BATCH),
    RegistryNotice(
        (RegistryEntry(FELT, FELT, WORD, WORD, WORD, WORD, WORD),) * MAX_REGISTRY_LEAVES,
        tuple(RegistryRoot(WORD - MAX_REGISTRY_ROOTS + i, FELT) for i in range(MAX_REGISTRY_ROOTS)),
    ),
    SlotLeavesNotice(WORD, WORD, (SlotLeafEntry(FELT, b"\1" * 32, b"\2" * 32),) * 1_000),
    PoolNotice(WORD, 2**64, 2**40 - 1, tuple(range(RECORDED_SLOTS)), 2**96, 2**96, 2**96, 2**96, 2**96),
)


@pytest.mark.parametrize("message", LARGEST, ids=lambda message: type(message).PURPOSE)
def test_the_largest_notice_comes_back_and_fits_a_message(message):
    data = base.encode(message)
    assert len(data) <= base.MAX_MESSAGE_BYTES
    assert base.decode(type(message), data) == message


def test_purposes_are_told_apart():
    purposes = [type(message).PURPOSE for message in LARGEST]
    assert len(set(purposes)) == len(purposes)
    assert purposes[2:] == ["nullifiers", "registry", "slot-leaves", "pool"]


@pytest.mark.parametrize(
    ("cls", "change"),
    [
        (ChainNotice, {"circuit_set": bytes(31)}),
        (ChainNotice, {"energy_registry": b""}),
        (NotesBatch, {"first_position": 32}),
        (NotesBatch, {"first_position": -NOTES_PER_BATCH}),
        (NullifiersBatch, {"first_index": NULLIFIERS_PER_BATCH // 2}),
        (NullifiersBatch, {"nullifiers": [1] * (NULLIFIERS_PER_BATCH + 1)}),
        (RegistryNotice, {"history": [{"slot": 4, "root": 1}, {"slot": 4, "root": 2}]}),
        (RegistryNotice, {"history": [{"slot": i, "root": 1} for i in range(MAX_REGISTRY_ROOTS + 1)]}),
        (SlotLeavesNotice, {"leaves": [{"meter_id": 1, "export_commitment": bytes(64), "import_commitment": bytes(32)}]}),
        (PoolNotice, {"recorded_slots": list(range(RECORDED_SLOTS + 1))}),
    ],
)
def test_a_notice_out_of_its_bounds_is_refused(cls, change):
    (valid,) = (message for message in LARGEST if type(message) is cls)
    body = codec.decode(base.encode(valid), max_bytes=base.MAX_MESSAGE_BYTES)
    with pytest.raises(base.InvalidMessage):
        base.decode(cls, codec.encode(body | change))


def test_a_pool_has_an_address_and_ordered_limits():
    for values in ((1, b"", 5, 9), (1, NO_ADDRESS, 9, 5), (1, NO_ADDRESS, -1, 5)):
        with pytest.raises(ValueError):
            EnergyPoolPlace(*values)


def test_topics_name_one_kind_each():
    kinds = (topics.is_notes, topics.is_nullifiers, topics.is_slot_leaves, topics.is_pool, topics.is_market)
    names = (topics.notes(3), topics.nullifiers(3), topics.slot_leaves(1, 3), topics.pool(1), topics.market(1))
    for at, name in enumerate(names):
        assert [kind(name) for kind in kinds] == [at == place for place in range(len(kinds))]
    assert topics.slot_leaves(1, 3).startswith(topics.slot_leaves_of(1).removesuffix("+"))
    assert not any(kind(topics.REGISTRY) or kind(topics.CHAIN) for kind in kinds)
