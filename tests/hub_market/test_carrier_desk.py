"""Envelopes from a meter to another hub's relay and back: one hub carries and cannot read, the other does not know for whom."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from evm_world import ETHER, Chain, key

from edge_agent.wallet.envelopes import SLOT_PARTS, EnvelopeSchedule
from hub import privacy
from hub.carrier import ENVELOPE_GOSSIP, MAX_TOKENS_OF_ONE, RECEIPT_GOSSIP, TOKEN_BYTES, Carried, Carrier, Returned
from hub.chain.anvil import AnvilNode
from hub.relay_roles import EnvelopeDesk
from openmg.clock import VirtualClock
from openmg.envelope import (
    ENVELOPES_PER_SLOT,
    SEALED_BYTES,
    Action,
    Content,
    Envelope,
    Receipt,
    SealedReceipt,
    receipt_number,
    seal,
    seal_receipt,
    unseal_receipt,
)
from openmg.evm.transaction import Transaction
from openmg.messages import base, topics
from openmg.units import SLOT_SECONDS

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

    def receipts(self) -> list[tuple[str, SealedReceipt]]:
        return [(topic, base.decode(SealedReceipt, payload)) for topic, payload in self.published]


def returned(token: bytes, reference: bytes = b"r" * 16) -> bytes:
    return base.encode(Returned(token, seal_receipt(Receipt(reference, (), ""))))


RELAY = b"\x71" * 32
ENVELOPE = Envelope(RELAY, b"s" * SEALED_BYTES)


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
    assert [(topic, receipt.number) for topic, receipt in carriage.receipts()] == [
        (topics.receipt("home-2"), receipt_number(b"2" * 16)),
        (topics.receipt("home-1"), receipt_number(b"1" * 16)),
    ]
    assert carriage.carrier.returned == 2


def test_an_unknown_relay_is_refused():
    carriage = Carriage(RELAY)
    with pytest.raises(base.InvalidMessage, match="relay that this hub does not know"):
        carriage.carrier.on_envelope("home-1", Envelope(b"\x72" * 32, ENVELOPE.sealed))
    assert (carriage.gossip, carriage.carrier.carried) == ([], 0)


def test_the_oldest_tokens_are_forgotten(monkeypatch):
    monkeypatch.setattr("hub.carrier.MAX_TOKENS", 2)
    carriage = Carriage(RELAY)
    for number in range(4):
        carriage.carrier.on_envelope(f"home-{number}", ENVELOPE)
    for item in carriage.carried():
        carriage.carrier.on_returned(returned(item.token))
    assert [topic for topic, _ in carriage.published] == [topics.receipt("home-2"), topics.receipt("home-3")]


def test_attack_a_flooding_meter_loses_its_own_receipts_and_no_others():
    carriage = Carriage(RELAY)
    carriage.carrier.on_envelope("home-1", ENVELOPE)
    for _ in range(MAX_TOKENS_OF_ONE + 5):
        carriage.carrier.on_envelope("home-2", ENVELOPE)
    for item in carriage.carried():
        carriage.carrier.on_returned(returned(item.token))
    answered = [topic for topic, _ in carriage.published]
    assert answered == [topics.receipt("home-1")] + [topics.receipt("home-2")] * MAX_TOKENS_OF_ONE
    for _ in range(MAX_TOKENS_OF_ONE):
        carriage.carrier.on_envelope("home-2", ENVELOPE)
    for item in carriage.carried()[-MAX_TOKENS_OF_ONE:]:
        carriage.carrier.on_returned(returned(item.token))
    assert len(carriage.published) == len(answered) + MAX_TOKENS_OF_ONE, "what is answered no longer counts"


@pytest.mark.parametrize("payload", [b"", b"\xff", base.encode(Receipt(b"r" * 16, (), "")), b"\xa0", returned(b"t" * 16)[:-1]])
def test_a_malformed_receipt_is_an_invalid_message(payload):
    with pytest.raises(base.InvalidMessage):
        Carriage(RELAY).carrier.on_returned(payload)


def test_a_hub_without_another_relay_says_that_senders_are_not_hidden():
    """By the one row that it is about; a table without that row would say nothing of it."""
    alone, usual = privacy.rows(other_relay=False), privacy.rows()
    ((said, told),) = [(row, other) for row, other in zip(alone, usual, strict=True) if row != other]
    assert said["datum_en"] == told["datum_en"] and said["datum_ko"] == told["datum_ko"]
    assert (said["status"], told["status"]) == (privacy.NOT_YET, privacy.PRIVATE)
    assert said["note_en"].startswith("Protection off") and said["note_ko"].startswith("보호 꺼짐")


def test_a_chain_that_opens_sums_only_says_that_updates_are_hidden():
    summed, usual = privacy.rows(sums_only=True), privacy.rows()
    ((said, told),) = [(row, other) for row, other in zip(summed, usual, strict=True) if row != other]
    assert said["datum_en"] == told["datum_en"] and said["datum_ko"] == told["datum_ko"]
    assert (said["status"], told["status"]) == (privacy.PRIVATE, privacy.NOT_YET)


@pytest.mark.parametrize("size", [0, TOKEN_BYTES - 1, TOKEN_BYTES + 1])
def test_a_token_of_another_size_is_malformed(size):
    """Its size would be a mark by which relay and carrier recognise a meter."""
    for make in (
        lambda: Carried(b"t" * size, ENVELOPE),
        lambda: Returned(b"t" * size, seal_receipt(Receipt(bytes(16), (), ""))),
    ):
        with pytest.raises(ValueError, match="16 bytes"):
            make()


@dataclass
class Desk:
    """An envelope relay on the chain, and a carrier on another hub that hears it."""

    chain: Chain
    chain_id: int
    desk: EnvelopeDesk
    carriage: Carriage

    def action(self, value: int = 10, nonce: int = 0) -> Action:
        return Action(b"", Transaction(self.chain_id, nonce, PAID, b"", 100_000, value).sign(key("home")))

    def content(self, value: int = 10, nonce: int = 0, relay: bytes | None = None) -> Envelope:
        content = Content(bytes([nonce]) * 16, int(time.time()) + 600, (self.action(value, nonce),))
        return seal(relay or self.desk.relay.public_key, content)

    def deliver(self) -> None:
        for kind, payload in self.carriage.gossip:
            self.desk.on_gossip(kind, payload, SENDER)

    async def settled(self, receipts: int) -> None:
        async with asyncio.timeout(10):
            while len(self.carriage.published) < receipts:
                await asyncio.sleep(0.02)

    def paid(self) -> int:
        return self.chain.client("home").balance(PAID)


@pytest.fixture
async def desk(market_node: AnvilNode) -> AsyncIterator[Desk]:
    """A relay at work, with a slot's end every 50 ms; it signs no call of its own."""
    chain = Chain(market_node.url)
    with chain.undone():
        home = chain.client("home")
        chain.give(home.address, ETHER)
        private = X25519PrivateKey.generate()
        carriage = Carriage(private.public_key().public_bytes_raw(), RELAY)

        def gossip(kind: str, payload: bytes) -> None:
            assert kind == RECEIPT_GOSSIP
            carriage.carrier.on_returned(payload)

        made = EnvelopeDesk(chain.client("desk"), private, {}, gossip, VirtualClock(0, 0.0, SLOT_SECONDS / 0.05))
        stop = asyncio.Event()
        running = asyncio.create_task(made.run(stop))
        yield Desk(chain, home.chain_id(), made, carriage)
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_an_envelope_is_submitted_and_its_receipt_comes_home(desk):
    desk.carriage.carrier.on_envelope("home-1", desk.content())
    desk.carriage.carrier.on_envelope("home-2", desk.content(value=7, nonce=1))
    desk.deliver()
    await desk.settled(2)
    receipts = dict(desk.carriage.receipts())
    assert set(receipts) == {topics.receipt("home-1"), topics.receipt("home-2")}
    for name, reference in (("home-1", bytes(16)), ("home-2", b"\1" * 16)):
        assert unseal_receipt(reference, receipts[topics.receipt(name)]).error == ""


async def test_a_repeated_envelope_pays_once_and_is_answered_twice(desk):
    envelope = desk.content()
    for _ in range(2):
        desk.carriage.carrier.on_envelope("home-1", envelope)
    desk.deliver()
    await desk.settled(2)
    assert desk.paid() == 10
    first, second = (unseal_receipt(bytes(16), receipt) for _, receipt in desk.carriage.receipts())
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
        for payload in (b"", b"\xff" * 40, good[:-1], good + b"\0", returned(b"t" * 16)):
            desk.desk.on_gossip(ENVELOPE_GOSSIP, payload, SENDER)
    assert desk.desk.malformed == 5
    (record,) = caplog.records
    assert SENDER.hex() in record.getMessage()
    desk.carriage.carrier.on_envelope("home-1", desk.content())
    desk.deliver()
    await desk.settled(1)
    assert desk.paid() == 10


async def test_an_envelope_that_nobody_can_open_is_not_answered(desk):
    foreign = desk.content(relay=X25519PrivateKey.generate().public_key().public_bytes_raw())
    for envelope in (Envelope(desk.desk.relay.public_key, foreign.sealed), desk.content()):
        desk.carriage.carrier.on_envelope("home-1", envelope)
    desk.deliver()
    await desk.settled(1)
    assert len(desk.carriage.published) == 1 and desk.desk.relay.status().refused == 1
    assert desk.paid() == 10


async def test_attack_the_carrier_cannot_tell_dummies_from_real_ones(desk):
    """All that a carrier handles of a home that pays and of one that does not: counts, topics, sizes; and nothing readable."""
    relays = [desk.desk.relay.public_key]
    wallets = {name: EnvelopeSchedule(relays, random.Random(name).randrange) for name in ("pays", "idle")}
    wallets["pays"].put("payment", (desk.action(),), int(time.time()) + 600)
    for name, wallet in wallets.items():
        for envelope in wallet.due(7, SLOT_PARTS):
            desk.carriage.carrier.on_envelope(name, envelope)
    desk.deliver()
    await desk.settled(2 * ENVELOPES_PER_SLOT)
    assert desk.paid() == 10 and desk.desk.relay.status().dummies == 2 * ENVELOPES_PER_SLOT - 1
    assert len({len(payload) for _, payload in desk.carriage.gossip}) == 1
    assert len({len(payload) for _, payload in desk.carriage.published}) == 1
    heard = {name: [payload for topic, payload in desk.carriage.published if topic == topics.receipt(name)] for name in wallets}
    assert {name: len(payloads) for name, payloads in heard.items()} == dict.fromkeys(wallets, ENVELOPES_PER_SLOT)
    answers = [wallets["pays"].on_receipt(payload) for payload in heard["pays"]]
    ((key_of_payment, receipt),) = [answer for answer in answers if answer]
    assert key_of_payment == "payment" and receipt.outcomes[0].succeeded
    seen = b"".join(payload for _, payload in desk.carriage.gossip + desk.carriage.published)
    assert receipt.outcomes[0].transaction not in seen and receipt.reference not in seen
    assert [wallets["idle"].on_receipt(payload) for payload in heard["idle"]] == [None] * ENVELOPES_PER_SLOT
