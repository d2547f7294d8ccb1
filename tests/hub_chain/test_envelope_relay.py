"""Envelope relays: sealed transactions reach the chain, nothing else does, and a receipt tells the truth."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from evm_world import ETHER, Chain, key
from lossy_rpc import lossy_rpc
from pool_world import AMOUNT, BLINDING, Ext, Transfer, World, create, deploy_pool, partial

from hub.carrier import ENVELOPE_GOSSIP, Carried
from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.relay.envelope import EnvelopeRelay
from hub.relay_roles import EnvelopeDesk
from openmg.envelope import Action, Content, Envelope, seal
from openmg.evm.transaction import Transaction
from openmg.messages import base as messages
from openmg.zk.circuits.transfer import TransferInput

SOON = int(time.time()) + 3_600
ABI = load_artifact("ConfidentialToken").abi


@dataclass
class Relays:
    world: World
    relay: EnvelopeRelay
    transfer: Transfer

    def raw(self, to: bytes, value: int = 0, nonce: int = 0, data: bytes = b"", owner: str = "home") -> Action:
        chain_id = self.world.owner.chain_id()
        return Action(b"", Transaction(chain_id, nonce, to, data, 100_000, value).sign(key(owner)))

    def content(self, *actions: Action, reference: bytes = b"r" * 16, valid_until: int = SOON) -> Envelope:
        return seal(self.relay.public_key, Content(reference, valid_until, actions))

    def transact(self) -> Action:
        data = self.world.owner.call_data(self.world.pool, "transact", *self.transfer.arguments())
        return Action(self.world.pool.address, data)


@pytest.fixture(scope="module")
def base(quick_node: Chain) -> Iterator[tuple[World, Transfer]]:
    """A pool with one note and a proof that spends it."""
    with quick_node.undone():
        owner = quick_node.client("note owner")
        quick_node.give(owner.address, 100 * ETHER)
        pool, verifier = deploy_pool(owner, owner.address)
        world = World(quick_node, owner, pool, verifier, create(owner, "testing/HostileToken"), pool)
        owner.transact(pool, "shield", bytes(20), AMOUNT, partial(), b"", value=AMOUNT)
        note = TransferInput(AMOUNT, BLINDING, 0, world.tree().path(0))
        ciphertexts = Ext(ciphertext1=b"\1" * 137, ciphertext2=b"\2" * 137)
        yield world, world.prove([note], [AMOUNT - 5, 5], 0, ciphertexts)


@pytest.fixture
async def relays(base: tuple[World, Transfer], chain: Chain) -> AsyncIterator[Relays]:
    chain.give(chain.client("home").address, ETHER)
    world = replace(base[0], owner=chain.client("note owner"))
    private = X25519PrivateKey.generate()
    relay = EnvelopeRelay(chain.client("relay"), private, world.pool, flush_seconds=0.02)
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    yield Relays(world, relay, base[1])
    stop.set()
    await task


async def test_signed_transactions_are_submitted_in_order(relays):
    actions = [relays.raw(bytes([i + 1]) * 20, 10 + i, nonce=i) for i in range(3)]
    receipt = await relays.relay.handle(relays.content(*actions))
    assert receipt.error == ""
    assert [outcome.succeeded for outcome in receipt.outcomes] == [True] * 3
    assert [relays.world.owner.balance(bytes([i + 1]) * 20) for i in range(3)] == [10, 11, 12]


async def test_a_private_transfer_needs_no_account_of_the_home(relays):
    receipt = await relays.relay.handle(relays.content(relays.transact()))
    assert (receipt.error, len(receipt.outcomes)) == ("", 1)
    assert relays.world.owner.call(relays.world.pool, "transactCount") == 1
    sent = relays.world.owner.rpc("eth_getTransactionByHash", "0x" + receipt.outcomes[0].transaction.hex())
    assert sent["from"] == "0x" + relays.relay.client.address.hex()


async def test_a_spent_note_is_refused_by_name(relays):
    await relays.relay.handle(relays.content(relays.transact()))
    receipt = await relays.relay.handle(relays.content(relays.transact(), reference=b"s" * 16))
    assert (receipt.error, receipt.outcomes) == ("refused: AlreadySpent", ())


async def test_an_envelope_that_comes_again_gets_the_same_receipt(relays):
    envelope = relays.content(relays.raw(b"\1" * 20, 10))
    first, twice = await asyncio.gather(relays.relay.handle(envelope), relays.relay.handle(envelope))
    again = await relays.relay.handle(envelope)
    assert first == twice == again
    assert relays.world.owner.balance(b"\1" * 20) == 10
    assert relays.relay.status().repeated == 2


async def test_the_relay_signs_nothing_but_confidential_transfers(relays):
    pool = relays.world.pool
    shield = relays.world.owner.call_data(pool, "setDepositsPaused", True)
    for action in (Action(pool.address, shield), Action(b"\5" * 20, relays.transact().data), Action(b"\5" * 20, b"x")):
        receipt = await relays.relay.handle(relays.content(action))
        assert "signs no call" in receipt.error
    assert relays.relay.status().refused == 3


async def test_a_failed_transaction_is_reported_as_failed(relays):
    """It was signed with enough gas, so the chain takes it and it fails there."""
    data = relays.world.owner.call_data(relays.world.token, "transfer", b"\1" * 20, 1)
    receipt = await relays.relay.handle(relays.content(relays.raw(relays.world.token.address, data=data)))
    assert [outcome.succeeded for outcome in receipt.outcomes] == [False]
    assert relays.relay.status().failed == 1


async def test_what_the_node_refuses_ends_the_envelope(relays):
    too_rich = relays.raw(b"\1" * 20, 5 * ETHER)
    receipt = await relays.relay.handle(relays.content(too_rich, relays.raw(b"\2" * 20, 1)))
    assert (receipt.error, receipt.outcomes) == ("the chain did not take the transaction", ())
    assert relays.world.owner.balance(b"\2" * 20) == 0


async def test_expired_and_foreign_envelopes_are_refused(relays):
    old = await relays.relay.handle(relays.content(relays.raw(b"\1" * 20, 1), valid_until=5))
    assert old.error == "the envelope has expired"
    good = relays.content(relays.raw(b"\1" * 20, 1))
    for sealed in (good.sealed[:-1] + bytes([good.sealed[-1] ^ 1]), b"", b"\0" * 200):
        receipt = await relays.relay.handle(Envelope(good.relay, sealed))
        assert "cannot be opened" in receipt.error
    other = seal(X25519PrivateKey.generate().public_key().public_bytes_raw(), Content(b"r" * 16, SOON, (relays.transact(),)))
    assert "cannot be opened" in (await relays.relay.handle(other)).error
    assert relays.world.owner.balance(b"\1" * 20) == 0


async def test_a_full_relay_says_so(relays, monkeypatch):
    monkeypatch.setattr("hub.relay.envelope.MAX_WAITING", 0)
    receipt = await relays.relay.handle(relays.content(relays.raw(b"\1" * 20, 1)))
    assert "full" in receipt.error
    monkeypatch.setattr("hub.relay.envelope.MAX_WAITING", 10)
    assert (await relays.relay.handle(relays.content(relays.raw(b"\1" * 20, 1)))).error == ""


async def test_envelopes_of_many_homes_go_out_together(relays):
    homes = [f"home {i}" for i in range(12)]
    for name in homes:
        relays.world.chain.give(relays.world.chain.client(name).address, ETHER)
    envelopes = [
        relays.content(relays.raw(b"\x09" * 20, 1, owner=name), reference=bytes([i]) * 16) for i, name in enumerate(homes)
    ]
    receipts = await asyncio.gather(*(relays.relay.handle(envelope) for envelope in envelopes))
    assert all(receipt.outcomes[0].succeeded for receipt in receipts)
    assert relays.world.owner.balance(b"\x09" * 20) == 12
    assert relays.relay.status().transactions == 12


async def test_a_chain_that_stands_still_holds_nobody_up_for_long(start_node, monkeypatch):
    """All receipts of one submission are waited for together: as many envelopes as there are do not add up."""
    monkeypatch.setattr("hub.relay.envelope.RECEIPT_SECONDS", 3.0)
    with start_node(7_051, 3_600) as node:
        client = EvmClient(node.url, key("relay"))
        relay = EnvelopeRelay(client, X25519PrivateKey.generate(), Contract("ConfidentialToken", b"\1" * 20, ABI))
        envelopes = []
        for i in range(20):
            raw = Transaction(7_051, 0, b"\5" * 20, b"", 21_000, 0).sign(key(f"home {i}"))
            envelopes.append(seal(relay.public_key, Content(bytes([i]) * 16, SOON, (Action(b"", raw),))))
        stop = asyncio.Event()
        running = asyncio.create_task(relay.run(stop))
        async with asyncio.timeout(30):  # one after the other they would take a minute
            receipts = await asyncio.gather(*(relay.handle(envelope) for envelope in envelopes))
        assert {receipt.error for receipt in receipts} == {"a transaction was not mined in time"}
        assert not any(receipt.outcomes[0].succeeded for receipt in receipts)
        stop.set()
        await running


async def test_a_chain_that_comes_back_is_served_again(relays):
    with lossy_rpc(relays.world.chain.url) as rpc:
        relays.relay.client = EvmClient(rpc.url, key("relay"))
        rpc.lose("eth_call")
        lost = await relays.relay.handle(relays.content(relays.transact()))
        assert (lost.error, lost.outcomes) == ("the chain did not take the transaction", ())
        again = await relays.relay.handle(relays.content(relays.transact(), reference=b"s" * 16))
    assert [outcome.succeeded for outcome in again.outcomes] == [True]


# ---- the desk: envelopes by gossip ------------------------------------------------------------------------------


async def test_malformed_envelopes_are_counted_and_logged_once_a_sender(relays, caplog):
    desk = EnvelopeDesk(relays.relay.client, X25519PrivateKey.generate(), relays.world.pool, lambda kind, payload: None)
    with caplog.at_level(logging.WARNING):
        for sender in (b"\1" * 20, b"\2" * 20, b"\1" * 20):
            desk.on_gossip(ENVELOPE_GOSSIP, b"\xff", sender)
    assert desk.malformed == 3
    assert [record.getMessage().count("01" * 20) for record in caplog.records] == [1, 0]


async def test_a_flood_of_envelopes_is_bounded(relays, monkeypatch):
    monkeypatch.setattr("hub.relay_roles.MAX_HANDLING", 2)
    answers: list[bytes] = []
    private = X25519PrivateKey.generate()
    desk = EnvelopeDesk(relays.relay.client, private, relays.world.pool, lambda kind, payload: answers.append(payload))
    key_of_desk = private.public_key().public_bytes_raw()
    for i in range(5):
        sealed = seal(key_of_desk, Content(bytes([i]) * 16, SOON, (relays.raw(b"\1" * 20, 1, nonce=i),)))
        desk.on_gossip(ENVELOPE_GOSSIP, messages.encode(Carried(bytes([i]) * 16, sealed)), b"\1" * 20)
    await asyncio.sleep(0)
    assert await desk.relay.flush() == 2
    assert desk.dropped == 3
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(answers) == 2
    following = seal(key_of_desk, Content(bytes([9]) * 16, SOON, (relays.raw(b"\1" * 20, 1, nonce=2),)))
    desk.on_gossip(ENVELOPE_GOSSIP, messages.encode(Carried(b"c" * 16, following)), b"\1" * 20)
    await asyncio.sleep(0)
    assert await desk.relay.flush() == 1
