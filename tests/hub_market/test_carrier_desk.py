"""Envelopes from a meter to another hub's relay and back: one hub carries and cannot read, the other does not know for whom."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from evm_world import ETHER, key
from market_world import MarketWorld

from hub.carrier import ENVELOPE_GOSSIP, RECEIPT_GOSSIP, TOKEN_BYTES, Carried, Carrier, Returned
from hub.relay_roles import EnvelopeDesk
from openmg.envelope import Action, Content, Envelope, Receipt, seal
from openmg.evm.transaction import Transaction
from openmg.messages import base, topics

SENDER = b"\x51" * 20
PAID = b"\x61" * 20


class Carriage:
    """A carrier and what it said to other hubs and to meters."""

    def __init__(self, *relays: bytes) -> None:
        self.gossip: list[tuple[str, bytes]] = []
        self.published: list[tuple[str, bytes]] = []
        self.carrier = Carrier(relays, lambda kind, payload: self.gossip.append((kind, payload)), self._publish)

    def _publish(self, topic: str, payload: bytes) -> bool:
        self.published.append((topic, payload))
        return True

    def carried(self) -> list[Carried]:
        assert {kind for kind, _ in self.gossip} <= {ENVELOPE_GOSSIP}
        return [base.decode(Carried, payload) for _, payload in self.gossip]

    def receipts(self) -> list[tuple[str, Receipt]]:
        return [(topic, base.decode(Receipt, payload)) for topic, payload in self.published]


def returned(token: bytes, reference: bytes = b"r" * 16) -> bytes:
    return base.encode(Returned(token, Receipt(reference, (), "")))


RELAY = b"\x71" * 32
ENVELOPE = Envelope(RELAY, b"sealed")


def test_a_meter_is_hidden_behind_a_token_that_is_new_each_time():
    carriage = Carriage(RELAY)
    for device in ("home-1", "home-1", "home-2"):
        carriage.carrier.on_envelope(device, ENVELOPE)
    carried = carriage.carried()
    assert [item.envelope for item in carried] == [ENVELOPE] * 3
    assert len({item.token for item in carried}) == 3 and all(len(item.token) == TOKEN_BYTES for item in carried)
    assert not any(b"home" in payload for _, payload in carriage.gossip)
    assert carriage.carrier.carried == 3


def test_receipts_go_to_the_meter_of_their_token_once():
    carriage = Carriage(RELAY)
    for device in ("home-1", "home-2"):
        carriage.carrier.on_envelope(device, ENVELOPE)
    first, second = (item.token for item in carriage.carried())
    for token, reference in ((second, b"2" * 16), (first, b"1" * 16), (first, b"3" * 16), (b"\0" * 16, b"4" * 16)):
        carriage.carrier.on_returned(returned(token, reference))
    assert [(topic, receipt.reference[:1]) for topic, receipt in carriage.receipts()] == [
        (topics.receipt("home-2"), b"2"),
        (topics.receipt("home-1"), b"1"),
    ]
    assert carriage.carrier.returned == 2


def test_an_unknown_relay_is_refused():
    carriage = Carriage(RELAY)
    with pytest.raises(base.InvalidMessage, match="relay that this hub does not know"):
        carriage.carrier.on_envelope("home-1", Envelope(b"\x72" * 32, b"sealed"))
    assert (carriage.gossip, carriage.carrier.carried) == ([], 0)


def test_the_oldest_tokens_are_forgotten(monkeypatch):
    monkeypatch.setattr("hub.carrier.MAX_TOKENS", 2)
    carriage = Carriage(RELAY)
    for number in range(4):
        carriage.carrier.on_envelope(f"home-{number}", ENVELOPE)
    for item in carriage.carried():
        carriage.carrier.on_returned(returned(item.token))
    assert [topic for topic, _ in carriage.published] == [topics.receipt("home-2"), topics.receipt("home-3")]


@pytest.mark.parametrize("payload", [b"", b"\xff", base.encode(Receipt(b"r" * 16, (), "")), b"\xa0"])
def test_a_malformed_receipt_is_an_invalid_message(payload):
    with pytest.raises(base.InvalidMessage):
        Carriage(RELAY).carrier.on_returned(payload)


@dataclass
class Desk:
    """An envelope relay on the chain, and a carrier on another hub that hears it."""

    world: MarketWorld
    desk: EnvelopeDesk
    carriage: Carriage

    def content(self, value: int = 10, nonce: int = 0, relay: bytes | None = None) -> Envelope:
        transaction = Transaction(self.world.contracts.chain_id, nonce, PAID, b"", 100_000, value).sign(key("home"))
        content = Content(bytes([nonce]) * 16, int(time.time()) + 600, (Action(b"", transaction),))
        return seal(relay or self.desk.relay.public_key, content)

    def deliver(self) -> None:
        for kind, payload in self.carriage.gossip:
            self.desk.on_gossip(kind, payload, SENDER)

    async def settled(self, receipts: int) -> None:
        async with asyncio.timeout(10):
            while len(self.carriage.published) < receipts:
                await asyncio.sleep(0.02)

    def paid(self) -> int:
        return self.world.client.balance(PAID)


@pytest.fixture
async def desk(world: MarketWorld) -> AsyncIterator[Desk]:
    world.chain.give(world.chain.client("home").address, ETHER)
    private = X25519PrivateKey.generate()
    carriage = Carriage(private.public_key().public_bytes_raw(), RELAY)

    def gossip(kind: str, payload: bytes) -> None:
        assert kind == RECEIPT_GOSSIP
        carriage.carrier.on_returned(payload)

    made = EnvelopeDesk(world.chain.client("desk"), private, world.contracts.confidential, gossip)
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    yield Desk(world, made, carriage)
    stop.set()
    await asyncio.wait_for(running, 10)


async def test_an_envelope_is_submitted_and_its_receipt_comes_home(desk):
    desk.carriage.carrier.on_envelope("home-1", desk.content())
    desk.carriage.carrier.on_envelope("home-2", desk.content(value=7, nonce=1))
    desk.deliver()
    await desk.settled(2)
    receipts = dict(desk.carriage.receipts())
    assert set(receipts) == {topics.receipt("home-1"), topics.receipt("home-2")}
    assert receipts[topics.receipt("home-1")].reference == bytes(16)
    assert receipts[topics.receipt("home-2")].reference == b"\1" * 16
    assert all(receipt.error == "" for receipt in receipts.values())


async def test_a_repeated_envelope_pays_once_and_is_answered_twice(desk):
    envelope = desk.content()
    for _ in range(2):
        desk.carriage.carrier.on_envelope("home-1", envelope)
    desk.deliver()
    await desk.settled(2)
    assert desk.paid() == 10
    first, second = (receipt for _, receipt in desk.carriage.receipts())
    assert first == second and first.outcomes[0].succeeded


async def test_envelopes_for_another_relay_and_other_gossip_are_left_alone(desk):
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    ours = base.encode(Carried(b"t" * 16, desk.content()))
    desk.desk.on_gossip(ENVELOPE_GOSSIP, base.encode(Carried(b"t" * 16, desk.content(relay=other))), SENDER)
    desk.desk.on_gossip("hub.status", ours, SENDER)
    desk.desk.on_gossip(RECEIPT_GOSSIP, ours, SENDER)
    assert await desk.desk.relay.flush() == 0
    assert (desk.desk.malformed, desk.desk.relay.status().envelopes, desk.paid()) == (0, 0, 0)


async def test_malformed_gossip_is_counted_and_said_once(desk, caplog):
    good = base.encode(Carried(b"t" * 16, desk.content()))
    with caplog.at_level(logging.WARNING):
        for payload in (b"", b"\xff" * 40, good[:-1], good + b"\0", base.encode(Receipt(b"r" * 16, (), ""))):
            desk.desk.on_gossip(ENVELOPE_GOSSIP, payload, SENDER)
    assert desk.desk.malformed == 5
    (record,) = caplog.records
    assert SENDER.hex() in record.getMessage()
    desk.carriage.carrier.on_envelope("home-1", desk.content())
    desk.deliver()
    await desk.settled(1)
    assert desk.paid() == 10


async def test_an_envelope_that_nobody_can_open_is_answered(desk):
    foreign = desk.content(relay=X25519PrivateKey.generate().public_key().public_bytes_raw())
    desk.carriage.carrier.on_envelope("home-1", Envelope(desk.desk.relay.public_key, foreign.sealed))
    desk.deliver()
    await desk.settled(1)
    ((topic, receipt),) = desk.carriage.receipts()
    assert topic == topics.receipt("home-1") and "cannot be opened" in receipt.error
