"""Reading: a block that is held or of no use is not decoded, and nothing else changes by that.

Whether a block was decoded shows by one that cannot be: its transactions are not those of its header.
"""

from __future__ import annotations

import dataclasses
import random

import pytest
from pbft_lab import Lab

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.decoding import decode_message
from hub.ppdl.consensus.early import EARLY_BLOCK_BYTES, EARLY_HEIGHTS
from hub.ppdl.consensus.effects import Announced, Complaint, Effect, Event, Received, Report, Restored, Tip
from hub.ppdl.consensus.messages import (
    Decided,
    Message,
    MessageError,
    NewView,
    ViewChange,
    encode_message,
)
from hub.ppdl.consensus.reading import read_message
from hub.ppdl.consensus.replica import Replica

TX = b"a transaction"


def broken(message: Message) -> bytes:
    """Its bytes with a transaction changed that the header vouches for."""
    wire = encode_message(message)
    changed = wire.replace(TX, TX.upper())
    assert changed != wire
    with pytest.raises(MessageError, match="not those of its header"):
        decode_message(changed)
    return changed


def read(lab: Lab, i: int, sender: int, wire: bytes) -> Received | Announced | None:
    return read_message(lab.members[i].replica, lab.addresses[sender], wire)


def take(lab: Lab, i: int, sender: int, wire: bytes) -> list[Effect]:
    event = read(lab, i, sender, wire)
    return [] if event is None else lab.step(i, event)


def tip_at(lab: Lab, height: int) -> Tip:
    return dataclasses.replace(lab.tip, height=height)


# proposals


def test_a_proposal_that_is_wanted_is_decoded() -> None:
    lab = Lab()
    proposal = lab.pre_prepare(1, 0, lab.block(1, TX))
    assert read(lab, 0, 1, encode_message(proposal)) == Received(lab.addresses[1], proposal)
    with pytest.raises(MessageError, match="not those of its header"):
        read(lab, 0, 1, broken(proposal))


def test_the_second_proposal_in_its_place_is_not_decoded() -> None:
    lab = Lab()
    first, second = (lab.pre_prepare(1, 0, lab.block(1, TX, tx)) for tx in (b"one", b"other"))
    take(lab, 0, 1, encode_message(first))
    assert isinstance(read(lab, 0, 1, broken(first)), Announced)
    assert isinstance(read(lab, 0, 1, broken(second)), Announced)
    assert take(lab, 0, 1, broken(first)) == []
    (effect,) = take(lab, 0, 1, broken(second))
    assert isinstance(effect, Report) and effect.complaint is Complaint.EQUIVOCATION and effect.evidence is not None


@pytest.mark.parametrize(
    ("signer", "proposer", "tip", "why"),
    [
        (2, 1, None, "not signed by the proposer"),
        (1, 3, None, "names another proposer"),
        (1, 1, "other", "does not follow"),
    ],
)
def test_a_proposal_that_cannot_be_accepted_is_refused_undecoded(signer: int, proposer: int, tip: str | None, why: str) -> None:
    lab = Lab()
    parent = dataclasses.replace(lab.tip, hash=bytes(32)) if tip else lab.tip
    (effect,) = take(lab, 0, 1, broken(lab.pre_prepare(signer, 0, lab.block(proposer, TX, tip=parent))))
    assert isinstance(effect, Report) and effect.complaint is Complaint.INVALID and why in effect.detail


def test_a_proposal_of_a_later_view_without_its_new_view_is_refused_undecoded() -> None:
    lab = Lab()
    (effect,) = take(lab, 0, 2, broken(lab.pre_prepare(2, 1, lab.block(2, TX))))
    assert isinstance(effect, Report) and "without its new view" in effect.detail


def test_who_contradicts_itself_after_the_decision_is_accused_undecoded() -> None:
    lab = Lab()
    lab.propose(1)
    lab.deliver()
    assert lab.heights() == [1] * 4
    (effect,) = take(lab, 0, 1, broken(lab.pre_prepare(1, 0, lab.block(1, TX))))
    assert isinstance(effect, Report) and effect.complaint is Complaint.EQUIVOCATION


def test_of_later_heights_the_first_proposal_of_whose_turn_it_is_is_decoded() -> None:
    lab = Lab()
    replica = lab.members[0].replica
    for height in range(2, EARLY_HEIGHTS + 4):
        turn, tip = height % 4, tip_at(lab, height - 1)
        right = lab.pre_prepare(turn, 0, lab.block(turn, TX, tip=tip))
        other = (turn + 1) % 4
        assert isinstance(read(lab, 0, other, broken(lab.pre_prepare(other, 0, lab.block(other, TX, tip=tip)))), Announced)
        forged = dataclasses.replace(right, signature=lab.pre_prepare(other, 0, right.block).signature)
        assert isinstance(read(lab, 0, turn, broken(forged)), Announced)
        near = height <= 1 + EARLY_HEIGHTS
        assert isinstance(read(lab, 0, turn, encode_message(right)), Received if near else Announced)
        take(lab, 0, turn, encode_message(right))
        assert isinstance(read(lab, 0, turn, broken(lab.pre_prepare(turn, 0, lab.block(turn, TX, b"2", tip=tip)))), Announced)
        assert replica.peer_heights[lab.addresses[turn]] == height  # heard all the same
    assert len(replica._early) == EARLY_HEIGHTS


# view changes


def test_a_block_beside_a_view_change_is_decoded_if_it_is_news_and_not_held() -> None:
    lab = Lab()
    block = lab.block(1, TX)
    change = lab.view_change(1, 1, lab.cert(0, block), block)
    assert read(lab, 0, 1, encode_message(change)) == Received(lab.addresses[1], change)
    with pytest.raises(MessageError, match="not those of its header"):
        read(lab, 0, 1, broken(change))
    take(lab, 0, 1, encode_message(change))
    assert read(lab, 0, 1, broken(change)) == Received(lab.addresses[1], change.bare())
    again = read(lab, 0, 2, broken(lab.view_change(2, 1, lab.cert(0, block), block)))
    assert isinstance(again, Received) and isinstance(again.message, ViewChange) and again.message.block == block
    held = lab.members[0].replica.held(block.hash)
    assert held is not None and again.message.block is held


def test_a_block_beside_a_view_change_that_proves_nothing_is_not_decoded() -> None:
    lab = Lab()
    block = lab.block(1, TX)
    change = lab.view_change(1, 1, lab.cert(0, block, signers=(0, 1)), block)
    (effect,) = take(lab, 0, 1, broken(change))
    assert isinstance(effect, Report) and effect.complaint is Complaint.INVALID


def test_a_new_view_brings_no_block_that_is_held() -> None:
    lab = Lab()
    block = lab.block(1, TX)
    changes = tuple(lab.view_change(i, 1, lab.cert(0, block)) for i in (0, 1, 2))
    take(lab, 0, 1, encode_message(lab.view_change(1, 1, lab.cert(0, block), block)))
    event = read(lab, 0, 2, broken(lab.new_view(2, 1, changes, block)))
    assert isinstance(event, Received) and isinstance(event.message, NewView)
    assert event.message.proposal.block is lab.members[0].replica.held(block.hash)


def quorum_for(lab: Lab, view: int, height: int = 1) -> tuple[ViewChange, ...]:
    return tuple(lab.view_change(i, view, height=height) for i in (0, 1, 2))


def test_a_new_view_that_is_wanted_is_decoded() -> None:
    lab = Lab()
    message = lab.new_view(2, 1, quorum_for(lab, 1), lab.block(2, TX))
    assert read(lab, 0, 2, encode_message(message)) == Received(lab.addresses[2], message)
    with pytest.raises(MessageError, match="not those of its header"):
        read(lab, 0, 2, broken(message))


def worthless_new_views(lab: Lab) -> list[tuple[NewView, str]]:
    """What a proposer may sign as often as it likes, and why it opens nothing."""
    block, changes = lab.block(2, TX), quorum_for(lab, 1)
    forged = dataclasses.replace(changes[2], signature=changes[1].signature)
    certified = (*changes[:2], lab.view_change(2, 1, lab.cert(0, lab.block(1, b"another"))))
    return [
        (dataclasses.replace(lab.new_view(2, 1, changes, block), signature=bytes(64) + b"\x1b"), "signature of a NEW_VIEW"),
        (lab.new_view(3, 1, changes, block), "not signed by the proposer"),
        (lab.new_view(2, 1, changes[:2], block), "2 signers"),
        (lab.new_view(2, 1, (*changes[:2], forged), block), "strictly ascending"),
        (lab.new_view(2, 1, certified, block), "highest prepared certificate"),
        (lab.new_view(2, 1, changes, lab.block(1, TX)), "names another proposer"),
    ]


@pytest.mark.parametrize("number", range(6))
def test_a_new_view_that_proves_nothing_is_refused_undecoded(number: int) -> None:
    lab = Lab()
    message, why = worthless_new_views(lab)[number]
    before = dataclasses.replace(lab.members[0].replica.state)
    (effect,) = take(lab, 0, 2, broken(message))
    assert isinstance(effect, Report) and effect.complaint is Complaint.INVALID and why in effect.detail
    assert lab.members[0].replica.state == before


def test_a_second_new_view_of_an_open_view_is_not_decoded() -> None:
    lab = Lab()
    take(lab, 0, 2, encode_message(lab.new_view(2, 1, quorum_for(lab, 1), lab.block(2, TX))))
    again = broken(lab.new_view(2, 1, quorum_for(lab, 1), lab.block(2, TX, b"another")))
    assert isinstance(read(lab, 0, 2, again), Announced)
    (effect,) = take(lab, 0, 2, again)
    assert isinstance(effect, Report) and effect.complaint is Complaint.EQUIVOCATION


def test_of_the_next_height_a_sender_s_highest_new_view_is_decoded() -> None:
    lab = Lab()
    early, tip = lab.members[0].replica._early, tip_at(lab, 1)

    def new_view(view: int, *txs: bytes, signers: int = 3) -> NewView:
        who = (2 + view) % 4
        return lab.new_view(who, view, quorum_for(lab, view, 2)[:signers], lab.block(who, *txs, tip=tip))

    assert isinstance(read(lab, 0, 3, broken(new_view(1, TX, signers=2))), Announced)
    assert take(lab, 0, 3, broken(new_view(1, TX, signers=2))) == [] and len(early) == 0
    take(lab, 0, 3, encode_message(new_view(1, TX)))
    assert isinstance(read(lab, 0, 3, broken(new_view(1, TX, b"another"))), Announced)
    assert isinstance(read(lab, 0, 3, encode_message(new_view(5, TX, b"another"))), Received)
    with pytest.raises(MessageError):
        read(lab, 0, 3, broken(new_view(5, TX, b"third")))
    far = lab.new_view(0, 1, quorum_for(lab, 1, 3), lab.block(0, TX, tip=tip_at(lab, 2)))
    assert isinstance(read(lab, 0, 0, broken(far)), Announced)
    assert len(early) == 1


def test_of_later_heights_one_large_proposal_of_a_sender_is_decoded() -> None:
    """Four validators have two turns each within EARLY_HEIGHTS."""
    lab = Lab()
    early, large = lab.members[0].replica._early, TX + bytes(EARLY_BLOCK_BYTES)
    turns = [lab.pre_prepare(2, 0, lab.block(2, tx, tip=tip_at(lab, height - 1))) for height, tx in ((2, large), (6, large))]
    small = lab.pre_prepare(2, 0, lab.block(2, TX, tip=tip_at(lab, 5)))
    take(lab, 0, 2, encode_message(turns[0]))
    assert isinstance(read(lab, 0, 2, broken(turns[1])), Announced)
    take(lab, 0, 2, broken(turns[1]))
    assert len(early) == 1 and early.missed == 6  # it will be asked for
    lab.step(0, Received(lab.addresses[2], turns[1]))  # nor is it kept when somebody decoded it
    assert len(early) == 1
    assert isinstance(read(lab, 0, 2, encode_message(small)), Received)
    other = lab.pre_prepare(3, 0, lab.block(3, large, tip=tip_at(lab, 2)))
    assert isinstance(read(lab, 0, 3, encode_message(other)), Received)  # each has a place of its own


# decisions


def test_a_decision_that_proves_nothing_is_refused_undecoded() -> None:
    lab = Lab()
    block = lab.block(1, TX)
    with pytest.raises(MessageError, match="not those of its header"):
        read(lab, 0, 2, broken(Decided(block, lab.qc(0, block))))
    (effect,) = take(lab, 0, 2, broken(Decided(block, lab.qc(0, block, signers=(0, 1)))))
    assert isinstance(effect, Report) and effect.complaint is Complaint.INVALID and "2 signers" in effect.detail
    assert lab.heights()[0] == 0


# what is over


def test_nothing_is_decoded_of_what_is_over() -> None:
    lab = Lab()
    block = lab.block(1, TX)
    new_view, decided = lab.new_view(2, 1, quorum_for(lab, 1), lab.block(2, TX)), Decided(block, lab.qc(0, block))
    for message in (new_view, decided):
        with pytest.raises(MessageError):
            read(lab, 0, 2, broken(message))
    lab.propose(1)
    lab.deliver()
    for message in (new_view, decided):
        assert read(lab, 0, 2, broken(message)) is None


def test_the_header_of_a_block_is_read_alone() -> None:
    block = Lab().block(1, TX)
    assert Block.decode_header(block.encoded) == block.header
    assert Block.decode_header(memoryview(block.encoded)[:-1]) == block.header
    assert block.size == len(block.encoded)


@pytest.mark.parametrize("sizes", [(), (1,), (23,), (24,), (255,), (256,), (65_535,), (65_536,), range(1, 300)])
def test_the_size_of_a_block_is_that_of_its_encoding(sizes: tuple[int, ...]) -> None:
    block = Lab().block(1, *(bytes(size) for size in sizes))
    assert block.size == len(block.encoded)


# nothing else changes


class ReadingLab(Lab):
    """Every message travels as bytes and is read; a second replica of each member is given the whole ones instead."""

    def __init__(self, n: int = 4) -> None:
        self.whole: dict[int, Replica] = {}
        self.announced = 0
        super().__init__(n)

    def make(self, i: int, tip: Tip | None = None, restored: Restored | None = None) -> Replica:
        self.whole[i] = super().make(i, tip, restored)
        self.whole[i].start()
        return super().make(i, tip, restored)

    def step(self, i: int, event: Event) -> list[Effect]:
        expected = self.whole[i].step(event)
        read: Event | None = event
        if isinstance(event, Received):
            read = read_message(self.members[i].replica, event.sender, encode_message(event.message))
        self.announced += isinstance(read, Announced)
        effects = [] if read is None else self.members[i].replica.step(read)
        assert effects == expected
        self.carry(i, effects)
        return effects


@pytest.mark.parametrize("seed", range(20))
def test_a_replica_that_reads_does_what_one_that_decodes_everything_does(seed: int) -> None:
    """Messages lost, overtaken and repeated, timeouts, and a validator that proposes two blocks wherever it is its turn."""
    lab, chance = ReadingLab(), random.Random(seed)
    for _ in range(600):
        draw = chance.random()
        if draw < 0.03:
            lab.time_out(chance.randrange(4))
        elif draw < 0.1:
            wanting = [i for i, m in enumerate(lab.members) if m.wants and m.wants[-1].height == m.replica.height]
            if wanting:
                lab.propose(chance.choice(wanting), b"%d" % chance.randrange(1000))
        elif draw < 0.16:
            tip = chance.choice(lab.members).replica.tip
            at = tip if chance.random() < 0.5 else dataclasses.replace(tip, height=tip.height + chance.randrange(12))
            liar = (at.height + 1) % 4
            victim = chance.choice([i for i in range(4) if i != liar])
            lie = lab.pre_prepare(liar, 0, lab.block(liar, b"lie %d" % chance.randrange(2), tip=at))
            lab.wire.append((liar, victim, lie))
        elif lab.wire:
            place = chance.randrange(min(12, len(lab.wire)))
            a, b, message = lab.wire[place] if chance.random() < 0.2 else lab.wire.pop(place)
            if chance.random() < 0.95:
                lab.step(b, Received(lab.addresses[a], message))
    assert lab.announced > 10
