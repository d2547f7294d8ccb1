"""Tells the meters of a model's open round: its phase, model, committee and candidate, as the chain's committed state says.

Rules: a notice is published when a phase begins in which meters have something to do, again when the broker was away, and
again while some have not done it, because a broker may lose a notice or an answer that it took (a meter answers a repeated
notice with the same bytes, which count once).
Not here: the rules of a round (`hub.ppdl.app.learning_rounds`), training (`openmg.member`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hub.ppdl.app.round_answers import ModelAnswer, RoundAnswer
from hub.ppdl.application import QueryResult
from openmg.messages import base, topics
from openmg.messages.learning import PHASE_AGGREGATE, PHASE_COMMIT, PHASE_COMMITTEE, PHASE_REVEAL, ModelNotice
from openmg.messages.private import STEP_PHASES

log = logging.getLogger(__name__)


class ModelPublisher:
    """Publishes one model's open round; `step` is called after each block and now and then.

    name: the model's short name. missing_blobs: how many of the open round are not here.
    """

    def __init__(
        self,
        name: bytes,
        query: Callable[[str], QueryResult],
        publish: Callable[[str, bytes], bool],
        missing_blobs: Callable[[], int],
    ) -> None:
        self._name, self._query, self._publish, self._missing_blobs = name, query, publish, missing_blobs
        self._published = (-1, "")
        self._height = 0

    def forget(self) -> None:
        """The broker may have lost the retained notice: publish it again."""
        self._published = (-1, "")

    def step(self) -> None:
        """Publish when the phase is not the last one published, or half a phase ago and meters are missing."""
        result = self._query(f"round/{self._name.hex()}")
        if not result.ok:
            return
        now = base.decode(RoundAnswer, result.value)
        known = (now.round, now.phase) == self._published
        if now.phase in STEP_PHASES or now.phase == PHASE_REVEAL and now.privacy.mode != "none":
            return  # steps of a private round: `private_publisher` tells them
        waiting = now.phase == PHASE_AGGREGATE and self._published[0] == now.round
        if waiting or known and not self._repeat_due(now):
            return
        answer = base.decode(ModelAnswer, self._query(f"model/{self._name.hex()}").value)
        if self._publish(topics.model(self._name), base.encode(notice_of(self._name, answer))):
            if answer.round != self._published[0]:
                log.info("round %d of model %s is open", answer.round, self._name.hex())
            self._published, self._height = (answer.round, answer.phase), answer.height

    def _repeat_due(self, now: RoundAnswer) -> bool:
        missing = {
            PHASE_COMMIT: now.expected - len(now.participants),
            PHASE_REVEAL: self._missing_blobs(),
            PHASE_COMMITTEE: now.committee - now.ballots,
        }
        pause = max(1, (now.phase_end_height - now.phase_height) // 2)
        return missing.get(now.phase, 0) > 0 and now.height >= self._height + pause


def notice_of(name: bytes, answer: ModelAnswer) -> ModelNotice:
    """What members of the model with this short name are told."""
    return ModelNotice(
        model=name,
        round=answer.round,
        phase=answer.phase,
        height=answer.height,
        phase_end_height=answer.phase_end_height,
        model_hash=answer.model_hash,
        parameters=answer.parameters,
        committee=answer.committee,
        candidate_hash=answer.candidate_hash,
        candidate=answer.candidate,
        plan=answer.plan,
    )
