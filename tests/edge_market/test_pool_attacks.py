"""Attacks on the private market's contracts: real orders of two homes, changed in one place, and orders at the wrong moment.

A call is taken apart, changed and tried on the chain's newest state; each refusal must have the contract's own reason. The
circuits' halves of the same attacks are in tests/zk/test_zk_mint.py and test_zk_buy.py, what ends in one is said there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from evm_world import ETHER, Chain, refused
from pool_world import create
from trade_cases import CALENDAR, HOMES, MICROGRID, SLOT
from trade_world import CAP, FLOOR, FUNDS, MarketChain, TradingHome, proofs_of

from edge_agent.market.calls import BUY, MINT, SELL
from edge_agent.market.journal import Kind, SentCall
from openmg.evm.abi import selector
from openmg.zk.field import R

ADA, DAE, CHO = HOMES[0], HOMES[3], HOMES[2]
KEY = CALENDAR.key_of(SLOT)
READINGS = {ADA: (0, 730), DAE: (560, 0), CHO: (1_234, 0)}
PROOF, SLOT_, NULLIFIER, COMMITMENT, UNTIL, CIPHERTEXT = range(6)
"""Arguments of a mint."""
LOTS, BUY_NULLIFIER, DELIVERY, CHANGE, PAYMENT = 2, 3, 4, 5, 6
"""Arguments of a purchase behind its proof and slot."""


def types_of(signature: str) -> list[str]:
    """The parameter types of a call."""
    inner, depth, parts, start = signature[signature.index("(") + 1 : -1], 0, [], 0
    for i, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append(inner[start:i])
            start = i + 1
    return [*parts, inner[start:]]


def changed(signature: str, data: bytes, place: int, value: Any) -> bytes:
    """The call with one argument replaced; `value` may be a function of the old one."""
    assert data[:4] == selector(signature)
    kinds = types_of(signature)
    values = list(decode(kinds, data[4:]))
    values[place] = value(values[place]) if callable(value) else value
    return data[:4] + encode(kinds, values)


def part(place: int, value: Any) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """A change of one part of a struct."""

    def change(old: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple((value(item) if callable(value) else value) if i == place else item for i, item in enumerate(old))

    return change


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.fixture(scope="module")
def orders(market_node: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A market in the second slot after SLOT, all mints in the tree, and proved calls that nobody has submitted."""
    with market_node.undone():
        market, folder = MarketChain(market_node), tmp_path_factory.mktemp("attacked")
        market.register(READINGS)
        homes = {home: TradingHome(home, folder, market) for home in READINGS}
        for home in (DAE, CHO):
            homes[home].shield(1, FUNDS)
        market.to_slot(SLOT + 1)
        market.append_all()
        notice = market.agree(SLOT, READINGS)
        made: dict[str, Any] = {"market": market, "homes": homes}
        for home, (import_wh, export_wh) in READINGS.items():
            homes[home].hear()
            homes[home].meter(notice, import_wh, export_wh)
            made[f"mint {home.name}"] = proved(homes[home])
            if home is not ADA:
                market.submit(made[f"mint {home.name}"])
        market.submit(made["mint ada"])
        market.append_all()
        market.to_slot(SLOT + 2)
        for home in homes.values():
            home.hear()
        made["sell"] = proved(homes[ADA])
        made["buy"], made["other buy"] = proved(homes[DAE]), proved(homes[CHO])
        assert [made[name].purpose.split()[0] for name in ("sell", "buy")] == [Kind.SELL, Kind.BUY]
        yield made
        for home in homes.values():
            home.close()


def proved(home: TradingHome) -> SentCall:
    job = home.next_job()
    assert job is not None
    return home.trade.finish(job, proofs_of(job))


@pytest.fixture
def market(orders, market_node: Chain) -> Iterator[MarketChain]:
    made: MarketChain = orders["market"]
    with market_node.undone():
        yield made
    for client in (made.operator, made.utility):
        client.forget_nonce()  # what it counted was taken back


def attempt(market: MarketChain, data: bytes, name: str = "market operator") -> None:
    market.chain.client(name).simulate(market.pool.address, data)


@pytest.mark.parametrize("order", ["sell", "buy"])
def test_the_orders_as_they_were_made_are_taken(orders, market, order):
    attempt(market, orders[order].data)


# Mint


@pytest.mark.parametrize(
    ("attack", "place", "value", "error"),
    [
        ("mint twice in a slot", None, None, "AlreadyUsed"),
        ("mint with an aliased N", NULLIFIER, lambda n: n + R, "OutsideField"),
        ("mint with an N of choice", NULLIFIER, 5, "InvalidProof"),
        ("mint from an unagreed slot", SLOT_, SLOT + 1, "SlotRootUnknown"),
        ("mint of a slot that is not over", SLOT_, SLOT + 2, "SlotOutOfRange"),
        ("mint of a slot of the day before", SLOT_, SLOT - 95, "SlotOutOfRange"),
        ("mint landed after validUntil", UNTIL, 1, "Expired"),
    ],
)
def test_mint_attacks(orders, market, attack, place, value, error):
    """What is above the export, by an unregistered or revoked meter, or under another's mid has no proof: see test_zk_mint."""
    data = orders["mint ada"].data
    if place is not None:
        data = changed(MINT, data, NULLIFIER, 9) if place != NULLIFIER else data
        data = changed(MINT, data, place, value)
    with refused(error):
        attempt(market, data)


@pytest.mark.parametrize("place", [COMMITMENT, UNTIL, CIPHERTEXT])
def test_a_relay_cannot_change_a_mint(orders, market, market_node, place):
    """Its own note, its own ciphertext or a longer life: tried where N is not used up yet."""
    value = {COMMITMENT: lambda cm: (cm + 1) % R, UNTIL: lambda until: until + 1, CIPHERTEXT: flipped}[place]
    changed_n = orders["mint ada"].data
    used = int.from_bytes(changed_n[4 + 32 * 9 : 4 + 32 * 10], "big")
    assert market.operator.call(market.pool, "isUsed", used)
    with forgotten(market, used), refused("InvalidProof"):
        attempt(market, changed(MINT, changed_n, place, value))


class forgotten:  # noqa: N801 - reads as a statement
    """The chain as if N had not been used: a proof that fails then fails for its own sake."""

    SLOT_OF_IS_USED = range(12)

    def __init__(self, market: MarketChain, nullifier: int) -> None:
        self.market, self.nullifier = market, nullifier

    def __enter__(self) -> None:
        from openmg.hashing import keccak256, word

        for slot in self.SLOT_OF_IS_USED:
            place = int.from_bytes(keccak256(word(self.nullifier) + word(slot)))
            kept = self.market.operator.rpc("eth_getStorageAt", self.market.pool.checksum_address, hex(place), "latest")
            if int(kept, 16) == 1:
                self.market.chain.set_storage(self.market.pool, place, 0)
                assert not self.market.operator.call(self.market.pool, "isUsed", self.nullifier)
                return
        raise AssertionError("the mapping isUsed was not found")

    def __exit__(self, *_: object) -> None:
        """The fixture takes everything back."""


def test_a_mint_proof_counts_in_no_other_pool(orders, market):
    places = market.token.address, market.verifiers.address, market.registry.address
    other = create(market.operator, "EnergyPool", *places, MICROGRID + 1, FLOOR, CAP)
    market.operator.transact(market.token, "registerMarket", MICROGRID + 1, other.address)
    data = orders["mint ada"].data
    with refused("SlotRootUnknown"):  # no slot of that microgrid was agreed
        market.operator.simulate(other.address, data)


def test_a_guardian_that_admits_no_relay_locks_no_energy_in(orders, market):
    """Orders have their slots, and who keeps them waiting takes them away: anybody may bring them."""
    market.operator.transact(market.token, "setRelay", market.operator.address, 0)
    for name in ("sell", "buy"):
        attempt(market, orders[name].data, "stranger")
    used = int.from_bytes(orders["mint ada"].data[4 + 32 * 9 : 4 + 32 * 10], "big")
    with forgotten(market, used):
        attempt(market, orders["mint ada"].data, "stranger")


def test_only_the_markets_own_contract_may_make_notes_of_energy(orders, market):
    asset = 1 | (MICROGRID << 40 | KEY) << 2
    for function, arguments in (("createNote", (asset, 5, 7)), ("queueMinted", (7, b"")), ("consume", (1, [0] * 8))):
        with refused("NotMarket"):
            market.operator.transact(market.token, function, *arguments)


# Purchases


@pytest.mark.parametrize(
    ("attack", "place", "value", "error"),
    [
        ("buy more lots than were proved", LOTS, 20, "InvalidProof"),
        ("buy with lots off the ladder", LOTS, 3, "NotOnTheLadder"),
        ("buy no lots", LOTS, 0, "NotOnTheLadder"),
        ("buy with an N of choice", BUY_NULLIFIER, 5, "InvalidProof"),
        ("buy with an aliased N", BUY_NULLIFIER, lambda n: n + R, "OutsideField"),
        ("buy for another owner", DELIVERY, lambda partial: (partial + 1) % R, "InvalidProof"),
        ("buy with an aliased delivery", DELIVERY, lambda partial: partial + R, "OutsideField"),
        ("take the change", CHANGE, lambda partial: (partial + 1) % R, "InvalidProof"),
        ("change a ciphertext of the payment", PAYMENT, part(4, flipped), "InvalidProof"),
        ("buy landed after validUntil", 7, 1, "Expired"),
        ("buy for an unagreed slot", 1, SLOT + 1, "SlotRootUnknown"),
    ],
)
def test_purchase_attacks(orders, market, attack, place, value, error):
    with refused(error):
        attempt(market, changed(BUY, orders["buy"].data, place, value))


def test_buy_with_aliased_lots_does_not_fit_the_call(orders, market):
    """lots + r would be the same field element; the call has sixteen bits for it."""
    data = bytearray(orders["buy"].data)
    place = 4 + 32 * 9
    lots = int.from_bytes(data[place : place + 32], "big")
    assert lots == 5
    data[place : place + 32] = (lots + R).to_bytes(32, "big")
    with refused("unknown"):  # refused before the contract's own code runs
        attempt(market, bytes(data))


def test_a_purchase_proof_re_paired_with_another_payment_is_refused(orders, market):
    kinds = types_of(BUY)
    mine, other = (list(decode(kinds, orders[name].data[4:])) for name in ("buy", "other buy"))
    for place in (PAYMENT, 0):  # another's payment beside our proof, another's proof beside our payment
        mixed = list(mine)
        mixed[place] = other[place]
        with refused("InvalidProof"):
            attempt(market, selector(BUY) + encode(kinds, mixed))


def test_a_purchase_counts_once_and_its_payment_too(orders, market):
    market.submit(orders["buy"])
    with refused("AlreadyUsed"):
        attempt(market, orders["buy"].data)


# Sales


@pytest.mark.parametrize(
    ("attack", "place", "value", "error"),
    [
        ("sell more lots than were spent", 2, 10, "InvalidProof"),
        ("sell off the ladder", 2, 7, "NotOnTheLadder"),
        ("take the payout", 3, lambda partial: (partial + 1) % R, "InvalidProof"),
        ("sell supply of another day", 1, lambda key: key - 256, "InvalidProof"),
        ("sell supply of a day to come", 1, lambda key: key + 256, "KeyOutOfRange"),
        ("spend a nullifier's alias", 0, part(2, lambda pair: (pair[0] + R, pair[1])), "OutsideField"),
        ("spend under a root that never was", 0, part(1, 5), "UnknownRoot"),
        ("sell landed after validUntil", 4, 1, "Expired"),
    ],
)
def test_sale_attacks(orders, market, attack, place, value, error):
    with refused(error):
        attempt(market, changed(SELL, orders["sell"].data, place, value))


def test_supply_is_not_spent_as_peth_nor_outside_the_market(orders, market):
    """The sale's spend as a payout of the token: its proof states energy, and the token states PETH."""
    spend, _key, lots, _payout, until = decode(types_of(SELL), orders["sell"].data[4:])
    proof, root, nullifiers, commitments, first, second = spend
    receiver = market.operator.address
    ext = (receiver, bytes(20), 0, until, bytes(20), first, second)
    with refused("InvalidProof"):
        market.operator.transact(market.token, "transact", proof, root, nullifiers, commitments, lots * 100, ext)


# Clearing


def test_a_batch_is_closed_when_its_slot_is_over_and_once(orders, market):
    close = ("close", KEY, SLOT + 2)
    with refused("BatchStillOpen"):
        market.operator.transact(market.pool, *close)
    for order in ("sell", "buy"):
        market.submit(orders[order])
    market.to_slot(SLOT + 3)
    with refused("BatchNotClosed"):
        market.operator.transact(market.pool, "settle", KEY, SLOT + 2, 9)
    market.operator.transact(market.pool, *close)
    with refused("BatchAlreadyClosed"):
        market.operator.transact(market.pool, *close)
    for _ in range(2):  # in parts
        market.operator.transact(market.pool, "settle", KEY, SLOT + 2, 1)
    with refused("NothingToSettle"):
        market.operator.transact(market.pool, "settle", KEY, SLOT + 2, 9)
    balance, said = market.holdings()
    assert balance == said


def test_a_batch_without_orders_is_not_closed(orders, market):
    with refused("NoOrders"):
        market.operator.transact(market.pool, "close", KEY, SLOT + 1)


def test_peth_comes_in_by_payments_only(orders, market):
    with refused("NotTheToken"):
        market.operator.transact(market.pool, "receivePeth", value=1)


def test_providers_come_before_the_first_order_and_leave_after_the_last(orders, market):
    provider = market.chain.client("provider")
    market.chain.give(provider.address, 10 * ETHER)
    provider.transact(market.pool, "provide", KEY, value=ETHER)
    with refused("KeyNotClosed"):
        provider.transact(market.pool, "withdraw", KEY)
    market.submit(orders["sell"])
    with refused("TooLate"):
        provider.transact(market.pool, "provide", KEY, value=1)
    with refused("KeyNotOver"):
        provider.transact(market.pool, "closeKey", KEY)
    market.to_slot(CALENDAR.last_slot_of(KEY) + 97)
    with refused("KeyNotOver"):  # a batch is not settled
        provider.transact(market.pool, "closeKey", KEY)
    market.clear()
    market.clear()
    with refused("KeyAlreadyClosed"):
        provider.transact(market.pool, "closeKey", KEY)
    before = provider.balance(provider.address)
    provider.transact(market.pool, "withdraw", KEY)
    # It bought what ADA sold and nobody else wanted, and the utility took that at the floor.
    assert ETHER - 500 * (CAP - FLOOR) <= provider.balance(provider.address) - before <= ETHER
    balance, said = market.holdings()
    assert balance == said
    with refused("ZeroAmount"):
        provider.transact(market.pool, "withdraw", KEY)
    with refused("KeyOutOfRange"):
        attempt(market, changed(SELL, orders["sell"].data, 4, 2**40))


# Registry


def leaf(home=HOMES[4], **fields: int) -> tuple[Any, ...]:
    made = replace(home.leaf(), **{"from_slot": SLOT + 50, **fields})
    head = made.meter_id, made.public_key, bytes(31) + bytes([7])
    return *head, made.cap_export_wh, made.cap_import_wh, made.microgrid, made.from_slot, made.to_slot


def change(market: MarketChain, added: list[tuple[Any, ...]], closed: list[tuple[int, int]] = []) -> None:  # noqa: B006
    market.operator.transact(market.registry, "propose", added, closed, 11)
    market.utility.transact(market.registry, "approve", added, closed, 11)


def test_a_leaf_needs_both_roles_and_the_same_content(orders, market):
    with refused("NotOperator"):
        market.utility.transact(market.registry, "propose", [leaf()], [], 11)
    market.operator.transact(market.registry, "propose", [leaf()], [], 11)
    with refused("NotUtility"):
        market.operator.transact(market.registry, "approve", [leaf()], [], 11)
    with refused("NotProposed"):
        market.utility.transact(market.registry, "approve", [leaf(cap_export_wh=9_999)], [], 11)
    market.utility.transact(market.registry, "approve", [leaf()], [], 11)


@pytest.mark.parametrize(
    ("attack", "fields", "error"),
    [
        ("a leaf that begins in the past", {"from_slot": SLOT}, "InvalidLeaf"),
        ("a leaf that is closed already", {"to_slot": SLOT + 60}, "InvalidLeaf"),
        ("a meter id outside the field", {}, "InvalidLeaf"),
        ("an owner who has a meter", {"public_key": ADA.leaf().public_key}, "InUse"),
        ("a meter that is registered", {"meter_id": ADA.meter_id}, "InUse"),
    ],
)
def test_registry_attacks(orders, market, attack, fields, error):
    made = leaf(**fields)
    if "outside" in attack:
        made = (made[0] + R, *made[1:])
    with refused(error):
        change(market, [made])


def test_a_replaced_meter_begins_where_the_old_one_ended(orders, market):
    ada = ADA.leaf()
    with refused("InvalidClosing"):
        change(market, [], [(0, SLOT)])
    change(market, [], [(0, SLOT + 40)])
    again = (ada.meter_id, ada.public_key, bytes(31) + b"\x09", 1, 1, MICROGRID)
    with refused("InvalidLeaf"):
        change(market, [(*again, SLOT + 39, 2**32 - 1)])
    change(market, [(*again, SLOT + 40, 2**32 - 1)])
    with refused("InvalidClosing"):
        change(market, [], [(0, SLOT + 90)])


def test_a_slots_registry_root_is_frozen_when_the_slot_is_over(orders, market):
    before = market.operator.call(market.registry, "rootAt", SLOT)
    change(market, [leaf()])
    assert market.operator.call(market.registry, "rootAt", SLOT) == before
    assert market.operator.call(market.registry, "rootAt", SLOT + 2) == 11
    with refused("FutureSlot"):
        market.operator.call(market.registry, "rootAt", SLOT + 3)


def test_a_slot_root_needs_the_ppdl_chain_and_comes_once(orders, market):
    proof = market.ppdl.proof(1, [b"\1" * 192], 0)
    with refused("EventNotProved"):
        market.operator.transact(market.registry, "recordSlotRoot", (MICROGRID, SLOT + 1, 5, 3), proof)
    with refused("SlotRootAlreadyRecorded"):
        market.operator.transact(market.registry, "recordSlotRoot", (MICROGRID, SLOT, 5, 3), proof)
