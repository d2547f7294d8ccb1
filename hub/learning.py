"""Carries learning between MQTT and the chain: publishes the agreed model of each round, submits what meters answer.

Rules: the model notice is what the chain's committed state says, published when a round opens, again when the broker was
away, and again while registered meters are missing from the open round, because a broker may lose a notice or an answer
that it took (a meter answers a repeated notice with the same bytes, which count once). Meters' signed updates and
evaluations go into transactions as they came. Not here: the rules of a round (`hub.ppdl.app.learning`), training
(`edge_agent.learning`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hub.ppdl.app.answers import ModelAnswer, RoundAnswer
from hub.ppdl.application import QueryResult
from openmg.messages import base, topics
from openmg.messages.learning import ModelNotice

log = logging.getLogger(__name__)


class ModelPublisher:
    """Publishes the open round's model; `step` is called after each block and now and then."""

    def __init__(self, query: Callable[[str], QueryResult], publish: Callable[[str, bytes], bool]) -> None:
        self._query = query
        self._publish = publish
        self._published = -1
        self._height = 0

    def forget(self) -> None:
        """The broker may have lost the retained notice: publish it again."""
        self._published = -1

    def step(self) -> None:
        """Publish the model when its round is not the last one published, or half a round ago and meters are missing."""
        result = self._query("model")
        if not result.ok:
            return
        answer = base.decode(ModelAnswer, result.value)
        if answer.round == self._published and not self._repeat_due():
            return
        notice = ModelNotice(answer.round, answer.height, answer.model_hash, answer.parameters, answer.plan)
        if self._publish(topics.MODEL, base.encode(notice)):
            if answer.round != self._published:
                log.info("round %d is open", answer.round)
            self._published, self._height = answer.round, answer.height

    def _repeat_due(self) -> bool:
        now = base.decode(RoundAnswer, self._query("round").value)
        pause = max(1, (now.closes_height - now.opened_height) // 2)
        return len(now.participants) < now.registered and now.height >= self._height + pause
