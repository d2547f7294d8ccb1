"""The spec: the shapes that follow from it, its bounds, and that no two specs share a name."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from openmg.forecast import spec as spec_module
from openmg.forecast.model import initial_master
from openmg.forecast.spec import NET_ENERGY, ForecastSpec
from openmg.forecast.trainer_tflite import asset_name
from openmg.learning.quantise import model_hash

NAMES = st.sampled_from(["net_energy", "demand", "price", "annual", "temperature"])


@st.composite
def specs(draw: st.DrawFn) -> ForecastSpec:
    quantity, *channels = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    try:
        return ForecastSpec(
            quantity,
            draw(st.sampled_from(spec_module.RESOLUTIONS_MINUTES)),
            draw(st.sampled_from(spec_module.HORIZONS_HOURS)),
            draw(st.sampled_from([1, 2, 24, 26, 48, 168])),
            (draw(st.integers(1, 5)), draw(st.integers(1, 5))),
            tuple(channels),
            draw(st.booleans()),
            draw(st.booleans()),
        )
    except ValueError:
        assume(False)
        raise


def test_shapes_of_the_meters_model() -> None:
    spec = NET_ENERGY
    assert spec.features == 48 + 24 + 24 + 24 + (2 + 14 + 2) + 1 == 139
    assert spec.outputs == 4 * 24
    assert spec.parameters == 139 * 64 + 64 + 64 * 32 + 32 + 32 * 96 + 96 == 14_208
    assert (spec.master_bytes, spec.update_bytes) == (56_832, 28_416)
    assert spec.model_id == "openmg.forecast.2.net_energy.60min.24h.48h.139-64-32-96"


@pytest.mark.parametrize(
    ("minutes", "horizon", "inputs"),
    [(30, 24, 96 + 48 * 3 + 18 + 1), (15, 48, 192 + 96 * 2 + 192 + 19 + 1), (5, 72, 576 + 288 * 2 + 864 + 20 + 1)],
)
def test_inputs_and_outputs_grow_with_resolution_and_horizon(minutes: int, horizon: int, inputs: int) -> None:
    spec = ForecastSpec(resolution_minutes=minutes, horizon_hours=horizon, hidden=(8, 4))
    assert spec.features == inputs and spec.outputs == 4 * horizon * 60 // minutes
    assert replace(spec, annual=True).features == inputs + 2


def test_a_channel_adds_one_input_for_each_step_ahead() -> None:
    spec = ForecastSpec(resolution_minutes=15, horizon_hours=48, channels=("price", "temperature"))
    assert spec.features == replace(spec, channels=()).features + 2 * 192


@settings(max_examples=60, deadline=None)
@given(specs())
def test_layers_lie_one_after_the_other(spec: ForecastSpec) -> None:
    assert spec.offsets[0] == 0 and spec.offsets[-1] + spec.sizes[-1] == spec.parameters
    assert all(b == a + size for a, b, size in zip(spec.offsets, spec.offsets[1:], spec.sizes, strict=False))
    assert spec.shapes[0] == (spec.features, spec.hidden[0]) and spec.shapes[-1] == (spec.outputs,)
    assert [shape[1] for shape in spec.shapes[::2]] == [shape[0] for shape in spec.shapes[1::2]]


@settings(max_examples=300, deadline=None)
@given(specs(), specs())
def test_model_ids_are_equal_only_for_equal_specs(ours: ForecastSpec, other: ForecastSpec) -> None:
    assert (ours.model_id == other.model_id) == (ours == other)


def test_every_field_changes_the_id_and_so_the_hash_of_a_model() -> None:
    small = replace(NET_ENERGY, hidden=(3, 2))
    changes: dict[str, object] = {
        "quantity": "demand",
        "resolution_minutes": 30,
        "horizon_hours": 48,
        "lag_hours": 24,
        "hidden": (2, 3),
        "channels": ("price",),
        "annual": True,
        "level": False,
        "persistent": True,
    }
    assert set(changes) == {field.name for field in fields(ForecastSpec)}
    others = [replace(small, **{name: value}) for name, value in changes.items()]  # type: ignore[arg-type]
    names = {spec.model_id for spec in (small, *others)}
    assert len(names) == len(changes) + 1
    master = initial_master(small, b"x")
    assert len({model_hash(spec, master) for spec in (small, *others)}) == len(names)


def test_a_yearly_course_and_a_channel_of_that_name_are_told_apart() -> None:
    wave, channel = ForecastSpec(annual=True), ForecastSpec(channels=("annual",))
    assert wave.model_id != channel.model_id


def test_one_graph_serves_models_of_one_shape() -> None:
    assert asset_name(NET_ENERGY) == asset_name(replace(NET_ENERGY, quantity="demand")) == "mlp-139-64-32-96.tflite"
    assert asset_name(NET_ENERGY) != asset_name(replace(NET_ENERGY, annual=True))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"resolution_minutes": 45}, "a step has"),
        ({"resolution_minutes": 0}, "a step has"),
        ({"horizon_hours": 25}, "a horizon has"),
        ({"horizon_hours": 0}, "a horizon has"),
        ({"lag_hours": 0}, "lags span 1 to 168 hours"),
        ({"lag_hours": 169}, "lags span 1 to 168 hours"),
        ({"hidden": (0, 4)}, "two hidden layers of 1 to 256"),
        ({"hidden": (4, 257)}, "two hidden layers of 1 to 256"),
        ({"hidden": (4,)}, "two hidden layers"),
        ({"quantity": ""}, "names are unlike each other"),
        ({"quantity": "Net"}, "names are unlike each other"),
        ({"quantity": "a" * 33}, "names are unlike each other"),
        ({"quantity": "net+annual"}, "names are unlike each other"),
        ({"quantity": "net\n"}, "names are unlike each other"),
        ({"channels": ("net_energy",)}, "names are unlike each other"),
        ({"channels": ("price", "price")}, "names are unlike each other"),
        ({"channels": tuple("abcdefghi")}, "at most 8 channels"),
        ({"resolution_minutes": 5, "lag_hours": 168, "hidden": (4, 4)}, "at most 2048 inputs"),
        ({"resolution_minutes": 5, "horizon_hours": 72}, "at most 200000 weights"),
    ],
)
def test_what_is_out_of_bounds_is_refused_in_one_sentence(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=f"^forecaster: .*{rule}.* breaks this$"):
        ForecastSpec(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"lag_hours": 1},
        {"lag_hours": 168},
        {"hidden": (1, 256)},
        {"quantity": "a" * 32},
        {"channels": tuple("abcdefgh")},
        {"resolution_minutes": 5, "horizon_hours": 72, "hidden": (32, 16)},
    ],
)
def test_what_is_just_within_bounds_is_taken(changes: dict[str, object]) -> None:
    assert ForecastSpec(**changes).parameters <= spec_module.MAX_PARAMETERS  # type: ignore[arg-type]
