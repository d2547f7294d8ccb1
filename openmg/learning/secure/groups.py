"""Groups with masks inside and a robust rule across: the little that is left of defences when single updates are hidden.

Members are drawn into groups of at least `size`; each group is a private round of its own, so its sum becomes known; the
plan's rules then look at the groups' means. With a share q of liars a group of size s is honest with a chance of (1 - q)^s: at
s = 5 that is 59 % for q = 10 % and 17 % for q = 30 %, and rules stand less than half of the rows lying. So this helps
against a few liars, and each group's sum says more about its members than the whole would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.fixedpoint import divide_round
from openmg.hashing import keccak256, word
from openmg.learning import rules
from openmg.learning.rules.outcome import Outcome, Settings
from openmg.learning.secure.terms import MIN_MEMBERS, SecureError

I64 = NDArray[np.int64]


def groups(devices: Iterable[bytes], seed: bytes, number: int, size: int) -> tuple[tuple[bytes, ...], ...]:
    """Groups of `size` or more, drawn anew each round from a seed fixed after the devices were; each ascending.

    Raises SecureError for groups of fewer than MIN_MEMBERS, or fewer devices than one group has.
    """
    order = sorted(set(devices), key=lambda device: (keccak256(seed + word(number) + device), device))
    if size < MIN_MEMBERS or len(order) < size:
        raise SecureError(f"groups have {MIN_MEMBERS} members or more; {len(order)} devices do not make groups of {size}")
    count = len(order) // size
    return tuple(tuple(sorted(order[start::count])) for start in range(count))


def group_mean(total: I64, survivors: int) -> I64:
    """The mean [P] of an opened sum, rounded half up."""
    return divide_round(total, survivors)


def across_groups(sums: Mapping[int, tuple[I64, int]], rule: str, hostile_groups: int, settings: Settings) -> Outcome:
    """The rule's step over the groups' means; `sums` holds (sum [P], survivors) by the group's number.

    Rejected rows are groups in ascending order. Raises SecureError for no group.
    """
    if not sums:
        raise SecureError("no group was opened")
    rows = np.stack([group_mean(*sums[number]) for number in sorted(sums)])
    return rules.BY_NAME[rule](rows, min(hostile_groups, (len(rows) - 1) // 2), settings)
