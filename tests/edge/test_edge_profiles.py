"""Meter profiles and register coding."""

from __future__ import annotations

import struct
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.modbus.plan import plan_blocks
from firmware_sim.meter import Meter
from firmware_sim.pdu import registers_of
from openmg.profiles import profile as profiles
from openmg.profiles.profile import ProfileError, bundled, load_profile, parse_profile
from openmg.profiles.registers import FORMATS, ORDERS, decode, encode, width


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_profile_loads_states_its_source_and_can_be_simulated(name: str) -> None:
    profile = load_profile(name)
    assert profile.device.source
    image = registers_of(profile, Meter(lambda _step: 777, 0, seed=1).values(3600.0))
    for point in profile.points:
        value = decode(point.type, point.order, image[point.address : point.end])
        assert value is not None and point.low <= value <= point.high, point.name


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("order", ORDERS)
@given(data=st.data())
def test_values_survive_registers(kind: str, order: str, data: st.DataObject) -> None:
    bits = 16 * width(kind)
    raw = data.draw(st.binary(min_size=bits // 8, max_size=bits // 8))
    value = struct.unpack(FORMATS[kind], raw)[0]
    if value != value or value in (float("inf"), float("-inf")):
        value = 0.0
    assert decode(kind, order, encode(kind, order, value)) == value


def test_orders_are_as_their_letters_say() -> None:
    assert encode("u32", "ABCD", 0x0A0B0C0D) == (0x0A0B, 0x0C0D)
    assert encode("u32", "CDAB", 0x0A0B0C0D) == (0x0C0D, 0x0A0B)
    assert encode("u32", "BADC", 0x0A0B0C0D) == (0x0B0A, 0x0D0C)
    assert encode("u32", "DCBA", 0x0A0B0C0D) == (0x0D0C, 0x0B0A)


def test_not_a_number_is_no_value_and_a_wrong_width_is_refused() -> None:
    assert decode("f32", "ABCD", (0x7FC0, 0)) is None
    assert decode("f32", "ABCD", (0x7F80, 0)) is None
    with pytest.raises(ValueError, match="2 registers"):
        decode("f32", "ABCD", (1,))
    with pytest.raises(OverflowError):
        encode("u16", "ABCD", 70_000)


def text_of_sdm630() -> str:
    return (Path(profiles.__file__).parent / "eastron_sdm630.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('unit = "W"', 'unti = "W"', ".unit is missing"),
        ("schema = 1", "schema = 2", "schema must be 1"),
        ("max_registers = 50", "max_registers = 500", "link.max_registers is 500"),
        ('order = "ABCD"', 'order = "ABDC"', "defaults.order is 'ABDC'"),
        ("address = 0x0002", "address = 0x0001", "overlap"),
        ("range = [0, 500]", "range = [500, 0]", "low < high"),
        ('detect = "frequency_hz"', 'detect = "hertz"', "detect names no point"),
        ("span = 384", "span = 100", "sim.span ends before"),
        ('quirks = ["single', 'quirks = ["unknown", "single', "'unknown'"),
        ("drain_ms = 400", "drain_ms = true", "link.drain_ms is True"),
    ],
)
def test_a_wrong_profile_says_where_and_what(old: str, new: str, words: str) -> None:
    text = text_of_sdm630()
    assert old in text
    with pytest.raises(ProfileError, match="meter profile here") as caught:
        parse_profile(tomllib.loads(text.replace(old, new, 1)), "here")
    assert words in str(caught.value)


def test_an_unknown_profile_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="eastron_sdm630"):
        load_profile("sdm999")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.toml")


@given(st.sets(st.sampled_from(load_profile("eastron_sdm630").points)), st.integers(2, 125))
def test_blocks_hold_every_point_once_within_the_limit(points: set[profiles.Point], limit: int) -> None:
    blocks = plan_blocks(points, limit)
    assert sorted(p.name for b in blocks for p in b.points) == sorted(p.name for p in points)
    for block in blocks:
        assert block.count <= limit
        assert all(block.address <= p.address and p.end <= block.address + block.count for p in block.points)


def test_one_request_brings_what_a_poll_needs() -> None:
    fast = load_profile("eastron_sdm630").group("fast")
    assert [(block.address, block.count) for block in plan_blocks(fast, 50)] == [(0x34, 24)]
