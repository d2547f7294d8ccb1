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
        "m.energy(2500000000)": "2.50 GWh",
        "m.energy(undefined)": "–",
        "m.power(12345)": "12.35 kW",
        "m.price(37500000000)": "37.50 gwei/Wh",
        "m.price(999)": "999 wei/Wh",
        "m.peth('1500000000000000000')": "1.500 PETH",
        "m.peth('123456000000000000000000')": "123,456 PETH",
        "m.peth(0)": "0 PETH",
        "m.peth(3)": "3 wei",
        "m.peth('1000000')": "0.001000 gwei",
        "m.price('1000000000000000000')": "1,000,000,000 gwei/Wh",
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


def test_a_price_too_large_for_a_number_is_a_price(page: Page, console: Console):
    visit(page, console)
    pool = "{price_wei_per_wh: '30000000000000000000', feed_in_wei_per_wh: 20, retail_wei_per_wh: 40}"
    assert call(page, "health", f"[m.hasPrice({pool}), m.collarNote({pool})]") == [True, "Above the retail price."]
    assert call(page, "health", "[{}, {price_wei_per_wh: 0}, {price_wei_per_wh: '0'}].map(m.hasPrice)") == [False] * 3


def test_labels_of_a_time_axis_stand_at_round_times_of_the_zone(page: Page, console: Console):
    visit(page, console)
    start = 1781485200  # 10:00 in Seoul, 06:45 in Kathmandu
    for zone, length, most, labels in (
        ("Asia/Seoul", 0, 5, ["10:00"]),
        ("Asia/Seoul", 900, 5, ["10:00", "10:05", "10:10", "10:15"]),
        ("Asia/Seoul", 6 * 3600, 7, ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00", "16:00"]),
        ("Asia/Seoul", 20 * 3600, 5, ["12:00", "18:00", "Jun 16", "06:00"]),
        ("Asia/Kathmandu", 3 * 3600, 4, ["07:00", "08:00", "09:00"]),
    ):
        ticks = f"m.timeTicks({start}, {start + length}, {most}, '{zone}')"
        assert call(page, "format", f"{ticks}.map((at) => m.timeLabel(at, '{zone}'))") == labels, (zone, length)
    odd = call(page, "format", f"m.timeTicks({start + 17}, {start + 50}, 5, 'Asia/Seoul')")
    assert odd == [start + 50]  # no round time between: the last moment


def test_labels_of_a_count_axis_are_round_and_few(page: Page, console: Console):
    visit(page, console)
    cases = {"0, 0, 5": [0], "0, 3, 5": [0, 1, 2, 3], "0, 12, 4": [0, 5, 10], "1, 64, 5": [20, 40, 60]}
    assert call(page, "format", f"[{', '.join(f'm.countTicks({case})' for case in cases)}]") == list(cases.values())


def test_a_line_breaks_where_a_slot_is_missing(page: Page, console: Console):
    visit(page, console)
    runs = call(page, "chart", "m.runsOf([[0, 1], [900, 2], [2700, 3], [3600, 4], [9000, 5]], 900)")
    assert runs == [[[0, 1], [900, 2]], [[2700, 3], [3600, 4]], [[9000, 5]]]
    assert call(page, "chart", "[m.runsOf([]), m.runsOf([[0, 1], [9000, 2]])]") == [[], [[[0, 1], [9000, 2]]]]


def test_points_merge_by_time_and_keep_the_newest(page: Page, console: Console):
    visit(page, console)
    merged = call(page, "store", "m.mergePoints([[1, 1], [3, 3]], [[2, 2], [3, 9], [0, 0]])")
    assert merged == [[0, 0], [1, 1], [2, 2], [3, 9]]
    kept = call(page, "store", "m.mergePoints([], Array.from({length: 10000}, (_, i) => [i, i]))")
    assert kept == [[i, i] for i in range(10000 - 720, 10000)]
