"""The oracles find what they are there for: broken replicas, broken disks, memory without bounds."""

from __future__ import annotations

import pytest
from planted import (
    AcceptsAnyBlock,
    ForgetsCertificate,
    KeepsAllViews,
    SendsBeforeDisk,
)

from hub.ppdl.consensus.catchup import MAX_STRANGERS
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.messages import Kind, Status
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.bounds import HEIGHT_BOUNDS, REPLICA_BOUNDS, containers, memory_faults
from hub.ppdl.sim.faults import Faults
from hub.ppdl.sim.keys import validator_addresses
from hub.ppdl.sim.oracles import least_quorum
from hub.ppdl.sim.world import World

TWINS = Faults(partition_ms=700, drop_percent=5, delay_ms=(1, 300))
LOSSY = Faults(drop_percent=5, duplicate_percent=5, delay_ms=(1, 60))


def first_violation(limit: int, faults: Faults, replica_class: type[Replica] = Replica, **more: tuple[int, ...]) -> str:
    for seed in range(limit):
        violations = World(4, seed, faults, replica_class=replica_class, **more).run(6).violations  # type: ignore[arg-type]
        if violations:
            return violations[0]
    return ""


def test_a_view_change_without_certificate_forks() -> None:
    assert first_violation(120, TWINS, ForgetsCertificate, twins=(0,)).startswith("fork")


def test_a_quorum_of_2f(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ValidatorSet, "quorum", property(lambda self: 2 * self.max_faulty))
    assert first_violation(5, TWINS, twins=(0,)).startswith("bad certificate")


def test_votes_that_are_not_durable() -> None:
    assert first_violation(3, LOSSY, SendsBeforeDisk).startswith("not durable")


def test_a_disk_that_forgets() -> None:
    faults = Faults(drop_percent=10, crash_per_mille=20, delay_ms=(1, 300), forgetful_disks=True)
    assert first_violation(20, faults).startswith("double vote")


def test_a_block_that_the_application_rejects() -> None:
    assert first_violation(20, LOSSY, AcceptsAnyBlock, twins=(1,)).startswith("invalid block")


def test_no_progress() -> None:
    world = World(4, 0)
    for number in (0, 1):
        world.nodes[number].peers = []
    outcome = world.run(3)
    assert outcome.violations and outcome.violations[0].startswith("no progress: heights [0, 0, 0, 0] of 3")


def test_a_container_without_a_named_bound() -> None:
    violations = World(4, 0, LOSSY, replica_class=KeepsAllViews).run(4).violations
    assert violations[0].endswith("heard_view_changes has no named bound in hub/ppdl/sim/bounds.py")


def test_a_container_over_its_bound() -> None:
    world = World(4, 0)
    world.start()
    replica = world.nodes[0].replica
    assert replica is not None and memory_faults(replica, 4) == []
    for i in range(120):
        replica._early._messages[(i, bytes(20), Kind.STATUS)] = Status(1)  # type: ignore[assignment]
    assert memory_faults(replica, 4) == ["_early holds 120, its bound is 104"]


def test_answers_of_the_last_set_are_within_the_bound_and_one_more_is_not() -> None:
    world = World(4, 0)
    world.start()
    replica, known = world.nodes[0].replica, validator_addresses(5)
    assert replica is not None
    replica._decided_by = ValidatorSet(tuple(known))  # one of them has left since
    replica.hints = dict.fromkeys(known, 1)
    assert memory_faults(replica, 5) == []
    replica.hints[bytes(20)] = 1
    assert memory_faults(replica, 5) == ["hints holds 6, its bound is 5"]


def test_heights_of_strangers_are_within_the_bound_and_one_more_is_not() -> None:
    world = World(4, 0)
    world.start()
    replica, many = world.nodes[0].replica, 4 + MAX_STRANGERS
    assert replica is not None
    replica.peer_heights = {number.to_bytes(20, "big"): 1 for number in range(many)}
    assert memory_faults(replica, 1_000) == []
    assert memory_faults(replica, 5) == [f"peer_heights holds {many}, its bound is 5"]  # no more than may connect
    replica.peer_heights[bytes([1]) * 20] = 1
    assert memory_faults(replica, 1_000) == [f"peer_heights holds {many + 1}, its bound is {many}"]


def test_a_container_without_a_bound_is_found_when_its_node_goes_down() -> None:
    world = World(4, 0, replica_class=KeepsAllViews)
    world.start()
    assert world.oracles.violations == []
    world.nodes[2].go_down()
    named = "heard_view_changes has no named bound in hub/ppdl/sim/bounds.py"
    assert world.oracles.violations == [f"unbounded memory: node 2: {named}"]


def test_the_table_of_bounds_names_what_there_is() -> None:
    """A name in the table that no replica has would hide a container that was renamed."""
    world = World(4, 0)
    world.start()
    assert world.nodes[0].replica is not None
    names, of_height = containers(world.nodes[0].replica)
    assert set(names) == set(REPLICA_BOUNDS)
    assert set(of_height) <= set(HEIGHT_BOUNDS) and set(HEIGHT_BOUNDS) - set(of_height) <= {"frozen"}  # None at first


def test_the_oracle_counts_quorums_by_itself() -> None:
    assert [least_quorum(n) for n in (1, 2, 3, 4, 5, 6, 7, 10, 31)] == [1, 2, 2, 3, 4, 4, 5, 7, 21]


def test_real_and_simulated_domains_share_the_shape() -> None:
    world, real = World(4, 0), World(4, 0, real_crypto=True)
    assert isinstance(world.oracles.domain, Domain) and type(real.oracles.domain) is Domain
