"""A meter's steps in a private round of a chain: from a notice to what it signs, with its memory durable before that leaves.

    deal      shares of two secrets drawn for this round, if it committed to an update
    mask      the promised update, clipped, with noise and under its masks; what leaves is the hash of it
    reveal    the masked update itself
    sign      the survivor set, if it is in it
    unmask    one share for each dealer, given the threshold's signatures under that set
A notice is unsigned and comes from a hub that is not trusted with a single update. So the meter holds to what it can know:
- plan and registered devices are those it heard first (`private_file`); members are registered, with the mask keys named there;
- it takes steps of one set of terms a round, and rounds only go up: no second masked update, no second survivor set;
- dealings and signatures count by their devices' signatures;
- with noise it counts itself the rounds in which its masked update left, and stops at the plan's budget. It may count a round
  that the chain voided before it charged it: then this meter stops a round earlier than the others.
A repeated notice brings the same bytes, also after a restart.
Not here: the steps (`openmg.learning.secure.device`), training and the commit (`answers`), MQTT (`service`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge_agent.learning.private_file import PrivateFile, PrivateMemory
from openmg.identity import DeviceKey
from openmg.learning.blobs import blob_hash, commitment_of, open_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.secure import device
from openmg.learning.secure.chain_round import chain_terms, noise_variance, spent_micro
from openmg.learning.secure.deliveries import deliveries_of
from openmg.learning.secure.noise import member_noise
from openmg.learning.secure.terms import RoundTerms, SecureError
from openmg.member.pending import PendingFile, PendingUpdate
from openmg.messages import base, topics
from openmg.messages.learning import PHASE_REVEAL, UpdateReveal
from openmg.messages.private import PHASE_DEAL, PHASE_MASK, PHASE_SIGN, PrivateNotice
from openmg.messages.secure import MaskCommit, ShareDealing, SurvivorSet

CHANCE_BYTES = 32
Answer = tuple[str, bytes]
"""A topic's leaf and what is published there."""


class PrivateRounds:
    """One device's, of one model; used by one thread at a time. `chance`: that many secret random bytes at each call."""

    def __init__(
        self, key: DeviceKey, chain_id: int, pending: PendingFile, file: PrivateFile, chance: Callable[[int], bytes]
    ) -> None:
        self._key, self._chain_id, self._pending, self._chance = key, chain_id, pending, chance
        self.file = file

    def answer(self, notice: PrivateNotice) -> Answer | None:
        """The step that the notice asks for, the same again for the same notice; None when this meter has none to take.

        Raises SecureError (or another ValueError), one sentence, for a step that must not be taken, OSError when the
        memory cannot be kept.
        """
        plan = LearningPlan.decode(notice.plan)
        if plan.privacy == "none" or self._key.address not in notice.members:
            return None
        if plan.spec.short_name != notice.model:
            raise SecureError("learning: the notice's name is not that of its plan's forecaster")
        memory, terms = self._agreed(plan, notice), self._terms(plan, notice)
        if notice.round < memory.round:
            return None
        if notice.round == memory.round and memory.device[0].round_id != terms.round_id:
            raise SecureError(f"learning: round {notice.round} is shown with other members than before; ask who runs its hub")
        if notice.phase == PHASE_DEAL:
            return self._deal(notice, terms, memory)
        if notice.round != memory.round:
            return None  # this meter did not deal
        if notice.phase == PHASE_MASK:
            return self._mask(notice, plan, terms, memory)
        if not memory.masked:
            return None
        if notice.phase == PHASE_REVEAL:
            return topics.REVEAL, base.encode(UpdateReveal(notice.model, notice.round, memory.masked))
        return self._sign_or_unmask(notice, terms, memory)

    def _agreed(self, plan: LearningPlan, notice: PrivateNotice) -> PrivateMemory:
        """The memory, once it holds plan and registered devices of the notice. Raises SecureError for others."""
        self.file.agree(plan)
        memory, name = self.file.load(), notice.registry(self._chain_id)
        if self.file.registry() not in (b"", name):
            raise SecureError(
                "learning: the registered devices are not those this meter agreed to; if the chain was begun anew, move"
                f" {self.file.path} away"
            )
        if not memory.registry:
            memory = replace(memory, registry=name)
            self.file.save(memory)
        return memory

    def _terms(self, plan: LearningPlan, notice: PrivateNotice) -> RoundTerms:
        registered = {item.address: item.mask_public for item in notice.registered}
        if not registered.keys() >= set(notice.members):
            raise SecureError(f"learning: round {notice.round} has members that are not registered")
        if registered[self._key.address] != self._key.mask_public:
            raise SecureError("learning: this meter is registered with another mask key than its own; register it again")
        members = {address: registered[address] for address in notice.members}
        return chain_terms(plan, self._chain_id, notice.round, notice.base_hash, notice.seed, members)

    def _promised(self, notice: PrivateNotice) -> PendingUpdate | None:
        """The update this meter committed to for this very round and model."""
        kept = self._pending.load()
        same = kept is not None and (kept.round, kept.base_hash) == (notice.round, notice.base_hash)
        return kept if same else None

    def _deal(self, notice: PrivateNotice, terms: RoundTerms, memory: PrivateMemory) -> Answer | None:
        if notice.round == memory.round:
            _, dealing = device.deal(self._key, terms, memory.device[0].chance)
            return self._signed(topics.DEALING, dealing)
        if self._promised(notice) is None:
            return None
        drawn, dealing = device.deal(self._key, terms, self._chance(CHANCE_BYTES))
        self.file.save(replace(memory, round=notice.round, device=(drawn,), masked=b""))
        return self._signed(topics.DEALING, dealing)

    def _mask(self, notice: PrivateNotice, plan: LearningPlan, terms: RoundTerms, memory: PrivateMemory) -> Answer | None:
        if not memory.masked:
            kept, dealings = self._promised(notice), self._dealings(notice, terms)
            if kept is None or self._key.address not in dealings:
                return None
            if not self.file.may_mask(plan):
                spent = spent_micro(plan, memory.charged_rounds)
                raise SecureError(
                    f"learning: this meter spent epsilon {spent} millionths in {memory.charged_rounds} rounds; one more would"
                    " pass the plan's budget"
                )
            deliveries = deliveries_of(terms, dealings, self._key.address)
            noise, variance = None, noise_variance(plan, terms)
            if variance:
                noise = member_noise(variance, terms.parameters, device.noise_seed(terms, memory.device[0]))
            update = np.asarray(open_blob(plan, kept.blob))
            after, masked = device.mask(self._key, terms, memory.device[0], deliveries, update, noise, signed=True)
            memory = replace(memory, device=(after,), masked=masked.values, charged_rounds=memory.charged_rounds + 1)
            self.file.save(memory)
        commitment = commitment_of(self._key.address, notice.round, notice.base_hash, blob_hash(memory.masked))
        return self._signed(topics.MASK, MaskCommit(terms.round_id, commitment))

    def _dealings(self, notice: PrivateNotice, terms: RoundTerms) -> dict[bytes, ShareDealing]:
        """The notice's dealings by who signed them. Raises SecureError for one that is not of this round."""
        dealings: dict[bytes, ShareDealing] = {}
        for data in notice.dealings:
            signed = base.open_signed(ShareDealing, data, self._chain_id)
            dealing = signed.message
            if signed.signer not in terms.mask_public or signed.signer in dealings or dealing.round_id != terms.round_id:
                raise SecureError(f"learning: round {notice.round} is shown with a dealing that is not one of its members'")
            if len(dealing.sealed) != len(terms.neighbours(signed.signer)):
                raise SecureError(f"learning: 0x{signed.signer.hex()} did not deal one share to each neighbour")
            dealings[signed.signer] = dealing
        return dealings

    def _sign_or_unmask(self, notice: PrivateNotice, terms: RoundTerms, memory: PrivateMemory) -> Answer | None:
        if self._key.address not in notice.survivors:
            return None
        survivors = SurvivorSet(terms.round_id, notice.survivors)
        after, _ = device.sign(self._key, terms, memory.device[0], survivors)
        if after != memory.device[0]:
            self.file.save(replace(memory, device=(after,)))
        if notice.phase == PHASE_SIGN:
            return self._signed(topics.SURVIVORS, survivors)
        signatures = dict(zip(notice.signers, notice.signatures, strict=True))
        return self._signed(topics.UNMASKING, device.unmask(self._key, terms, after, survivors, signatures))

    def _signed(self, leaf: str, message: base.Message) -> Answer:
        return leaf, base.sign(message, self._chain_id, self._key.signing_key)
