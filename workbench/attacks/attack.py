"""What every attack looks like from outside, and the one class they extend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Windows

I16 = NDArray[np.int16]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class AttackView:
    """What the adversary knows in a round, in units of 2^-18: everything that was sent and everything its devices have.

    hostile: its device ids. own: the int16 [P] update that each would have sent, trained on what `corrupt_data` gave.
    honest: the other devices' updates of this round. previous: last round's wire bytes by device, empty in the first.
    clip_units: the largest norm that replicas admit. global_step: last round's agreed step, None in the first round.
    """

    round: int
    hostile: tuple[bytes, ...]
    own: Mapping[bytes, I16]
    honest: Mapping[bytes, I16]
    previous: Mapping[bytes, bytes]
    clip_units: int
    generator: np.random.Generator
    global_step: I64 | None = None


@runtime_checkable
class Attack(Protocol):
    """An attack decides what its devices train on, send and suppress; it keeps nothing from round to round."""

    @property
    def name(self) -> str: ...

    def corrupt_data(self, windows: Windows) -> Windows:
        """What a hostile device trains on in place of its own windows; the same windows where data are not touched."""
        ...

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        """The bytes that go out as updates, by the device they are sent for. A device may be missing or invented."""
        ...

    def dropped(self, view: AttackView) -> frozenset[bytes]:
        """Honest devices whose updates the adversary keeps out of the round."""
        ...

    def named_round(self, view: AttackView) -> int:
        """The round that the messages name."""
        ...


class BaseAttack:
    """An adversary that does nothing: its devices send what they trained. Attacks override what they change."""

    name = "none"

    def corrupt_data(self, windows: Windows) -> Windows:
        return windows

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        return {device: wire(view.own[device]) for device in view.hostile}

    def dropped(self, view: AttackView) -> frozenset[bytes]:
        return frozenset()

    def named_round(self, view: AttackView) -> int:
        return view.round


def wire(update: I16) -> bytes:
    """Little-endian int16, the wire form of an update of any length."""
    return update.astype("<i2").tobytes()
