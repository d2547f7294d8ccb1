"""What a rule is given beside the rows, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

MAX_PARAMETERS = 200_000
"""P < 2^17.7: with |value| <= 2^15 a squared norm stays below 2^47.7 and a squared distance below 2^49.7."""


class Reason(StrEnum):
    """Why a rule left a row out or found it far off; the text is what records and answers show."""

    NOT_SELECTED = "not_selected"
    """Krum and multi-Krum did not choose it. Under Krum that holds for all rows but one and says little by itself."""
    FEW_NEIGHBOURS = "few_neighbours"
    """Nearest-neighbour mixing: fewer than half of the neighbourhoods, widened, hold it."""
    MOSTLY_TRIMMED = "mostly_trimmed"
    """Trimmed mean and median: it is in the middle in fewer than half as many coordinates as chance would put it."""
    LOW_WEIGHT = "low_weight"
    """Centred clipping and geometric median: its last weight is below half the median weight."""


@dataclass(frozen=True)
class Settings:
    """The plan's numbers for iterative rules: rounds of iteration, and centred clipping's radius in units of the
    median distance."""

    iterations: int
    radius_num: int
    radius_den: int


@dataclass(frozen=True)
class Outcome:
    """The step [P] and the indices of the rows that the rule left out or found far off, ascending, all for one reason
    (None when there are none)."""

    step: I64
    rejected: tuple[int, ...] = ()
    reason: Reason | None = None

    @classmethod
    def of(cls, step: I64, rejected: list[int], reason: Reason) -> Outcome:
        return cls(step, tuple(rejected), reason) if rejected else cls(step)
