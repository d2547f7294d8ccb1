"""Attacks on who takes part: invented devices, and a leader that leaves honest updates out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from openmg.forecast.features import Windows
from openmg.hashing import keccak256, word
from workbench.attacks.attack import Attack, AttackView, BaseAttack
from workbench.attacks.scaled import SignFlip
from workbench.attacks.vectors import decode, stacked

DEVICE_BYTES = 20


class _Behind(BaseAttack):
    """What the hostile devices themselves train on and send is another attack's."""

    behind: Attack

    def corrupt_data(self, windows: Windows) -> Windows:
        return self.behind.corrupt_data(windows)

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        return self.behind.updates(view)

    def named_round(self, view: AttackView) -> int:
        return self.behind.named_round(view)


@dataclass(frozen=True)
class Sybil(_Behind):
    """Each hostile device also speaks for `identities` invented ones, which send what it sends.

    The sender's own update is that of `behind`. Source: Douceur 2002; Fung et al. 2020 (FoolsGold). A defence must
    count registered devices only: f is a share of those, so one more vote for the adversary breaks it.
    """

    identities: int = 10
    behind: Attack = field(default_factory=SignFlip)
    name = "sybil"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        real = self.behind.updates(view)
        numbers = range(self.identities)
        return real | {invented_device(device, number): data for device, data in real.items() for number in numbers}


def invented_device(device: bytes, number: int) -> bytes:
    """The 20-byte id of an identity that was never registered."""
    return keccak256(b"openmg.attack.sybil" + device + word(number))[-DEVICE_BYTES:]


@dataclass(frozen=True)
class DroppingLeader(_Behind):
    """A leader in league with the hostile devices keeps out the honest updates that oppose theirs most, as many as
    `share` of all honest ones, so that the hostile are a larger part of the round.

    Opposition is the inner product with the sum of what the hostile send. A defence must fix the included set by
    something no leader chooses (what the chain holds at a height), and wait for enough participants; the rule's f is
    taken from the registered devices, not from those included.
    """

    share: float = 0.3
    behind: Attack = field(default_factory=SignFlip)
    name = "dropping_leader"

    def dropped(self, view: AttackView) -> frozenset[bytes]:
        count = int(self.share * len(view.honest))
        if not count:
            return frozenset()
        width = len(next(iter(view.honest.values())))
        sent = (decode(data, width) for data in self.updates(view).values())
        wanted = stacked([update for update in sent if update is not None] or [np.zeros(width, np.int16)]).sum(0)
        agreement = {device: float(update.astype(np.float64) @ wanted) for device, update in view.honest.items()}
        return frozenset(sorted(agreement, key=lambda device: (agreement[device], device))[:count])
