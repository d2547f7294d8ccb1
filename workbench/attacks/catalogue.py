"""All attacks by name, each with its default strength, for commands and for tests that go through all of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from workbench.attacks.attack import Attack, BaseAttack
from workbench.attacks.idle import Copycat, FreeRiderReplay, FreeRiderZeros, ReplayedMessage, StaleRound
from workbench.attacks.malformed import NotFinite, WrongShape
from workbench.attacks.membership import DroppingLeader, Sybil
from workbench.attacks.poisoned import Backdoor, LabelFlip
from workbench.attacks.scaled import HugeValues, SignFlip, Spikes, UnclippedSignFlip
from workbench.attacks.statistical import Alie, InnerProduct, MinMax

_ALL: tuple[Attack, ...] = (
    BaseAttack(),
    SignFlip(),
    UnclippedSignFlip(),
    LabelFlip(),
    Alie(),
    InnerProduct(),
    MinMax(),
    FreeRiderZeros(),
    FreeRiderReplay(),
    HugeValues(),
    Spikes(),
    NotFinite(),
    StaleRound(),
    ReplayedMessage(),
    WrongShape(),
    Copycat(),
    Sybil(),
    DroppingLeader(),
    Backdoor(),
)

ATTACKS: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in _ALL})
"""`none` is the adversary whose devices behave."""


def named(name: str) -> Attack:
    """Raises ValueError for a name that is not in the catalogue."""
    if name not in ATTACKS:
        raise ValueError(f"attack {name!r} is unknown; use one of {', '.join(ATTACKS)}")
    return ATTACKS[name]
