"""The noticeboard alone: what changed is said once, leaves in batches and in order, everything again on demand."""

from __future__ import annotations

from dataclasses import replace

from hub.market.noticeboard import RECORDED_SLOTS, Noticeboard
from hub.market.view import AccountState, PoolState
from openmg.messages import base, topics
from openmg.messages.market import (
    NOTES_PER_BATCH,
    AccountNotice,
    ChainNotice,
    EnergyMarket,
    EnergyPoolPlace,
    MarketNotice,
    NoteEntry,
    NotesBatch,
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
