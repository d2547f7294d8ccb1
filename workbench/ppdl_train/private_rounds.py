"""Rounds of a run in which only the sum of the updates is opened, through the code that meters and hubs run.

Rules: every home deals, masks, signs and unmasks as a meter does; homes drop out at a step drawn by the seed; the sum is
taken from what is left. A hostile home skips the clipping, which nobody can see. The chance of the masks and of the noise
comes from the seed as well, so that a run can be repeated: that makes it a simulation and not a private one.
Not here: the protocol (`openmg.learning.secure`), the budget (`openmg.learning.budget`), what homes train (`federation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.learning_privacy.accountant import spent_micro
from openmg.hashing import keccak256, word
from openmg.identity import DeviceKey
from openmg.kdf import hkdf
from openmg.learning.budget import PrivacyBudget
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import norm_units
from openmg.learning.secure import device
from openmg.learning.secure.groups import group_mean
from openmg.learning.secure.hub import OpenedSum, SecureHub
from openmg.learning.secure.noise import member_noise, member_variance
from openmg.learning.secure.plausible import longest_sum, require_plausible
from openmg.learning.secure.terms import MIN_MEMBERS, RoundTerms, SecureError, make_terms
from openmg.messages.base import Message, encode
from openmg.messages.secure import Delivery, SurvivorSet

I16 = NDArray[np.int16]
I64 = NDArray[np.int64]

CHAIN_ID = 1
SIGNATURE_BYTES = 65


class Step(IntEnum):
    """The step that a home no longer takes."""

    DEAL = 0
    MASK = 1
    SIGN = 2
    UNMASK = 3
    NONE = 4


@dataclass(frozen=True)
class PrivacyReport:
    """What the private rounds of a run came to; epsilon is None without noise."""

    mode: str
    epsilon: float | None = None
    epsilon_library: float | None = None
    delta: float | None = None
    rounds_opened: int = 0
    rounds_void: int = 0
    rounds_refused: int = 0
    dropped_out: int = 0

    def row(self) -> dict[str, Any]:
        """As in the JSON."""
        return dict(vars(self))

    def __str__(self) -> str:
        spent = "" if self.epsilon is None else f"epsilon {self.epsilon:.2f} at {self.delta:g}, "
        return (
            f"{self.mode}: {spent}{self.rounds_opened} rounds opened, {self.rounds_void} void, {self.rounds_refused} refused,"
            f" {self.dropped_out} times a home dropped out"
        )


NO_PRIVACY = PrivacyReport("none")


class PrivateRounds:
    """The hub and the homes of all private rounds, and the budget they share."""

    def __init__(self, plan: LearningPlan, seed: int, drop_out: float) -> None:
        self._plan, self._drop_out = plan, drop_out
        self._random = np.random.default_rng([seed, 4])
        self._seed = keccak256(b"openmg.ppdl.train.private" + word(seed))
        self._keys: dict[bytes, DeviceKey] = {}
        self._budget = PrivacyBudget(plan.noise_multiplier_milli, plan.delta_exponent, plan.epsilon_budget_micro)
        self._opened = self._void = self._refused = self._dropped = 0
        self.bytes_sent = 0

    @property
    def _noisy(self) -> bool:
        return self._plan.privacy == "secagg_dp"

    def may_open(self) -> bool:
        """Whether the budget allows one more round; counts the refusal."""
        allowed = not self._noisy or self._budget.may_open()
        self._refused += not allowed
        return allowed

    def step(self, updates: Mapping[bytes, I16], number: int, base_hash: bytes) -> I64 | None:
        """The mean [P] of the updates of the homes that did not drop out; None when the round is void.

        A round is void when too few are left, or when its sum is longer than clipped updates can make it. It is charged as soon
        as its survivors are fixed, void or not.
        """
        if len(updates) < MIN_MEMBERS:
            self._void += 1
            return None
        keys = {key.address: (key, update) for key, update in ((self._key(home), item) for home, item in updates.items())}
        members = {address: key.mask_public for address, (key, _) in keys.items()}
        seed, parameters = keccak256(self._seed + word(number)), self._plan.spec.parameters
        terms = make_terms(CHAIN_ID, number, base_hash, seed, members, parameters, self._plan.clip_units)
        try:
            opened = self._run(terms, keys, self._last_steps(terms))
            variance = self._variance(terms) if self._noisy else 0
            bound = longest_sum(len(opened.survivors), terms.clip_units, terms.parameters, variance)
            require_plausible(opened.total, bound)
        except SecureError:
            self._void += 1
            return None
        self._opened += 1
        return group_mean(opened.total, len(opened.survivors))

    def report(self) -> PrivacyReport:
        """What all rounds came to."""
        counts = self._opened, self._void, self._refused, self._dropped
        if not self._noisy:
            return PrivacyReport("secagg", None, None, None, *counts)
        library = spent_micro(self._budget.rounds, self._plan.noise_multiplier_milli, self._plan.delta_exponent)
        delta = 10.0**-self._plan.delta_exponent
        return PrivacyReport("secagg-dp", self._budget.spent_micro / 1e6, library / 1e6, delta, *counts)

    def _variance(self, terms: RoundTerms) -> int:
        return member_variance(self._plan.noise_multiplier_milli, terms.clip_units, terms.threshold)

    def _key(self, home: bytes) -> DeviceKey:
        if home not in self._keys:
            self._keys[home] = DeviceKey(keccak256(self._seed + home))
        return self._keys[home]

    def _last_steps(self, terms: RoundTerms) -> dict[bytes, Step]:
        """The step at which each member drops out."""
        steps = {}
        for member in terms.members:
            leaves, step = self._random.random() < self._drop_out, Step(int(self._random.integers(Step.NONE)))
            steps[member.address] = step if leaves else Step.NONE
            self._dropped += bool(leaves)
        return steps

    def _run(self, terms: RoundTerms, keys: Mapping[bytes, tuple[DeviceKey, I16]], last: Mapping[bytes, Step]) -> OpenedSum:
        hub, memories = SecureHub(terms), {}
        for address, (key, _) in keys.items():
            if last[address] > Step.DEAL:
                chance = hkdf(key.root, f"train/chance/{terms.round_id.hex()}")
                memories[address], dealing = device.deal(key, terms, chance)
                self._count(dealing)
                hub.take_dealing(address, dealing)
        for address, deliveries in hub.close_dealing().items():
            self.bytes_sent += sum(len(encode(item)) for item in deliveries)
            if last[address] > Step.MASK:
                memories[address] = self._mask(hub, *keys[address], memories[address], deliveries)
        survivors = hub.close_masking()
        if self._noisy:
            self._budget = self._budget.charged()
        for address in survivors.survivors:
            self._count(survivors)
            if last[address] > Step.SIGN:
                memories[address], signature = device.sign(keys[address][0], terms, memories[address], survivors)
                self.bytes_sent += len(signature)
                hub.take_signature(address, signature)
        return self._open(hub, survivors, keys, memories, last)

    def _mask(
        self, hub: SecureHub, key: DeviceKey, update: I16, memory: device.DeviceMemory, deliveries: tuple[Delivery, ...]
    ) -> device.DeviceMemory:
        terms, extra = hub.terms, np.zeros(hub.terms.parameters, np.int64)
        if self._noisy:
            extra += member_noise(self._variance(terms), terms.parameters, device.noise_seed(terms, memory))
        if norm_units(update) > terms.clip_units:  # a hostile home: what it sends goes where nothing is checked
            extra, update = update.astype(np.int64), np.zeros_like(update)
        memory, masked = device.mask(key, terms, memory, deliveries, update, extra)
        self._count(masked)
        hub.take_masked(key.address, masked)
        return memory

    def _open(
        self,
        hub: SecureHub,
        survivors: SurvivorSet,
        keys: Mapping[bytes, tuple[DeviceKey, I16]],
        memories: Mapping[bytes, device.DeviceMemory],
        last: Mapping[bytes, Step],
    ) -> OpenedSum:
        signatures = hub.close_signing()
        for address in signatures:
            self.bytes_sent += len(signatures) * (SIGNATURE_BYTES + len(address))
            if last[address] > Step.UNMASK:
                unmasking = device.unmask(keys[address][0], hub.terms, memories[address], survivors, signatures)
                self._count(unmasking)
                hub.take_unmasking(address, unmasking)
        return hub.open()

    def _count(self, message: Message) -> None:
        self.bytes_sent += len(encode(message))
