"""epsilon by Rényi accounting with Google's `dp-accounting`: Gaussian rounds composed, no amplification by sampling.

Rules: results are integers in millionths, rounded up. The orders tried include the one at which the chain's bound is best,
so the library's figure is never above it.
Not here: anything that decides (`openmg.learning.budget`).
"""

from __future__ import annotations

from math import ceil, log, sqrt

MICRO = 10**6
_STANDARD_ORDERS = (*(1 + step / 10 for step in range(1, 100)), *range(11, 64), 128, 256, 512, 1024)
_AROUND = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 2.0)
"""Multiples of the zCDP bound's optimal order less one, at which the library's conversion is tried too."""


def spent_micro(rounds: int, noise_multiplier_milli: int, delta_exponent: int) -> int:
    """epsilon at 10^-delta_exponent after that many opened rounds, in millionths, rounded up; 0 before the first.

    Raises ValueError for a multiplier or exponent below one.
    """
    if rounds < 0 or noise_multiplier_milli < 1 or delta_exponent < 1:
        raise ValueError("rounds are not negative; noise multiplier and delta exponent are at least 1")
    if rounds == 0:
        return 0
    from dp_accounting import GaussianDpEvent, NeighboringRelation
    from dp_accounting.rdp import RdpAccountant

    z, delta = noise_multiplier_milli / 1000, 10.0**-delta_exponent
    accountant = RdpAccountant(_orders(rounds / (2 * z * z), delta), NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(GaussianDpEvent(z), rounds)
    epsilon: float = accountant.get_epsilon(delta)
    return ceil(epsilon * MICRO)


def _orders(rho: float, delta: float) -> list[float]:
    best = sqrt(-log(delta) / rho)
    return sorted({*_STANDARD_ORDERS, *(1 + best * factor for factor in _AROUND)})
