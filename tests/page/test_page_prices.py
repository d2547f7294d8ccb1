"""The prices that an agent notes for its owner's page."""

from __future__ import annotations

import stat
from pathlib import Path

from page_kit import CAP, FLOOR, SLOT

from edge_agent.page.readonly import reading
from edge_agent.wallet.prices import MAX_PRICES, Price, PriceRecord, prices_of


def noted(path: Path, first: int = 0, last: int = 2**40) -> list[Price]:
    with reading(path) as db:
        return prices_of(db, first, last)


def price(slot: int, wei_per_kwh: int | None) -> Price:
    return Price(slot, wei_per_kwh, FLOOR, CAP)


def test_a_slot_has_the_newest_price_that_was_heard_in_it(tmp_path: Path) -> None:
    path = tmp_path / "wallet.sqlite"
    record = PriceRecord(path)
    for item in (price(SLOT, None), price(SLOT, FLOOR + 1), price(SLOT, FLOOR + 2), price(SLOT - 1, CAP)):
        record.hear(item)
    assert noted(path) == [price(SLOT, None)], "a slot is written when it begins, and an older one's price is left out"
    record.hear(price(SLOT + 1, 2**70))
    assert noted(path) == [price(SLOT, FLOOR + 2), price(SLOT + 1, 2**70)]
    record.hear(price(SLOT + 1, CAP))
    record.close()
    record.hear(price(SLOT + 2, CAP))
    assert noted(path) == [price(SLOT, FLOOR + 2), price(SLOT + 1, CAP)] and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert noted(path, SLOT + 1, SLOT + 1) == [price(SLOT + 1, CAP)]


def test_old_rows_go_and_a_wallet_without_any_has_none(tmp_path: Path) -> None:
    path = tmp_path / "wallet.sqlite"
    record = PriceRecord(path)
    for slot in (SLOT, SLOT + 1, SLOT + MAX_PRICES):
        record.hear(price(slot, CAP))
    record.close()
    assert [item.slot for item in noted(path)] == [SLOT + 1, SLOT + MAX_PRICES]
    with reading(path) as db:
        assert prices_of(db, SLOT + 2, SLOT + 3) == []
