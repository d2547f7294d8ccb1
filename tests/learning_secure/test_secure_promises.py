"""A plan that promises privacy is taken only where it can be kept, and a meter that took it shows nothing under another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.learning.private_file import PrivateFile
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError, Device, Feeder
from openmg.forecast.model import initial_master, master_bytes
from openmg.forecast.quantities import METERED
from openmg.hashing import word
from openmg.identity import DeviceKey
from openmg.learning.budget import epsilon_micro, round_rho
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.learning.secure.terms import SecureError
from openmg.member.answers import RoundAnswerer
from openmg.member.pending import PendingFile
from openmg.member.spans import LearnerNotReady, of_home
from openmg.messages.base import InvalidMessage
from openmg.messages.learning import PHASE_COMMIT, ModelNotice

HOUR = 495_000
OPEN = LearningPlan(evaluation_start_hour=HOUR, rule="mean", min_participants=5)
PRIVATE = LearningPlan(evaluation_start_hour=HOUR, rule="mean", min_participants=5, privacy="secagg")
NAME = OPEN.spec.short_name


def notice(plan: LearningPlan) -> ModelNotice:
    master = initial_master(plan.spec, plan.seed)
    hashed, parameters = model_hash(plan.spec, master), master_bytes(master)
    return ModelNotice(plan.spec.short_name, 0, PHASE_COMMIT, 12, 18, hashed, parameters, (), b"", b"", plan.encode())


def test_a_meter_without_a_memory_for_private_rounds_takes_part_in_none(tmp_path: Path) -> None:
    """Without history an open plan fails later, for want of windows."""
    answerer = RoundAnswerer(bytes(20), of_home(lambda minutes: (0, [])), PendingFile(tmp_path, NAME), bytes)
    with pytest.raises(LearnerNotReady):
        answerer.answer(notice(OPEN))
    with pytest.raises(InvalidMessage, match="its plan asks for secagg, which this agent does not take part in"):
        answerer.answer(notice(PRIVATE))


def test_a_meter_that_heard_a_private_plan_answers_no_other_also_after_a_restart(tmp_path: Path) -> None:
    def answerer() -> RoundAnswerer:
        return RoundAnswerer(
            bytes(20), of_home(lambda minutes: (0, [])), PendingFile(tmp_path, NAME), bytes, private=PrivateFile(tmp_path, NAME)
        )

    with pytest.raises(LearnerNotReady):
        answerer().answer(notice(PRIVATE))
    for other in (OPEN, replace(PRIVATE, clip_milli=500)):
        with pytest.raises(SecureError, match="not the private one this meter agreed to"):
            answerer().answer(notice(other))
    with pytest.raises(LearnerNotReady):
        answerer().answer(notice(PRIVATE))


def test_a_damaged_memory_is_not_taken_for_none(tmp_path: Path) -> None:
    file = PrivateFile(tmp_path, NAME)
    file.path.write_bytes(b"\x00")
    with pytest.raises(SecureError, match="cannot be used"):
        file.load()
    answerer = RoundAnswerer(bytes(20), of_home(lambda minutes: (0, [])), PendingFile(tmp_path, NAME), bytes, private=file)
    with pytest.raises(SecureError, match="cannot be used"):
        answerer.answer(notice(OPEN))


def registered(count: int) -> tuple[Device, ...]:
    return tuple(Device(word(n)[-20:], DeviceKey(word(n)).mask_public, 1, f"home-{n}", n, METERED) for n in range(1, count + 1))


def genesis(plan: LearningPlan, devices: tuple[Device, ...]) -> AppGenesis:
    return AppGenesis(devices, (Feeder(1, HOUR, (0,) * 840),), (plan,), b"")


def test_a_chain_starts_with_a_private_plan_that_its_devices_can_hold() -> None:
    """What is wrong with each of the good ones is the key of the circuit, which is checked last."""
    noisy = replace(
        PRIVATE,
        privacy="secagg_dp",
        clip_milli=300,
        noise_multiplier_milli=1000,
        epsilon_budget_micro=epsilon_micro(round_rho(1000), 5),
    )
    for plan, devices in ((OPEN, 11), (PRIVATE, 11), (PRIVATE, 42), (noisy, 11), (OPEN, 43)):
        with pytest.raises(AppStateError, match="commit_key"):
            genesis(plan, registered(devices))
    with pytest.raises(AppStateError, match="43 devices are registered, but a private round of a chain has at most 40 members"):
        genesis(PRIVATE, registered(43))
    with pytest.raises(AppStateError, match="budget does not cover one round"):
        genesis(replace(noisy, epsilon_budget_micro=noisy.epsilon_budget_micro - 1), registered(11))
    with pytest.raises(AppStateError, match="nobody can agree a secret with the mask key of 'home-0'"):
        genesis(PRIVATE, (Device(bytes(20), bytes(32), 1, "home-0", 99, METERED), *registered(10)))
