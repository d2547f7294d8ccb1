"""The trader against a sequence of notices: one envelope at a time, nothing twice, nothing lost."""

import pytest
import rlp

from edge_agent.wallet.journal import DueShielding, Journal
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.orders import Call, Desk, Partner
from edge_agent.wallet.trader import ENVELOPE_SECONDS, Trader
from openmg.evm.abi import selector
from openmg.identity import DeviceKey
from openmg.messages.market import AccountNotice, EnergyMarket, MarketNotice

MARKET = EnergyMarket(1, b"\x01" * 20, b"\x02" * 20)
DESK = Desk(OwnerKeys(b"o" * 32), DeviceKey(b"d" * 32), MARKET, 1338)
FEED_IN, RETAIL = 20 * 10**9, 40 * 10**9
NAMES = {
    selector(text): text.partition("(")[0]
    for text in (
        "mint(address,uint256,uint256,bytes)",
        "burn(address,uint256,uint256,uint256,bytes)",
        "approve(address,uint256)",
        "redeem(uint256)",
        "tokenToEthSwapInput(uint256,uint256,uint256)",
        "ethToTokenSwapOutput(uint256,uint256)",
        "addLiquidity(uint256,uint256,uint256)",
        "shield(address,uint96,uint256,bytes)",
        "tokenToTokenTransferInput(uint256,uint256,uint256,uint256,address,address)",
    )
}


def calls(raw: tuple[bytes, ...]) -> list[tuple[int, str]]:
    """(nonce, function) of raw transactions, read with an RLP library of its own."""
    decoded = [rlp.decode(item[1:]) for item in raw]
    return [(int.from_bytes(fields[1], "big"), NAMES[fields[7][:4]]) for fields in decoded]


def account(block: int, nonce: int, energy_wh: int = 0, delivery_wh: int = 0) -> AccountNotice:
    return AccountNotice(block, nonce, 10**18, energy_wh, delivery_wh)


def market(block: int, *slots: int, reserve_wh: int = 10_000, microgrid: int = 1) -> MarketNotice:
    return MarketNotice(microgrid, block, reserve_wh * 30 * 10**9, reserve_wh, FEED_IN, RETAIL, slots)


def shield_call(item: DueShielding) -> Call:
    return Call(b"\x03" * 20, selector("shield(address,uint96,uint256,bytes)"), item.amount_wei)


def make_trader(path, provides: bool = False) -> Trader:
    return Trader(DESK, Journal(path), provides_liquidity=provides, shield_call=shield_call)


@pytest.fixture
def trader(tmp_path):
    return make_trader(tmp_path / "wallet.db")


def test_nothing_leaves_before_the_slot_is_recorded(trader):
    trader.on_slot(5, 0, 300)
    trader.on_account(account(1, 7))
    trader.on_market(market(1))
    assert trader.next_transactions(100) == ()
    trader.on_market(market(2, 5))
    assert calls(trader.next_transactions(101)) == [(7, "mint"), (8, "approve"), (9, "tokenToEthSwapInput")]


def test_one_envelope_at_a_time_and_approval_once(trader):
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5, 6))
    trader.on_slot(5, 0, 300)
    assert len(trader.next_transactions(100)) == 3
    trader.on_slot(6, 0, 300)
    assert trader.next_transactions(101) == ()
    trader.on_account(account(3, 3))
    assert calls(trader.next_transactions(102)) == [(3, "mint"), (4, "tokenToEthSwapInput")]


def test_a_short_home_buys_and_burns(trader):
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5))
    trader.on_slot(5, 250, 0)
    assert calls(trader.next_transactions(100)) == [(0, "ethToTokenSwapOutput"), (1, "burn")]


def test_a_lost_envelope_is_sent_again_with_the_same_nonces(trader):
    trader.on_account(account(1, 4))
    trader.on_market(market(1, 5))
    trader.on_slot(5, 250, 0)
    first = trader.next_transactions(100)
    assert trader.next_transactions(100 + ENVELOPE_SECONDS - 1) == ()
    again = trader.next_transactions(100 + ENVELOPE_SECONDS)
    assert calls(again) == calls(first)


def test_an_executed_envelope_is_not_repeated_after_a_restart(trader, tmp_path):
    trader.on_account(account(1, 4))
    trader.on_market(market(1, 5))
    trader.on_slot(5, 250, 0)
    sent = trader.next_transactions(100)
    trader.journal.close()
    restarted = make_trader(tmp_path / "wallet.db")
    restarted.on_market(market(9, 5))
    restarted.on_account(account(8, 4))
    assert restarted.next_transactions(105) == (), "the envelope may still be under way"
    restarted.on_account(account(9, 4 + len(sent)))
    assert restarted.next_transactions(10_000) == () and restarted.journal.due_slots() == ()


def test_the_first_provider_opens_the_pool_and_others_wait(tmp_path):
    for provides, expected in ((True, ["mint", "approve", "addLiquidity"]), (False, ["mint"])):
        trader = make_trader(tmp_path / f"{provides}.db", provides)
        trader.on_account(account(1, 0))
        trader.on_market(market(1, 5, reserve_wh=0))
        trader.on_slot(5, 0, 900)
        assert [name for _, name in calls(trader.next_transactions(100))] == expected


def test_wallet_database_is_private(tmp_path):
    Journal(tmp_path / "wallet.db")
    assert (tmp_path / "wallet.db").stat().st_mode & 0o777 == 0o600


def test_a_shielding_goes_first_and_once(trader):
    trader.journal.add_shielding(10**17)
    trader.on_account(account(1, 0))
    assert calls(trader.next_transactions(100)) == [(0, "shield")]
    trader.on_account(account(2, 1))
    assert trader.next_transactions(101) == ()


def test_a_delivery_is_burned_before_anything_is_bought(trader):
    trader.on_account(account(1, 0, delivery_wh=400))
    trader.on_market(market(1, 5, 6))
    trader.on_slot(5, 250, 0)
    assert calls(trader.next_transactions(100)) == [(0, "burn")]
    trader.on_account(account(2, 1, delivery_wh=150))
    trader.on_slot(6, 250, 0)
    assert [name for _, name in calls(trader.next_transactions(101))] == ["ethToTokenSwapOutput", "burn", "burn"]


def test_a_partner_in_another_microgrid_gets_a_share(tmp_path):
    trader = Trader(
        DESK,
        Journal(tmp_path / "w.db"),
        provides_liquidity=False,
        shield_call=shield_call,
        partner=Partner(b"\x09" * 20, 2),
        tokens={1: b"\x01" * 20, 2: b"\x05" * 20},
    )
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5))
    trader.on_slot(5, 0, 400)
    trader.on_market(market(1, microgrid=2))
    names = [name for _, name in calls(trader.next_transactions(100))]
    assert names == ["mint", "approve", "tokenToTokenTransferInput", "tokenToEthSwapInput"]
