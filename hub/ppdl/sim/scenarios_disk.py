"""Scripted scenarios about disks, catching up and validator sets; see `scenarios.py`."""

from __future__ import annotations

from hub.ppdl.consensus.messages import Decided, Status, SyncResponse
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim import scenarios
from hub.ppdl.sim.disk import Disk
from hub.ppdl.sim.faults import Faults
from hub.ppdl.sim.scenarios import Scenario
from hub.ppdl.sim.stage import Stage
from hub.ppdl.sim.world import World, rotating_sets

BOUNDARIES = range(1, 76)
"""Boundaries of node 1 at which it dies in turn: some three heights of four or five effects, each with its disk's own."""


def _behind_by_two(replica_class: type[Replica], phase: str) -> Stage:
    """Node 0 stands still in some phase of height 1 while the others decide two heights."""
    stage = Stage(replica_class=replica_class)
    if phase == "idle":
        stage.cut((1, 2, 3))
    elif phase == "prepared":
        stage.lose("COMMIT", to=(0,))
    elif phase == "proposed":
        stage.lose("PREPARE", "COMMIT", to=(0,))
    else:
        stage.cut((1, 2, 3))
        stage.time_out(0)
    stage.propose(1)
    stage.deliver()
    stage.everything_passes()
    stage.cut((1, 2, 3))
    stage.propose(2)
    stage.deliver()
    stage.expect(stage.world.heights() == [0, 2, 2, 2], f"node 0 is two heights behind, in phase {phase}")
    stage.everything_passes()
    return stage


def row_6_blocks_arrive_in_any_phase(replica_class: type[Replica] = Replica) -> list[str]:
    """A node that is left behind idle, with a proposal, prepared or changing views must catch up and vote again."""
    failures: list[str] = []
    for phase in ("idle", "proposed", "prepared", "view changing"):
        stage = _behind_by_two(replica_class, phase)
        stage.recover(3)
        failures += [f"{phase}: {failure}" for failure in stage.failures]
    return failures


def row_6_a_restart_while_changing_views(replica_class: type[Replica] = Replica) -> list[str]:
    """The node that changed views crashes and returns: it neither votes in the old view nor waits for ever."""
    stage = _behind_by_two(replica_class, "view changing")
    stage.crash(0)
    stage.restart(0)
    stage.expect((stage.replica(0).view, stage.replica(0).state.active) == (1, False), "node 0 still wants view 1")
    stage.recover(3)
    return stage.failures


def row_8_a_wiped_proposer_does_not_propose_again(replica_class: type[Replica] = Replica) -> list[str]:
    """f = 1 disk is lost right after its node proposed: it must stay silent, later it votes again."""
    stage = Stage(faults=Faults(lost_disks=(1,)), replica_class=replica_class)
    stage.hold()
    stage.propose(1)
    stage.deliver()
    stage.crash(1)
    stage.restart(1)
    stage.expect(stage.node(1).asked is None, "a proposer without its log is not asked for a block")
    stage.everything_passes()
    stage.recover(8)
    stage.expect(stage.node(1).disk.log_complete, "node 1 votes again when it is past what it may have signed")
    return stage.failures


def row_8_more_than_f_wiped_disks_stop_the_chain(replica_class: type[Replica] = Replica) -> list[str]:
    """f + 1 = 2 disks are lost: nobody knows what was decided, so nothing more is, and nothing is forked."""
    stage = Stage(replica_class=replica_class)
    stage.propose(1)
    stage.deliver()
    for i in (0, 1):
        stage.crash(i)
        stage.node(i).disk = Disk(log_complete=False)
        stage.restart(i)
    stage.recover_in_vain(60_000)
    return stage.failures


def row_9_a_crash_at_every_boundary(replica_class: type[Replica] = Replica) -> list[str]:
    """Node 1 dies before each effect, between write and sync, after the sync, between block and application."""
    failures: list[str] = []
    crashes = 0
    for boundary in BOUNDARIES:
        faults = Faults(drop_percent=5, duplicate_percent=5, delay_ms=(1, 60), crash_at=(1, boundary))
        world = World(4, boundary % 3, faults, replica_class=replica_class)
        outcome = world.run(6)
        crashes += world.nodes[1].crashes
        failures += [f"boundary {boundary}: {violation}" for violation in outcome.violations]
    if crashes < len(BOUNDARIES) * 4 // 5:  # a few runs end before their boundary
        failures.append(f"expected that most of {len(BOUNDARIES)} boundaries are reached, not {crashes}")
    return failures


def row_9_the_same_vote_after_a_crash(replica_class: type[Replica] = Replica) -> list[str]:
    """Node 0 prepared A, crashes, and is shown B by the same proposer: it repeats A and says nothing of B."""
    stage = Stage(silent=(1,), replica_class=replica_class)
    around, liar = stage.world.around, stage.node(1).address
    blocks = [stage.forge.block(around.genesis, liar, around.ledger.offer(1, i), 5) for i in (0, 1)]
    for block in blocks:
        stage.say(1, stage.forge.pre_prepare(liar, 0, block), 0)
        stage.crash(0)
        stage.restart(0)
    stage.tick(0, 0)
    stage.deliver()
    stage.recover(2)
    return stage.failures


def row_11_a_lying_peer(replica_class: type[Replica] = Replica) -> list[str]:
    """Node 3's key claims a height that does not exist and answers with forged blocks: another peer is asked."""
    stage = Stage(silent=(3,), replica_class=replica_class)
    around, liar = stage.world.around, stage.node(3).address
    stage.lose("COMMIT", "STATUS", to=(0,))
    stage.propose(1)
    stage.deliver()
    forged = stage.forge.block(around.genesis, liar, around.ledger.offer(3, 0), 5)
    for _ in range(12):
        stage.say(3, Status(2**60), 0, 1, 2)
        stage.tick(0)
        stage.say(3, SyncResponse((stage.forge.decided((liar,), 0, forged),)), 0)
        stage.say(3, Decided(forged, stage.forge.decided((liar,), 0, forged).qc), 0)
    stage.expect(stage.block_at(1, 0) != forged.hash, "node 0 takes no forged block")
    stage.everything_passes()
    stage.recover(3)
    return stage.failures


def row_12_a_new_set_with_every_block(replica_class: type[Replica] = Replica) -> list[str]:
    """Every block swaps a validator: each certificate is checked with the set of its own height."""
    failures: list[str] = []
    for seed in range(4):
        faults = Faults(drop_percent=3, delay_ms=(1, 40))
        world = World(4, seed, faults, spare=1, set_rule=rotating_sets(4), replica_class=replica_class)
        failures += world.run(10).violations
        sets = {entry.tip.validators.hash for entry in world.nodes[0].disk.blocks}
        if len(sets) < 5:
            failures.append(f"expected that five sets take their turn, not {len(sets)}")
    return failures


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        scenarios.row_1_two_locks_and_a_crash,
        scenarios.row_2_three_of_five_do_not_decide,
        scenarios.row_3_blocks_without_proof,
        scenarios.row_4_flood_of_view_numbers,
        scenarios.row_4_two_others_are_joined,
        row_6_blocks_arrive_in_any_phase,
        row_6_a_restart_while_changing_views,
        scenarios.row_7_a_decided_block_survives_the_view_change,
        scenarios.row_7_a_prepared_block_survives_a_crash_of_all,
        row_8_a_wiped_proposer_does_not_propose_again,
        row_8_more_than_f_wiped_disks_stop_the_chain,
        row_9_a_crash_at_every_boundary,
        row_9_the_same_vote_after_a_crash,
        row_11_a_lying_peer,
        row_12_a_new_set_with_every_block,
        scenarios.row_13_an_equivocating_proposer,
        scenarios.row_15_a_silent_first_proposer,
        scenarios.new_view_takes_the_highest_certificate,
        scenarios.new_view_without_the_certificate_is_refused,
    )
}
"""Every scenario by name."""
