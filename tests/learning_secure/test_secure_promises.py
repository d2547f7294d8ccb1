"""A plan that promises privacy is refused wherever the rounds would still show updates."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.learning.answers import RoundAnswerer
from edge_agent.learning.pending import PendingFile
from edge_agent.learning.spans import LearnerNotReady
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError, Device, Feeder
from openmg.forecast.model import initial_master, master_bytes
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.messages.base import InvalidMessage
from openmg.messages.learning import PHASE_COMMIT, ModelNotice

HOUR = 495_000
OPEN = LearningPlan(evaluation_start_hour=HOUR, rule="mean", min_participants=5)
PRIVATE = LearningPlan(evaluation_start_hour=HOUR, rule="mean", min_participants=5, privacy="secagg")


def notice(plan: LearningPlan) -> ModelNotice:
    master = initial_master(plan.spec, plan.seed)
    hashed, parameters = model_hash(plan.spec, master), master_bytes(master)
    return ModelNotice(0, PHASE_COMMIT, 12, 18, hashed, parameters, (), b"", b"", plan.encode())


def test_meter_does_not_answer_a_private_plan_in_clear(tmp_path: Path) -> None:
    """Without history an open plan fails later, for want of windows."""
    answerer = RoundAnswerer(bytes(20), lambda minutes: (0, []), PendingFile(tmp_path / "pending"), bytes)
    with pytest.raises(LearnerNotReady):
        answerer.answer(notice(OPEN))
    with pytest.raises(InvalidMessage, match="its plan asks for secagg, which this agent cannot answer yet"):
        answerer.answer(notice(PRIVATE))


def test_chain_does_not_start_with_a_private_plan() -> None:
    """With an open plan the next thing that is wrong here is the key of the circuit."""
    devices = tuple(Device(bytes([n]) * 20, bytes([n]) * 32, 1, f"home-{n}", n) for n in range(1, 12))
    feeders = (Feeder(1, HOUR, (0,) * 840),)
    with pytest.raises(AppStateError, match="commit_key"):
        AppGenesis(devices, feeders, OPEN, b"")
    with pytest.raises(AppStateError, match="show updates and cannot keep secagg yet; use none"):
        AppGenesis(devices, feeders, PRIVATE, b"")
