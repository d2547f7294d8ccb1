"""Envelope relays: sealed transactions reach the chain at the slot's end, nothing else does, and a receipt tells the truth."""

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
from pool_world import AMOUNT, BLINDING, QUOTA, Ext, Transfer, World, create, deploy_pool

from hub.carrier import ENVELOPE_GOSSIP, Carried
from hub.chain.client import EvmClient
from hub.relay.envelope import EnvelopeRelay
from hub.relay_roles import EnvelopeDesk
from openmg.clock import VirtualClock
from openmg.envelope import MAX_ERROR_BYTES, Action, Content, Envelope, Receipt, SealedReceipt, seal, unseal_receipt
from openmg.evm.transaction import Transaction
from openmg.messages import base as messages
from openmg.units import SLOT_SECONDS
from openmg.zk.notes import CIPHERTEXT_BYTES

SOON = int(time.time()) + 3_600
REFERENCE = b"r" * 16
QUICK = VirtualClock(0, 0.0, SLOT_SECONDS / 0.02)
"""Slots of 20 ms."""
CALLS = ("transact", "merge")
EXPIRES_AFTER_SECONDS = 1_000


@dataclass
class Relays:
    world: World
    relay: EnvelopeRelay
    transfer: Transfer
    expiring: Transfer

    def raw(self, to: bytes, value: int = 0, nonce: int = 0, data: bytes = b"", owner: str = "home") -> Action:
        chain_id = self.world.owner.chain_id()
        return Action(b"", Transaction(chain_id, nonce, to, data, 100_000, value).sign(key(owner)))

    def content(self, *actions: Action, reference: bytes = REFERENCE, valid_until: int = SOON) -> Envelope:
        return seal(self.relay.public_key, Content(reference, valid_until, actions))

    def transact(self, transfer: Transfer | None = None) -> Action:
        data = self.world.owner.call_data(self.world.pool, "transact", *(transfer or self.transfer).arguments())
        return Action(self.world.pool.address, data)

    async def send(self, *actions: Action, reference: bytes = REFERENCE, valid_until: int = SOON) -> Receipt:
        return await answer(self.relay, self.content(*actions, reference=reference, valid_until=valid_until), reference)

    def other(self, name: str, clock: VirtualClock = QUICK) -> EnvelopeRelay:
        """Another relay of the same world, whose account needs no quota until it submits a proof; it does not run."""
        return EnvelopeRelay(self.world.chain.client(name), X25519PrivateKey.generate(), allowed(self.world), clock)

    def is_spent(self) -> bool:
        return bool(self.world.owner.call(self.world.pool, "isSpent", self.transfer.publics.nullifiers[0]))


def allowed(world: World) -> dict[bytes, frozenset[bytes]]:
    return {world.pool.address: frozenset(EvmClient.selector(world.pool, name) for name in CALLS)}


async def answer(relay: EnvelopeRelay, envelope: Envelope, reference: bytes = REFERENCE) -> Receipt:
    sealed = await relay.handle(envelope)
    assert sealed is not None
    return unseal_receipt(reference, sealed)


@pytest.fixture(scope="module")
def base(quick_node: Chain) -> Iterator[tuple[World, Transfer, Transfer]]:
    """A pool with one note in the tree and two proofs that spend it; one of them expires on chain."""
    with quick_node.undone():
        owner = quick_node.client("note owner")
        quick_node.give(owner.address, 100 * ETHER)
        pool, verifiers = deploy_pool(owner, owner.address)
        for relay in ("relay", "relay 2"):
            owner.transact(pool, "setRelay", quick_node.client(relay).address, QUOTA)
        world = World(quick_node, owner, pool, verifiers, create(owner, "testing/HostileToken"), pool)
        world.shield(AMOUNT, BLINDING)
        world.append()
        note = world.note(AMOUNT, BLINDING, 0)
        forever = Ext(ciphertext1=b"\1" * CIPHERTEXT_BYTES, ciphertext2=b"\2" * CIPHERTEXT_BYTES)
        soon = replace(forever, valid_until=owner.block("latest").timestamp + EXPIRES_AFTER_SECONDS)
        yield world, *(world.prove([note], [AMOUNT - 5, 5], 0, ext) for ext in (forever, soon))


@pytest.fixture
def still(base: tuple[World, Transfer, Transfer], chain: Chain) -> Relays:
    """A relay that submits when a test flushes it."""
    chain.give(chain.client("home").address, ETHER)
    world = replace(base[0], owner=chain.client("note owner"))
    relay = EnvelopeRelay(chain.client("relay"), X25519PrivateKey.generate(), allowed(world), QUICK)
    return Relays(world, relay, base[1], base[2])


@pytest.fixture
async def relays(still: Relays) -> AsyncIterator[Relays]:
    """The relay at work, with a slot's end every 20 ms."""
    stop = asyncio.Event()
    task = asyncio.create_task(still.relay.run(stop))
    yield still
    stop.set()
    await task


async def started(*calls: object) -> list[asyncio.Task[SealedReceipt | None]]:
    """The calls as tasks that have all begun to wait."""
    tasks = [asyncio.ensure_future(call) for call in calls]  # type: ignore[call-overload]
    await asyncio.sleep(0)
    return tasks


async def test_signed_transactions_are_submitted_in_order(relays):
    receipt = await relays.send(*(relays.raw(bytes([i + 1]) * 20, 10 + i, nonce=i) for i in range(3)))
    assert receipt.error == ""
    assert [outcome.succeeded for outcome in receipt.outcomes] == [True] * 3
    assert [relays.world.owner.balance(bytes([i + 1]) * 20) for i in range(3)] == [10, 11, 12]


async def test_a_private_transfer_needs_no_account_of_the_home(relays):
    receipt = await relays.send(relays.transact())
    assert (receipt.error, len(receipt.outcomes)) == ("", 1)
    assert relays.is_spent()
    sent = relays.world.owner.rpc("eth_getTransactionByHash", "0x" + receipt.outcomes[0].transaction.hex())
    assert sent["from"] == "0x" + relays.relay.client.address.hex()


async def test_a_spent_note_is_refused_by_name(relays):
    await relays.send(relays.transact())
    receipt = await relays.send(relays.transact(), reference=b"s" * 16)
    assert (receipt.error, receipt.outcomes) == ("refused: AlreadySpent", ())


async def test_an_envelope_that_comes_again_gets_the_same_receipt(relays):
    envelope = relays.content(relays.raw(b"\1" * 20, 10))
    first, twice = await asyncio.gather(answer(relays.relay, envelope), answer(relays.relay, envelope))
    again = await answer(relays.relay, envelope)
    assert first == twice == again and first.outcomes[0].succeeded
    assert relays.world.owner.balance(b"\1" * 20) == 10
    assert relays.relay.status().repeated == 2


async def test_a_dummy_is_answered_and_forgotten(relays):
    before = relays.world.owner.block_number()
    for _ in range(2):
        assert await relays.send(valid_until=0) == Receipt(REFERENCE, (), "")
    assert relays.world.owner.block_number() == before
    status = relays.relay.status()
    assert (status.dummies, status.repeated, status.refused, status.transactions) == (2, 0, 0, 0)


async def test_a_failed_transaction_is_reported_as_failed(relays):
    """It was signed with enough gas, so the chain takes it and it fails there."""
    data = relays.world.owner.call_data(relays.world.token, "transfer", b"\1" * 20, 1)
    receipt = await relays.send(relays.raw(relays.world.token.address, data=data))
    assert [outcome.succeeded for outcome in receipt.outcomes] == [False]
    assert relays.relay.status().failed == 1


async def test_what_the_node_refuses_ends_the_envelope(relays):
    receipt = await relays.send(relays.raw(b"\1" * 20, 5 * ETHER), relays.raw(b"\2" * 20, 1))
    assert (receipt.error, receipt.outcomes) == ("the chain did not take the transaction", ())
    assert relays.world.owner.balance(b"\2" * 20) == 0


async def test_envelopes_that_cannot_be_opened_get_no_answer(relays):
    good = relays.content(relays.raw(b"\1" * 20, 1))
    for sealed in (good.sealed[:-1] + bytes([good.sealed[-1] ^ 1]), bytes(len(good.sealed))):
        assert await relays.relay.handle(Envelope(good.relay, sealed)) is None
    foreign = X25519PrivateKey.generate().public_key().public_bytes_raw()
    assert await relays.relay.handle(seal(foreign, Content(REFERENCE, SOON, (relays.transact(),)))) is None
    assert relays.relay.status().refused == 3
    assert relays.world.owner.balance(b"\1" * 20) == 0


async def test_attack_a_contracts_own_text_is_not_told(relays):
    """A receipt names the error and has one size, however much a contract says (200 KiB of it at every call)."""
    revert = "0x7f" + (b"\x08\xc3\x79\xa0" + bytes(28)).hex() + "5f52620320005ffd"
    relays.world.owner.rpc("anvil_setCode", relays.world.pool.checksum_address, revert)
    receipt = await relays.send(relays.transact())
    assert receipt.error.startswith("refused: ") and len(receipt.error.encode()) <= MAX_ERROR_BYTES
    assert receipt.outcomes == ()


# ---- attacks --------------------------------------------------------------------------------------------------------


async def test_attack_order_of_arrival_is_not_order_of_submission(still):
    """Over twelve slots of eight envelopes the two orders have nothing to do with each other (false alarm below 1e-6)."""
    homes, slots = [f"home {i}" for i in range(8)], 12
    for name in homes:
        still.world.chain.give(still.world.chain.client(name).address, ETHER)
    total = 0.0
    for slot in range(slots):
        tasks = await started(
            *(
                still.send(still.raw(b"\x09" * 20, 1, nonce=slot, owner=name), reference=bytes([i, slot]) * 8)
                for i, name in enumerate(homes)
            )
        )
        assert await still.relay.flush() == len(homes)
        hashes = [(await task).outcomes[0].transaction for task in tasks]
        blocks = [still.world.owner.receipt(tx_hash).block for tx_hash in hashes]
        ranks = [sorted(blocks).index(block) for block in blocks]
        total += rank_correlation(ranks)
    assert still.world.owner.balance(b"\x09" * 20) == slots * len(homes)
    assert abs(total / slots) < 0.55  # five standard deviations of 1 / sqrt(7 * 12)


def rank_correlation(ranks: list[int]) -> float:
    """Spearman's coefficient of the ranks and their places."""
    n = len(ranks)
    return 1 - 6 * sum((i - rank) ** 2 for i, rank in enumerate(ranks)) / (n * (n * n - 1))


async def test_attack_nothing_is_submitted_before_the_slots_end(still):
    """So that the time at which a home sends does not show on chain."""
    clock = VirtualClock(0, time.time(), SLOT_SECONDS / 1.0)
    relay = still.other("slow relay", clock)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    content = Content(REFERENCE, SOON, (still.raw(b"\1" * 20, 10),))
    (sending,) = await started(relay.handle(seal(relay.public_key, content)))
    await asyncio.sleep(max(0.0, clock.wall_until(0.6 * SLOT_SECONDS)))
    assert not sending.done() and still.world.owner.balance(b"\1" * 20) == 0
    assert await asyncio.wait_for(sending, 5) is not None
    assert clock.now() >= SLOT_SECONDS - 1 and still.world.owner.balance(b"\1" * 20) == 10
    (unsent,) = await started(relay.handle(seal(relay.public_key, replace(content, reference=b"s" * 16))))
    stop.set()
    await running
    assert not unsent.done(), "a relay that stops submits nothing early"
    unsent.cancel()


async def test_attack_the_time_of_a_receipt_does_not_tell_a_dummy(still):
    """All receipts of a slot wait for its end, and then for the chain, whatever they answer."""
    known = still.content(still.raw(b"\1" * 20, 10), reference=b"k" * 16)
    first = await started(still.relay.handle(known))
    await still.relay.flush()
    assert await first[0] is not None
    envelopes = [
        still.content(valid_until=0, reference=b"d" * 16),
        still.content(still.raw(b"\1" * 20, 1, nonce=1)),
        still.content(still.raw(b"\1" * 20, 1, nonce=2), reference=b"x" * 16, valid_until=5),
        still.content(Action(b"\5" * 20, b"xxxx"), reference=b"n" * 16),
        known,
    ]
    tasks = await started(*(still.relay.handle(envelope) for envelope in envelopes))
    still.world.owner.rpc("evm_setAutomine", False)
    try:
        flushing = asyncio.create_task(still.relay.flush())
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in tasks)
        still.world.owner.rpc("evm_mine")
        await flushing
    finally:
        still.world.owner.rpc("evm_setAutomine", True)
    receipts = [await task for task in tasks]
    assert len({len(messages.encode(receipt)) for receipt in receipts}) == 1
    references = [b"d" * 16, REFERENCE, b"x" * 16, b"n" * 16, b"k" * 16]
    plain = [unseal_receipt(reference, receipt) for reference, receipt in zip(references, receipts, strict=True)]
    assert [len(receipt.outcomes) for receipt in plain] == [0, 1, 0, 0, 1]


async def test_attack_a_replay_does_not_tell_a_dummy(still):
    """What is sent again waits like new, does nothing again, and its receipt has the size of any other."""
    envelopes = [still.content(valid_until=0, reference=b"d" * 16), still.content(still.transact())]
    for _ in range(2):
        tasks = await started(*(still.relay.handle(envelope) for envelope in envelopes))
        assert not any(task.done() for task in tasks)
        assert await still.relay.flush() == 2
        sealed = [await task for task in tasks]
        assert len({len(messages.encode(item)) for item in sealed}) == 1
        assert unseal_receipt(REFERENCE, sealed[1]).outcomes[0].succeeded
    assert still.relay.status().transactions == 1


async def test_attack_a_home_makes_the_relay_sign_for_it(relays):
    """Nothing is signed but allowed calls of the contract they are allowed for."""
    pool = relays.world.pool
    owners = relays.world.owner.call_data(pool, "setDepositsPaused", True)
    actions = [Action(pool.address, owners), Action(b"\5" * 20, relays.transact().data), Action(b"\5" * 20, b"x")]
    for i, action in enumerate(actions):
        receipt = await relays.send(relays.transact(), action, reference=bytes([i]) * 16)
        assert (receipt.outcomes, "signs no call" in receipt.error) == ((), True)
    assert relays.relay.status().refused == 3 and not relays.is_spent()
    assert (await relays.send(relays.transact())).error == ""


async def test_attack_an_envelope_kept_back_until_it_expired(relays):
    """A carrier that delays gains nothing: the relay refuses, and for a relay that does not, the contract does."""
    late = await relays.send(relays.transact(), valid_until=int(time.time()) - 1)
    assert (late.error, late.outcomes) == ("the envelope has expired", ())
    relays.world.chain.skip(EXPIRES_AFTER_SECONDS + 1)
    landed = await relays.send(relays.transact(relays.expiring), reference=b"s" * 16)
    assert (landed.error, landed.outcomes) == ("refused: Expired", ())
    assert not relays.is_spent()


async def test_attack_two_relays_are_given_the_same_call(still):
    """In one block: one counts, and the receipt of the other says that its own did nothing."""
    relays = [still.relay, still.other("relay 2")]
    envelopes = [seal(relay.public_key, Content(REFERENCE, SOON, (still.transact(),))) for relay in relays]
    tasks = await started(*(answer(relay, envelope) for relay, envelope in zip(relays, envelopes, strict=True)))
    still.world.owner.rpc("evm_setAutomine", False)
    try:
        flushing = [asyncio.create_task(relay.flush()) for relay in relays]
        async with asyncio.timeout(10):
            while int(still.world.owner.rpc("txpool_status")["pending"], 16) < 2:
                await asyncio.sleep(0.02)
        still.world.owner.rpc("evm_mine")
        await asyncio.gather(*flushing)
    finally:
        still.world.owner.rpc("evm_setAutomine", True)
    outcomes = [(await task).outcomes[0] for task in tasks]
    assert sorted(outcome.succeeded for outcome in outcomes) == [False, True]
    assert len({outcome.transaction for outcome in outcomes}) == 2
    assert still.is_spent()


async def test_attack_a_full_relay_says_so(still, monkeypatch):
    monkeypatch.setattr("hub.relay.envelope.MAX_WAITING", 1)
    waiting = await started(still.send(still.raw(b"\1" * 20, 1)))
    beyond = await asyncio.wait_for(still.send(still.raw(b"\2" * 20, 1), reference=b"s" * 16), 5)
    assert "full" in beyond.error and beyond.outcomes == ()
    assert await still.relay.flush() == 1
    assert (await waiting[0]).error == "" and still.world.owner.balance(b"\2" * 20) == 0


async def test_attack_remembered_receipts_are_bounded(still, monkeypatch):
    monkeypatch.setattr("hub.relay.envelope.MAX_REMEMBERED", 2)
    for nonce in range(3):
        tasks = await started(still.send(still.raw(b"\1" * 20, 1, nonce=nonce), reference=bytes([nonce]) * 16))
        await still.relay.flush()
        assert (await tasks[0]).error == ""
    assert len(still.relay._receipts) == 2


# ---- a chain that is away -------------------------------------------------------------------------------------------


async def test_a_chain_that_stands_still_holds_nobody_up_for_long(start_node, monkeypatch):
    """All receipts of one submission are waited for together: as many envelopes as there are do not add up."""
    monkeypatch.setattr("hub.relay.envelope.RECEIPT_SECONDS", 1.0)
    with start_node(7_051, 3_600) as node:
        relay = EnvelopeRelay(EvmClient(node.url, key("relay")), X25519PrivateKey.generate(), {}, QUICK)
        sending = []
        for i in range(20):
            raw = Transaction(7_051, 0, b"\5" * 20, b"", 21_000, 0).sign(key(f"home {i}"))
            envelope = seal(relay.public_key, Content(bytes([i]) * 16, SOON, (Action(b"", raw),)))
            sending.append(answer(relay, envelope, bytes([i]) * 16))
        tasks = await started(*sending)
        async with asyncio.timeout(10):  # one after the other they would take twenty seconds
            await relay.flush()
            receipts = [await task for task in tasks]
        assert {receipt.error for receipt in receipts} == {"a transaction was not mined in time"}
        assert not any(receipt.outcomes[0].succeeded for receipt in receipts)


async def test_a_chain_that_comes_back_is_served_again(relays):
    with lossy_rpc(relays.world.chain.url) as rpc:
        relays.relay.client = EvmClient(rpc.url, key("relay"))
        rpc.lose("eth_call")
        lost = await relays.send(relays.transact())
        assert (lost.error, lost.outcomes) == ("the chain did not take the transaction", ())
        again = await relays.send(relays.transact(), reference=b"s" * 16)
    assert [outcome.succeeded for outcome in again.outcomes] == [True]


# ---- the desk: envelopes by gossip ----------------------------------------------------------------------------------


def make_desk(still: Relays, answers: list[bytes]) -> EnvelopeDesk:
    return EnvelopeDesk(
        still.relay.client,
        X25519PrivateKey.generate(),
        allowed(still.world),
        lambda kind, payload: answers.append(payload),
        QUICK,
    )


def hear(desk: EnvelopeDesk, still: Relays, number: int, sender: bytes = b"\1" * 20) -> None:
    content = Content(bytes([number]) * 16, SOON, (still.raw(b"\1" * 20, 1, nonce=number),))
    carried = Carried(bytes([number]) * 16, seal(desk.relay.public_key, content))
    desk.on_gossip(ENVELOPE_GOSSIP, messages.encode(carried), sender)


async def test_malformed_envelopes_are_counted_and_logged_once_a_sender(still, caplog):
    desk = make_desk(still, [])
    with caplog.at_level(logging.WARNING):
        for sender in (b"\1" * 20, b"\2" * 20, b"\1" * 20):
            desk.on_gossip(ENVELOPE_GOSSIP, b"\xff", sender)
    assert desk.malformed == 3
    assert [record.getMessage().count("01" * 20) for record in caplog.records] == [1, 0]


async def test_attack_a_flood_of_envelopes_is_bounded(still, monkeypatch):
    monkeypatch.setattr("hub.relay_roles.MAX_HANDLING", 2)
    answers: list[bytes] = []
    desk = make_desk(still, answers)
    for number in range(5):
        hear(desk, still, number)
    await asyncio.sleep(0)
    assert await desk.relay.flush() == 2 and desk.dropped == 3
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(answers) == 2
    hear(desk, still, 2)
    await asyncio.sleep(0)
    assert await desk.relay.flush() == 1


async def test_attack_the_flood_of_one_hub_does_not_keep_the_others_out(still, monkeypatch):
    monkeypatch.setattr("hub.relay_roles.MAX_HANDLING_OF_ONE", 2)
    desk = make_desk(still, [])
    for number in range(5):
        hear(desk, still, number)
    hear(desk, still, 2, sender=b"\2" * 20)
    await asyncio.sleep(0)
    assert await desk.relay.flush() == 3 and desk.dropped == 3
    for _ in range(3):
        await asyncio.sleep(0)
    hear(desk, still, 3)
    await asyncio.sleep(0)
    assert await desk.relay.flush() == 1, "what is answered no longer counts"
