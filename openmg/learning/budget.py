"""How much privacy the rounds have spent: an integer bound that every replica computes alike and the chain records.

Zero-concentrated differential privacy (Bun, Steinke 2016): a round with noise multiplier z, that is a deviation of z times
the L2 sensitivity, is rho-zCDP with rho = 1 / (2 z^2); rounds add up; and rho-zCDP gives (epsilon, delta) with
    epsilon = rho + 2 sqrt(rho ln(1/delta)).
Every device counts as taking part in every round: no amplification by sampling is claimed, because who takes part is public.
Neighbours differ in one device's update being zero in all rounds; that a device takes part is not hidden.
Rules: integers only; rho in units of 2^-40, epsilon in millionths, each rounded up; delta = 10^-delta_exponent. A round is
charged once its survivor set is fixed, whether or not the sum is then opened: from then on survivors sign, and whoever collects
signatures may be shown shares. It does not start when the budget would be passed.
Not here: tighter accounting in float, which is shown beside this one (`hub.learning_privacy`); the noise (`secure.noise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

RHO_BITS = 40
SUM_UNITS = 1
"""Added for each round: a sum of discrete Gaussians is not quite one (`openmg.learning.secure.noise`)."""
LN_10_NANO = 2_302_585_093
"""An upper bound of ln 10 in units of 10^-9."""
_NANO = 10**9
_MICRO = 10**6


class BudgetSpent(ValueError):
    """The next round would pass the privacy budget."""


def round_rho(noise_multiplier_milli: int) -> int:
    """rho of one round in units of 2^-40, rounded up, with the allowance for sums of discrete Gaussians."""
    if noise_multiplier_milli < 1:
        raise ValueError("a round without noise has no bound; noise_multiplier_milli is at least 1")
    return _divide_up(_MICRO << RHO_BITS, 2 * noise_multiplier_milli**2) + SUM_UNITS


def epsilon_micro(rho_units: int, delta_exponent: int) -> int:
    """epsilon at 10^-delta_exponent in millionths, rounded up. Off by at most three millionths and 1e-9 of its value."""
    linear = _divide_up(rho_units * _MICRO, 1 << RHO_BITS)
    square = _divide_up(4 * rho_units * delta_exponent * LN_10_NANO * _MICRO**2, _NANO << RHO_BITS)
    return linear + _root_up(square)


@dataclass(frozen=True)
class PrivacyBudget:
    """The budget of a task and what is spent of it: a value that the chain's state holds."""

    noise_multiplier_milli: int
    delta_exponent: int
    epsilon_budget_micro: int
    rounds: int = 0

    @property
    def rho_units(self) -> int:
        """Spent so far."""
        return self.rounds * round_rho(self.noise_multiplier_milli)

    @property
    def spent_micro(self) -> int:
        """epsilon spent so far, in millionths."""
        return epsilon_micro(self.rho_units, self.delta_exponent)

    def may_open(self) -> bool:
        """Whether one more round stays within the budget."""
        after = self.rho_units + round_rho(self.noise_multiplier_milli)
        return epsilon_micro(after, self.delta_exponent) <= self.epsilon_budget_micro

    def charged(self) -> PrivacyBudget:
        """The budget after one more round; BudgetSpent when that would pass it."""
        if not self.may_open():
            raise BudgetSpent(
                f"epsilon is {self.spent_micro} millionths after {self.rounds} rounds; one more would pass the budget of"
                f" {self.epsilon_budget_micro}"
            )
        return PrivacyBudget(self.noise_multiplier_milli, self.delta_exponent, self.epsilon_budget_micro, self.rounds + 1)


def _divide_up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _root_up(square: int) -> int:
    root = isqrt(square)
    return root if root * root == square else root + 1
