"""Each member's share of a round's noise, so that the opened sum is differentially private (Kairouz, Liu, Steinke 2021).

Let z be the noise multiplier and C = `clip_units` the clipping norm. Every member adds discrete Gaussian noise of variance
    v = ceil(z^2 C^2 / h)
to each value of its update, with h the number of honest survivors that are counted on. The noise of h or more of them has a
variance of at least (z C)^2. Survivors that collude leave theirs out: with c of them among h the variance is (h - c)/h of that.

*Sensitivity.* An update is integer already when it is clipped, and its integer L2 norm is at most C (`quantise`), so no
rounding comes after the clipping: replacing a member's update by zero moves the sum by at most C, exactly.
*Not quite a Gaussian.* A sum of h discrete Gaussians is one up to a factor; by their theorem 1 the round is rho-zCDP with
    rho = C^2 / (2 h v) + tau P / 4,   tau = 10 sum_{k<h} exp(-2 pi^2 v k / (k + 1)) < 10 h exp(-pi^2 v).
With v >= MIN_VARIANCE, h <= 2^12 and P < 2^18 the second term is below e^-2400; `budget` counts 2^-40 for it.
*Wrapping.* Sum and noise stay within int32: 16 deviations of the target are at most 2^30 (`MAX_DEVIATION`).
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from openmg.learning.plan import MAX_NOISE_UNITS
from openmg.learning.secure.discrete_gaussian import discrete_gaussian
from openmg.learning.secure.streams import byte_stream

I64 = NDArray[np.int64]

MIN_VARIANCE = 256
MAX_DEVIATION = MAX_NOISE_UNITS
"""Of the noise in the sum, in units of 2^-18. All members together, if none drops out, add at most sqrt(2) of it."""
MILLI_SQUARED = 1_000_000


def member_variance(noise_multiplier_milli: int, clip_units: int, honest_survivors: int) -> int:
    """v in squared units of 2^-18; ValueError when it is outside its bounds."""
    target = noise_multiplier_milli**2 * clip_units**2
    variance = -(-target // (MILLI_SQUARED * honest_survivors))
    if variance < MIN_VARIANCE or target > MILLI_SQUARED * MAX_DEVIATION**2:
        deviation = isqrt(target // MILLI_SQUARED)
        raise ValueError(
            f"noise of {deviation} units over {honest_survivors} members is not within {isqrt(MIN_VARIANCE)} units for each and"
            f" {MAX_DEVIATION} together; change noise_multiplier_milli or clip_milli"
        )
    return variance


def member_noise(variance: int, parameters: int, seed: bytes) -> I64:
    """A member's noise [P], drawn from 32 secret bytes (`device.noise_seed`)."""
    return discrete_gaussian(variance, parameters, byte_stream(seed))
