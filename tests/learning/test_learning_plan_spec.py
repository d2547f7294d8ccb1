"""The forecaster in a plan: it travels with the plan's bytes, bounds its spans, and anything malformed is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from openmg import codec
from openmg.forecast.spec import HORIZONS_HOURS, NET_ENERGY, RESOLUTIONS_MINUTES, ForecastSpec
from openmg.learning.plan import LearningPlan

PLAN = LearningPlan(evaluation_start_hour=495_000)
NAMES = st.text("abcxyz_019", min_size=1, max_size=32).filter(lambda name: name[0].isalpha())


@st.composite
def specs(draw: st.DrawFn) -> ForecastSpec:
    quantity, *channels = draw(st.lists(NAMES, min_size=1, max_size=9, unique=True))
    fields: dict[str, Any] = {
        "quantity": quantity,
        "resolution_minutes": draw(st.sampled_from(RESOLUTIONS_MINUTES)),
        "horizon_hours": draw(st.sampled_from(HORIZONS_HOURS)),
        "lag_hours": draw(st.integers(1, 168)),
        "hidden": (draw(st.integers(1, 256)), draw(st.integers(1, 256))),
        "channels": tuple(channels),
        "annual": draw(st.booleans()),
        "level": draw(st.booleans()),
    }
    try:
        return ForecastSpec(**fields)
    except ValueError:
        assume(False)
        raise


@settings(max_examples=100, deadline=None)
@given(specs())
def test_a_plan_brings_its_forecaster_along(spec: ForecastSpec) -> None:
    plan = replace(PLAN, spec=spec)
    again = LearningPlan.decode(plan.encode())
    assert again == plan and again.spec.model_id == spec.model_id and hash(again.spec) == hash(spec)
    assert (plan.encode() == PLAN.encode()) == (spec == NET_ENERGY)


MALFORMED: list[Any] = [
    {"quantity": b"net_energy"},
    {"quantity": None},
    {"resolution_minutes": True},
    {"resolution_minutes": "60"},
    {"horizon_hours": None},
    {"lag_hours": [48]},
    {"hidden": 48},
    {"hidden": ["64", 32]},
    {"hidden": [True, 32]},
    {"hidden": [[64], 32]},
    {"channels": "price"},
    {"channels": [b"price"]},
    {"channels": [["price"]]},
    {"annual": 1},
    {"level": 0},
    {"extra": 1},
]


@pytest.mark.parametrize("change", MALFORMED, ids=str)
def test_a_malformed_forecaster_is_refused(change: dict[str, Any]) -> None:
    whole = codec.decode(PLAN.encode())
    with pytest.raises(codec.DecodeError, match="^plan: the forecaster"):
        LearningPlan.decode(codec.encode({**whole, "spec": {**whole["spec"], **change}}))


@pytest.mark.parametrize("name", ["quantity", "hidden", "channels", "annual", "level"])
def test_a_forecaster_without_one_of_its_fields_is_refused(name: str) -> None:
    whole = codec.decode(PLAN.encode())
    spec = {key: item for key, item in whole["spec"].items() if key != name}
    with pytest.raises(codec.DecodeError, match="the fields it must have"):
        LearningPlan.decode(codec.encode({**whole, "spec": spec}))


@pytest.mark.parametrize("spec", [None, [], 5, "net_energy", b""])
def test_what_is_no_forecaster_at_all_is_refused(spec: object) -> None:
    whole = codec.decode(PLAN.encode())
    with pytest.raises(codec.DecodeError, match="plan: spec has the wrong type"):
        LearningPlan.decode(codec.encode({**whole, "spec": spec}))


@pytest.mark.parametrize(
    "change", [{"resolution_minutes": 7}, {"hidden": [64]}, {"hidden": [64, 32, 16]}, {"hidden": [0, 32]}, {"lag_hours": 10**9}]
)
def test_a_forecaster_out_of_bounds_is_refused_when_it_arrives(change: dict[str, Any]) -> None:
    whole = codec.decode(PLAN.encode())
    with pytest.raises(ValueError, match="^forecaster: "):
        LearningPlan.decode(codec.encode({**whole, "spec": {**whole["spec"], **change}}))


@pytest.mark.parametrize("horizon", HORIZONS_HOURS)
def test_the_spans_hold_at_least_one_window_of_the_forecaster(horizon: int) -> None:
    plan = replace(PLAN, spec=ForecastSpec(horizon_hours=horizon))
    assert replace(plan, train_hours=168 + horizon, evaluation_hours=horizon).spec.horizon_hours == horizon
    with pytest.raises(ValueError, match=f"train_hours is {167 + horizon}; it must be"):
        replace(plan, train_hours=167 + horizon)
    with pytest.raises(ValueError, match=f"evaluation_hours is {horizon - 1}; it must be"):
        replace(plan, evaluation_hours=horizon - 1)
