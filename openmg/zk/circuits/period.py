"""The statement `period`: the key of a billing period belongs to a meter.

Public inputs, in this order: mid, period, k. What is proved: for one mk, mid = H(mid, mk) and k = H(per, mk, period).
The utility takes k only with this proof, and only after the period's last burn deadline; it then finds the meter's mints and
burns by their nullifiers and tags. The proof goes to the utility and to no chain.
Source: the project's circuit statements. Not here: the openings of sums that come with k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from openmg.zk import gadgets
from openmg.zk.field import require_felt
from openmg.zk.meters import meter_id, period_key
from openmg.zk.r1cs import Builder

S = TypeVar("S")

NAME = "period"
PUBLIC_INPUTS = 3
CIRCUIT_HASH = bytes.fromhex("50ab959f7a6d797246398b4485317f94196cc8a942bb363c7f8ac4f780f4dc7d")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("a50b86bc8efe3923f495943510a65c4b3891360b9ca9b71266d6c523af9cfaf2")
"""Digest of the key file that `keys.make_development_key` writes; CI makes it again."""


@dataclass(frozen=True)
class PeriodWitness:
    """Everything the prover knows."""

    meter_secret: int = field(repr=False)
    period: int

    def __post_init__(self) -> None:
        require_felt(self.meter_secret, "meter secret")
        require_felt(self.period, "period")


@dataclass(frozen=True)
class PeriodPublics:
    """The three public inputs, in their order."""

    meter_id: int
    period: int
    key: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        return [self.meter_id, self.period, self.key]


def publics_of(witness: PeriodWitness) -> PeriodPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    secret, period = witness.meter_secret, witness.period
    return PeriodPublics(meter_id(secret), period, period_key(secret, period))


def blank() -> tuple[PeriodPublics, PeriodWitness]:
    """Values of the right shape for a builder that does not look at them."""
    return PeriodPublics(0, 0, 0), PeriodWitness(0, 0)


def synthesize(builder: Builder[S], publics: PeriodPublics, witness: PeriodWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    identity, period, key = map(builder.public, publics.as_list())
    secret = builder.private(witness.meter_secret)
    gadgets.equal(builder, gadgets.poseidon(builder, "mid", secret), identity, "mid is the meter's")
    gadgets.equal(builder, gadgets.poseidon(builder, "per", secret, period), key, "k is the meter's key of the period")
