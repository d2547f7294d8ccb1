"""What goes wrong in a run, and how a seed chooses it.

`Faults` are the rates of one run. `draw` makes a run's faults from a seed and the fault classes that the caller allows: each
class is on in three of four runs, so that a fault also meets runs in which others are silent. At most f validators are
faulty in one run (a twin, a liar or a lost disk each counts as one): that is what the protocol promises to stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

CHAOS_MS = 20_000
"""Faults end at the latest after so many ms: some ten view changes at the world's timeouts."""
CLASSES = ("drop", "dup", "reorder", "delay", "partition", "crash", "disk", "sets", "twins", "liar")
_FAULTY_NODES = ("disk", "twins", "liar")


@dataclass(frozen=True)
class Faults:
    """Fault rates in per cent, delays in ms.

    `until_ms`: after it the world heals (no loss, no crash, no partition).
    """

    drop_percent: int = 0
    duplicate_percent: int = 0
    reorder: bool = True  # each message has a delay of its own; else each link has one
    delay_ms: tuple[int, int] = (1, 10)
    crash_per_mille: int = 0  # at any one boundary: before an effect, and between write and sync
    crash_at: tuple[int, int] | None = None  # (node, number of the boundary): one crash exactly there
    partition_ms: int = 0  # a new random partition each time, 0 for none
    until_ms: int = CHAOS_MS
    lost_disks: tuple[int, ...] = ()  # nodes whose disk is wiped at their first crash
    lost_votes: tuple[int, ...] = ()  # nodes whose vote log is lost at their first crash
    forgetful_disks: bool = False  # a planted fault: persisted votes do not survive a crash


NO_FAULTS = Faults(reorder=False, until_ms=0)


@dataclass(frozen=True)
class Setup:
    """All that distinguishes one run from another beside its seed."""

    validators: int
    faults: Faults = NO_FAULTS
    twins: tuple[int, ...] = ()
    liars: tuple[int, ...] = ()
    rotating_sets: bool = False
    drawn: tuple[str, ...] = field(default=(), compare=False)


class UnknownFault(ValueError):
    """A fault class that does not exist; the message is one sentence."""


def parse_classes(text: str) -> tuple[str, ...]:
    """Fault classes of a comma-separated list, in the order of CLASSES. Raises UnknownFault."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in CLASSES and name != "none":
            raise UnknownFault(f"fault class {name!r} does not exist: choose from {', '.join(CLASSES)}, or none")
    return tuple(name for name in CLASSES if name in names)


def draw(seed: int, validators: int, classes: tuple[str, ...]) -> Setup:
    """The setup of one seed."""
    if not classes:
        return Setup(validators)
    random = Random(f"openmg.sim.faults {seed} {validators} {','.join(classes)}")
    on = tuple(name for name in classes if random.randrange(4)) or (random.choice(classes),)
    faulty = random.sample(range(validators), (validators - 1) // 3)
    kinds = [name for name in _FAULTY_NODES if name in on]
    roles = {node: random.choice(kinds) for node in faulty} if kinds else {}
    wiped = tuple(sorted(node for node, role in roles.items() if role == "disk"))
    whole = random.randrange(2) == 0
    delay_ms = (1, random.choice((400, 900, 2_500))) if "delay" in on else (1, random.choice((10, 60)))
    crash = random.choice((2, 5, 15)) if "crash" in on else 0
    faults = Faults(
        drop_percent=random.choice((2, 5, 10, 25)) if "drop" in on else 0,
        duplicate_percent=random.choice((2, 5, 20)) if "dup" in on else 0,
        reorder="reorder" in on,
        delay_ms=delay_ms,
        crash_per_mille=crash or (2 if wiped else 0),
        partition_ms=random.choice((400, 700, 1_500, 4_000)) if "partition" in on else 0,
        until_ms=random.choice((3_000, 8_000, CHAOS_MS)),
        lost_disks=wiped if whole else (),
        lost_votes=() if whole else wiped,
    )
    return Setup(
        validators,
        faults,
        tuple(sorted(node for node, role in roles.items() if role == "twins")),
        tuple(sorted(node for node, role in roles.items() if role == "liar")),
        "sets" in on,
        on,
    )
