"""Exchange: the arithmetic of Uniswap v1 to the wei, against a Python oracle, and what v1 lacked."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from evm_world import ETHER, Chain, refused

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.deploy import contract_at
from hub.chain.errors import CallReverted

DEADLINE = 2**40
START_WEI, START_TOKENS = 5 * ETHER, 10_000_000
MINIMUM_LIQUIDITY = 1000


@dataclass
class Oracle:
    """The published formulas of Uniswap v1 on plain integers."""

    eth: int
    tokens: int
    shares: int

    @staticmethod
    def output(sold: int, reserve_in: int, reserve_out: int) -> int:
        return sold * 997 * reserve_out // (reserve_in * 1000 + sold * 997)

    @staticmethod
    def input(bought: int, reserve_in: int, reserve_out: int) -> int:
        return reserve_in * bought * 1000 // ((reserve_out - bought) * 997) + 1


@dataclass
class Market:
    chain: Chain
    owner: EvmClient
    factory: Contract
    token: Contract
    exchange: Contract

    def trader(self, name: str, tokens: int = 0, wei: int = 100 * ETHER) -> EvmClient:
        client = self.chain.client(name)
        self.chain.give(client.address, wei)
        if tokens:
            self.owner.transact(self.token, "transfer", client.address, tokens)
            client.transact(self.token, "approve", self.exchange.address, 2**256 - 1)
        return client

    def holds(self, client: EvmClient) -> int:
        return int(client.call(self.token, "balanceOf", client.address))

    def oracle(self) -> Oracle:
        return Oracle(*self.owner.call(self.exchange, "getReserves"), self.owner.call(self.exchange, "totalSupply"))


def create(client: EvmClient, name: str, *args: object) -> Contract:
    contract, tx_hash = client.create(load_artifact(name), *args)
    client.wait(tx_hash)
    return contract


def open_market(chain: Chain, owner: EvmClient, factory: Contract) -> Market:
    token = create(owner, "testing/HostileToken")
    owner.transact(factory, "createExchange", token.address)
    exchange = contract_at("Exchange", owner.call(factory, "getExchange", token.address))
    owner.transact(token, "approve", exchange.address, 2**256 - 1)
    return Market(chain, owner, factory, token, exchange)


@pytest.fixture
def market(chain: Chain) -> Market:
    owner = chain.client("owner")
    chain.give(owner.address, 1000 * ETHER)
    return open_market(chain, owner, create(owner, "ExchangeFactory"))


@pytest.fixture
def open_pool(market: Market) -> Market:
    market.owner.transact(market.exchange, "addLiquidity", 0, START_TOKENS, DEADLINE, value=START_WEI)
    return market


def test_factory_keeps_one_exchange_per_token(market):
    owner, factory = market.owner, market.factory
    assert owner.call(factory, "getToken", market.exchange.address) == "0x" + market.token.address.hex()
    assert owner.call(factory, "getTokenWithId", 1) == "0x" + market.token.address.hex()
    assert owner.call(factory, "tokenCount") == 1
    assert owner.call(market.exchange, "tokenAddress") == "0x" + market.token.address.hex()
    assert owner.call(market.exchange, "factoryAddress") == "0x" + factory.address.hex()
    with refused("ExchangeExists"):
        owner.transact(factory, "createExchange", market.token.address)
    with refused("InvalidToken"):
        owner.transact(factory, "createExchange", b"\1" * 20)


def test_first_provider_sets_the_ratio_and_locks_the_minimum(market):
    owner, exchange = market.owner, market.exchange
    with refused("TooLittleEth"):
        owner.transact(exchange, "addLiquidity", 0, 5, DEADLINE, value=10**9 - 1)
    owner.transact(exchange, "addLiquidity", 0, START_TOKENS, DEADLINE, value=START_WEI)
    assert market.oracle() == Oracle(START_WEI, START_TOKENS, START_WEI)
    assert owner.call(exchange, "balanceOf", owner.address) == START_WEI - MINIMUM_LIQUIDITY


@pytest.mark.parametrize("value", [10**13 + 1, ETHER // 3, 7 * ETHER + 1])
def test_later_providers_add_in_ratio(open_pool, value):
    oracle, exchange = open_pool.oracle(), open_pool.exchange
    provider = open_pool.trader("provider", 20_000_000)
    tokens, shares = value * oracle.tokens // oracle.eth + 1, value * oracle.shares // oracle.eth
    with refused("TooManyTokens"):
        provider.transact(exchange, "addLiquidity", shares, tokens - 1, DEADLINE, value=value)
    with refused("TooFewShares"):
        provider.transact(exchange, "addLiquidity", shares + 1, tokens, DEADLINE, value=value)
    provider.transact(exchange, "addLiquidity", shares, tokens, DEADLINE, value=value)
    assert provider.call(exchange, "balanceOf", provider.address) == shares
    assert open_pool.oracle() == Oracle(oracle.eth + value, oracle.tokens + tokens, oracle.shares + shares)


def test_liquidity_too_small_for_a_share_is_refused(open_pool):
    """Reserves that have grown by trades are worth more than one wei a share: less than that would be a gift."""
    trader, exchange = open_pool.trader("trader", 20_000_000), open_pool.exchange
    trader.transact(exchange, "ethToTokenSwapInput", 1, DEADLINE, value=50 * ETHER)
    oracle = open_pool.oracle()
    least = -(-oracle.eth // oracle.shares)
    assert least > 1
    with refused("TooFewShares"):
        trader.transact(exchange, "addLiquidity", 0, 10, DEADLINE, value=least - 1)
    trader.transact(exchange, "addLiquidity", 0, 10, DEADLINE, value=least)
    assert trader.call(exchange, "balanceOf", trader.address) == 1


def test_remove_liquidity_pays_the_share_of_both_reserves(open_pool):
    owner, exchange, oracle = open_pool.owner, open_pool.exchange, open_pool.oracle()
    amount = 2 * ETHER + 3
    wei, tokens = amount * oracle.eth // oracle.shares, amount * oracle.tokens // oracle.shares
    for minimum in ((wei + 1, tokens), (wei, tokens + 1)):
        with pytest.raises(CallReverted):
            owner.transact(exchange, "removeLiquidity", amount, *minimum, DEADLINE)
    before = owner.balance(owner.address)
    owner.transact(exchange, "removeLiquidity", amount, wei, tokens, DEADLINE)
    assert owner.balance(owner.address) - before == wei
    assert open_pool.oracle() == Oracle(oracle.eth - wei, oracle.tokens - tokens, oracle.shares - amount)


@pytest.mark.parametrize("sold", [10**12, ETHER // 1000, ETHER, 50 * ETHER])
def test_eth_to_token_input(open_pool, sold):
    buyer, oracle, exchange = open_pool.trader("buyer"), open_pool.oracle(), open_pool.exchange
    bought = oracle.output(sold, oracle.eth, oracle.tokens)
    assert buyer.call(exchange, "getEthToTokenInputPrice", sold) == bought
    with refused("TooFewTokens"):
        buyer.transact(exchange, "ethToTokenSwapInput", bought + 1, DEADLINE, value=sold)
    buyer.transact(exchange, "ethToTokenSwapInput", bought, DEADLINE, value=sold)
    assert open_pool.holds(buyer) == bought
    assert open_pool.oracle() == Oracle(oracle.eth + sold, oracle.tokens - bought, oracle.shares)


@pytest.mark.parametrize("bought", [1, 12_345, 9_000_000])
def test_eth_to_token_output_refunds_the_rest(open_pool, bought):
    buyer, oracle, exchange = open_pool.trader("buyer"), open_pool.oracle(), open_pool.exchange
    cost = oracle.input(bought, oracle.eth, oracle.tokens)
    assert buyer.call(exchange, "getEthToTokenOutputPrice", bought) == cost
    with refused("TooMuchEth"):
        buyer.transact(exchange, "ethToTokenSwapOutput", bought, DEADLINE, value=cost - 1)
    before = buyer.balance(buyer.address)
    buyer.transact(exchange, "ethToTokenSwapOutput", bought, DEADLINE, value=cost + 77)
    assert before - buyer.balance(buyer.address) == cost
    assert open_pool.holds(buyer) == bought


@pytest.mark.parametrize("sold", [3, 12_345, 10_000_000])
def test_token_to_eth_input(open_pool, sold):
    seller, oracle, exchange = open_pool.trader("seller", sold), open_pool.oracle(), open_pool.exchange
    wei = oracle.output(sold, oracle.tokens, oracle.eth)
    assert seller.call(exchange, "getTokenToEthInputPrice", sold) == wei
    with refused("TooLittleEth"):
        seller.transact(exchange, "tokenToEthSwapInput", sold, wei + 1, DEADLINE)
    before = seller.balance(seller.address)
    seller.transact(exchange, "tokenToEthSwapInput", sold, wei, DEADLINE)
    assert seller.balance(seller.address) - before == wei
    assert open_pool.oracle() == Oracle(oracle.eth - wei, oracle.tokens + sold, oracle.shares)


@pytest.mark.parametrize("wei", [10**12, ETHER, 4 * ETHER])
def test_token_to_eth_output(open_pool, wei):
    oracle, exchange = open_pool.oracle(), open_pool.exchange
    cost = oracle.input(wei, oracle.tokens, oracle.eth)
    seller = open_pool.trader("seller", cost)
    assert seller.call(exchange, "getTokenToEthOutputPrice", wei) == cost
    with refused("TooManyTokens"):
        seller.transact(exchange, "tokenToEthSwapOutput", wei, cost - 1, DEADLINE)
    seller.transact(exchange, "tokenToEthSwapOutput", wei, cost, DEADLINE)
    assert open_pool.holds(seller) == 0


def test_transfers_go_to_the_recipient(open_pool):
    trader, exchange = open_pool.trader("trader", 100_000), open_pool.exchange
    friend = open_pool.chain.client("friend")
    trader.transact(exchange, "ethToTokenTransferInput", 1, DEADLINE, friend.address, value=ETHER // 100)
    trader.transact(exchange, "ethToTokenTransferOutput", 500, DEADLINE, friend.address, value=ETHER)
    trader.transact(exchange, "tokenToEthTransferInput", 5_000, 1, DEADLINE, friend.address)
    trader.transact(exchange, "tokenToEthTransferOutput", 10**12, 5_000, DEADLINE, friend.address)
    assert open_pool.holds(friend) > 500
    assert friend.balance(friend.address) > 10**12
    for recipient in (bytes(20), exchange.address):
        with refused("InvalidRecipient"):
            trader.transact(exchange, "ethToTokenTransferInput", 1, DEADLINE, recipient, value=ETHER // 100)


def test_token_to_token_through_the_native_coin(open_pool):
    other = open_market(open_pool.chain, open_pool.owner, open_pool.factory)
    other.owner.transact(other.exchange, "addLiquidity", 0, 3_000_000, DEADLINE, value=2 * ETHER)
    here, there = open_pool.oracle(), other.oracle()
    trader = open_pool.trader("trader", 200_000)
    wei = here.output(50_000, here.tokens, here.eth)
    bought = there.output(wei, there.eth, there.tokens)
    target = other.token.address
    with refused("TooFewTokens"):
        trader.transact(open_pool.exchange, "tokenToTokenSwapInput", 50_000, bought + 1, 1, DEADLINE, target)
    with refused("TooLittleEth"):
        trader.transact(open_pool.exchange, "tokenToTokenSwapInput", 50_000, 1, wei + 1, DEADLINE, target)
    trader.transact(open_pool.exchange, "tokenToTokenSwapInput", 50_000, bought, wei, DEADLINE, target)
    assert trader.call(other.token, "balanceOf", trader.address) == bought

    here, there = open_pool.oracle(), other.oracle()
    eth_cost = there.input(1_000, there.eth, there.tokens)
    cost = here.input(eth_cost, here.tokens, here.eth)
    friend = b"\7" * 20
    arguments = (1_000, cost, eth_cost, DEADLINE, friend, target)
    with refused("TooManyTokens"):
        trader.transact(open_pool.exchange, "tokenToTokenTransferOutput", 1_000, cost - 1, *arguments[2:])
    trader.transact(open_pool.exchange, "tokenToTokenTransferOutput", *arguments)
    assert trader.call(other.token, "balanceOf", friend) == 1_000
    for unknown in (open_pool.token.address, friend):
        with refused("UnknownExchange"):
            trader.transact(open_pool.exchange, "tokenToTokenSwapInput", 50_000, 1, 1, DEADLINE, unknown)


def test_plain_payment_is_a_purchase(open_pool):
    buyer, oracle = open_pool.trader("buyer"), open_pool.oracle()
    buyer.wait(buyer.send_raw_call(open_pool.exchange.address, b"", value=ETHER))
    assert open_pool.holds(buyer) == oracle.output(ETHER, oracle.eth, oracle.tokens)


def test_deadline_and_zero_amounts(open_pool):
    trader, exchange = open_pool.trader("trader", 1_000), open_pool.exchange
    with refused("DeadlinePassed"):
        trader.transact(exchange, "tokenToEthSwapInput", 10, 1, trader.block("latest").timestamp - 1)
    for function, args, value in (
        ("ethToTokenSwapInput", (1,), 0),
        ("ethToTokenSwapInput", (0,), 1),
        ("ethToTokenSwapOutput", (0,), 1),
        ("tokenToEthSwapInput", (0, 1), 0),
        ("tokenToEthSwapInput", (1, 0), 0),
        ("tokenToEthSwapOutput", (0, 1), 0),
    ):
        with refused("ZeroAmount"):
            trader.transact(exchange, function, *args, DEADLINE, value=value)


def test_output_must_leave_something_in_the_reserve(open_pool):
    trader, exchange = open_pool.trader("trader", 1_000), open_pool.exchange
    with refused("OutputTooHigh"):
        trader.transact(exchange, "ethToTokenSwapOutput", START_TOKENS, DEADLINE, value=ETHER)
    with refused("OutputTooHigh"):
        trader.transact(exchange, "tokenToEthSwapOutput", START_WEI, 2**200, DEADLINE)


def test_an_empty_pool_has_no_price(market):
    with refused("EmptyReserve"):
        market.owner.transact(market.exchange, "ethToTokenSwapInput", 1, DEADLINE, value=1)


def test_product_of_reserves_never_falls(open_pool):
    trader, exchange = open_pool.trader("trader", 5_000_000), open_pool.exchange
    product = START_WEI * START_TOKENS
    for i in range(1, 12):
        if i % 2:
            trader.transact(exchange, "ethToTokenSwapInput", 1, DEADLINE, value=i * 10**15 + i)
        else:
            trader.transact(exchange, "tokenToEthSwapInput", i * 777, 1, DEADLINE)
        oracle = open_pool.oracle()
        assert oracle.eth * oracle.tokens >= product
        product = oracle.eth * oracle.tokens


def test_a_donation_moves_no_price(open_pool):
    owner, exchange = open_pool.owner, open_pool.exchange
    price = owner.call(exchange, "getTokenToEthInputPrice", 1_000)
    owner.transact(open_pool.token, "transfer", exchange.address, 3_000_000)
    open_pool.chain.give(exchange.address, 50 * ETHER)
    assert owner.call(exchange, "getTokenToEthInputPrice", 1_000) == price


def test_token_that_keeps_a_fee_is_refused(open_pool):
    seller = open_pool.trader("seller", 10_000)
    open_pool.owner.transact(open_pool.token, "keepFee", 1)
    with refused("TransferFee"):
        seller.transact(open_pool.exchange, "tokenToEthSwapInput", 5_000, 1, DEADLINE)


def test_a_token_that_calls_back_meets_a_locked_exchange(open_pool):
    """The attack on Uniswap v1 of April 2020: sell again while the first sale is being collected."""
    seller, token, exchange = open_pool.trader("seller", 10_000), open_pool.token, open_pool.exchange
    again = seller.call_data(exchange, "tokenToEthSwapInput", 100, 1, DEADLINE)
    seller.transact(token, "callBack", exchange.address, again)
    seller.transact(exchange, "tokenToEthSwapInput", 5_000, 1, DEADLINE)
    assert seller.call(token, "lastCallbackSucceeded") is False
    assert seller.call(token, "lastCallbackError").hex() == "3ee5aeb5"  # ReentrancyGuardReentrantCall()


@pytest.mark.parametrize("direction, error", [("dearer", "TooMuchEth"), ("cheaper", "PaymentFailed")])
def test_a_token_that_moves_the_targets_price_gains_nothing(open_pool, direction, error):
    """The cost asked before the sale is the cost paid after it, or the whole trade is undone."""
    other = open_market(open_pool.chain, open_pool.owner, open_pool.factory)
    other.owner.transact(other.exchange, "addLiquidity", 0, 3_000_000, DEADLINE, value=2 * ETHER)
    trader, helper = open_pool.trader("trader", 200_000), create(open_pool.owner, "testing/HostileReceiver")
    open_pool.chain.give(helper.address, ETHER)
    other.owner.transact(other.token, "transfer", helper.address, 10_000)
    approval = trader.call_data(other.token, "approve", other.exchange.address, 10_000)
    trader.transact(helper, "act", other.token.address, 0, approval)
    if direction == "dearer":
        trade, value = trader.call_data(other.exchange, "ethToTokenSwapInput", 1, DEADLINE), ETHER // 2
    else:
        trade, value = trader.call_data(other.exchange, "tokenToEthSwapInput", 10_000, 1, DEADLINE), 0
    callback = trader.call_data(helper, "act", other.exchange.address, value, trade)
    arguments = (1_000, 100_000, ETHER, DEADLINE, other.token.address)
    with open_pool.chain.undone():
        trader.transact(open_pool.exchange, "tokenToTokenSwapOutput", *arguments)
    trader = open_pool.chain.client("trader")  # its count of transactions was taken back too
    trader.transact(open_pool.token, "callBack", helper.address, callback)
    before = open_pool.oracle(), other.oracle()
    with refused(error):
        trader.transact(open_pool.exchange, "tokenToTokenSwapOutput", *arguments)
    assert (open_pool.oracle(), other.oracle()) == before


def test_mean_price_over_time(open_pool):
    chain, owner, exchange = open_pool.chain, open_pool.owner, open_pool.exchange
    price = (START_WEI << 112) // START_TOKENS
    first, t0 = owner.call(exchange, "currentPriceCumulative")
    chain.skip(100)
    second, t1 = owner.call(exchange, "currentPriceCumulative")
    assert t1 - t0 >= 100
    assert second - first == price * (t1 - t0)
    owner.transact(exchange, "ethToTokenSwapInput", 1, DEADLINE, value=ETHER)
    oracle = open_pool.oracle()
    third, t2 = owner.call(exchange, "currentPriceCumulative")
    chain.skip(50)
    fourth, t3 = owner.call(exchange, "currentPriceCumulative")
    assert fourth - third == ((oracle.eth << 112) // oracle.tokens) * (t3 - t2)


def test_events_are_those_of_v1(open_pool):
    trader, exchange = open_pool.trader("trader", 1_000), open_pool.exchange
    oracle = open_pool.oracle()
    trader.transact(exchange, "ethToTokenSwapInput", 1, DEADLINE, value=10**15)
    trader.transact(exchange, "tokenToEthSwapInput", 1_000, 1, DEADLINE)
    head = trader.block_number()
    bought = trader.events(exchange, "TokenPurchase", 0, head)[-1]
    assert bought.args["eth_sold"] == 10**15
    assert bought.args["tokens_bought"] == oracle.output(10**15, oracle.eth, oracle.tokens)
    assert trader.events(exchange, "EthPurchase", 0, head)[-1].args["tokens_sold"] == 1_000
    assert trader.events(exchange, "AddLiquidity", 0, head)[-1].args["eth_amount"] == START_WEI
