"""Tells the meters which step of a model's private round is theirs to take, as the chain's committed state says.

Rules: as in `publisher`: once when a phase begins, again when the broker was away, and again while some have not taken the
step (a meter answers a repeated notice with the same bytes, which count once).
Not here: models, candidates and commits (`publisher`), what meters answer (`edge_agent.learning`).
"""

from __future__ import annotations

from collections.abc import Callable

from hub.ppdl.app.round_answers import RoundAnswer
from hub.ppdl.application import QueryResult
from openmg.messages import base, topics
from openmg.messages.private import PrivateNotice


class PrivatePublisher:
    """Publishes the open step of the model with this short name; `step` is called after each block and now and then."""

    def __init__(self, name: bytes, query: Callable[[str], QueryResult], publish: Callable[[str, bytes], bool]) -> None:
        self._name, self._query, self._publish = name, query, publish
        self._published = (-1, "")
        self._height = 0

    def forget(self) -> None:
        """The broker may have lost the retained notice: publish it again."""
        self._published = (-1, "")

    def step(self) -> None:
        """Publish when the step is not the last one published, or half a phase ago. The phase ends once all have answered."""
        result = self._query(f"round/{self._name.hex()}")
        if not result.ok:
            return
        now = base.decode(RoundAnswer, result.value)
        pause = max(1, (now.phase_end_height - now.phase_height) // 2)
        if now.privacy.mode == "none" or (now.round, now.phase) == self._published and now.height < self._height + pause:
            return
        open_step = self._query(f"private/{self._name.hex()}")
        if not open_step.ok:
            return
        notice = base.decode(PrivateNotice, open_step.value)
        if self._publish(topics.private(self._name), open_step.value):
            self._published, self._height = (notice.round, notice.phase), notice.height
