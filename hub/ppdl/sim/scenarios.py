"""Scripted scenarios: the cases that random seeds meet too rarely to be relied on.

Most are rows of the table of bugs that other engines shipped; the row's number stands in the name. Each is a function of the
replica's class, so that a planted bug can be put on the same stage, and returns what went wrong: nothing, for a replica that
keeps its promises. The proposer of (height h, view v) among n is node (h + v) % n; at height 1 of four: node 1, 2, 3, 0.

Here: views and certificates. Disks, catching up and validator sets: `scenarios_disk.py`.
"""

from __future__ import annotations

from typing import Protocol

from hub.ppdl.consensus.messages import MAX_VIEW, Decided, Kind, QuorumCert
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.stage import Stage


class Scenario(Protocol):
    """Plays a story with replicas of a class; says what went wrong."""

    __name__: str

    def __call__(self, replica_class: type[Replica] = Replica) -> list[str]: ...


FLOODED_VIEWS = 2_000
"""View numbers of one flood: a hundred times what any box keeps."""


def row_1_two_locks_and_a_crash(replica_class: type[Replica] = Replica) -> list[str]:
    """IBFT's deadlock: A is locked at one node in view 0, B at another in view 1, and a third node crashes."""
    stage = Stage(replica_class=replica_class)
    stage.prepared_only_at(0)
    stage.propose(1)
    stage.deliver()
    stage.everything_passes()
    stage.cut((1, 2, 3))
    stage.prepared_only_at(3)
    stage.time_out(1, 2, 3)
    stage.deliver()
    stage.expect((stage.prepared_view(0), stage.prepared_view(3)) == (0, 1), "node 0 holds A of view 0, node 3 B of view 1")
    stage.crash(2)
    stage.everything_passes()
    stage.recover(down=(2,))
    return stage.failures


def row_2_three_of_five_do_not_decide(replica_class: type[Replica] = Replica) -> list[str]:
    """A quorum of 2f + 1 = 3 would let two groups of five decide without a common honest member: four are needed."""
    stage = Stage(5, replica_class=replica_class)
    stage.cut((0, 1, 2), (3, 4))
    stage.propose(1)
    stage.deliver()
    stage.expect(stage.world.heights() == [0] * 5, "three of five decide nothing")
    stage.everything_passes()
    stage.recover()
    return stage.failures


def row_3_blocks_without_proof(replica_class: type[Replica] = Replica) -> list[str]:
    """A decided block with too few seals, with one seal three times, and with seals of two views proves nothing."""
    stage = Stage(silent=(3,), replica_class=replica_class)
    around, liar = stage.world.around, stage.node(3).address
    block = stage.forge.block(around.genesis, liar, around.ledger.offer(3, 0), 5)
    members = tuple(node.address for node in stage.world.nodes)
    first, second = stage.forge.decided(members[:2], 0, block).qc.seals, stage.forge.decided(members[2:], 1, block).qc.seals
    for seals in (first, first[:1] * 3, (*first, *second), tuple(reversed((*first, *second)))):
        stage.say(3, Decided(block, QuorumCert(0, seals)), 0, 1, 2)
    stage.expect(stage.world.heights() == [0, 0, 0], "nobody takes a block without proof")
    stage.recover()
    return stage.failures


def row_4_flood_of_view_numbers(replica_class: type[Replica] = Replica) -> list[str]:
    """One validator asks for thousands of views: it drags nobody and fills nothing."""
    stage = Stage(silent=(3,), replica_class=replica_class)
    liar = stage.node(3).address
    for view in (*range(1, FLOODED_VIEWS, 7), MAX_VIEW - 1, MAX_VIEW):
        stage.say(3, stage.forge.view_change(liar, 1, view), 0, 1, 2)
        for kind in (stage.forge.prepare, stage.forge.commit):
            stage.say(3, kind(liar, 1, view, bytes(32)), 0, 1, 2)
    stage.tick(0, 1, 2)  # looks at the memory
    stage.expect([stage.replica(i).view_changes_started for i in (0, 1, 2)] == [0, 0, 0], "nobody leaves view 0")
    stage.propose(1)
    stage.deliver()
    stage.expect(stage.world.heights() == [1, 1, 1], "the three others decide in view 0")
    stage.recover()
    return stage.failures


def row_4_two_others_are_joined(replica_class: type[Replica] = Replica) -> list[str]:
    """One suspicious node moves nobody; f + 1 of them, one of which is honest, take the others along."""
    stage = Stage(replica_class=replica_class)
    stage.time_out(0)
    stage.deliver()
    stage.expect([stage.replica(i).view_changes_started for i in (1, 2, 3)] == [0, 0, 0], "one alone moves nobody")
    stage.time_out(3)
    stage.deliver()
    stage.expect([stage.replica(i).view_changes_started for i in range(4)] == [1, 1, 1, 1], "two are joined by all")
    stage.expect(stage.world.heights() == [1, 1, 1, 1], "view 1 decides")
    stage.recover()
    return stage.failures


def row_7_a_decided_block_survives_the_view_change(replica_class: type[Replica] = Replica) -> list[str]:
    """All prepared A, node 1 alone saw it decided and falls silent: the next view must decide A as well."""
    stage = Stage(replica_class=replica_class)
    stage.lose("COMMIT", to=(0, 2, 3))
    stage.propose(1)
    stage.deliver()
    stage.expect(stage.world.heights() == [0, 1, 0, 0], "node 1 alone has decided")
    stage.everything_passes()
    stage.cut((0, 2, 3))
    stage.time_out(0, 2, 3)
    stage.deliver()
    stage.expect(stage.world.heights() == [1, 1, 1, 1], "the others decide in view 1")
    stage.everything_passes()
    stage.recover()
    return stage.failures


def row_7_a_prepared_block_survives_a_crash_of_all(replica_class: type[Replica] = Replica) -> list[str]:
    """Node 1 alone decided A; all four lose their memory, node 1 does not return at once: A it must be."""
    stage = Stage(replica_class=replica_class)
    stage.lose("COMMIT", to=(0, 2, 3))
    stage.propose(1)
    stage.deliver()
    stage.everything_passes()
    stage.crash(0, 1, 2, 3)
    stage.restart(0, 2, 3)
    stage.time_out(0, 2, 3)
    stage.deliver()
    stage.restart(1)
    stage.recover()
    return stage.failures


def new_view_takes_the_highest_certificate(replica_class: type[Replica] = Replica) -> list[str]:
    """A is prepared at node 0 in view 0; B is prepared in view 1 and decided by node 1 alone. View 2 must choose B."""
    stage = Stage(replica_class=replica_class)
    stage.prepared_only_at(0)
    stage.propose(1)
    stage.deliver()
    stage.everything_passes()
    stage.cut((1, 2, 3))
    stage.lose("COMMIT", to=(0, 2, 3))
    stage.time_out(1, 2, 3)
    stage.deliver()
    stage.expect(stage.world.heights() == [0, 1, 0, 0], "node 1 alone decides B in view 1")
    stage.expect((stage.prepared_view(0), stage.prepared_view(2), stage.prepared_view(3)) == (0, 1, 1), "A at 0, B at 2 and 3")
    stage.everything_passes()
    stage.cut((0, 2, 3))
    stage.time_out(0, 2, 3)
    stage.deliver()
    stage.time_out(0, 2, 3)
    stage.deliver()
    stage.everything_passes()
    stage.recover()
    return stage.failures


def new_view_without_the_certificate_is_refused(replica_class: type[Replica] = Replica) -> list[str]:
    """Node 2's key proposes a fresh block in view 1 although a VIEW-CHANGE it shows forces A, or shows too few."""
    stage = Stage(silent=(2,), replica_class=replica_class)
    stage.lose("COMMIT", to=(0, 3))
    stage.propose(1)
    stage.deliver()
    around, liar = stage.world.around, stage.node(2).address
    stage.expect(stage.world.heights() == [0, 1, 0], "node 1 alone has decided A, 0 and 3 are prepared")
    stage.everything_passes()
    stage.time_out(0, 3)
    changes = tuple(stage.replica(i).state.view_changes.all()[0].bare() for i in (0, 3))
    mine = stage.forge.view_change(liar, 1, 1)
    fresh = stage.forge.block(around.genesis, liar, around.ledger.offer(2, 0), 7)
    by_sender = {around.scheme.domain.signer(Kind.VIEW_CHANGE, 1, 1, vc.digest, vc.signature): vc for vc in (*changes, mine)}
    whole = tuple(vc for _, vc in sorted(by_sender.items()))
    for shown in (whole, (mine,), (mine, mine, mine), whole[:2]):
        stage.say(2, stage.forge.new_view(liar, 1, shown, fresh), 0, 1, 3)
    votes = [place for i in (0, 3) for place, vote in stage.node(i).disk.votes.items() if vote.digest == fresh.hash]
    stage.expect(not votes, "nobody votes for a block that hides a certificate")
    stage.recover()
    return stage.failures


def row_13_an_equivocating_proposer(replica_class: type[Replica] = Replica) -> list[str]:
    """Node 1's key proposes A to one and B to two others, and votes for both: one block or none, then progress."""
    stage = Stage(silent=(1,), replica_class=replica_class)
    around, liar = stage.world.around, stage.node(1).address
    blocks = [stage.forge.block(around.genesis, liar, around.ledger.offer(1, i), 5) for i in (0, 1)]
    for block, hears in zip(blocks, ((0,), (2, 3)), strict=True):
        stage.say(1, stage.forge.pre_prepare(liar, 0, block), *hears)
        stage.say(1, stage.forge.prepare(liar, 1, 0, block.hash), *hears)
        stage.say(1, stage.forge.commit(liar, 1, 0, block.hash), *hears)
    stage.recover(3)
    return stage.failures


def row_15_a_silent_first_proposer(replica_class: type[Replica] = Replica) -> list[str]:
    """Nothing is pending and the proposer is gone: the idle height is watched, the next proposer takes over."""
    stage = Stage(silent=(1,), replica_class=replica_class)
    armed = [stage.node(i).armed for i in (0, 2, 3)]
    stage.expect(all(timer is not None and timer.idle for timer in armed), "the idle height is watched by all")
    stage.recover(3)
    return stage.failures
