"""Envelope relays: sealed transactions reach the chain, nothing else does, and a receipt tells the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from evm_world import ETHER, Chain, key
from pool_world import AMOUNT, BLINDING, Ext, Transfer, World, create, deploy_pool, partial

from hub.relay.envelope import EnvelopeRelay
from openmg.envelope import Action, Content, Envelope, seal
from openmg.evm.transaction import Transaction
from openmg.zk.circuits.transfer import TransferInput

SOON = int(time.time()) + 3_600


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
