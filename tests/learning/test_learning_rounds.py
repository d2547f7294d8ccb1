"""Rounds in one process with real training: the loss falls, hostile meters do not stop it, and it stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from learning_homes import HOURS, START_HOUR, london_homes, naive_loss, run_rounds, simulated_homes, synthetic_homes

from openmg.forecast.spec import NET_ENERGY
from openmg.forecast.trainer import get_trainer


@pytest.fixture(scope="module")
def homes() -> list[list[int]]:
    return synthetic_homes(12, seed=4)


def falls(losses: Sequence[int]) -> bool:
    return all(later < earlier for earlier, later in zip(losses, losses[1:], strict=False))


def test_the_first_model_is_the_base_forecast_and_the_loss_falls_from_there(homes: list[list[int]]) -> None:
    run = run_rounds(START_HOUR, homes, 4)
    assert run.losses[0] == run.baseline
    assert falls(run.losses[:4]), run.losses
    assert run.losses[3] < 0.90 * run.baseline and run.losses[4] < 0.92 * run.baseline, run.losses


@pytest.mark.slow
def test_the_demonstrations_homes_learn_in_a_few_rounds_and_forget_nothing_in_many() -> None:
    run = run_rounds(START_HOUR, simulated_homes(seed=1), 24)
    assert falls(run.losses[:5]), run.losses
    assert run.losses[3] < 0.91 * run.baseline
    assert max(run.losses[6:]) < 0.91 * run.baseline, (run.losses, run.baseline)
    assert run.losses[-1] < 0.89 * run.baseline


def test_the_numpy_trainer_learns_as_well(homes: list[list[int]]) -> None:
    """From the second round on the batches differ, because their order depends on the model's last bit."""
    ours = run_rounds(START_HOUR, homes[:5], 3, trainer=get_trainer(NET_ENERGY, "numpy"))
    other = run_rounds(START_HOUR, homes[:5], 3)
    assert ours.losses[1] == pytest.approx(other.losses[1], rel=1e-4)
    assert ours.losses[-1] < 0.90 * ours.baseline
    assert ours.losses[-1] == pytest.approx(other.losses[-1], rel=0.02)


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("sign flip", np.negative),
        ("sign flip at the norm limit", lambda u: np.clip(-3 * u.astype(int), -4000, 4000)),
        ("noise", lambda u: np.random.default_rng(0).integers(-3000, 3000, len(u))),
        ("free rider", np.zeros_like),
    ],
)
def test_hostile_meters_within_f_do_not_break_learning(homes: list[list[int]], name: str, attack: object) -> None:
    clean = run_rounds(START_HOUR, homes, 4)
    attacked = run_rounds(START_HOUR, homes, 4, attackers=(1, 6, 9), attack=attack)  # type: ignore[arg-type]
    assert attacked.losses[-1] < 0.92 * attacked.baseline, name
    assert attacked.losses[-1] / attacked.baseline < 1.03 * clean.losses[-1] / clean.baseline, name


def test_the_plain_mean_is_broken_by_what_the_default_rule_stands(homes: list[list[int]]) -> None:
    flip = {"attackers": (1, 6, 9), "attack": lambda u: np.clip(-30 * u.astype(int), -32_767, 32_767)}
    robust = run_rounds(START_HOUR, homes, 3, **flip)  # type: ignore[arg-type]
    naive = run_rounds(START_HOUR, homes, 3, rule="mean", norm_cap_num=1000, **flip)  # type: ignore[arg-type]
    assert robust.losses[-1] < 0.91 * robust.baseline
    assert naive.losses[-1] > 2 * naive.baseline


@pytest.mark.london
def test_the_loss_falls_on_london_homes_and_beats_the_naive_forecasts(shared_data: Path) -> None:
    start, homes = london_homes(shared_data, 12)
    assert len(homes) == 12 and len(homes[0]) == HOURS
    run = run_rounds(start, homes, 4)
    assert falls(run.losses[:4]), run.losses
    assert run.losses[-1] < 0.7 * min(naive_loss(homes, 24), naive_loss(homes, 168))
    assert run.losses[-1] < 0.95 * run.baseline
    attacked = run_rounds(start, homes, 4, attackers=(0, 5, 9))
    assert attacked.losses[-1] < 0.95 * attacked.baseline
    assert attacked.losses[-1] / attacked.baseline < 1.03 * run.losses[-1] / run.baseline


def test_a_learning_process_stays_small(repo_root: Path) -> None:
    code = """
import sys; sys.path.insert(0, "tests/learning")
from learning_homes import START_HOUR, synthetic_homes, run_rounds
run_rounds(START_HOUR, synthetic_homes(2, 1)[1:], 2, min_participants=1)
for line in open("/proc/self/status"):
    if line.startswith("VmRSS"): print(line.split()[1])
assert not {"pandas", "scipy", "holidays", "web3", "tensorflow"} & set(sys.modules)
"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    out = subprocess.run([sys.executable, "-c", code], cwd=repo_root, env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 70 * 1024, f"{out.stdout} kB resident"
