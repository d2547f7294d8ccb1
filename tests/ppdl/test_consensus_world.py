"""Seeded worlds: safety in every run, progress after healing, and planted bugs that the oracles must catch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.ppdl.consensus.certs import PreparedCert
from hub.ppdl.consensus.effects import Effect, Event, Persist
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.world import Disk, Faults, Node, World, validator_keys
from openmg.signing import address_of

LIMIT_MS = 240_000
LOSSY = Faults(drop_percent=5, duplicate_percent=5, delay_ms=(1, 60))
SLOW = Faults(drop_percent=20, duplicate_percent=5, delay_ms=(1, 900))
CRASHING = Faults(drop_percent=5, crash_per_mille=8, delay_ms=(1, 60))
SPLIT = Faults(partition_ms=1500, crash_per_mille=2, delay_ms=(1, 60))
TWINS = Faults(partition_ms=700, drop_percent=5, delay_ms=(1, 300))


def check(world: World, target: int, what: str) -> None:
    reached = world.run(target, LIMIT_MS)
    assert world.oracles.violations == [], what
    assert world.diverged() == [], what
    heights = [len(node.disk.blocks) for node in world.nodes]
    assert reached, f"{what}: no progress, heights {heights} after {world.now} ms, {world.events} events"


@pytest.mark.parametrize(
    ("name", "n", "faults", "seeds", "twins"),
    [
        ("lossy", 4, LOSSY, range(60), ()),
        ("slow", 4, SLOW, range(20), ()),
        ("crashing", 4, CRASHING, range(60), ()),
        ("split", 4, SPLIT, range(30), ()),
        ("twins", 4, TWINS, range(40), (0,)),
        ("n=1", 1, CRASHING, range(5), ()),
        ("n=5", 5, CRASHING, range(10), ()),
        ("n=7", 7, CRASHING, range(10), ()),
        ("n=7 two twins", 7, TWINS, range(8), (2, 5)),
    ],
)
def test_safety_and_progress(name: str, n: int, faults: Faults, seeds: range, twins: tuple[int, ...]) -> None:
    for seed in seeds:
        check(World(n, seed, faults, twins=twins), 6, f"{name} seed {seed}")


def test_a_seed_gives_one_run() -> None:
    runs = []
    for _ in range(2):
        world = World(4, 11, CRASHING)
        world.run(6, LIMIT_MS)
        runs.append((world.now, world.events, world.oracles.decided))
    assert runs[0] == runs[1]


class CrashAt(World):
    """Node 1 dies exactly before its effect number `at`."""

    def __init__(self, seed: int, at: int) -> None:
        super().__init__(4, seed, LOSSY)
        self._left = at

    def _carry_out(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            if node.number == 1:
                self._left -= 1
                if self._left == 0:
                    self._crash(node)
                    return
            self._effect(node, effect)


def test_row_9_crash_at_every_effect_boundary() -> None:
    crashes = 0
    for at in range(1, 61):
        world = CrashAt(seed=at % 3, at=at)
        check(world, 6, f"crash before effect {at}")
        crashes += world.nodes[1].crashes
    assert crashes >= 50  # a few runs end before their effect number is reached


def rotating_set(n: int) -> tuple[Callable[[int], tuple[tuple[bytes, bool], ...]], int]:
    """Every block swaps one validator out and another in, over n + 1 keys."""
    addresses = [address_of(key) for key in validator_keys(n + 1)]

    def rule(height: int) -> tuple[tuple[bytes, bool], ...]:
        out, back = addresses[height % (n + 1)], addresses[(height - 1) % (n + 1)]
        return ((back, True), (out, False))

    return rule, n + 1


@pytest.mark.parametrize("faults", [LOSSY, CRASHING], ids=["lossy", "crashing"])
def test_row_12_validator_set_changes_with_every_block(faults: Faults) -> None:
    rule, _ = rotating_set(4)
    for seed in range(12):
        world = World(4, seed, faults, spare=1, set_rule=rule)
        check(world, 10, f"rotating set seed {seed}")
        sets = {tip.validators.hash for _, tip in world.nodes[0].disk.blocks}
        assert len(sets) >= 5


def test_row_8_one_lost_disk_recovers_and_votes_again() -> None:
    recovered = 0
    for seed in range(20):
        faults = Faults(drop_percent=2, crash_per_mille=10, delay_ms=(1, 40), lost_disks=(1,))
        world = World(4, seed, faults)
        check(world, 20, f"lost disk seed {seed}")
        node = world.nodes[1]
        recovered += node.crashes > 0 and node.disk.log_complete
    assert recovered >= 10


def test_row_8_two_lost_disks_stop_four_validators_but_never_fork() -> None:
    world = World(4, 0, Faults(delay_ms=(1, 20)))
    for i in (0, 1):
        world.nodes[i].disk = Disk(log_complete=False)
    assert not world.run(1, 30_000)
    assert world.oracles.violations == [] and world.oracles.decided == {}


# Planted bugs: each must be found, else the oracles above prove nothing.


class ForgetsCertificate(Replica):
    """Row 7: VIEW-CHANGE without the prepared certificate."""

    def _carried_certificate(self) -> PreparedCert | None:
        return None


class SendsBeforeDisk(Replica):
    """Row 9: votes are sent and not persisted."""

    def step(self, event: Event) -> list[Effect]:
        return [e for e in super().step(event) if not isinstance(e, Persist)]


def first_violation(limit: int, make: Callable[[int], World]) -> str:
    for seed in range(limit):
        world = make(seed)
        world.run(6, 60_000)
        if world.oracles.violations:
            return world.oracles.violations[0]
    return ""


def test_oracles_catch_a_view_change_without_certificate() -> None:
    found = first_violation(80, lambda seed: World(4, seed, TWINS, twins=(0,), replica_class=ForgetsCertificate))
    assert found.startswith("fork")


def test_oracles_catch_a_quorum_of_2f(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ValidatorSet, "quorum", property(lambda self: 2 * self.max_faulty))
    found = first_violation(40, lambda seed: World(4, seed, TWINS, twins=(0,)))
    assert found.startswith("fork")


def test_oracles_catch_votes_that_are_not_durable() -> None:
    found = first_violation(3, lambda seed: World(4, seed, LOSSY, replica_class=SendsBeforeDisk))
    assert found.startswith("not durable")


def test_oracles_catch_a_disk_that_forgets() -> None:
    faults = Faults(drop_percent=10, crash_per_mille=20, delay_ms=(1, 300), forgetful_disks=True)
    found = first_violation(20, lambda seed: World(4, seed, faults))
    assert found.startswith("double vote")
