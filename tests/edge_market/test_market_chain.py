"""Homes trade on a real chain, through the meter's own code and with real proofs, from mint to burn and statement.

Two homes and one slot in the normal run; five homes and two slots in the slow one, with the same tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from evm_world import Chain
from trade_cases import CALENDAR, HOMES, MICROGRID, SLOT, Home
from trade_world import CAP, FLOOR, FUNDS, MarketChain, TradingHome

from edge_agent.market import statement as accounts
from edge_agent.market.journal import Kind
from edge_agent.market.planner import BURN_LAST_SLOTS, ORDER_SLOTS, SETTLE_SLOTS
from edge_agent.market.statement import SlotAccount
from edge_agent.market.witnesses import asset_of
from edge_agent.page import statements
from edge_agent.page.readonly import reading
from hub.chain.abi import to_hex
from hub.chain.errors import CallReverted
from openmg.market.ladder import largest_step
from openmg.market.statement import BurnRecord, Record, Registers, SlotRecord, settle
from openmg.zk import assets
from openmg.zk.backend import get_backend
from openmg.zk.circuits import period
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.prove import prove_now
from openmg.zk.prover import ProofRequest

pytestmark = pytest.mark.slow

ADA, BEN, CHO, DAE, EVA = HOMES
KEY = CALENDAR.key_of(SLOT)
BAND = CALENDAR.band_of(SLOT)
BURN_SLOT = CALENDAR.last_slot_of(KEY) + ORDER_SLOTS + 1 + SETTLE_SLOTS
SUPPLY, DELIVERY = (asset_of(kind, MICROGRID, KEY) for kind in (assets.Kind.SUPPLY, assets.Kind.DELIVERY))

Readings = dict[int, dict[Home, tuple[int, int]]]
"""By slot and home import and export in Wh."""
SMALL: Readings = {SLOT: {ADA: (0, 730), DAE: (560, 0)}}
LARGE: Readings = {
    SLOT: {ADA: (0, 730), BEN: (40, 450), CHO: (1_234, 0), DAE: (560, 0), EVA: (0, 0)},
    SLOT + 1: {ADA: (0, 380), BEN: (320, 0), CHO: (99, 0), DAE: (210, 0), EVA: (0, 0)},
}


@dataclass
class Story:
    """What happened, so that each test looks at one part of it."""

    readings: Readings
    market: MarketChain
    homes: dict[Home, TradingHome]
    done: dict[Home, list[str]]
    holdings: list[tuple[int, int]]
    """The pool's PETH, and what it says it holds for whom, after every step."""

    @property
    def funds(self) -> int:
        return FUNDS * len(self.buyers)

    @property
    def buyers(self) -> list[Home]:
        return [home for home in self.homes if any(slot[home][0] >= 100 for slot in self.readings.values())]

    def turn(self, slot: int, homes: tuple[Home, ...]) -> None:
        """A slot: what is due is submitted; in the next one its batches are cleared and all notes appended."""
        self.market.to_slot(slot)
        for home in homes:
            self.done[home] += self.homes[home].work()
            self.holdings.append(self.market.holdings())
        self.market.to_slot(slot + 1)
        self.market.clear()
        self.market.append_all()
        self.holdings.append(self.market.holdings())
        self.hear()

    def hear(self) -> None:
        for trading in self.homes.values():
            trading.hear()

    def live(self) -> None:
        """Every slot is agreed when it is over and traded in the two that follow; DAE burns when the day is over."""
        for home in self.buyers:
            self.homes[home].shield(1, FUNDS)
        self.market.to_slot(SLOT + 1)
        self.market.append_all()
        self.hear()
        everyone = tuple(self.homes)
        for slot, energies in self.readings.items():
            notice = self.market.agree(slot, energies)
            for home, (import_wh, export_wh) in energies.items():
                self.homes[home].meter(notice, import_wh, export_wh)
            self.turn(slot + 1, everyone)
        self.turn(max(self.readings) + 2, everyone)
        self.turn(BURN_SLOT, (DAE,))

    def events(self, name: str) -> list[dict]:
        client = self.market.operator
        return [dict(event.args) for event in client.events(self.market.pool, name, 0, client.block_number())]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(SMALL, id="two homes, one slot"),
        pytest.param(LARGE, id="five homes, two slots", marks=pytest.mark.slow),
    ],
)
def story(request, market_node: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    readings: Readings = request.param
    with market_node.undone():
        folder: Path = tmp_path_factory.mktemp("homes")
        market = MarketChain(market_node)
        homes = list(readings[SLOT])
        market.register(homes)
        trading = {home: TradingHome(home, folder, market) for home in homes}
        told = Story(readings, market, trading, {home: [] for home in homes}, [])
        told.live()
        yield told
        for home in trading.values():
            home.close()


def test_every_meter_minted_every_slot_and_ordered_what_its_readings_allow(story):
    minted = story.events("Minted")
    assert len(minted) == len({event["nullifier"] for event in minted}) == len(story.homes) * len(story.readings)
    for home, done in story.done.items():
        assert [name for name in done if name.startswith("mint")] == [f"mint {slot}" for slot in story.readings]
        bought = [f"buy {slot}" for slot, energies in story.readings.items() if energies[home][0] >= 100]
        assert [name for name in done if name.startswith("buy")] == bought
    wanted = [
        (slot + 2, largest_step(import_wh // 100))
        for slot, energies in story.readings.items()
        for import_wh, _ in energies.values()
        if import_wh >= 100
    ]
    assert sorted((event["batch"], event["lots"]) for event in story.events("BuyPlaced")) == sorted(wanted)


def test_outcomes_reached_the_wallets_and_nothing_was_made_of_nothing(story):
    assert all(balance == said for balance, said in story.holdings)
    closed = story.events("BatchClosed")
    assert closed and all(event["clearedLots"] == min(event["soldLots"], event["boughtLots"]) for event in closed)
    assert all(100 * FLOOR <= event["priceWeiPerLot"] <= 100 * CAP for event in closed)
    paid = sum(event["clearedLots"] * event["priceWeiPerLot"] for event in closed)
    earned = sum(event["soldLots"] * event["priceWeiPerLot"] for event in closed)
    assert sum(trading.held() for trading in story.homes.values()) == story.funds - paid + earned
    sold_wh = 100 * sum(event["lots"] for event in story.events("SellPlaced"))
    exported_wh = sum(export_wh for energies in story.readings.values() for _, export_wh in energies.values())
    assert sum(trading.held(SUPPLY) for trading in story.homes.values()) == exported_wh - sold_wh
    assert sold_wh >= 500


def test_what_was_delivered_is_burned_once_and_then_gone(story):
    assert len(story.events("Burned")) == 1 and story.done[DAE][-1] == f"burn {KEY}"
    trading = story.homes[DAE]
    (burned,) = trading.journal.orders(Kind.BURN, 0, BURN_SLOT)
    received = [note for slot in story.readings for note in trading.purse.received(f"buy {slot}")]
    assert burned.amount == sum(note.amount for note in received if note.asset == DELIVERY) > 0
    assert trading.held(DELIVERY) == 0 and trading.next_job() is None


def test_a_call_that_is_sent_again_is_refused_by_the_chain(story):
    """Whoever records calls and repeats them, a relay above all, changes nothing."""
    for purpose in (f"mint {SLOT}", f"buy {SLOT}", f"sell {KEY} {SLOT + 2}", f"burn {KEY}"):
        data = next(data for name, data in story.market.sent if name == purpose)
        with pytest.raises(CallReverted) as refused:
            story.market.operator.simulate(story.market.pool.address, data)
        assert refused.value.error in ("AlreadyUsed", "AlreadySpent", "Expired")


BURN_WORDS = {"key": 8, "root": 9, "nullifier": 10, "tag": 18, "sum": 19, "until": 21}
"""Where the words of a burn's call data stand."""


def burning(
    story: Story, name: str, change: Callable[[int], int], block: str = "latest", sender: str = "market operator"
) -> None:
    """Try the story's burn with one word changed, on the state of that block; raises CallReverted."""
    words = bytearray(next(data for purpose, data in story.market.sent if purpose == f"burn {KEY}"))
    place = 4 + 32 * BURN_WORDS[name]
    value = change(int.from_bytes(words[place : place + 32], "big"))
    words[place : place + 32] = value.to_bytes(32, "big")
    client, pool = story.market.chain.client(sender), story.market.pool
    client.rpc("eth_call", {"from": to_hex(client.address), "to": pool.checksum_address, "data": to_hex(bytes(words))}, block)


@pytest.mark.parametrize(
    ("attack", "name", "change", "error"),
    [
        ("burn with a tag of choice", "tag", lambda tag: (tag + 1) % R, "InvalidProof"),
        ("burn with an aliased tag", "tag", lambda tag: tag + R, "OutsideField"),
        ("burn of more than the notes hold", "sum", lambda x: (x + 1) % R, "InvalidProof"),
        ("burn of other notes", "nullifier", lambda nullifier: (nullifier + 1) % R, "InvalidProof"),
        ("burn under a root that never was", "root", lambda _: 5, "UnknownRoot"),
        ("burn of a day whose orders still come", "key", lambda key: key + 256, "KeyOutOfRange"),
        ("burn of a day that is long over", "key", lambda key: key - 3 * 256, "KeyOutOfRange"),
        ("a relay gives a burn a longer life", "until", lambda until: until + 1, "InvalidProof"),
        ("burn landed after validUntil", "until", lambda _: 1, "Expired"),
    ],
)
def test_burn_attacks(story, attack, name, change, error):
    """Tried where the burn was not made yet, so that each fails for its own sake."""
    client = story.market.operator
    (burned, *_) = client.events(story.market.pool, "Burned", 0, client.block_number())
    before = hex(burned.block - 1)
    burning(story, name, lambda value: value, before)  # as it was made, it is taken there
    with pytest.raises(CallReverted) as refused:
        burning(story, name, change, before)
    assert refused.value.error == error, attack


def test_a_burn_needs_no_relay(story):
    """A guardian that admits no relay keeps nobody from his burn, which has its days."""
    client = story.market.operator
    (burned, *_) = client.events(story.market.pool, "Burned", 0, client.block_number())
    burning(story, "tag", lambda tag: tag, hex(burned.block - 1), "stranger")


def test_a_second_burn_of_the_day_with_other_notes_has_the_same_tag_and_is_refused(story):
    with pytest.raises(CallReverted) as refused:
        burning(story, "nullifier", lambda nullifier: (nullifier + 1) % R)
    assert refused.value.error == "AlreadyUsed"


def test_a_restored_wallet_finds_what_it_owns_and_does_nothing_again(story, tmp_path):
    for home in (ADA, DAE):
        known = story.homes[home]
        fresh = TradingHome(home, tmp_path, story.market)
        fresh.hear()
        while fresh.trade.recover(story.market.slot):
            pass
        assert [fresh.held(asset) for asset in (0, SUPPLY, DELIVERY)] == [known.held(asset) for asset in (0, SUPPLY, DELIVERY)]
        for notice, energies in known.agreed:
            fresh.meter(notice, *energies)
        view = fresh.trade.view(max(story.readings) + 2)
        assert view.agreed == set(story.readings)
        assert all(item.minted and item.bought == (item.import_wh >= 100) for item in view.slots)
        fresh.close()


def test_the_owners_page_states_what_the_chain_settled(story):
    """Each home's page knows its own part, from its own file; together they are what the pool's events say."""
    total = statements.Amounts()
    for home, trading in story.homes.items():
        with reading(trading.path) as db:
            (line,) = statements.days(db, CALENDAR, BURN_SLOT)
        energies = [metered[home] for metered in story.readings.values()]
        assert (line.amounts.import_wh, line.amounts.export_wh) == tuple(map(sum, zip(*energies, strict=True)))
        assert line.amounts.burned_wh == sum(order.amount for order in trading.journal.orders(Kind.BURN, 0, BURN_SLOT))
        total += line.amounts
    closed = story.events("BatchClosed")
    assert total.minted_wh == total.export_wh and total.under_way == 0
    assert total.sold_wh == 100 * sum(event["soldLots"] for event in closed) > 0
    assert total.bought_wh == 100 * sum(event["clearedLots"] for event in closed) > 0
    assert total.paid_wei == sum(event["clearedLots"] * event["priceWeiPerLot"] for event in closed)
    assert total.received_wei == sum(event["soldLots"] * event["priceWeiPerLot"] for event in closed)


def record(story: Story, home: Home) -> Record:
    """The public record as the utility reads it: leaves from the notices, mints and burns from the pool's events."""
    leaves = []
    for slot, energies in story.readings.items():
        exported, imported = home.openings(slot, *energies[home])
        leaves.append(SlotRecord(slot, exported.point, imported.point))
    mints: dict[int, set[int]] = {}
    for event in story.events("Minted"):
        mints.setdefault(event["slot"], set()).add(event["nullifier"])
    burns = tuple(BurnRecord(event["key"], event["tag"], (event["kx"], event["ky"])) for event in story.events("Burned"))
    return Record(MICROGRID, tuple(leaves), mints, burns)


def test_the_period_statement_opens_what_is_on_chain_and_earns_the_credit(story):
    home, number = DAE, CALENDAR.period_of(SLOT)
    late = CALENDAR.slots_of_period(number).stop + BURN_LAST_SLOTS
    witness = accounts.period_witness(home.meter_secret, number, CALENDAR, late)
    proof = prove_now(ProofRequest(period.NAME, witness, demo=True))
    rows = story.homes[home].journal.slots(min(story.readings), max(story.readings))
    assert len(rows) == len(story.readings) and all(row.agreed and row.minted for row in rows)
    slots = [SlotAccount(row.slot, *home.openings(row.slot, row.import_wh, row.export_wh), row.minted) for row in rows]
    burned = {order.key: order.amount for order in story.homes[home].journal.orders(Kind.BURN, 0, BURN_SLOT)}
    stated = accounts.period_statement(witness, proof.proof, home.keys.seed, CALENDAR, slots, burned)
    backend, key = get_backend("auto"), ensure_keys(period.NAME).verifying_key
    registers = {BAND: Registers(0, 800)}
    found = settle(stated, record(story, home), registers, CALENDAR, lambda publics, data: backend.verify(key, publics, data))
    (result,) = found.bands
    assert not found.penalties and result.credit_wh == burned[KEY] > 0
    assert result.import_shortfall_wh == 800 - burned[KEY]
