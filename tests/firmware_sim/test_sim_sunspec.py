"""SunSpec: discovery, scale factors, codes and signs, against our simulated devices and the Alliance's own model files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sunspec2
from hypothesis import given, settings
from hypothesis import strategies as st
from sunspec_drive import found_by, image_reader, read_all

from firmware_sim.image import RawSpan
from firmware_sim.meter import Meter
from firmware_sim.sunspec_image import MPPT_SHARES, NamePlate, SunSpecCoder, panel_values
from openmg.profiles.profile import load_profile
from openmg.profiles.profile_file import SunSpecOptions
from openmg.profiles.sunspec import ModelBlock, NotSunSpec, decode_block, values
from openmg.profiles.sunspec_models import models

OPTIONS = load_profile("sunspec").sunspec or SunSpecOptions()
PLATE = NamePlate("simulated", "7", 7)
ALL = (1, 103, 160, 203, 124, 802)
ALLIANCE = Path(sunspec2.__file__).parent / "models" / "json"


def home(power_w: int = 4321, made_w: float = 2500.0) -> dict[str, float | None]:
    shown = dict(Meter(lambda _step: power_w, 0, seed=1).values(36_000.0))
    shown |= {"generation_power_w": made_w, "generation_energy_kwh": 123.456, "battery_power_w": 1800.0}
    shown |= {
        "battery_soc_percent": 62.5,
        "battery_capacity_wh": 10_000.0,
        "battery_limit_w": 5_000.0,
        "battery_voltage_v": 51.2,
    }
    return shown | panel_values(made_w, 123.456)


@pytest.mark.parametrize("model_id", sorted(models()))
def test_our_model_files_agree_with_the_alliances(model_id: int) -> None:
    group = json.loads((ALLIANCE / f"model_{model_id}.json").read_text(encoding="utf-8"))["group"]
    model, at = models()[model_id], 0
    ours = {point.at: point for point in model.points.values()}
    for point in group["points"]:
        if at >= 2:
            assert (ours[at].type, ours[at].size, ours[at].sf) == (point["type"], point["size"], point.get("sf")), point["name"]
            assert ours[at].name == point["name"] or (model_id == 201 and point["name"].startswith("PPVph"))
        at += point["size"]
    assert at == model.length + 2 and len(ours) == len(group["points"]) - 2
    for module in group.get("groups", []):
        assert [p["name"] for p in module["points"]] == list(model.module_points)
        assert sum(p["size"] for p in module["points"]) == model.module_length


def test_a_device_is_found_at_each_base_and_read_with_all_its_models() -> None:
    shown = home()
    for base in OPTIONS.bases:
        read = image_reader(SunSpecCoder(ALL, OPTIONS, PLATE, base).image(shown))
        device = found_by(read, OPTIONS)
        assert device.base == base and tuple(block.model_id for block in device.blocks) == ALL
        got = read_all(read, OPTIONS)
        for name in ("power_total_w", "energy_import_kwh", "energy_export_kwh", "generation_power_w", "generation_energy_kwh",
                     "battery_soc_percent", "battery_power_w", "mppt1_power_w", "mppt2_energy_kwh", "dc_power_w",
                     "voltage_l3_v", "current_l2_a", "power_l1_w", "power_factor_total", "reactive_import_kvarh"):  # fmt: skip
            assert got[name] == pytest.approx(shown[name], rel=2e-3, abs=0.01), name
        assert "mppt3_power_w" not in got and len(MPPT_SHARES) == 2


@pytest.mark.parametrize("inverter", [101, 102, 103, 111, 112, 113])
@pytest.mark.parametrize("meter", [None, 201, 202, 203, 204])
def test_the_meter_gives_power_and_energy_and_without_one_the_inverter_does(inverter: int, meter: int | None) -> None:
    shown = home(power_w=-1500, made_w=2500.0)
    ids = (1, inverter) if meter is None else (1, inverter, meter)
    got = read_all(image_reader(SunSpecCoder(ids, OPTIONS, PLATE).image(shown)), OPTIONS)
    assert got["generation_power_w"] == pytest.approx(2500)
    if meter is None:
        assert got["power_total_w"] == pytest.approx(-2500) and got["energy_export_kwh"] == pytest.approx(123.456, rel=1e-5)
        assert "energy_import_kwh" not in got
    else:
        assert got["power_total_w"] == pytest.approx(-1500)
        assert got["energy_export_kwh"] == pytest.approx(shown["energy_export_kwh"], abs=0.001)
        assert got["energy_import_kwh"] == 0.0


def test_a_meter_that_counts_export_as_positive_is_turned_by_the_profile() -> None:
    turned = replace(OPTIONS, meter_sign=-1)
    image = SunSpecCoder((1, 203), turned, PLATE).image(home(power_w=900))
    assert read_all(image_reader(image), turned)["power_total_w"] == pytest.approx(900)
    assert read_all(image_reader(image), OPTIONS)["power_total_w"] == pytest.approx(-900)


@settings(max_examples=40, deadline=None)
@given(power=st.integers(-5_000_000, 5_000_000), made=st.floats(0, 5e6), kwh=st.floats(0, 4e6))
def test_any_size_of_home_survives_with_the_scale_factors_it_needs(power: int, made: float, kwh: float) -> None:
    shown = home(power, made) | {"energy_import_kwh": kwh}
    got = read_all(image_reader(SunSpecCoder(ALL, OPTIONS, PLATE).image(shown)), OPTIONS)
    assert got["power_total_w"] == pytest.approx(power, rel=2e-4, abs=0.001)
    assert got["generation_power_w"] == pytest.approx(made, rel=2e-4, abs=0.001)
    assert got["energy_import_kwh"] == pytest.approx(kwh, abs=0.001)


def test_accumulators_roll_over_at_two_to_the_32() -> None:
    shown = home() | {"energy_import_kwh": (2**32 + 5000) / 1000}
    got = read_all(image_reader(SunSpecCoder((1, 203), OPTIONS, PLATE).image(shown)), OPTIONS)
    assert got["energy_import_kwh"] == pytest.approx(5.0)


def test_what_is_not_implemented_is_no_value() -> None:
    read = image_reader(SunSpecCoder((1, 103, 203), OPTIONS, PLATE).image({}))
    got = read_all(read, OPTIONS)
    assert {"power_total_w", "energy_import_kwh", "generation_power_w"} <= set(got)
    assert set(got.values()) == {None}, "an accumulator without a scale factor is no value either"


def test_a_scale_factor_that_is_not_there_takes_its_values_with_it() -> None:
    image = SunSpecCoder((1, 203), OPTIONS, PLATE).image(home())
    device = found_by(image_reader(image), OPTIONS)
    block = device.group("fast")[0]
    registers = list(image_reader(image)(block.read.address, block.read.count) or ())
    registers[models()[203].points["W_SF"].at] = 0x8000
    got = values(device, {block: registers}, OPTIONS)
    assert got["power_total_w"] is None and got["energy_import_kwh"] is not None
    registers[models()[203].points["W_SF"].at] = 9
    with pytest.raises(NotSunSpec, match="power_.*scale factor"):
        values(device, {block: registers}, OPTIONS)


def test_a_device_that_changed_its_map_is_noticed() -> None:
    image = SunSpecCoder((1, 203), OPTIONS, PLATE).image(home())
    device = found_by(image_reader(image), OPTIONS)
    block = device.group("fast")[0]
    registers = list(image_reader(image)(block.read.address, block.read.count) or ())
    with pytest.raises(NotSunSpec, match="not there any more"):
        values(device, {block: [103, *registers[1:]]}, OPTIONS)
    with pytest.raises(NotSunSpec, match="not there any more"):
        values(device, {block: registers[:-1]}, OPTIONS)


def test_older_lengths_of_model_1_and_unknown_models_are_walked_over() -> None:
    full = SunSpecCoder((1, 203), OPTIONS, PLATE).image(home())[0]
    assert isinstance(full, RawSpan)
    common = full.raw[:4] + b"\0\x01\0\x41" + full.raw[8 : 4 + 2 * 67]  # L = 65: no pad register
    unknown = bytes.fromhex("ffde0003000000000000")  # model 65502 with three registers
    image = (RawSpan(40_000, common + unknown + full.raw[4 + 2 * 68 :]),)
    device = found_by(image_reader(image), OPTIONS)
    assert [block.model_id for block in device.blocks] == [1, 65_502, 203]
    assert read_all(image_reader(image), OPTIONS)["power_total_w"] == pytest.approx(4321)
    read = image_reader(image)(40_002, 67)
    assert read is not None and decode_block(ModelBlock(1, 40_002, 65), read)["Mn"] == "Enhanced Open MG"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"SunX" + bytes(20), "no SunSpec marker at 40000, 0, 50000"),
        (b"SunS" + b"\0\x01\0\x42" + bytes(20), "breaks off at register 40070"),
        (b"SunS" + b"\0\x07\0\0" * 80, "has no end within 64 models"),
    ],
)
def test_what_is_no_device_is_said(raw: bytes, words: str) -> None:
    with pytest.raises(NotSunSpec, match=words):
        found_by(image_reader((RawSpan(40_000, raw),)), OPTIONS)
