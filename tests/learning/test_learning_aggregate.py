"""Aggregation: golden vectors, a plain oracle, order of arrival, and the bounds that hostile devices meet."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import learning_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast.spec import PARAMETERS
from openmg.learning.aggregate import MASTER_LIMIT, ServerState, aggregate, apply_step, cap_norms
from openmg.learning.plan import MAX_DEVICES, RULES, LearningPlan

VECTORS = json.loads((Path(__file__).parent / "vectors" / "aggregate.json").read_text(encoding="utf-8"))
HOUR = 495_000


def plan(**changes: object) -> LearningPlan:
    return LearningPlan(evaluation_start_hour=HOUR, **changes)  # type: ignore[arg-type]


def rows_of(seed: int, count: int, width: int) -> dict[bytes, np.ndarray]:
    random = np.random.default_rng(seed)
    common = random.normal(scale=300, size=width)
    return {
        hashlib.sha256(bytes([i, seed % 256])).digest()[:20]: np.rint(common + random.normal(scale=300, size=width))
        .clip(-32_767, 32_767)
        .astype(np.int16)
        for i in range(count)
    }


@pytest.mark.parametrize("vector", VECTORS["cases"], ids=lambda vector: vector["name"])
def test_golden_vectors(vector: dict[str, object]) -> None:
    updates = {bytes.fromhex(device): np.array(row, dtype=np.int16) for device, row in vector["updates"].items()}  # type: ignore[attr-defined]
    settings_of = plan(rule=vector["rule"], norm_cap_num=vector["norm_cap_num"], norm_cap_den=vector["norm_cap_den"])
    outcome = aggregate(updates, settings_of, int(vector["registered"]))  # type: ignore[call-overload]
    assert outcome.step.tolist() == vector["step"]
    assert outcome.hostile == vector["hostile"]
    assert [device.hex() for device in outcome.capped] == vector["capped"]


@pytest.mark.parametrize("rule", RULES)
def test_a_whole_model_has_its_golden_hash(rule: str) -> None:
    outcome = aggregate(rows_of(12, 12, PARAMETERS), plan(rule=rule), 12)
    assert hashlib.sha256(outcome.step.astype("<i4").tobytes()).hexdigest() == VECTORS["whole_model_sha256"][rule]


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    count=st.integers(1, 9),
    width=st.integers(1, 6),
    rule=st.sampled_from(RULES),
    registered=st.integers(1, 30),
)
def test_equals_the_oracle_in_any_order(
    data: st.DataObject, count: int, width: int, rule: str, registered: int
) -> None:
    value = st.integers(-32_767, 32_767) | st.integers(-3, 3)
    rows = data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=count, max_size=count))
    updates = {bytes([7 * i % 256]) * 20: row for i, row in enumerate(rows)}
    arrival = data.draw(st.permutations(sorted(updates)))
    settings_of = plan(rule=rule)
    outcome = aggregate(
        {device: np.array(updates[device], dtype=np.int16) for device in arrival}, settings_of, registered
    )
    hostile = settings_of.hostile_devices(registered)
    assert outcome.step.tolist() == learning_oracle.step(updates, rule, hostile, 2, 1)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_arrival_does_not_matter(rule: str) -> None:
    updates = rows_of(3, 11, 400)
    expected = aggregate(updates, plan(rule=rule), 12).step
    for seed in range(5):
        devices = [list(updates)[i] for i in np.random.default_rng(seed).permutation(len(updates))]
        shuffled = {device: updates[device] for device in devices}
        assert np.array_equal(aggregate(shuffled, plan(rule=rule), 12).step, expected)


@pytest.mark.parametrize("kernel", ["NEHALEM", "HASWELL"])
def test_other_cpu_kernels_and_hash_seeds_give_the_same_bits(repo_root: Path, kernel: str) -> None:
    code = """
import sys, hashlib; sys.path.insert(0, "tests/learning")
from test_learning_aggregate import *
print(hashlib.sha256(aggregate(rows_of(12, 12, PARAMETERS), plan(), 12).step.astype("<i4").tobytes()).hexdigest())
"""
    env = {**os.environ, "OPENBLAS_CORETYPE": kernel, "PYTHONHASHSEED": str(len(kernel))}
    out = subprocess.run([sys.executable, "-c", code], cwd=repo_root, env=env, capture_output=True, text=True)
    assert out.stdout.strip() == VECTORS["whole_model_sha256"]["nnm_trimmed_mean"], out.stderr


def test_f_comes_from_the_registered_and_leaves_one_value() -> None:
    assert aggregate(rows_of(1, 12, 5), plan(), 12).hostile == 3
    assert aggregate(rows_of(1, 9, 5), plan(), 30).hostile == 4  # 9 of the registered 30 cannot be asked for
    assert aggregate(rows_of(1, 2, 5), plan(), 30).hostile == 0
    assert aggregate(rows_of(1, 1, 5), plan(), 1).hostile == 0


@pytest.mark.parametrize("rule", ["trimmed_mean", "nnm_trimmed_mean"])
def test_up_to_f_hostile_rows_stay_within_the_honest_range(rule: str) -> None:
    updates = rows_of(5, 12, 50)
    devices = sorted(updates)
    honest = np.stack([updates[device] for device in devices[3:]])
    for device in devices[:3]:
        updates[device] = np.full(50, 32_767, dtype=np.int16)
    step = aggregate(updates, plan(rule=rule), 12).step
    assert (step <= honest.max(0)).all() and (step >= honest.min(0)).all()


def test_the_norm_cap_binds_even_when_more_than_f_are_hostile() -> None:
    updates = rows_of(6, 12, 50)
    honest = [int(np.sqrt((updates[d].astype(np.int64) ** 2).sum())) for d in sorted(updates)[5:]]
    for device in sorted(updates)[:5]:
        updates[device] = np.full(50, 32_767, dtype=np.int16)
    outcome = aggregate(updates, plan(), 12)
    assert outcome.capped == tuple(sorted(updates)[:5])
    assert np.sqrt((outcome.step.astype(float) ** 2).sum()) <= 2 * max(honest)


def test_cap_shortens_to_the_cap_and_not_further() -> None:
    rows = np.array([[3, 4], [3, 4], [300, -400]], dtype=np.int64)
    short, which = cap_norms(rows, 2, 1)
    assert which == [2] and short.tolist() == [[3, 4], [3, 4], [6, -8]]
    short, which = cap_norms(np.array([[3, 4], [3, 4], [6, 8]], dtype=np.int64), 2, 1)
    assert which == [] and short.tolist()[2] == [6, 8]


def test_momentum_and_master_follow_their_definition_and_stay_int32() -> None:
    half = plan(momentum_num=1, momentum_den=2)
    state = ServerState(np.array([100, -100], np.int32), np.array([3, -3], np.int32))
    after = apply_step(state, np.array([10, -10], dtype=np.int64), half)
    assert after.momentum.tolist() == [2 + 40, -1 - 40]  # half of 3 rounds up to 2, half of -3 up to -1
    assert after.master.tolist() == [142, -141]
    edge = ServerState(np.array([MASTER_LIMIT], np.int32), np.array([MASTER_LIMIT], np.int32))
    after = apply_step(edge, np.array([32_767], dtype=np.int64), half)
    assert after.master.tolist() == [MASTER_LIMIT] and after.master.dtype == np.int32


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [32_767, -32_767, 0])
def test_a_round_of_equal_updates_gives_that_update_without_wrapping(rule: str, value: int) -> None:
    updates = {bytes([i]) * 20: np.full(PARAMETERS, value, dtype=np.int16) for i in range(12)}
    outcome = aggregate(updates, plan(rule=rule), 12)
    assert (outcome.step == value).all() and outcome.capped == ()


@pytest.mark.parametrize("rule", RULES)
def test_whole_models_of_extreme_values_equal_the_oracle(rule: str) -> None:
    random = np.random.default_rng(7)
    updates = {
        bytes([i]) * 20: random.choice(np.array([-32_767, 32_767], dtype=np.int16), PARAMETERS) for i in range(7)
    } | {bytes([9 + i]) * 20: np.full(PARAMETERS, i, dtype=np.int16) for i in range(2)}
    expected = learning_oracle.step({device: row.tolist() for device, row in updates.items()}, rule, 3, 2, 1)
    assert aggregate(updates, plan(rule=rule), 12).step.tolist() == expected


def test_free_riders_up_to_half_of_a_round_cannot_set_the_cap_to_zero() -> None:
    updates = rows_of(2, 9, 50)
    for device in sorted(updates)[:4]:
        updates[device] = np.zeros(50, dtype=np.int16)
    outcome = aggregate(updates, plan(), 30)
    assert outcome.hostile == 4 and not set(outcome.capped) & set(sorted(updates)[4:])
    assert outcome.step.any()


@pytest.mark.parametrize(
    ("updates", "problem"),
    [
        ({}, "0 updates"),
        ({i.to_bytes(20, "big"): np.zeros(1, np.int16) for i in range(MAX_DEVICES + 1)}, "4097 updates"),
        ({bytes(20): np.zeros(3, np.int16), b"\1" * 20: np.zeros(4, np.int16)}, "same shape"),
    ],
    ids=["none", "too many", "unequal"],
)
def test_impossible_rounds_are_refused(updates: dict[bytes, np.ndarray], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        aggregate(updates, plan(), 3)
