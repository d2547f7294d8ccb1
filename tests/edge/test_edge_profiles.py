"""Meter profiles, register coding, and the round trip from a value to registers and back for every point."""

from __future__ import annotations

import dataclasses
import json
import struct
import tomllib
from pathlib import Path

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.modbus.plan import plan_blocks
from firmware_sim.image import ImageCoder
from firmware_sim.meter import Meter
from openmg.profiles import profile as profiles
from openmg.profiles.point import counter_step
from openmg.profiles.profile import ProfileError, bundled, known_profiles, load_profile
from openmg.profiles.profile_file import Defaults, Device, Link, PointFile, ProbeFile, ProfileFile, Simulation
from openmg.profiles.quantities import BILLING, QUANTITIES
from openmg.profiles.registers import FORMATS, ORDERS, decode, decode_text, encode, encode_text, width

FOLDER = Path(profiles.__file__).parent
MAPPED = tuple(name for name in bundled() if load_profile(name).sunspec is None)
SCHEMA = json.loads((FOLDER / "profile.schema.json").read_text(encoding="utf-8"))
VALIDATE = fastjsonschema.compile(SCHEMA)


def registers_at(image: object, address: int, count: int) -> tuple[int, ...]:
    for span in image:  # type: ignore[attr-defined]
        if span.start <= address < span.end:
            return struct.unpack(f">{count}H", span.part(address, count))
    raise AssertionError(f"{address:#06x} is in no span")


def test_these_meters_come_with_the_project() -> None:
    assert bundled() == ("b23", "b24", "em24", "em340", "iem3155", "sdm120", "sdm230", "sdm630", "sunspec")


def test_the_documentation_names_every_profile_and_its_example_is_a_profile(tmp_path: Path, repo_root: Path) -> None:
    text = (repo_root / "docs" / "PROFILES.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in bundled())
    example = text.split("```toml\n")[1].split("```")[0].replace(
        "# ... energy_import_kwh and energy_export_kwh likewise",
        'energy_import_kwh = { address = 2, unit = "Wh", group = "fast", range = [0, 1e6] }\n'
        'energy_export_kwh = { address = 4, unit = "Wh", group = "fast", range = [0, 1e6] }\n'
        'frequency_hz = { address = 6, unit = "Hz", group = "fast", range = [40, 70] }',
    )  # fmt: skip
    (tmp_path / "example.toml").write_text(example, encoding="utf-8")
    assert load_profile("example", (tmp_path,)).point("power_total_w").factor == 1000
    VALIDATE(tomllib.loads(example))


@pytest.mark.parametrize("name", bundled())
def test_every_profile_fits_the_schema_and_states_its_source(name: str) -> None:
    VALIDATE(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")))
    profile = load_profile(name)
    assert profile.name == name and profile.device.source
    assert profile.sunspec is not None or {*BILLING, "frequency_hz", "voltage_l1_v"} <= {p.name for p in profile.points}


@pytest.mark.parametrize("name", MAPPED)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_every_point_survives_the_registers_within_its_resolution(name: str, data: st.DataObject) -> None:
    profile = load_profile(name)
    coder = ImageCoder(profile)
    shares = data.draw(st.lists(st.floats(0, 1), min_size=len(profile.points), max_size=len(profile.points)))
    tops = [min(p.high, 0.99 * (profile.counter_limit(p) or p.high)) for p in profile.points]
    values = {p.name: p.low + s * (top - p.low) for p, s, top in zip(profile.points, shares, tops, strict=True)}
    image = coder.image(values)
    for point in profile.points:
        value = point.decode(registers_at(image, point.address, point.width))
        assert value is not None and value == pytest.approx(
            values[point.name], rel=1e-7, abs=0.501 * point.resolution + 1e-30
        ), point


@pytest.mark.parametrize("name", MAPPED)
def test_a_simulated_meter_is_plausible_and_recognised(name: str) -> None:
    profile = load_profile(name)
    meter = Meter(lambda step: 4777 if step % 2 else -3111, 0, seed=1, phases=profile.device.phases)
    image = ImageCoder(profile).image(meter.values(3600.0))
    for point in profile.points:
        value = point.decode(registers_at(image, point.address, point.width))
        assert value is not None and point.plausible(value), point.name
    for probe in profile.probes:
        typed = probe.count == 1 and probe.values and "single_register_type_code" in profile.sim.quirks
        registers = (profile.sim.type_code,) if typed else registers_at(image, probe.address, probe.count)
        assert probe.matches(registers), probe


def answer_of(profile: profiles.Profile, image: object, probe: profiles.Probe) -> tuple[int, ...] | None:
    """What a meter of that profile answers to a probe of any profile."""
    if probe.function_code != profile.link.function_code:
        return None
    if probe.count == 1 and "single_register_type_code" in profile.sim.quirks:
        return (profile.sim.type_code,)
    try:
        return registers_at(image, probe.address, probe.count)
    except (AssertionError, struct.error):
        return None


@pytest.mark.parametrize("name", MAPPED)
def test_a_meter_is_more_like_its_own_profile_than_like_any_other(name: str) -> None:
    profile = load_profile(name)
    for power in (4777, -3111):
        meter = Meter(lambda _step, p=power: p, 0, seed=1, phases=profile.device.phases)  # type: ignore[misc]
        image = ImageCoder(profile).image(meter.values(3600.0))
        alike = {}
        for other in map(load_profile, MAPPED):
            likeness = other.likeness([answer_of(profile, image, probe) for probe in other.probes])
            if likeness is not None:
                alike[other.name] = likeness
        assert max(alike, key=lambda key: alike[key]) == name and list(alike.values()).count(alike[name]) == 1, alike


@pytest.mark.parametrize("name", MAPPED)
def test_what_a_meter_does_not_have_is_not_available_or_zero_and_never_a_wrong_number(name: str) -> None:
    profile = load_profile(name)
    image = ImageCoder(profile).image({})
    for point in profile.points:
        assert point.decode(registers_at(image, point.address, point.width)) in (None, 0.0)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=20)
@given(data=st.data())
def test_values_survive_registers(kind: str, order: str, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=2 * width(kind), max_size=2 * width(kind)))
    value = struct.unpack(FORMATS[kind], raw)[0]
    if value != value or value in (float("inf"), float("-inf")):
        value = 0.0
    assert decode(kind, order, encode(kind, order, value)) == value


def test_orders_are_as_their_letters_say() -> None:
    assert encode("uint32", "ABCD", 0x0A0B0C0D) == (0x0A0B, 0x0C0D)
    assert encode("uint32", "CDAB", 0x0A0B0C0D) == (0x0C0D, 0x0A0B)
    assert encode("uint32", "BADC", 0x0A0B0C0D) == (0x0B0A, 0x0D0C)
    assert encode("uint32", "DCBA", 0x0A0B0C0D) == (0x0D0C, 0x0B0A)


@pytest.mark.parametrize(
    ("kind", "convention", "registers"),
    [
        ("uint16", "largest", (0xFFFF,)),
        ("int16", "largest", (0x7FFF,)),
        ("int32", "largest", (0x7FFF, 0xFFFF)),
        ("uint64", "largest", (0xFFFF,) * 4),
        ("int16", "sunspec", (0x8000,)),
        ("uint16", "sunspec", (0xFFFF,)),
        ("uint32", "sunspec", (0xFFFF, 0xFFFF)),
        ("int64", "sunspec", (0x8000, 0, 0, 0)),
        ("float32", "none", (0x7FC0, 0)),
    ],
)
def test_not_available_is_no_value(kind: str, convention: str, registers: tuple[int, ...]) -> None:
    assert decode(kind, "ABCD", registers, convention) is None
    assert encode(kind, "ABCD", None, convention) == registers
    assert kind == "float32" or decode(kind, "ABCD", registers, "none") is not None


def test_infinity_is_no_value_and_a_wrong_width_or_size_is_refused() -> None:
    assert decode("float32", "ABCD", (0x7F80, 0)) is None
    with pytest.raises(ValueError, match="2 registers"):
        decode("float32", "ABCD", (1,))
    for kind, value in (("uint16", 70_000), ("int16", None), ("acc32", None)):
        with pytest.raises(OverflowError):
            encode(kind, "ABCD", value)


def test_texts_end_at_the_first_nul() -> None:
    assert decode_text(encode_text("iEM3155", 20)) == "iEM3155"
    assert decode_text((0x4100, 0x4242)) == "A" and decode_text((0x41FF,)) == "A?"
    with pytest.raises(OverflowError):
        encode_text("long", 1)


def test_units_are_converted_and_numbers_divided() -> None:
    iem, b23 = load_profile("iem3155"), load_profile("b23")
    assert iem.point("power_total_w").decode(encode("float32", "ABCD", 1.5)) == 1500
    assert iem.point("energy_import_kwh").decode((0, 0, 0x0001, 0x0000)) == 65.536
    assert b23.point("power_total_w").decode(encode("int32", "ABCD", -123_456)) == -1234.56
    assert load_profile("em24").point("voltage_l1_v").decode((2301, 0)) == 230.1


def test_a_counter_may_roll_over_once_and_otherwise_never_falls() -> None:
    energy = load_profile("em340").point("energy_import_kwh")
    assert energy.modulus == pytest.approx(2**31 / 10)
    assert counter_step(10.0, 12.5, energy.modulus) == 2.5
    assert counter_step(2**31 / 10 - 1, 2.0, 2**31 / 10) == pytest.approx(3.0)
    assert counter_step(1e8, 2.0, 2**31 / 10) is None
    assert counter_step(5.0, 4.0, None) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('unit = "V", group', 'unti = "V", group', "unti: unknown key; did you mean 'unit'"),
        ("schema = 1", "schema = 2", "schema must be 1"),
        ("max_registers = 50", "max_registers = 500", "max_registers is 500"),
        ('order = "ABCD"', 'order = "ABDC"', "order is 'ABDC'"),
        ("address = 0x0002", "address = 0x0001", "voltage_l2_v overlaps voltage_l1_v"),
        ("range = [0, 500]", "range = [500, 0]", "low < high"),
        ("voltage_l1_v = {", "voltage_1_v = {", "is no known quantity; did you mean 'voltage_l1_v'"),
        ('point = "frequency_hz"', 'point = "hertz"', "point 'hertz' is not one of [points]"),
        ("spans = [[0x0000, 0x0180]]", "spans = [[0, 100]]", "lies outside sim.spans"),
        ('quirks = ["single', 'quirks = ["unknown", "single', "'unknown'"),
        ("drain_ms = 400", "drain_ms = true", "drain_ms: is True"),
        ("energy_export_kwh = {", "energy_export_l1_kwh_ = {", "is no known quantity"),
        ('address = 0x0034, unit = "W"', 'address = 0x0034, unit = "V"', "does not convert to W"),
        ("values = [0x0070]", "", "needs either values or text"),
    ],
)
def test_a_wrong_profile_says_file_line_and_remedy(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = (FOLDER / "sdm630.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.toml"
    changed = text.replace(old, new, 1)
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert words in str(caught.value) and str(caught.value).startswith(f"meter profile {path}:")


def test_an_error_inside_a_one_line_table_names_that_line(tmp_path: Path) -> None:
    text = (FOLDER / "sdm630.toml").read_text(encoding="utf-8")
    line = next(n for n, row in enumerate(text.splitlines(), 1) if row.startswith("power_total_w"))
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("power_total_w = { address = 0x0034, unit", "power_total_w = { adress = 0x0034, unit"))
    with pytest.raises(ProfileError, match=f"mine.toml:{line}: points.power_total_w.adress"):
        load_profile(path)


def test_an_owners_folder_comes_before_the_bundled_profiles(tmp_path: Path) -> None:
    text = (FOLDER / "sdm120.toml").read_text(encoding="utf-8")
    (tmp_path / "sdm120.toml").write_text(text.replace("max_registers = 50", "max_registers = 20"), encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace("Eastron", "Me"), encoding="utf-8")
    assert load_profile("sdm120").link.max_registers == 50
    assert load_profile("sdm120", (tmp_path,)).link.max_registers == 20
    assert load_profile("mine", (tmp_path,)).device.vendor == "Me" and load_profile("mine", (tmp_path,)).name == "mine"
    assert set(known_profiles((tmp_path,))) == {*bundled(), "mine"}
    with pytest.raises(ProfileError, match="correct profile_dirs"):
        load_profile("sdm120", (tmp_path / "none",))


def test_an_unknown_profile_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="b24, em24.*sdm630"):
        load_profile("sdm999")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.toml")


def test_the_schema_and_the_reader_know_the_same_keys() -> None:
    tables = SCHEMA["properties"]
    pairs = [
        (ProfileFile, SCHEMA), (Device, tables["device"]), (Link, tables["link"]), (Defaults, tables["defaults"]),
        (Simulation, tables["sim"]), (PointFile, tables["points"]["additionalProperties"]),
        (ProbeFile, tables["probe"]["items"]),
    ]  # fmt: skip
    for cls, table in pairs:
        assert {f.name for f in dataclasses.fields(cls)} == set(table["properties"]), cls
        assert table["additionalProperties"] is False
    assert tables["points"]["propertyNames"]["enum"] == list(QUANTITIES)


@settings(max_examples=40)
@given(st.sets(st.sampled_from(load_profile("sdm630").points)), st.integers(2, 125))
def test_blocks_hold_every_point_once_within_the_limit(points: set[profiles.Point], limit: int) -> None:
    blocks = plan_blocks(points, limit)
    assert sorted(p.name for b in blocks for p in b.points) == sorted(p.name for p in points)
    for block in blocks:
        assert block.count <= limit
        assert all(block.address <= p.address and p.end <= block.address + block.count for p in block.points)


def test_one_request_brings_what_a_poll_needs() -> None:
    fast = load_profile("sdm630").group("fast")
    assert [(block.address, block.count) for block in plan_blocks(fast, 50)] == [(0x34, 24)]
