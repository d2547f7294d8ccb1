"""The one check that an opened sum allows: its norm, which is bounded when every member clipped its own update.

It bounds what all liars of a round do together by what honest members may: a sum of s updates is at most s * C long. Whoever
lies within that is not seen, and who lied is not known; a sum beyond is not used, so liars can also stop the rounds.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from openmg.learning.secure.terms import SecureError

I64 = NDArray[np.int64]

_TAIL_DEVIATIONS = 9
"""The norm of P noise values of deviation s passes s (sqrt(P) + 9) with a chance below e^-40."""


def longest_sum(survivors: int, clip_units: int, parameters: int, member_variance: int = 0) -> int:
    """The L2 norm that a sum of honest updates stays within, in units of 2^-18, with each survivor's noise if there is any."""
    deviation = isqrt(survivors * member_variance) + 1 if member_variance else 0
    return survivors * clip_units + deviation * (isqrt(parameters) + 1 + _TAIL_DEVIATIONS)


def require_plausible(total: I64, bound: int) -> None:
    """SecureError for a sum [P] longer than the bound; |value| < 2^31 and P < 2^18, so squares are added as Python integers."""
    squares = sum(int(value) ** 2 for value in total)
    if squares > bound**2:
        raise SecureError(
            f"the sum's norm is {isqrt(squares)} units, above the {bound} of clipped updates; a member did not clip"
        )
