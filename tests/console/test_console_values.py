"""Values on the board: accepted and refused in pairs, exact for a browser, frozen when put."""

from __future__ import annotations

import json

import pytest

from hub.console.values import (
    MAX_DEPTH,
    MAX_SAFE_INTEGER,
    MAX_SECTION_BYTES,
    BoardError,
    check_name,
    check_number,
    encode_section,
)


def test_a_section_reads_back_as_it_was_put():
    value = {"n": 1, "wei": "340", "none": None, "flag": True, "list": [1, [2, "가"]], "seconds": 0.25}
    assert json.loads(encode_section("x", value)) == value


def test_integers_beyond_a_browsers_reach_become_text_and_keep_every_digit():
    encoded = json.loads(
        encode_section("x", {"in": MAX_SAFE_INTEGER, "out": MAX_SAFE_INTEGER + 1, "neg": -(10**18) - 1})
    )
    assert encoded == {
        "in": MAX_SAFE_INTEGER,
        "out": str(MAX_SAFE_INTEGER + 1),
        "neg": "-1000000000000000001",
    }


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"bytes", {1: "key"}, {"a": {"b": object()}}, {1, 2}]
)
def test_what_is_not_json_is_refused_by_name(value: object):
    with pytest.raises(BoardError, match="console section grid"):
        encode_section("grid", value)


def test_nesting_is_bounded_on_both_sides():
    def nested(levels: int) -> object:
        value: object = 1
        for _ in range(levels):
            value = [value]
        return value

    encode_section("x", nested(MAX_DEPTH))
    with pytest.raises(BoardError, match="nested deeper"):
        encode_section("x", nested(MAX_DEPTH + 1))


def test_size_is_bounded_in_bytes_on_both_sides():
    encode_section("x", "a" * (MAX_SECTION_BYTES - 2))  # two quotes
    with pytest.raises(BoardError, match=f"{MAX_SECTION_BYTES + 1} bytes"):
        encode_section("x", "a" * (MAX_SECTION_BYTES - 1))
    with pytest.raises(BoardError):
        encode_section("x", "가" * (MAX_SECTION_BYTES // 3 + 1))


def test_a_lone_surrogate_does_not_reach_the_wire():
    assert encode_section("x", "a\ud800b").encode("utf-8") == b'"a?b"'


@pytest.mark.parametrize("name", ["grid", "grid.mg1.import_wh", "a" * 64])
def test_names_accepted(name: str):
    assert check_name(name, "series") == name


@pytest.mark.parametrize("name", ["", "Grid", "a b", ".x", "a" * 65, "a\n"])
def test_names_refused(name: str):
    with pytest.raises(BoardError, match="console series"):
        check_name(name, "series")


def test_numbers_of_a_series_are_exact_integers():
    assert check_number(MAX_SAFE_INTEGER, "v") == MAX_SAFE_INTEGER
    for bad in (MAX_SAFE_INTEGER + 1, 1.0, True, "1"):
        with pytest.raises(BoardError):
            check_number(bad, "v")  # type: ignore[arg-type]
