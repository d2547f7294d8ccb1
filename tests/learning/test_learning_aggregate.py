"""Aggregation: golden vectors, a plain oracle, order of arrival, machines, and the bounds that hostile devices meet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import aggregate_vectors
import numpy as np
import pytest
from aggregate_sets import aggregate_hash, hashes, plan, rows_of, sets
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast.spec import NET_ENERGY
from openmg.learning.aggregate import MASTER_LIMIT, Rejection, ServerState, aggregate, apply_step
from openmg.learning.plan import MAX_DEVICES, RULES
from openmg.learning.rules.norms import cap_norms, shorten_longest
from openmg.learning.rules.outcome import MAX_PARAMETERS, Reason

PARAMETERS = NET_ENERGY.parameters

VECTORS = json.loads(aggregate_vectors.PATH.read_text(encoding="utf-8"))
HASHES = VECTORS["whole_model_sha256"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("vector", VECTORS["cases"], ids=lambda vector: vector["name"])
def test_golden_vectors(vector: dict[str, object], rule: str) -> None:
    updates = {bytes.fromhex(device): np.array(row, dtype=np.int16) for device, row in vector["updates"].items()}  # type: ignore[attr-defined]
    settings_of = plan(rule=rule, norm_cap_num=vector["norm_cap_num"], norm_cap_den=vector["norm_cap_den"])
    outcome = aggregate(updates, settings_of, int(vector["registered"]))  # type: ignore[call-overload]
    expected = vector["outcomes"][rule]  # type: ignore[index]
    assert outcome.step.tolist() == expected["step"]
    assert outcome.hostile == vector["hostile"]
    assert [device.hex() for device in outcome.capped] == vector["capped"]
    assert [[rejection.device.hex(), rejection.reason] for rejection in outcome.rejected] == expected["rejected"]


def test_whole_models_have_their_golden_hashes() -> None:
    assert hashes() == HASHES
    assert len({value for by_rule in HASHES.values() for value in by_rule.values()}) == 2 * len(RULES)


@pytest.mark.parametrize("kernel", ["NEHALEM", "HASWELL"])
def test_other_cpu_kernels_and_hash_seeds_give_the_same_bits(repo_root: Path, kernel: str) -> None:
    env = {**os.environ, "OPENBLAS_CORETYPE": kernel, "PYTHONHASHSEED": str(len(kernel))}
    command = [sys.executable, "tests/learning/aggregate_sets.py"]
    out = subprocess.run(command, cwd=repo_root, env=env, capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout) == HASHES


@pytest.mark.slow
def test_the_other_numpy_gives_the_same_bits(repo_root: Path, tmp_path: Path) -> None:
    wanted = "numpy>=2,<3" if np.__version__.startswith("1.") else "numpy<2"
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    needed = [wanted, "cbor2>=6.2,<7", "pycryptodome>=3.20,<4"]
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *needed]
    done = subprocess.run(install, capture_output=True, text=True, timeout=150)
    if done.returncode:
        pytest.skip(f"pip cannot install {wanted}: {done.stderr.strip().splitlines()[-1:]}")
    version = subprocess.run([python, "-c", "import numpy; print(numpy.__version__)"], capture_output=True, text=True)
    assert version.stdout.split(".")[0] != np.__version__.split(".")[0]
    command = [python, "tests/learning/aggregate_sets.py"]
    out = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout) == HASHES


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    count=st.integers(1, 9),
    width=st.integers(1, 6),
    rule=st.sampled_from(RULES),
    registered=st.integers(1, 30),
)
def test_equals_the_oracle_in_any_order(data: st.DataObject, count: int, width: int, rule: str, registered: int) -> None:
    value = st.integers(-32_767, 32_767) | st.integers(-3, 3)
    rows = data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=count, max_size=count))
    updates = {bytes([7 * i % 256]) * 20: row for i, row in enumerate(rows)}
    arrival = data.draw(st.permutations(sorted(updates)))
    arrays = {device: np.array(updates[device], dtype=np.int16) for device in arrival}
    outcome = aggregate(arrays, plan(rule=rule), registered)
    expected = aggregate_vectors.expected(updates, rule, registered)
    assert outcome.step.tolist() == expected.step.tolist()
    assert (outcome.hostile, outcome.capped, outcome.rejected) == (expected.hostile, expected.capped, expected.rejected)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_arrival_does_not_matter(rule: str) -> None:
    updates = sets()["three flipped"]
    expected = aggregate_hash(aggregate(updates, plan(rule=rule), 12))
    for seed in range(5):
        devices = [list(updates)[i] for i in np.random.default_rng(seed).permutation(len(updates))]
        shuffled = {device: updates[device] for device in devices}
        assert aggregate_hash(aggregate(shuffled, plan(rule=rule), 12)) == expected


def test_f_comes_from_the_registered_and_leaves_one_value() -> None:
    assert aggregate(rows_of(1, 12, 5), plan(), 12).hostile == 3
    assert aggregate(rows_of(1, 9, 5), plan(), 30).hostile == 4  # 9 of the registered 30 cannot be asked for
    assert aggregate(rows_of(1, 2, 5), plan(), 30).hostile == 0
    assert aggregate(rows_of(1, 1, 5), plan(), 1).hostile == 0


@pytest.mark.parametrize("rule", ["trimmed_mean", "nnm_trimmed_mean", "median", "krum", "multi_krum"])
def test_up_to_f_hostile_rows_stay_within_the_honest_range(rule: str) -> None:
    updates = rows_of(5, 12, 50)
    devices = sorted(updates)
    honest = np.stack([updates[device] for device in devices[3:]])
    for device in devices[:3]:
        updates[device] = np.full(50, 32_767, dtype=np.int16)
    step = aggregate(updates, plan(rule=rule), 12).step
    assert (step <= honest.max(0)).all() and (step >= honest.min(0)).all()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "mean"])
def test_three_of_twelve_that_flip_and_stretch_are_named_and_hardly_move_the_step(rule: str) -> None:
    honest, attacked = sets()["honest"], sets()["three flipped"]
    hostile = {device for device in honest if not np.array_equal(honest[device], attacked[device])}
    outcome = aggregate(attacked, plan(rule=rule), 12)
    assert hostile <= {rejection.device for rejection in outcome.rejected}
    if rule != "krum":
        assert hostile == {rejection.device for rejection in outcome.rejected}
    truth = np.mean([row for device, row in honest.items() if device not in hostile], axis=0)

    def error(step: np.ndarray) -> float:
        return float(np.linalg.norm(step - truth))

    # Krum's answer is one home's row, as noisy as it is.
    bound = 0.75 if rule != "krum" else 1.2
    assert error(outcome.step) < bound * error(aggregate(attacked, plan(rule="mean"), 12).step)


@pytest.mark.parametrize("rule", ["nnm_trimmed_mean", "trimmed_mean", "median", "centred_clipping", "geometric_median"])
def test_nobody_is_named_in_an_honest_round(rule: str) -> None:
    for count in (1, 2, 3, 12, 40):
        assert aggregate(rows_of(4, count, 2000), plan(rule=rule), count).rejected == ()


def test_krum_leaves_out_all_but_one_and_multi_krum_f() -> None:
    updates = rows_of(4, 12, 200)
    krum = aggregate(updates, plan(rule="krum"), 12)
    (chosen,) = set(updates) - {rejection.device for rejection in krum.rejected}
    assert krum.step.tolist() == updates[chosen].tolist()
    left_out = aggregate(updates, plan(rule="multi_krum"), 12).rejected
    assert len(left_out) == 3 and {rejection.reason for rejection in left_out} == {Reason.NOT_SELECTED}
    assert [rejection.device for rejection in left_out] == sorted(rejection.device for rejection in left_out)


def test_the_norm_cap_binds_even_when_more_than_f_are_hostile() -> None:
    updates = rows_of(6, 12, 50)
    honest = [int(np.sqrt((updates[d].astype(np.int64) ** 2).sum())) for d in sorted(updates)[5:]]
    for device in sorted(updates)[:5]:
        updates[device] = np.full(50, 32_767, dtype=np.int16)
    for rule in RULES:
        outcome = aggregate(updates, plan(rule=rule), 12)
        assert outcome.capped == tuple(sorted(updates)[:5])
        assert np.sqrt((outcome.step.astype(float) ** 2).sum()) <= 2 * max(honest)


def test_cap_shortens_to_the_cap_and_not_further() -> None:
    rows = np.array([[3, 4], [3, 4], [300, -400]], dtype=np.int64)
    short, which = cap_norms(rows, 2, 1)
    assert which == [2] and short.tolist() == [[3, 4], [3, 4], [6, -8]]
    short, which = cap_norms(np.array([[3, 4], [3, 4], [6, 8]], dtype=np.int64), 2, 1)
    assert which == [] and short.tolist()[2] == [6, 8]


def test_the_longest_are_shortened_to_the_next_and_without_f_nobody() -> None:
    rows = np.array([[30, 40], [3, 4], [0, -20], [6, 8], [-60, 80], [12, 16]], dtype=np.int64)
    # floor(2 * 2 * 4 / 6) = 2 rows, of norms 100 and 50, go to 20, the norm of two others
    assert shorten_longest(rows, 2).tolist() == [[12, 16], [3, 4], [0, -20], [6, 8], [-12, 16], [12, 16]]
    # floor(2 * 1 * 5 / 6) = 1
    assert shorten_longest(rows, 1).tolist() == [[30, 40], [3, 4], [0, -20], [6, 8], [-30, 40], [12, 16]]
    assert shorten_longest(rows, 0).tolist() == rows.tolist()
    assert rows[4].tolist() == [-60, 80]


def test_a_home_that_goes_further_does_not_pull_the_default_rule_along() -> None:
    updates = rows_of(9, 12, 400)
    far = sorted(updates)[0]
    calm, longer = aggregate(updates, plan(), 12), {**updates, far: (updates[far] * 1.9).astype(np.int16)}
    moved = aggregate(longer, plan(), 12)
    assert moved.capped == ()
    mean_moved = np.linalg.norm(aggregate(longer, plan(rule="mean"), 12).step - aggregate(updates, plan(rule="mean"), 12).step)
    assert np.linalg.norm(moved.step - calm.step) < mean_moved / 3


def test_liars_are_named_by_what_they_sent_although_the_rule_shortens_it() -> None:
    random = np.random.default_rng(3)
    common = random.normal(scale=150, size=2000)
    rows = np.rint(common + random.normal(scale=300, size=(30, 2000)))
    rows[:9] *= -3
    updates = {bytes([index]) * 20: row.astype(np.int16) for index, row in enumerate(rows)}
    assert {item.device for item in aggregate(updates, plan(), 30).rejected} == {bytes([index]) * 20 for index in range(9)}


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
    updates = {bytes([i]) * 20: np.full(NET_ENERGY.parameters, value, dtype=np.int16) for i in range(12)}
    outcome = aggregate(updates, plan(rule=rule), 12)
    assert (outcome.step == value).all() and outcome.capped == ()
    if rule not in ("krum", "multi_krum"):
        assert outcome.rejected == ()


@pytest.mark.parametrize("rule", RULES)
def test_whole_models_of_extreme_values_equal_the_oracle(rule: str) -> None:
    random = np.random.default_rng(7)
    updates = {
        bytes([i]) * 20: random.choice(np.array([-32_767, 32_767], dtype=np.int16), NET_ENERGY.parameters) for i in range(7)
    } | {bytes([9 + i]) * 20: np.full(NET_ENERGY.parameters, i, dtype=np.int16) for i in range(2)}
    expected = aggregate_vectors.expected({device: row.tolist() for device, row in updates.items()}, rule, 12)
    outcome = aggregate(updates, plan(rule=rule), 12)
    assert outcome.step.tolist() == expected.step.tolist() and outcome.rejected == expected.rejected


def test_free_riders_up_to_half_of_a_round_cannot_set_the_cap_to_zero() -> None:
    updates = rows_of(2, 9, 50)
    for device in sorted(updates)[:4]:
        updates[device] = np.zeros(50, dtype=np.int16)
    outcome = aggregate(updates, plan(), 30)
    assert outcome.hostile == 4 and not set(outcome.capped) & set(sorted(updates)[4:])
    assert outcome.step.any()


def test_a_rejection_names_device_and_reason() -> None:
    updates = {bytes([i]) * 20: np.array([100 + i, 100 - i], dtype=np.int16) for i in range(6)}
    updates[b"\x09" * 20] = np.array([-150, -150], dtype=np.int16)
    for rule, reason in (("nnm_trimmed_mean", "few_neighbours"), ("geometric_median", "low_weight")):
        assert aggregate(updates, plan(rule=rule), 7).rejected == (Rejection(b"\x09" * 20, Reason(reason)),)


@pytest.mark.parametrize(
    ("updates", "problem"),
    [
        ({}, "0 updates"),
        ({i.to_bytes(20, "big"): np.zeros(1, np.int16) for i in range(MAX_DEVICES + 1)}, "4097 updates"),
        ({bytes(20): np.zeros(3, np.int16), b"\1" * 20: np.zeros(4, np.int16)}, "same shape"),
        ({bytes(20): np.zeros(MAX_PARAMETERS + 1, np.int16)}, "at most 200000"),
        ({bytes(20): np.zeros((2, 2), np.int16)}, "give one row"),
    ],
    ids=["none", "too many", "unequal", "too long", "not a row"],
)
def test_impossible_rounds_are_refused(updates: dict[bytes, np.ndarray], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        aggregate(updates, plan(), 3)
