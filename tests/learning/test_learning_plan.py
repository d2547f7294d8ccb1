"""The plan: its bounds, its bytes."""

from __future__ import annotations

import pytest

from openmg import codec
from openmg.learning.plan import LearningPlan

HOUR = 495_000


def test_encoding_is_inverse() -> None:
    plan = LearningPlan(evaluation_start_hour=HOUR, holiday_days=(20_000, 20_500), rule="mean", local_steps=7)
    assert LearningPlan.decode(plan.encode()) == plan


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("commit_blocks", 0, 100_001),
        ("reveal_blocks", 0, 100_001),
        ("aggregate_blocks", 0, 100_001),
        ("max_attempts", 0, 65),
        ("committee_blocks", 0, 100_001),
        ("committee_size", -1, 65),
        ("committee_quorum", 0, 65),
        ("worse_milli", -1, 10_001),
        ("epoch_rounds", 0, 1_000_001),
        ("local_steps", 0, 1001),
        ("clip_milli", 0, 10_001),
        ("learning_rate_micro", 0, 1_000_001),
        ("rate_decay_rounds", -1, 1_000_001),
        ("train_hours", 191, 53 * 168 + 1),
        ("evaluation_hours", 23, 53 * 168 + 1),
        ("utc_offset_hours", -13, 15),
        ("byzantine_num", -1, 5),
        ("momentum_num", -1, 2),
        ("evaluation_start_hour", 671, 2**32 + 1),
    ],
)
def test_bounds_are_told(name: str, low: int, high: int) -> None:
    for value in (low, high):
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be a whole number in"):
            LearningPlan(**{"evaluation_start_hour": HOUR, name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rule": "bulyan"}, "use one of"),
        ({"holiday_days": (3, 2)}, "ascending"),
        ({"seed": b""}, "1 to 64 bytes"),
    ],
)
def test_other_fields_are_checked(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        LearningPlan(evaluation_start_hour=HOUR, **changes)  # type: ignore[arg-type]


def test_malformed_bytes_are_refused() -> None:
    good = codec.decode(LearningPlan(evaluation_start_hour=HOUR).encode())
    for bad in (
        [],
        {},
        {**good, "extra": 1},
        {**good, "local_steps": True},
        {**good, "holiday_days": ["x"]},
        {**good, "rule": b"mean"},
        {**good, "local_steps": 10**9},
    ):
        with pytest.raises(ValueError):
            LearningPlan.decode(codec.encode(bad))
    with pytest.raises(codec.DecodeError):
        LearningPlan.decode(b"\xff")


def test_hostile_devices_and_clip_are_whole_numbers() -> None:
    plan = LearningPlan(evaluation_start_hour=HOUR)
    assert [plan.hostile_devices(n) for n in (1, 3, 4, 10, 12, 100)] == [0, 0, 1, 3, 3, 30]
    assert LearningPlan(evaluation_start_hour=HOUR, clip_milli=300).clip_units == 78_643
