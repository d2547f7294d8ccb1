"""The trader against a sequence of notices: one envelope at a time, nothing twice, nothing lost."""

import pytest
import rlp
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.wallet.journal import DueShielding, Journal, UnderWay
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.orders import Call, Desk, Partner
from edge_agent.wallet.trader import GIVE_UP_SECONDS, MAX_AMOUNT, MAX_COUNT, ORDER_SECONDS, RESEND_SECONDS, Trader
from openmg.envelope import MAX_ACTIONS, Action, Content, seal, unseal
from openmg.evm.abi import selector
from openmg.identity import DeviceKey
from openmg.messages.market import AccountNotice, EnergyMarket, MarketNotice

MARKET = EnergyMarket(1, b"\x01" * 20, b"\x02" * 20)
DESK = Desk(OwnerKeys(b"o" * 32), DeviceKey(b"d" * 32), MARKET, 1338)
FEED_IN, RETAIL = 20 * 10**9, 40 * 10**9
LOST = ORDER_SECONDS + GIVE_UP_SECONDS
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


def calls(envelope: UnderWay | None) -> list[tuple[int, str]]:
    """(nonce, function) of the transactions, read with an RLP library of its own."""
    decoded = [rlp.decode(item[1:]) for item in envelope.raw] if envelope else []
    return [(int.from_bytes(fields[1], "big"), NAMES[fields[7][:4]]) for fields in decoded]


def account(block: int, nonce: int, energy_wh: int = 0, delivery_wh: int = 0, balance_wei: int = 10**18) -> AccountNotice:
    return AccountNotice(block, nonce, balance_wei, energy_wh, delivery_wh)


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
    trader.journal.add_slot(5, 0, 300)
    trader.on_account(account(1, 7))
    trader.on_market(market(1))
    assert trader.next_envelope(100) is None
    trader.on_market(market(2, 5))
    assert calls(trader.next_envelope(101)) == [(7, "mint"), (8, "approve"), (9, "tokenToEthSwapInput")]


def test_one_envelope_at_a_time_and_approval_once(trader):
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5, 6))
    trader.journal.add_slot(5, 0, 300)
    assert len(trader.next_envelope(100).raw) == 3
    trader.journal.add_slot(6, 0, 300)
    assert trader.next_envelope(101) is None
    trader.on_account(account(3, 3))
    assert calls(trader.next_envelope(102)) == [(3, "mint"), (4, "tokenToEthSwapInput")]


def test_a_short_home_buys_and_burns(trader):
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 250, 0)
    assert calls(trader.next_envelope(100)) == [(0, "ethToTokenSwapOutput"), (1, "burn")]


def test_an_envelope_without_effect_goes_out_again_as_it_is(trader):
    trader.on_account(account(1, 4))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 250, 0)
    first = trader.next_envelope(100)
    assert trader.next_envelope(100 + RESEND_SECONDS - 1) is None
    assert trader.next_envelope(100 + RESEND_SECONDS) == first
    assert trader.next_envelope(100 + RESEND_SECONDS) is None
    assert trader.next_envelope(100 + ORDER_SECONDS) == first
    assert trader.next_envelope(100 + ORDER_SECONDS + 1) is None, "no relay may take it any more"


def test_what_executed_already_is_not_sent_again(trader):
    trader.on_account(account(1, 4))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 0, 300)
    first = trader.next_envelope(100)
    assert calls(first) == [(4, "mint"), (5, "approve"), (6, "tokenToEthSwapInput")]
    trader.on_account(account(2, 5))
    rest = trader.next_envelope(100 + RESEND_SECONDS)
    assert (rest.first_nonce, rest.raw) == (5, first.raw[1:])


def test_what_a_lost_envelope_carried_is_due_again_with_its_approval(trader):
    trader.on_account(account(1, 4))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 0, 300)
    first = trader.next_envelope(100)
    assert trader.next_envelope(100 + LOST - 1) is None
    again = trader.next_envelope(100 + LOST)
    assert calls(again) == calls(first) == [(4, "mint"), (5, "approve"), (6, "tokenToEthSwapInput")]
    assert again.valid_until == 100 + LOST + ORDER_SECONDS


def test_a_restart_sends_the_same_transactions(trader, tmp_path):
    """Killed between the commit and the broker: other transactions with these nonces could both half execute."""
    trader.on_account(account(1, 4))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 250, 0)
    sent = trader.next_envelope(100)
    trader.journal.close()
    restarted = make_trader(tmp_path / "wallet.db")
    restarted.on_account(account(8, 4))
    assert restarted.next_envelope(105) == sent


def test_an_executed_envelope_is_not_repeated_after_a_restart(trader, tmp_path):
    trader.on_account(account(1, 4))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 250, 0)
    sent = trader.next_envelope(100)
    trader.journal.close()
    restarted = make_trader(tmp_path / "wallet.db")
    restarted.on_market(market(9, 5))
    restarted.on_account(account(9, 4 + len(sent.raw)))
    assert restarted.next_envelope(10_000) is None and restarted.journal.due_slots() == ()


def test_the_first_provider_opens_the_pool_and_others_wait(tmp_path):
    for provides, expected in ((True, ["mint", "approve", "addLiquidity"]), (False, ["mint"])):
        trader = make_trader(tmp_path / f"{provides}.db", provides)
        trader.on_account(account(1, 0))
        trader.on_market(market(1, 5, reserve_wh=0))
        trader.journal.add_slot(5, 0, 900)
        assert [name for _, name in calls(trader.next_envelope(100))] == expected


def test_wallet_database_is_private(tmp_path):
    Journal(tmp_path / "wallet.db")
    assert (tmp_path / "wallet.db").stat().st_mode & 0o777 == 0o600


def test_a_shielding_goes_first_alone_and_once(trader):
    trader.journal.add_shielding(10**17)
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 250, 0)
    shielding = trader.next_envelope(100)
    assert calls(shielding) == [(0, "shield")]
    assert trader.next_envelope(100 + RESEND_SECONDS) == shielding
    trader.on_account(account(2, 1))
    assert calls(trader.next_envelope(111)) == [(1, "ethToTokenSwapOutput"), (2, "burn")]
    assert calls(trader.next_envelope(111 + LOST)) == [(1, "ethToTokenSwapOutput"), (2, "burn")], "it is not shielded again"
    trader.on_account(account(3, 3))
    assert trader.next_envelope(500) is None


def test_a_shielding_that_the_account_cannot_pay_waits_and_holds_up_nothing(trader):
    trader.journal.add_shielding(10**18 + 1)
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5))
    trader.journal.add_slot(5, 250, 0)
    assert calls(trader.next_envelope(100)) == [(0, "ethToTokenSwapOutput"), (1, "burn")]
    trader.on_account(account(2, 2, balance_wei=10**18 + 1))
    assert calls(trader.next_envelope(101)) == [(2, "shield")]


def test_one_envelope_never_spends_more_than_the_account_holds(tmp_path):
    """The node refuses a transaction that the balance does not cover, and with it the rest of the envelope."""
    trader = make_trader(tmp_path / "w.db", provides=True)
    balance_wei = 900 * (FEED_IN + RETAIL) // 2
    trader.on_account(account(1, 0, delivery_wh=10, balance_wei=balance_wei))
    trader.on_market(market(1, 5, reserve_wh=0))
    trader.journal.add_slot(5, 250, 900)
    sent = trader.next_envelope(100)
    assert [name for _, name in calls(sent)] == ["mint", "approve", "addLiquidity", "burn"]
    values = [int.from_bytes(rlp.decode(item[1:])[6], "big") for item in sent.raw]
    assert sum(values) == balance_wei


def test_a_delivery_is_burned_before_anything_is_bought(trader):
    trader.on_account(account(1, 0, delivery_wh=400))
    trader.on_market(market(1, 5, 6))
    trader.journal.add_slot(5, 250, 0)
    assert calls(trader.next_envelope(100)) == [(0, "burn")]
    trader.on_account(account(2, 1, delivery_wh=150))
    trader.journal.add_slot(6, 250, 0)
    assert [name for _, name in calls(trader.next_envelope(101))] == ["ethToTokenSwapOutput", "burn", "burn"]


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
    trader.journal.add_slot(5, 0, 400)
    trader.on_market(market(1, microgrid=2))
    names = [name for _, name in calls(trader.next_envelope(100))]
    assert names == ["mint", "approve", "tokenToTokenTransferInput", "tokenToEthSwapInput"]


def test_the_largest_envelope_fits_its_one_size(tmp_path):
    """Everything that a slot can ask for at once: mint, approve, share, sell, redeem, buy, two burns."""
    trader = make_trader(tmp_path / "w.db")
    trader.partner, trader.tokens = Partner(b"\x09" * 20, 2), {1: b"\x01" * 20, 2: b"\x05" * 20}
    nonce, slot = 2**40, 2**31
    trader.on_account(account(1, nonce, energy_wh=3000, delivery_wh=100))
    trader.on_market(market(1, slot))
    trader.on_market(market(1, microgrid=2))
    trader.journal.add_slot(slot, 900, 2000)
    sent = trader.next_envelope(2**33)
    assert [name for _, name in calls(sent)] == [
        "mint", "approve", "tokenToTokenTransferInput", "tokenToEthSwapInput", "redeem", "ethToTokenSwapOutput", "burn", "burn",
    ]  # fmt: skip
    assert len(sent.raw) == MAX_ACTIONS
    relay = X25519PrivateKey.generate()
    content = Content(bytes(16), sent.valid_until, tuple(Action(b"", item) for item in sent.raw))
    assert unseal(relay, seal(relay.public_key().public_bytes_raw(), content)) == content


def test_notices_with_impossible_numbers_are_refused_and_change_nothing(trader):
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 5))
    for notice in (account(2, -1), account(2, MAX_COUNT + 1), account(2, 0, energy_wh=-1), account(-1, 0)):
        with pytest.raises(ValueError, match="negative or larger"):
            trader.on_account(notice)
    for wh in (-1, MAX_AMOUNT):
        with pytest.raises(ValueError, match="negative or larger"):
            trader.on_market(market(2, 5, reserve_wh=wh))
    assert trader.account == account(1, 0) and trader.market == market(1, 5)


@pytest.mark.parametrize("wh", [1, 10**6, MAX_AMOUNT])
@pytest.mark.parametrize("wei", [1, 10**15, MAX_AMOUNT])
def test_no_notice_makes_an_order_that_cannot_be_signed(tmp_path, wh, wei):
    trader = make_trader(tmp_path / "w.db", provides=True)
    trader.on_account(AccountNotice(1, MAX_COUNT, MAX_AMOUNT, wh, 7))
    trader.on_market(MarketNotice(1, 1, wei, wh, wei, MAX_AMOUNT, (5,)))
    trader.journal.add_slot(5, 250, 900)
    assert trader.next_envelope(100) is not None


def test_a_home_that_trades_privately_sends_shieldings_and_nothing_of_its_slots(trader):
    trader.settles = False
    trader.journal.add_slot(10, 0, 900)
    trader.on_account(account(1, 0))
    trader.on_market(market(1, 10))
    assert trader.next_envelope(100) is None
    assert not trader.journal.due_slots(), "what is not due here must not pile up"
    trader.journal.add_shielding(5)
    assert trader.next_envelope(101) is not None
