"""Whom a sync asks for what, whom it drops, and that it keeps its bounds. Manifests are real, peers are played."""

from __future__ import annotations

import random

import pytest
from chain_maker import ADDRESSES, Chain, genesis

from hub.ppdl.application import CHUNK_BYTES
from hub.ppdl.snapshots.archive import cut
from hub.ppdl.snapshots.manifest import Manifest, verify
from hub.ppdl.snapshots.messages import AskSnapshots, Chunk, ChunkId, FetchChunk, NothingToOffer, Offer
from hub.ppdl.snapshots.sync import (
    CHUNK_TICKS,
    CHUNKS_OF_ONE_PEER,
    CHUNKS_UNDER_WAY,
    MAX_TIMEOUTS,
    OFFER_TICKS,
    Begin,
    Dropped,
    GaveUp,
    KeepChunk,
    Phase,
    Ready,
    SendTo,
    SnapshotSync,
    SyncEffect,
)

CHAIN = Chain(genesis()).grow(12)
PEERS = ADDRESSES[:4]
ME, A, B, C = PEERS
DATA = b"".join(bytes([i]) * CHUNK_BYTES for i in range(20))
CHUNKS = cut(DATA)
HONEST, OLDER = CHAIN.manifest(10, DATA), CHAIN.manifest(8, DATA)
FALSE_CHUNKS = CHAIN.manifest(10, bytes(20 * CHUNK_BYTES))


def unproved(manifest: Manifest) -> Manifest:
    return Manifest(manifest.snapshot, manifest.header, manifest.following, HONEST.qc, manifest.next_set, manifest.changes)


class World:
    """A sync, everything it ever did, and the chunks under way by peer."""

    def __init__(self, me: bytes = ME) -> None:
        self.sync = SnapshotSync(me, lambda manifest: verify(CHAIN.domain, CHAIN.genesis, manifest))
        self.effects: list[SyncEffect] = []
        self.fetches: list[tuple[bytes, FetchChunk]] = []

    def do(self, effects: list[SyncEffect]) -> list[SyncEffect]:
        self.effects += effects
        self.fetches += [(e.peer, e.message) for e in effects if isinstance(e, SendTo) and isinstance(e.message, FetchChunk)]
        return effects

    def begin(self, *offers: tuple[bytes, Manifest]) -> None:
        self.do(self.sync.begin(0, PEERS))
        for peer, manifest in offers:
            self.do(self.sync.received(peer, Offer(manifest)))
        for _ in range(OFFER_TICKS):
            if self.sync.phase is Phase.OFFERS:
                self.do(self.sync.tick())

    def ticks(self, count: int, height: int = 0, peers: tuple[bytes, ...] = PEERS) -> None:
        for _ in range(count):
            self.do(self.sync.tick(height, peers))

    def answer(self, wrong: tuple[bytes, ...] = (), silent: tuple[bytes, ...] = ()) -> None:
        """Everybody answers what was asked, until nothing is asked any more."""
        while self.fetches:
            peer, message = self.fetches.pop(0)
            if peer not in silent:
                data = b"lie" if peer in wrong else CHUNKS[message.chunk.index]
                self.do(self.sync.received(peer, Chunk(message.chunk, data)))

    def kept(self) -> dict[int, bytes]:
        return {e.index: e.data for e in self.effects if isinstance(e, KeepChunk)}

    def dropped(self) -> list[bytes]:
        return [e.peer for e in self.effects if isinstance(e, Dropped)]


def test_every_peer_is_asked_and_chunks_come_from_all_who_vouch() -> None:
    world = World()
    world.begin((A, HONEST), (B, HONEST), (C, HONEST))
    asked = [e.peer for e in world.effects if isinstance(e, SendTo) and isinstance(e.message, AskSnapshots)]
    assert asked == [A, B, C]
    assert {peer for peer, _ in world.fetches} == {A, B, C} and len(world.fetches) == CHUNKS_UNDER_WAY
    world.answer()
    assert world.kept() == dict(enumerate(CHUNKS))
    assert isinstance(world.effects[-1], Ready) and world.sync.phase is Phase.READY
    order = [type(e) for e in world.effects if isinstance(e, Begin | KeepChunk | Ready)]
    assert order[0] is Begin and order[-1] is Ready and order.count(Begin) == 1
    assert world.do(world.sync.installed()) == [] and world.sync.phase is Phase.IDLE


@pytest.mark.parametrize("vouchers, begins", [((A,), False), ((A, B), True)])
def test_a_snapshot_needs_one_honest_voucher(vouchers: tuple[bytes, ...], begins: bool) -> None:
    """f + 1 validators, f = 1."""
    world = World()
    world.begin(*((peer, HONEST) for peer in vouchers))
    assert (world.sync.phase is Phase.FETCH) == begins
    assert any(isinstance(e, GaveUp) for e in world.effects) != begins


def test_a_lone_liar_with_a_higher_or_other_snapshot_is_not_followed() -> None:
    world = World()
    world.begin((A, CHAIN.manifest(11, b"x")), (A, FALSE_CHUNKS), (B, HONEST), (C, HONEST))
    assert [e.manifest for e in world.effects if isinstance(e, Begin)] == [HONEST]
    world.answer()
    assert world.kept() == dict(enumerate(CHUNKS))


def test_strangers_and_repetition_vouch_for_nothing() -> None:
    world = World()
    world.begin((ADDRESSES[5], HONEST), (ADDRESSES[6], HONEST), (A, HONEST), (A, HONEST))
    assert world.sync.phase is Phase.IDLE


def test_an_unproved_manifest_drops_its_sender_before_any_chunk_is_fetched() -> None:
    world = World()
    world.begin((A, unproved(OLDER)), (A, HONEST), (B, HONEST))
    assert world.dropped() == [A] and not world.fetches and world.sync.phase is Phase.IDLE  # B alone is too few


def test_a_wrong_chunk_drops_its_sender_and_the_others_finish() -> None:
    world = World()
    world.begin((A, HONEST), (B, HONEST), (C, HONEST))
    world.answer(wrong=(B,))
    assert world.dropped() == [B]
    assert world.kept() == dict(enumerate(CHUNKS)) and isinstance(world.effects[-1], Ready)
    assert world.do(world.sync.received(B, Offer(HONEST))) == []


def test_a_silent_peer_is_passed_over_and_not_blamed() -> None:
    world = World()
    world.begin((A, HONEST), (B, HONEST), (C, HONEST))
    for _ in range(CHUNK_TICKS * (MAX_TIMEOUTS + 1)):
        world.answer(silent=(C,))
        world.do(world.sync.tick())
    assert world.dropped() == [] and world.kept() == dict(enumerate(CHUNKS))
    assert isinstance(world.effects[-1], Ready)


def test_it_gives_up_when_all_lie_and_begins_anew() -> None:
    world = World()
    world.begin((A, HONEST), (B, HONEST))
    world.answer(wrong=(A, B))
    assert sorted(world.dropped()) == sorted((A, B)) and isinstance(world.effects[-1], GaveUp)
    assert world.sync.phase is Phase.IDLE
    world.begin((A, HONEST), (C, HONEST))  # one is enough: what was chosen before was vouched for
    world.answer()
    assert isinstance(world.effects[-1], Ready) and world.sync.phase is Phase.READY


def test_who_lied_is_asked_again_when_nobody_else_vouches_for_anything() -> None:
    """Chunks are checked anyway."""
    world = World()
    world.begin((A, unproved(OLDER)), (B, HONEST))
    assert world.dropped() == [A] and world.sync.phase is Phase.IDLE and not world.sync.dropped
    world.begin((A, HONEST), (B, HONEST))
    world.answer()
    assert isinstance(world.effects[-1], Ready)


def test_a_liar_is_not_asked_again_by_the_sync_that_follows() -> None:
    """The first sync ends because the honest were too slow, not because they lied."""
    world = World()
    world.begin((A, HONEST), (B, HONEST), (C, HONEST))
    world.fetches = [(peer, message) for peer, message in world.fetches if peer == A]
    world.answer(wrong=(A,), silent=(B, C))
    for _ in range(CHUNK_TICKS * (MAX_TIMEOUTS + 1)):
        world.answer(silent=(B, C))
        world.do(world.sync.tick())
    assert world.dropped() == [A] and world.sync.phase is Phase.IDLE
    world.effects.clear()
    world.begin((A, HONEST), (B, HONEST), (C, HONEST))
    assert A not in {effect.peer for effect in world.effects if isinstance(effect, SendTo)}
    world.answer(wrong=(A,))
    assert isinstance(world.effects[-1], Ready) and world.dropped() == []
    world.do(world.sync.installed())
    assert not world.sync.dropped  # it may have been repaired since


def test_a_snapshot_is_chosen_while_peers_keep_it() -> None:
    """At the first tick with two vouchers, not when all the time for offers is over."""
    world = World()
    world.do(world.sync.begin(0, PEERS))
    world.do(world.sync.received(A, Offer(HONEST)))
    world.do(world.sync.tick())
    assert world.sync.phase is Phase.OFFERS
    world.do(world.sync.received(B, Offer(HONEST)))
    world.do(world.sync.tick())
    assert world.sync.phase is Phase.FETCH and OFFER_TICKS > 2
    world.do(world.sync.received(C, Offer(HONEST)))
    world.answer()
    assert isinstance(world.effects[-1], Ready)


def test_offers_that_come_seconds_late_are_used() -> None:
    """Their senders had to dial this hub first, which they try every few seconds, or were executing a block."""
    world = World()
    world.do(world.sync.begin(0, PEERS))
    world.ticks(6)
    assert world.sync.phase is Phase.OFFERS and world.sync.expects(A)
    world.do(world.sync.received(A, Offer(HONEST)))
    world.ticks(6)
    world.do(world.sync.received(B, Offer(HONEST)))
    world.ticks(1)
    world.answer()
    assert isinstance(world.effects[-1], Ready)


def test_it_waits_for_offers_no_longer_than_for_the_last_answer() -> None:
    world = World()
    world.do(world.sync.begin(0, PEERS))
    for peer in (A, B):
        world.do(world.sync.received(peer, NothingToOffer()))
    world.ticks(2)
    assert world.sync.phase is Phase.OFFERS
    world.do(world.sync.received(C, Offer(OLDER)))
    world.ticks(1)
    assert world.sync.phase is Phase.OFFERS  # its next offer may be on the way
    world.do(world.sync.received(C, Offer(HONEST)))
    world.ticks(2)
    assert world.sync.phase is Phase.IDLE and isinstance(world.effects[-1], GaveUp)


def test_it_waits_for_the_silent_no_longer_than_a_bound() -> None:
    world = World()
    world.do(world.sync.begin(0, PEERS))
    world.do(world.sync.received(A, Offer(HONEST)))
    world.ticks(OFFER_TICKS - 1)
    assert world.sync.phase is Phase.OFFERS
    world.ticks(1)
    assert world.sync.phase is Phase.IDLE and isinstance(world.effects[-1], GaveUp)


def test_who_connects_while_offers_are_waited_for_is_asked_once() -> None:
    world = World()
    world.do(world.sync.begin(5, (A,)))
    world.ticks(1, peers=(A,))
    world.ticks(2, peers=(ME, A, B))
    asked = [e for e in world.effects if isinstance(e, SendTo)]
    assert asked == [SendTo(A, AskSnapshots(5)), SendTo(B, AskSnapshots(5))]


def test_what_blocks_have_overtaken_is_not_fetched() -> None:
    world = World()
    world.do(world.sync.begin(0, PEERS))
    for peer in (A, B):
        world.do(world.sync.received(peer, Offer(OLDER)))
    world.ticks(1, height=OLDER.height)
    assert world.sync.phase is Phase.OFFERS
    for peer in (A, B):
        world.do(world.sync.received(peer, Offer(HONEST)))
    world.ticks(1, height=OLDER.height)
    assert [e.manifest for e in world.effects if isinstance(e, Begin)] == [HONEST]


def test_chunks_that_are_late_together_count_once_against_their_peer() -> None:
    """They wait behind one another, or behind a large block."""
    world = World()
    world.begin((A, HONEST), (B, HONEST))
    late = list(world.fetches)
    world.ticks(CHUNK_TICKS)
    assert world.sync.phase is Phase.FETCH and world.dropped() == [] and len(world.fetches) == 2 * len(late)
    world.fetches = world.fetches[len(late) :]
    world.answer()
    assert isinstance(world.effects[-1], Ready)


def test_who_vouched_for_chunks_that_do_not_make_the_state_is_dropped() -> None:
    world = World()
    world.begin((A, HONEST), (B, HONEST), (C, OLDER))
    world.answer()
    world.do(world.sync.installed("state hash differs"))
    assert world.dropped() == [A, B] and world.sync.phase is Phase.IDLE


def test_an_interrupted_sync_fetches_only_what_is_missing() -> None:
    world = World()
    world.sync.resume(HONEST, range(15))
    world.begin((A, HONEST))  # one is enough: what is kept was vouched for when it was chosen
    assert not any(isinstance(e, Begin) for e in world.effects)
    world.answer()
    assert sorted(world.kept()) == [15, 16, 17, 18, 19] and isinstance(world.effects[-1], Ready)


def test_an_interrupted_snapshot_is_waited_for_while_offers_come() -> None:
    world = World()
    world.sync.resume(HONEST, range(15))
    world.do(world.sync.begin(0, PEERS))
    for peer in (A, B):
        world.do(world.sync.received(peer, Offer(OLDER)))
    world.ticks(1)
    assert world.sync.phase is Phase.OFFERS
    world.do(world.sync.received(A, Offer(HONEST)))
    world.ticks(1)
    world.answer()
    assert sorted(world.kept()) == [15, 16, 17, 18, 19] and isinstance(world.effects[-1], Ready)


def test_an_interrupted_snapshot_that_nobody_keeps_is_replaced() -> None:
    world = World()
    world.sync.resume(OLDER, range(15))
    world.begin((A, HONEST), (B, HONEST))
    world.answer()
    assert world.kept() == dict(enumerate(CHUNKS)) and Begin(HONEST) in world.effects


def test_nothing_is_decoded_of_who_was_not_asked() -> None:
    world = World()
    assert not world.sync.expects(A)
    world.begin((A, HONEST), (B, HONEST), (C, unproved(OLDER)))
    assert world.sync.expects(A) and not world.sync.expects(C)
    world.do(world.sync.received(A, Offer(OLDER)))
    world.answer(silent=(A,))
    assert world.sync.expects(A)  # it said all it may, but owes chunks
    world.do(world.sync.abort("disk is full"))
    assert isinstance(world.effects[-1], GaveUp) and not world.sync.expects(A)
    assert world.sync.abort("again") == []


def test_a_pruned_chunk_passes_its_peer_over() -> None:
    world = World()
    world.begin((A, HONEST), (B, HONEST))
    peer, message = world.fetches[0]
    world.do(world.sync.received(peer, Chunk(message.chunk, b"")))
    other = B if peer == A else A
    assert world.dropped() == []
    world.fetches = [(p, m) for p, m in world.fetches if p == other]
    world.answer()
    assert world.kept() == dict(enumerate(CHUNKS))


def one_move(world: World, chance: random.Random, asked: list[FetchChunk]) -> list[SyncEffect]:
    """Something a peer may do at any time, or a tick."""
    peer, message = chance.choice((A, B, C, ADDRESSES[6])), chance.choice(asked)
    match chance.randrange(5):
        case 0:
            return world.sync.received(peer, Chunk(message.chunk, CHUNKS[chance.randrange(20)]))
        case 1:
            return world.sync.received(peer, Chunk(message.chunk, CHUNKS[message.chunk.index]))
        case 2:
            return world.sync.received(peer, Offer(chance.choice((HONEST, unproved(OLDER)))))
        case 3:
            return world.sync.received(peer, NothingToOffer())
    return world.sync.tick()


@pytest.mark.parametrize("seed", range(60))
def test_random_peers_never_break_a_bound_nor_slip_in_a_byte(seed: int) -> None:
    """Answers late, wrong, twice, unasked; offers at any time. Whatever is kept is right."""
    chance = random.Random(seed)
    world = World()
    world.begin(*((peer, chance.choice((HONEST, OLDER, FALSE_CHUNKS))) for peer in (A, B, C) for _ in range(2)))
    asked = [message for _, message in world.fetches] or [FetchChunk(ChunkId(10, 1, HONEST.snapshot.hash, 0))]
    for _ in range(200):
        world.do(one_move(world, chance, asked))
        asked = [message for _, message in world.fetches] or asked
        under_way: dict[bytes, int] = {}
        for one in world.sync._asked.values():
            under_way[one.peer] = under_way.get(one.peer, 0) + 1
        assert sum(under_way.values()) <= CHUNKS_UNDER_WAY
        assert max(under_way.values(), default=0) <= CHUNKS_OF_ONE_PEER
        assert not set(under_way) & set(world.sync.dropped)
    chosen = next((e.manifest for e in world.effects if isinstance(e, Begin)), None)
    if chosen in (HONEST, OLDER):
        assert all(data == CHUNKS[i] for i, data in world.kept().items())
