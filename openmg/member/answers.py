"""From a notice of one model to what this member says in the round's phase, without threads or messages.

    commit      evaluates the model; trains, keeps the blob, commits to it (a member of the committee only evaluates)
    reveal      shows the blob it committed to, if it did
    committee   a member evaluates base and candidate and casts its ballot
Under a plan with noise no loss is told but a committee member's: it is outside of the privacy budget.
Under a plan that hides updates the blob is never shown: the commit makes the device a member of a private round.
Each round is trained and evaluated once, and again after a restart neither: the blob is durable before its commitment leaves,
so a repeated notice brings the same bytes. The losses of the rounds before, which the chain still counts, travel along.
A notice is unsigned: its hashes must be those of its parameters, and what the device signs names them, so the chain refuses an
answer to a model it does not know. The first plan heard is kept while the agent runs.
Not here: the steps of a private round (`edge_agent.learning.private_rounds`), training itself (`learner`), the file
(`pending`), the other models and how messages travel (`edge_agent.learning`, `hub.learning.price_trainer`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.model import master_from_bytes
from openmg.forecast.trainer import Trainer
from openmg.learning.blobs import SALT_BYTES, blob_hash, commitment_of, make_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.learning.secure.chain_round import is_noisy
from openmg.member.learner import CHANCE_BYTES, LocalLearner
from openmg.member.pending import PendingFile, PendingUpdate
from openmg.member.spans import SpansOf
from openmg.messages import base
from openmg.messages.learning import (
    PHASE_COMMIT,
    PHASE_COMMITTEE,
    PHASE_REVEAL,
    Ballot,
    Evaluation,
    ModelNotice,
    UpdateCommit,
    UpdateReveal,
)

I32 = NDArray[np.int32]

EARLIER_EVALUATIONS = 3
"""The chain counts evaluations of the open round and of the three before it."""


@dataclass(frozen=True)
class RoundAnswer:
    """What the device says to a notice: evaluations (this round's first; none under noise), and its part in the phase, if any.

    `cpu_ms` is what training cost, 0 when the update was there already.
    """

    round: int
    evaluations: tuple[Evaluation, ...]
    commit: UpdateCommit | None = None
    reveal: UpdateReveal | None = None
    ballot: Ballot | None = None
    cpu_ms: int = 0


class PrivateConsent(Protocol):
    """What a meter agreed to for private rounds."""

    def agree(self, plan: LearningPlan) -> None:
        """Raises when it agreed to another plan."""

    def may_mask(self, plan: LearningPlan) -> bool:
        """Whether one more masked update stays within the plan's budget."""
        ...


class RoundAnswerer:
    """One device's, of one model; used by one thread at a time.

    spans_of: see LocalLearner. random: as many unguessable bytes as asked for, for the chance of
    training and the salt of a blob. trainer: None takes the best that runs here.
    private: what the device agreed to for private rounds; with None it takes part in none.
    """

    def __init__(
        self,
        device: bytes,
        spans_of: SpansOf,
        pending: PendingFile,
        random: Callable[[int], bytes],
        trainer: Trainer | None = None,
        private: PrivateConsent | None = None,
    ) -> None:
        self.private = private
        self._device, self._spans_of, self._file, self._random, self._trainer = device, spans_of, pending, random, trainer
        self._pending = pending.load()
        self._learner: LocalLearner | None = None
        self._evaluations: deque[Evaluation] = deque(maxlen=EARLIER_EVALUATIONS + 1)
        self._ballot: Ballot | None = None

    def answer(self, notice: ModelNotice) -> RoundAnswer | None:
        """The answer to a notice, the same one again for the same phase, None for an older round.

        Raises InvalidMessage when the notice is not consistent, LearnerNotReady when the home lacks history, ValueError
        when training diverged, OSError when the update cannot be kept.
        """
        plan, master = open_notice(notice)
        if self.private is not None:
            self.private.agree(plan)
        elif plan.privacy != "none":
            raise base.InvalidMessage(f"model notice: its plan asks for {plan.privacy}, which this agent does not take part in")
        if self._learner is None:
            self._learner = LocalLearner(self._random(CHANCE_BYTES), plan, self._spans_of, self._trainer)
        if plan != self._learner.plan:
            raise base.InvalidMessage("model notice: its plan is not the one this agent started with; restart the agent")
        if self._evaluations and notice.round < self._evaluations[-1].round:
            return None
        member = self._device in notice.committee
        joins = notice.phase == PHASE_COMMIT and not member and (self.private is None or self.private.may_mask(plan))
        commit, cpu_ms = self._commit(notice, master) if joins else (None, 0)
        evaluations = self._evaluated(notice, master)
        return RoundAnswer(
            round=notice.round,
            evaluations=() if is_noisy(plan) else evaluations,
            commit=commit,
            reveal=self._reveal(notice) if plan.privacy == "none" else None,
            ballot=self._judged(notice, evaluations[0]) if member and notice.phase == PHASE_COMMITTEE else None,
            cpu_ms=cpu_ms,
        )

    def rest(self) -> None:
        """Between notices: gives back what the next training builds again."""
        if self._learner is not None:
            self._learner.rest()

    def _promised(self, notice: ModelNotice) -> PendingUpdate | None:
        """The update kept for this very round and model."""
        kept = self._pending
        same = kept is not None and (kept.round, kept.base_hash) == (notice.round, notice.model_hash)
        return kept if same else None

    def _commit(self, notice: ModelNotice, master: I32) -> tuple[UpdateCommit, int]:
        assert self._learner is not None
        kept, cpu_ms = self._promised(notice), 0
        if kept is None:
            result = self._learner.train(master, notice.round)
            blob = make_blob(self._random(SALT_BYTES), result.update_int16)
            kept, cpu_ms = PendingUpdate(notice.round, notice.model_hash, blob, result.loss_micro), result.cpu_ms
            self._file.save(kept)
            self._pending = kept
        commitment = commitment_of(self._device, notice.round, notice.model_hash, blob_hash(kept.blob))
        return UpdateCommit(notice.model, notice.round, notice.model_hash, commitment), cpu_ms

    def _reveal(self, notice: ModelNotice) -> UpdateReveal | None:
        kept = self._promised(notice)
        return (
            UpdateReveal(notice.model, notice.round, kept.blob) if kept is not None and notice.phase == PHASE_REVEAL else None
        )

    def _evaluated(self, notice: ModelNotice, master: I32) -> tuple[Evaluation, ...]:
        """This round's evaluation, then those of the rounds before that the chain still counts."""
        assert self._learner is not None
        known = next((item for item in self._evaluations if item.round == notice.round), None)
        if known is None or known.model_hash != notice.model_hash:
            kept = self._promised(notice)
            loss_micro = kept.loss_micro if kept is not None else self._learner.evaluate(master)
            known = Evaluation(notice.model, notice.round, notice.model_hash, loss_micro)
            self._evaluations.append(known)
        first = notice.round - EARLIER_EVALUATIONS
        return known, *(item for item in self._evaluations if first <= item.round < notice.round)

    def _judged(self, notice: ModelNotice, own: Evaluation) -> Ballot:
        assert self._learner is not None
        last = self._ballot
        if last is None or (last.round, last.candidate_hash) != (notice.round, notice.candidate_hash):
            loss_micro = self._learner.evaluate(master_from_bytes(self._learner.plan.spec, notice.candidate))
            self._ballot = last = Ballot(notice.model, notice.round, notice.candidate_hash, own.loss_micro, loss_micro)
        return last


def open_notice(notice: ModelNotice) -> tuple[LearningPlan, I32]:
    """Plan and base model of a notice whose hashes hold. Raises InvalidMessage."""
    try:
        plan = LearningPlan.decode(notice.plan)
        master = master_from_bytes(plan.spec, notice.parameters)
        candidate = master_from_bytes(plan.spec, notice.candidate) if notice.candidate else None
    except ValueError as error:
        raise base.InvalidMessage(f"model notice: {error}") from error
    if plan.spec.short_name != notice.model:
        raise base.InvalidMessage("model notice: its name is not that of its plan's forecaster")
    if model_hash(plan.spec, master) != notice.model_hash:
        raise base.InvalidMessage("model notice: its hash is not that of its parameters")
    if candidate is not None and model_hash(plan.spec, candidate) != notice.candidate_hash:
        raise base.InvalidMessage("model notice: its candidate's hash is not that of its parameters")
    return plan, master
