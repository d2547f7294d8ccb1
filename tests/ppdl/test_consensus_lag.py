"""A replica that was slow for a moment goes on at once with the others: it waits for no tick, which nobody here sends.

The others wait for it as soon as it is their proposer or their quorum, so that whatever it waits for stops the chain.
"""

from __future__ import annotations

import dataclasses

import pytest
from pbft_lab import Lab

from hub.ppdl.consensus.early import EARLY_HEIGHTS
from hub.ppdl.consensus.effects import Received
from hub.ppdl.consensus.messages import Decided, Message, Status, SyncRequest, SyncResponse


class BusyLab(Lab):
    """A lab in which some members execute nothing until they are released."""

    def __init__(self, n: int = 4) -> None:
        self.busy: set[int] = set()
        self.held: dict[int, Decided] = {}
        super().__init__(n)

    def advance(self, i: int, decided: Decided) -> None:
        if i in self.busy:
            self.held[i] = decided
        else:
            super().advance(i, decided)

    def release(self, i: int) -> None:
        """The member has executed its block."""
        self.busy.discard(i)
        self.advance(i, self.held.pop(i))

    def run_heights(self, *heights: int) -> None:
        """Decide these heights, in view 0 where the proposer is not busy, else in view 1."""
        for height in heights:
            proposer = height % len(self.members)
            if proposer in self.busy:
                self.time_out(*(i for i in range(len(self.members)) if i not in self.busy))
            else:
                self.propose(proposer, b"height %d" % height)
            self.deliver()


def wanted(lab: Lab, i: int) -> int:
    return lab.members[i].wants[-1].height


def asked(lab: Lab, i: int) -> list[Message]:
    return [message for a, _, message in lab.wire if a == i and isinstance(message, SyncRequest)]


def test_a_proposer_that_executed_slowly_has_its_turn_at_once() -> None:
    """It heard the votes of three heights while it executed the first of them; then the others wait for its proposal."""
    lab = BusyLab()
    lab.busy.add(0)
    lab.run_heights(1, 2, 3)
    assert lab.heights() == [0, 3, 3, 3]
    lab.release(0)
    assert lab.heights() == [3, 3, 3, 3] and not asked(lab, 0)  # nothing was lost: nobody is asked
    assert wanted(lab, 0) == 4


def test_a_voter_that_executed_slowly_votes_for_what_it_heard_meanwhile() -> None:
    """The height under way needs its vote, since another one is down: no decided block can bring it there."""
    lab = BusyLab()
    lab.busy.add(0)
    lab.run_heights(1, 2)
    lab.members[1].up = False
    lab.run_heights(3)
    assert lab.heights() == [0, 2, 2, 2]
    lab.release(0)
    lab.deliver()
    assert lab.heights() == [3, 2, 3, 3]


def test_a_replica_that_executed_for_long_asks_at_once_for_what_it_could_not_keep() -> None:
    """Views were changed without it, and more heights passed than it keeps messages of."""
    lab = BusyLab()
    lab.busy.add(0)
    last = EARLY_HEIGHTS + 5
    lab.run_heights(*range(1, last + 1))
    assert lab.heights() == [0, last, last, last]
    lab.release(0)
    lab.deliver()
    assert lab.heights() == [last] * 4


def test_an_answer_that_comes_while_a_block_is_executed_is_not_lost() -> None:
    lab = BusyLab()
    lab.members[0].up = False
    lab.run_heights(1, 2, 3)
    lab.members[0].up = True
    lab.step(0, Received(lab.addresses[1], Status(4)))
    assert asked(lab, 0) == [SyncRequest(1)]
    lab.wire.clear()
    chain = lab.members[1].decided
    lab.busy.add(0)
    lab.step(0, Received(lab.addresses[2], chain[0]))  # it decides on another path
    lab.step(0, Received(lab.addresses[1], SyncResponse(tuple(chain))))
    lab.release(0)
    assert lab.heights() == [3] * 4


def test_attack_messages_of_far_heights_cost_a_bounded_memory() -> None:
    """One of each vote for each of a few heights, and a proposal only of whoever proposes there."""
    lab = BusyLab()
    replica = lab.members[0].replica
    for height in range(2, 200):
        tip = dataclasses.replace(lab.tip, height=height - 1)
        for number in range(3):
            block = lab.block(3, b"%d" % number, tip=tip)
            for message in (lab.pre_prepare(3, 0, block), lab.prepare(3, 0, block), lab.commit(3, 0, block)):
                lab.step(0, Received(lab.addresses[3], message))
    turns = [height for height in range(2, 2 + EARLY_HEIGHTS) if height % 4 == 3]
    assert len(replica._early) == 2 * EARLY_HEIGHTS + len(turns)


@pytest.mark.parametrize("height", [2, 3])
def test_row_12_who_left_the_set_leaves_no_early_message(height: int) -> None:
    lab = BusyLab()
    replica = lab.members[0].replica
    tip = dataclasses.replace(lab.tip, height=height - 1)
    lab.step(0, Received(lab.addresses[3], lab.commit(3, 0, lab.block(3, b"x", tip=tip))))
    assert len(replica._early) == 1
    taken = replica._early.take(height - 1, lab.set)
    assert taken == [] and len(replica._early) == 1
    fewer = dataclasses.replace(lab.set, addresses=tuple(lab.addresses[:3]))
    replica._early.take(height - 1, fewer)
    assert len(replica._early) == 0
