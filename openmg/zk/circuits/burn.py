"""The statement `burn`: an owner's delivery notes of one day and tariff band are used up, once, by a hidden amount.

Public inputs, in this order: root', nf 1 to nf 8, registry root, first slot of the day, period, asset, K.x, K.y, T, ext.
What is proved, for one sk and one mk:
- eight different notes of the asset and of pk = H(pk, sk) are spent, as in `joinsplit`: paths to root', nullifiers, dummies of
  amount 0; the first is above 0; no note is made;
- asset = 2 + 4 id, that is kind delivery, and the id's microgrid is that of the registry leaf;
- K = a G + u H' with a the sum of the notes, below 2^40 Wh, and u below the subgroup's order;
- the registry leaf of mid = H(mid, mk) lies under the registry root, names pk, and its interval meets the 96 slots of the day;
- T = H(brn, k, asset) with k = H(per, mk, period): a second burn of the day and band has the same T;
- ext, the hash of everything else the transaction says, is bound by squaring.
Contracts compute the day's first slot, the period and the asset themselves and take the registry root of the day's last slot.
Period and first slot are public beyond the project's first list: with a period of the prover's choice T would not be unique.
Source: the project's circuit statements. Not here: what the utility does with the credits it finds by k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from openmg.units import SLOTS_PER_DAY
from openmg.zk import babyjub, curve_gadgets, gadgets, meter_gadgets
from openmg.zk.assets import BAND_BITS, DAY_BITS, Kind
from openmg.zk.babyjub import Point
from openmg.zk.circuits import joinsplit
from openmg.zk.circuits.joinsplit import BLANK_INPUT, InputNote
from openmg.zk.field import R, invert, require_felt
from openmg.zk.meters import BLANK_REGISTRATION, Registration, burn_tag, period_key
from openmg.zk.r1cs import Builder
from openmg.zk.tree import named_root

S = TypeVar("S")

NAME = "burn"
INPUTS = 8
PUBLIC_INPUTS = INPUTS + 9
TOTAL_BITS = 40
"""A day's energy of one meter in Wh is far below 2^40; eight amounts below 2^96 do not wrap the field before the check."""
CIRCUIT_HASH = bytes.fromhex("abd1c2b3968b0886831cb1d4f302093a3283b1654f23cd9943b1e60f5ddf6ce4")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("ab95d10e2ab6e869f23cb6f53bca71050d48e24ed344109aa18cf3979c3656cf")
"""Digest of the key file that `keys.make_development_key` writes; CI makes it again."""

_QUARTER = int(invert(4, R))


@dataclass(frozen=True)
class BurnWitness:
    """Everything the prover knows; `total_blinding` is u."""

    spending_key: int = field(repr=False)
    tree_number: int
    tree_root: int
    inputs: tuple[InputNote, ...]
    registration: Registration
    first_slot: int
    period: int
    asset: int
    total_blinding: int = field(repr=False)
    ext: int

    def __post_init__(self) -> None:
        for name in ("spending_key", "tree_root", "first_slot", "period", "asset", "total_blinding", "ext"):
            require_felt(getattr(self, name), name)
        if len(self.inputs) != INPUTS:
            raise ValueError(f"a burn has {INPUTS} inputs; fill up with amount 0")
        joinsplit.require_paths(self.inputs)


@dataclass(frozen=True)
class BurnPublics:
    """The seventeen public inputs, in their order."""

    root: int
    nullifiers: tuple[int, ...]
    registry_root: int
    first_slot: int
    period: int
    asset: int
    total_commitment: Point
    tag: int
    ext: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        moment = [self.registry_root, self.first_slot, self.period, self.asset]
        return [self.root, *self.nullifiers, *moment, *self.total_commitment, self.tag, self.ext]


def publics_of(witness: BurnWitness) -> BurnPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    total = sum(note.amount for note in witness.inputs)
    key = period_key(witness.registration.meter_secret, witness.period)
    return BurnPublics(
        root=named_root(witness.tree_number, witness.tree_root),
        nullifiers=joinsplit.nullifiers_of(witness.spending_key, witness.asset, witness.tree_number, witness.inputs),
        registry_root=witness.registration.root,
        first_slot=witness.first_slot,
        period=witness.period,
        asset=witness.asset,
        total_commitment=babyjub.commit(total, witness.total_blinding),
        tag=burn_tag(key, witness.asset),
        ext=witness.ext,
    )


def blank() -> tuple[BurnPublics, BurnWitness]:
    """Values of the right shape for a builder that does not look at them."""
    witness = BurnWitness(0, 0, 0, (BLANK_INPUT,) * INPUTS, BLANK_REGISTRATION, 0, 0, 0, 0, 0)
    return BurnPublics(0, (0,) * INPUTS, 0, 0, 0, 0, (0, 1), 0, 0), witness


def _delivery_of(builder: Builder[S], asset: S, microgrid: S) -> None:
    """asset = 2 + 4 (microgrid 2^40 + day and band), the last below 2^40: no other kind or microgrid fits."""
    inner_bits = DAY_BITS + BAND_BITS
    terms = [(_QUARTER, asset), (-(1 << inner_bits), microgrid)]
    inner = builder.linear(terms, -int(Kind.DELIVERY) * _QUARTER)
    gadgets.to_bits(builder, inner, inner_bits, "the asset is delivered energy of the meter's microgrid")


def _total(builder: Builder[S], amounts: list[S], blinding: int) -> tuple[S, S]:
    total = builder.linear([(1, amount) for amount in amounts])
    bits = gadgets.to_bits(builder, total, TOTAL_BITS, f"the sum of the notes is below 2^{TOTAL_BITS}")
    return curve_gadgets.commitment(builder, bits, builder.private(blinding), "the sum's commitment")


def synthesize(builder: Builder[S], publics: BurnPublics, witness: BurnWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    root, *rest = map(builder.public, publics.as_list())
    nullifiers, rest = rest[:INPUTS], rest[INPUTS:]
    registry_root, first_slot, period, asset, total_x, total_y, tag, ext = rest
    tree = (witness.tree_number, witness.tree_root)
    shared = joinsplit.spend_signals(builder, root, asset, witness.spending_key, *tree)
    amounts = joinsplit.spend_notes(builder, shared, witness.inputs, nullifiers)
    gadgets.nonzero(builder, amounts[0], "input 1 is above 0")

    meter = meter_gadgets.registered(builder, witness.registration, registry_root)
    gadgets.equal(builder, meter.public_key, shared.public_key, "the notes belong to the meter's owner")
    last_slot = builder.linear([(1, first_slot)], SLOTS_PER_DAY - 1)
    meter_gadgets.in_force(builder, meter, first_slot, last_slot)
    _delivery_of(builder, asset, meter.microgrid)

    made_x, made_y = _total(builder, amounts, witness.total_blinding)
    gadgets.equal(builder, made_x, total_x, "K commits to the sum of the notes (x)")
    gadgets.equal(builder, made_y, total_y, "K commits to the sum of the notes (y)")
    key = gadgets.poseidon(builder, "per", meter.secret, period)
    expected = gadgets.poseidon(builder, "brn", key, asset)
    gadgets.equal(builder, expected, tag, "T is that of the meter's day and band")
    builder.multiply(ext, ext)
