"""The page's own functions, called in the browser: numbers, quorum, axis ticks, merged points."""

from __future__ import annotations

import json

import pytest
from cdp import Page
from console_browser import Console, visit

pytestmark = pytest.mark.browser


def call(page: Page, module: str, expression: str) -> object:
    """The value of `expression`, in which `m` is the module."""
    return page.evaluate(f"import('/static/js/{module}.js').then((m) => {expression})")


def test_numbers_are_formatted_exactly(page: Page, console: Console):
    cases = {
        "m.count('123456789012345678901234567890')": "123,456,789,012,345,678,901,234,567,890",
        "m.count(-5)": "-5",
        "m.count(null)": "–",
        "m.count('12x')": "–",
        "m.energy(999)": "999 Wh",
        "m.energy(1000)": "1.00 kWh",
        "m.energy(-1500)": "-1.50 kWh",
        "m.energy(2500000)": "2.50 MWh",
        "m.energy(undefined)": "–",
        "m.power(12345)": "12.35 kW",
        "m.price(37500000000)": "37.50 gwei/Wh",
        "m.price(999)": "999 wei/Wh",
        "m.peth('1500000000000000000')": "1.500 PETH",
        "m.peth('123456000000000000000000')": "123,456 PETH",
        "m.peth(0)": "0 PETH",
        "m.peth('99999000000000')": "99,999 gwei",
        "m.peth('-250000000000000000')": "-0.2500 PETH",
        "m.peth(undefined)": "–",
        "m.shortHex('0x' + 'ab'.repeat(32))": "0xababab…abab",
        "m.loss(42500)": "0.0425",
        "m.groupName(1)": "MG1",
        "m.groupName('mg2')": "MG2",
        "m.simSeconds(1979428)": 1979428 * 900,
        "m.simSeconds(1781485200)": 1781485200,
        "m.timeOfDay(1781485200, 'Asia/Seoul')": "10:00",
        "m.percent(0.125, 1)": "12.5%",
        "m.duration(89)": "89s",
        "m.duration(600)": "10m",
    }
    visit(page, console)
    values = call(page, "format", f"[{', '.join(cases)}]")
    assert json.dumps(values, ensure_ascii=False) == json.dumps(list(cases.values()), ensure_ascii=False)


def test_the_quorum_is_that_of_the_chain(page: Page, console: Console):
    visit(page, console)
    quorums = call(page, "health", "Array.from({length: 40}, (_, i) => m.quorumOf(i + 1))")
    assert quorums == [(n + (n - 1) // 3) // 2 + 1 for n in range(1, 41)]


def test_axis_ticks_are_even_few_and_span_the_values(page: Page, console: Console):
    visit(page, console)
    for low, high in ((0, 1), (-5, 7), (0, 0), (3, 3), (-2, -2), (0.03, 0.0742), (25e9, 45e9), (0, 1234567)):
        ticks = call(page, "chart", f"m.ticksOf({low}, {high})")
        assert isinstance(ticks, list) and 2 <= len(ticks) <= 12, (low, high, ticks)
        step = ticks[1] - ticks[0]
        assert {round((b - a) / step, 6) for a, b in zip(ticks, ticks[1:], strict=False)} == {1.0}
        assert ticks[0] <= low and ticks[-1] >= high - step * 1e-6, (low, high, ticks)


def test_points_merge_by_time_and_keep_the_newest(page: Page, console: Console):
    visit(page, console)
    merged = call(page, "store", "m.mergePoints([[1, 1], [3, 3]], [[2, 2], [3, 9], [0, 0]])")
    assert merged == [[0, 0], [1, 1], [2, 2], [3, 9]]
    kept = call(page, "store", "m.mergePoints([], Array.from({length: 10000}, (_, i) => [i, i]))")
    assert kept == [[i, i] for i in range(10000 - 720, 10000)]
