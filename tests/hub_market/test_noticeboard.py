"""The noticeboard alone: what changed is said once, leaves in batches and in order, everything again on demand."""

from __future__ import annotations

from dataclasses import replace

from hub.market.noticeboard import RECORDED_SLOTS, REFRESH_TURNS, Noticeboard
from hub.market.view import AccountState, PoolState
from openmg.messages import base, topics
from openmg.messages.market import (
    NOTES_PER_BATCH,
    NULLIFIERS_PER_BATCH,
    AccountNotice,
    ChainNotice,
    EnergyMarket,
    EnergyPoolPlace,
    MarketNotice,
    NoteEntry,
    NotesBatch,
    NullifiersBatch,
    PoolNotice,
    SlotLeafEntry,
    SlotLeavesNotice,
)

POOL = PoolState(1, 5_000, 300, 20, 0, 0, 0, 0, 0)
STATE = AccountState(4, 1_000, 30, 2)
CHAIN = ChainNotice(
    7, b"\1" * 20, b"\2" * 20, (EnergyMarket(1, b"\3" * 20, b"\4" * 20),), (b"\5" * 32,), b"\6" * 32,
    (EnergyPoolPlace(1, b"\7" * 20, 20, 40),), b"\x08" * 20,
)  # fmt: skip


def leaves(first: int, count: int) -> list[NoteEntry]:
    return [NoteEntry(1_000 + position, bytes([position % 256])) for position in range(first, first + count)]


def add(board: Noticeboard, first: int, count: int) -> list[tuple[str, bytes]]:
    return board.notes.add(first, leaves(first, count))


def batch(payload: bytes) -> NotesBatch:
    return base.decode(NotesBatch, payload)


def test_a_market_is_told_when_anything_but_the_block_changes():
    board = Noticeboard(40)
    ((topic, payload),) = board.market(10, POOL)
    assert topic == topics.market(1)
    assert base.decode(MarketNotice, payload) == MarketNotice(1, 10, 5_000, 300, 20, 40, ())
    assert board.market(11, POOL) == []
    assert board.market(11, replace(POOL, minted_wh=9, outstanding_wh=9)) == []  # meters are not told totals
    for block, pool in enumerate((replace(POOL, reserve_wei=1), replace(POOL, reserve_wh=1), POOL), 12):
        ((_, payload),) = board.market(block, pool)
        assert base.decode(MarketNotice, payload).block == block


def test_microgrids_and_accounts_do_not_mix():
    board = Noticeboard(40)
    assert [topic for topic, _ in board.market(1, POOL)] == [topics.market(1)]
    assert [topic for topic, _ in board.market(1, replace(POOL, microgrid=2))] == [topics.market(2)]
    board.add_recorded([(2, 5)])
    assert board.market(2, POOL) == []
    ((_, payload),) = board.market(2, replace(POOL, microgrid=2))
    assert base.decode(MarketNotice, payload).recorded_slots == (5,)
    for device in ("home-1", "home-2"):
        ((topic, payload),) = board.account(3, device, STATE)
        assert topic == topics.account(device)
        assert base.decode(AccountNotice, payload) == AccountNotice(3, 4, 1_000, 30, 2)
    assert board.account(4, "home-1", STATE) == []
    ((topic, _),) = board.account(5, "home-1", replace(STATE, nonce=5))
    assert topic == topics.account("home-1")


def test_recorded_slots_are_sorted_distinct_and_the_newest():
    board = Noticeboard(40)
    board.add_recorded([(1, slot) for slot in (7, 5, 6, 5)])
    assert base.decode(MarketNotice, board.market(1, POOL)[0][1]).recorded_slots == (5, 6, 7)
    board.add_recorded([(1, 6)])
    assert board.market(2, POOL) == []
    board.add_recorded([(1, slot) for slot in range(10, 10 + RECORDED_SLOTS)])
    told = base.decode(MarketNotice, board.market(3, POOL)[0][1]).recorded_slots
    assert told == tuple(range(10, 10 + RECORDED_SLOTS))
    board.add_recorded([(1, 3)])  # older than all that are kept
    assert board.market(4, POOL) == []


def test_leaves_come_in_full_batches_and_a_growing_last_one():
    board = Noticeboard(40)
    count = 2 * NOTES_PER_BATCH + 3
    told = add(board, 0, count)
    assert [topic for topic, _ in told] == [topics.notes(0), topics.notes(1), topics.notes(2)]
    batches = [batch(payload) for _, payload in told]
    assert [item.first_position for item in batches] == [0, NOTES_PER_BATCH, 2 * NOTES_PER_BATCH]
    assert [note for item in batches for note in item.notes] == leaves(0, count)
    ((topic, payload),) = add(board, count, 1)
    assert topic == topics.notes(2) and len(batch(payload).notes) == 4


def test_known_leaves_are_skipped_and_a_gap_takes_nothing():
    board = Noticeboard(40)
    add(board, 0, 5)
    assert add(board, 0, 5) == []
    assert add(board, 6, 2) == []
    ((_, payload),) = add(board, 3, 4)
    assert [note.commitment for note in batch(payload).notes] == [1_000 + i for i in range(7)]


def test_notices_are_told_again_in_turn():
    board = Noticeboard(40)
    assert board.next_again() == []
    board.chain(CHAIN)
    board.market(1, POOL)
    board.account(2, "home-1", STATE)
    add(board, 0, NOTES_PER_BATCH + 1)
    everything = board.again()
    told = [item for _ in range(2 * len(everything)) for item in board.next_again()]
    assert told == everything * 2
    add(board, NOTES_PER_BATCH + 1, NOTES_PER_BATCH)  # the turn goes on with what came meanwhile
    assert dict(item for _ in range(len(everything) + 1) for item in board.next_again()) == dict(board.again())


def test_a_broker_that_lost_everything_gets_the_current_state():
    board = Noticeboard(40)
    assert board.again() == []
    board.chain(CHAIN)
    assert board.chain(CHAIN) == []
    board.market(1, POOL)
    current = board.market(2, replace(POOL, reserve_wh=301)) + board.account(2, "home-1", STATE)
    notes = add(board, 0, NOTES_PER_BATCH + 1)
    expected = dict([(topics.CHAIN, base.encode(CHAIN)), *current, *notes])
    assert dict(board.again()) == expected and len(board.again()) == len(expected)
    assert board.market(3, replace(POOL, reserve_wh=301)) == []


# The private market


def slot_leaves(microgrid: int, slot: int) -> SlotLeavesNotice:
    return SlotLeavesNotice(microgrid, slot, (SlotLeafEntry(slot, bytes(32), bytes(32)),))


def test_nullifiers_come_in_the_order_of_their_events():
    board = Noticeboard(40)
    spent = list(range(1, NULLIFIERS_PER_BATCH + 3))
    told = board.nullifiers.add(0, spent)
    assert [topic for topic, _ in told] == [topics.nullifiers(0), topics.nullifiers(1)]
    batches = [base.decode(NullifiersBatch, payload) for _, payload in told]
    assert [item.first_index for item in batches] == [0, NULLIFIERS_PER_BATCH]
    assert [value for item in batches for value in item.nullifiers] == spent


def test_what_a_rewritten_chain_does_not_bring_back_is_told_empty():
    board = Noticeboard(40)
    add(board, 0, NOTES_PER_BATCH + 1)
    board.nullifiers.add(0, [7])
    board.clear()
    add(board, 0, 2)
    told = dict(board.again())
    assert len(batch(told[topics.notes(0)]).notes) == 2
    assert batch(told[topics.notes(1)]) == NotesBatch(NOTES_PER_BATCH, ())
    assert base.decode(NullifiersBatch, told[topics.nullifiers(0)]).nullifiers == ()


def test_leaves_of_a_slot_are_told_once_and_taken_back_after_a_day():
    board = Noticeboard(40)
    assert board.add_rooted([(1, 5), (2, 5), (1, 6)]) == []
    assert sorted(board.untold_slots()) == [(1, 5), (1, 6), (2, 5)]
    for place in board.untold_slots():
        assert [topic for topic, _ in board.slot_leaves(slot_leaves(*place))] == [topics.slot_leaves(*place)]
    assert board.untold_slots() == [] == board.slot_leaves(slot_leaves(1, 5))
    gone = board.add_rooted([(1, slot) for slot in range(7, 6 + RECORDED_SLOTS)])
    assert gone == [(topics.slot_leaves(1, 5), b"")]  # an empty retained message: the broker forgets it
    assert topics.slot_leaves(1, 5) not in dict(board.again())
    assert topics.slot_leaves(2, 5) in dict(board.again())
    assert (1, 5) not in board.untold_slots()


def test_leaves_that_were_never_told_are_not_taken_back():
    board = Noticeboard(40)
    assert board.add_rooted([(1, slot) for slot in range(2 * RECORDED_SLOTS)]) == []
    assert len(board.untold_slots()) == RECORDED_SLOTS


def test_a_private_pool_is_told_when_anything_but_the_block_changes():
    board, notice = Noticeboard(40), PoolNotice(1, 10, 5, (3, 4), 1, 2, 3, 4, 5)
    assert board.private_pool(notice) == [(topics.pool(1), base.encode(notice))]
    assert board.private_pool(replace(notice, block=11)) == []
    numbers = ("key", "reserve_wei", "reserve_wh", "virtual_wei", "virtual_wh", "price_wei_per_lot")
    for changed in (*({name: 99} for name in numbers), {"recorded_slots": (4,)}):
        assert len(board.private_pool(replace(notice, **changed))) == 1
    assert len(board.private_pool(replace(notice, microgrid=2))) == 1


def test_everything_is_told_again_within_some_turns_however_much_there_is():
    board = Noticeboard(40)
    board.add_rooted([(1, slot) for slot in range(RECORDED_SLOTS)])
    for place in board.untold_slots():
        board.slot_leaves(slot_leaves(*place))
    add(board, 0, 5 * NOTES_PER_BATCH)
    board.nullifiers.add(0, list(range(NULLIFIERS_PER_BATCH + 1)))
    again = dict(item for _ in range(REFRESH_TURNS) for item in board.next_again())
    assert again == dict(board.again())
