"""What stands beside a drawing has little room: it must fit whatever the amounts are."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest
from page_kit import SLOT, T0

from edge_agent.page.hours import cheapest
from edge_agent.page.sections import Sections
from edge_agent.page.text import LANGUAGES
from edge_agent.wallet.prices import Price

SEOUL = ZoneInfo("Asia/Seoul")
ROOM = 8
"""Characters that fit left of a drawing."""


@pytest.mark.parametrize("cap_wei_per_wh", [10**6 + 10**4, 10**9, 11 * 10**10, 10**11, 149 * 10**12, 10**15, 10**18])
def test_a_label_beside_the_hours_fits_its_room(cap_wei_per_wh: int) -> None:
    """Whatever the currency is worth: the unit stands in the corner, and numbers are short."""
    limits = Price(SLOT, None, cap_wei_per_wh * 500, cap_wei_per_wh * 1000)
    drawn = Sections(LANGUAGES["en"], SEOUL).hours(cheapest([limits], None, {}, T0, SEOUL))
    labels = re.findall(r'text-anchor="end">([^<]*)<', drawn)
    assert len(labels) >= 3 and {"PETH", "gwei"} & set(labels), labels
    assert all(len(label) <= ROOM for label in labels), labels
