"""The wallet as the agent runs it: notices in, envelopes out, which a relay's key opens; kills and losses in between."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import eth_abi
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from purse_kit import CIRCUIT_SET, whole

from edge_agent.config import (
    AgentConfig,
    DeviceSection,
    HomeSection,
    HubSection,
    MeterSection,
    MqttSection,
    WalletSection,
)
from edge_agent.services import AgentContext
from edge_agent.slots import IMPORTED, Baseline, ClosedSlot
from edge_agent.store import Store
from edge_agent.wallet import outbox, payer, proving
from edge_agent.wallet import service as wallet_service
from edge_agent.wallet.envelopes import ENVELOPES_PER_SLOT
from edge_agent.wallet.journal import Journal
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.service import WalletService
from edge_agent.wallet.spends import TRANSFER_TAG, ext_hash
from openmg.clock import VirtualClock
from openmg.envelope import Content, Envelope, Receipt, seal_receipt, unseal
from openmg.identity import DeviceKey
from openmg.messages import base, topics
from openmg.messages.market import (
    NO_ADDRESS,
    AccountNotice,
    ChainNotice,
    EnergyMarket,
    MarketNotice,
    NoteEntry,
    NotesBatch,
    NullifiersBatch,
)
from openmg.messages.telemetry import Roster, RosterMember
from openmg.signing import address_of
from openmg.zk import groth16
from openmg.zk.circuits import transfer
from openmg.zk.keys import default_cache_dir, ensure_keys
from openmg.zk.notes import Note, NoteScanner, encrypt_note

CHAIN_ID, PLASMA_ID = 77, 7_095
OPERATOR = b"\x44" * 32
RELAY = X25519PrivateKey.from_private_bytes(b"\x07" * 32)
MARKETS = (EnergyMarket(1, b"\x01" * 20, b"\x02" * 20),)
RELAYS = (RELAY.public_key().public_bytes_raw(),)
CHAIN = ChainNotice(PLASMA_ID, b"\x31" * 20, b"\x32" * 20, MARKETS, RELAYS, CIRCUIT_SET, (), NO_ADDRESS)
GWEI = 10**9
ALICE, BOB = OwnerKeys(b"a" * 32), OwnerKeys(b"b" * 32)
NOW_SLOT = 1_000
SPEED = 3600.0
"""A slot lasts a quarter of a second, so that envelopes, which leave at its times only, do not let a test wait."""
ACCOUNT = topics.account("home-1")


def market(*slots: int) -> MarketNotice:
    return MarketNotice(1, 1, 10_000 * 30 * GWEI, 10_000, 20 * GWEI, 40 * GWEI, slots)


def account(block: int, nonce: int) -> AccountNotice:
    return AccountNotice(block, nonce, 10**18, 0, 0)


def note(keys: OwnerKeys, amount: int) -> NoteEntry:
    made = Note(0, amount, keys.spending_key.public_key, secrets.randbelow(2**250))
    return NoteEntry(made.commitment, encrypt_note(made, keys.spending_key.address, secrets.token_bytes(32)))


def roster(*members: tuple[str, int, bytes], signer: bytes = OPERATOR) -> bytes:
    items = [RosterMember(name, bytes([i]) * 20, bytes(32), key, box) for i, (name, key, box) in enumerate(members, 1)]
    return base.sign(Roster(1, NOW_SLOT, tuple(items)), CHAIN_ID, signer)


def bob_in_roster() -> bytes:
    address = BOB.spending_key.address
    return roster(("home-2", address.public_key, address.encryption_key))


class Home:
    """A wallet over real files, and the wire to its hub, on which what it published waits to be looked at."""

    def __init__(self, folder: Path, **section: object) -> None:
        self.folder, self.sent = folder, []
        self.filters: list[str] = []
        self.clock = VirtualClock(NOW_SLOT * 900, time.time(), SPEED)
        self.store = Store(folder / "store.sqlite")
        self.section = WalletSection(folder / "seed", **{"demo": True, **section})  # type: ignore[arg-type]
        self.config = AgentConfig(
            DeviceSection("home-1", folder / "key", folder),
            MeterSection("127.0.0.1", 5020),
            MqttSection("mqtt://127.0.0.1:1883"),
            HubSection("0x" + address_of(OPERATOR).hex(), CHAIN_ID),
            HomeSection(1),
            wallet=self.section,
        )
        self.wallet: WalletService | None = None

    async def start(self) -> WalletService:
        self.filters.clear()
        self.wallet = WalletService(self.section, ALICE, self.folder)
        context = AgentContext(self.config, DeviceKey(b"d" * 32), self.store, self.clock, self.publish, self.filters.append)
        await self.wallet.start(context)
        return self.wallet

    async def restart(self) -> WalletService:
        await self.stop()
        return await self.start()

    async def stop(self) -> None:
        if self.wallet is not None:
            await self.wallet.stop()
            self.wallet = None

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        assert topic == "grid/v1/home-1/envelope" and qos == 1 and not retain
        self.sent.append(payload)
        return True

    async def hear(self, topic: str, message: object) -> None:
        assert self.wallet is not None
        await self.wallet.on_message(topic, message if isinstance(message, bytes) else base.encode(message))

    async def hear_the_chain(self, *slots: int) -> None:
        await self.hear(topics.CHAIN, CHAIN)
        await self.hear(topics.market(1), market(*slots))
        await self.hear(ACCOUNT, account(1, 0))

    def contents(self) -> list[Content]:
        """What was sent and is no dummy."""
        contents = (unseal(RELAY, base.decode(Envelope, payload)) for payload in self.sent)
        return [content for content in contents if content.actions]

    async def until_sent(self, count: int = 1) -> list[Content]:
        await until(lambda: len(self.contents()) >= count)
        return self.contents()

    def close_slot(self, slot: int, import_wh: int, flags: int = 0) -> None:
        """As the meter stores it."""
        assert self.store.move_baseline(Baseline(slot + 1, 10 * slot, 0), ClosedSlot(slot, import_wh, 0, flags))


@pytest.fixture
async def home_of(tmp_path: Path):
    made: list[Home] = []

    def make(**section: object) -> Home:
        made.append(Home(tmp_path, **section))
        return made[-1]

    yield make
    for home in made:
        await home.stop()
        home.store.close()


async def until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


# ---- listening --------------------------------------------------------------------------------------------------


async def test_notes_and_account_are_asked_for_once_the_contracts_are_known(home_of):
    """So that the broker hands out what it retains when the wallet can use it, however many messages that is."""
    home = home_of()
    await home.start()
    early = {topics.CHAIN, topics.ALL_ROSTERS, topics.receipt("home-1")}
    assert set(home.filters) == early
    await home.hear(topics.CHAIN, CHAIN)
    assert set(home.filters) == early | {ACCOUNT, topics.ALL_NOTES, topics.ALL_NULLIFIERS, topics.ALL_MARKETS}
    await home.hear(topics.CHAIN, CHAIN)
    assert len(home.filters) == 7


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (topics.CHAIN, b"\xff"),
        (ACCOUNT, base.encode(account(9, -1))),
        (topics.market(1), base.encode(MarketNotice(1, 9, -1, 1, 1, 1, ()))),
        (topics.notes(0), base.encode(NotesBatch(0, (NoteEntry(-1, b""),)))),
        (topics.nullifiers(0), base.encode(NullifiersBatch(0, (-1,)))),
        (topics.CHAIN, base.encode(replace(CHAIN, confidential_token=b"\x77" * 20))),
        (topics.roster(1, 0), roster(("home-2", 1, bytes(32)), signer=b"\x55" * 32)),
        (topics.receipt("home-1"), b""),
    ],
)
async def test_what_is_malformed_is_counted_told_once_and_dropped(home_of, caplog, topic, payload):
    home = home_of()
    wallet = await home.start()
    await home.hear_the_chain(NOW_SLOT)
    for _ in range(3):
        await home.hear(topic, payload)
    assert wallet.malformed == 3 and len(caplog.records) == 1 and topic in caplog.text
    await wallet.on_slot(NOW_SLOT, 250, 0)
    assert len(await home.until_sent()) == 1, "the wallet goes on as before"


async def test_a_stranger_who_makes_topics_up_does_not_fill_log_or_memory(home_of, caplog):
    home = home_of()
    wallet = await home.start()
    for i in range(2 * wallet_service.MAX_WARNINGS):
        await home.hear(topics.roster(i, 0), b"\xff")
    assert wallet.malformed == 2 * wallet_service.MAX_WARNINGS
    assert len(caplog.records) == wallet_service.MAX_WARNINGS


# ---- slots ------------------------------------------------------------------------------------------------------


async def test_slots_that_nobody_was_told_of_are_taken_from_the_meters_store(home_of):
    home = home_of()
    wallet = await home.start()
    await wallet.on_slot(NOW_SLOT, 250, 0)
    await home.stop()  # killed: these are stored, and the wallet never hears of them
    for slot in (NOW_SLOT, NOW_SLOT + 1, NOW_SLOT + 2):
        home.close_slot(slot, 100 + slot)
    wallet = await home.start()
    due = wallet._journal.due_slots()
    assert [(item.slot, item.import_wh) for item in due] == [
        (NOW_SLOT, 250), (NOW_SLOT + 1, 101 + NOW_SLOT), (NOW_SLOT + 2, 102 + NOW_SLOT),
    ]  # fmt: skip
    await wallet.on_slot(NOW_SLOT + 2, 102 + NOW_SLOT, 0)
    assert wallet._journal.slots_seen() == 3


async def test_the_past_before_the_wallets_first_start_is_not_its_business(home_of):
    home = home_of()
    home.close_slot(NOW_SLOT - 1, 50)
    home.store.import_slots([ClosedSlot(NOW_SLOT + 1, 70, 0, IMPORTED)], None)
    for _ in range(2):
        wallet = await home.start()
        assert wallet._journal.due_slots() == ()
        await home.stop()


async def test_a_slot_that_ended_while_the_wallet_started_is_its_own(home_of):
    """The first slot of a slow start is closed before the wallet runs, and told to it right after."""
    wallet = await home_of().start()
    for _ in range(2):
        await wallet.on_slot(NOW_SLOT - 1, 250, 0)
    assert [item.slot for item in wallet._journal.due_slots()] == [NOW_SLOT - 1]


async def test_slots_are_kept_while_no_chain_is_known(home_of):
    home = home_of()
    wallet = await home.start()
    await wallet.on_slot(NOW_SLOT, 250, 0)
    wallet = await home.restart()
    await home.hear_the_chain(NOW_SLOT)
    (content,) = await home.until_sent()
    assert len(content.actions) == 2


async def test_a_restart_sends_the_same_transactions_in_another_envelope(home_of):
    home = home_of()
    wallet = await home.start()
    await wallet.on_slot(NOW_SLOT, 250, 0)
    await home.hear_the_chain(NOW_SLOT)
    await home.until_sent()
    await home.restart()
    await home.hear_the_chain(NOW_SLOT)
    first, again = await home.until_sent(2)
    assert first.actions == again.actions and first.valid_until == again.valid_until
    assert first.reference != again.reference
    assert len({len(payload) for payload in home.sent}) == 1


# ---- payments ---------------------------------------------------------------------------------------------------

PAYING = {"pay_to": "home-2", "pay_wei": 40, "pay_after_slots": 1}
NOTES = tuple(whole(note(BOB, 5), note(ALICE, 100)))
_EXT = "(address,address,uint96,uint64,address,bytes,bytes)"
_TRANSACT = ("uint256[8]", "uint256", "uint256[2]", "uint256[2]", "uint96", _EXT)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wallet that waits for nothing longer than a test has to."""
    monkeypatch.setattr(wallet_service, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(wallet_service, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(payer, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(proving, "FIRST_PAUSE_SECONDS", 0.1)


async def ready_to_pay(home: Home, members: bytes) -> WalletService:
    wallet = await home.start()
    await home.hear_the_chain()
    await home.hear(topics.notes(0), NotesBatch(0, NOTES))
    await home.hear(topics.roster(1, 0), members)
    await wallet.on_slot(NOW_SLOT, 0, 0)
    return wallet


async def test_a_payment_is_proved_and_sent_until_its_change_is_seen(home_of, quick):
    home = home_of(**PAYING)
    wallet = await ready_to_pay(home, bob_in_roster())
    first, again = (await home.until_sent(2))[:2]
    assert first.actions == again.actions and first.reference != again.reference
    (action,) = first.actions
    assert action.target == CHAIN.confidential_token
    proof, root, nullifiers, commitments, public_out, ext = eth_abi.decode(_TRANSACT, action.data[4:])
    ciphertexts = (ext[5], ext[6])
    bound = ext_hash(TRANSFER_TAG, PLASMA_ID, CHAIN.confidential_token, CIRCUIT_SET, ext[3], ciphertexts)
    publics = [root, *nullifiers, *commitments, 0, 0, public_out, bound]
    key = ensure_keys(transfer.NAME).verifying_key
    assert groth16.verify(key, publics, b"".join(word.to_bytes(32, "big") for word in proof))
    assert public_out == 0 and ext[3] == first.valid_until
    paid = NoteScanner(BOB.spending_key.viewing_key).open(ciphertexts[0], commitments[0])
    assert paid is not None and paid.amount == 40
    made = tuple(whole(*map(NoteEntry, commitments, ciphertexts)))
    await home.hear(topics.notes(0), NotesBatch(0, NOTES + made))
    assert not wallet._notes.payment_under_way() and wallet._notes.has_payment("pay 0")
    await until(lambda: not wallet._payer.is_busy)
    count = len(home.contents())
    await asyncio.sleep(0.8)
    assert len(home.contents()) == count


async def test_a_prover_that_fails_is_tried_again_for_the_same_payment(home_of, quick, tmp_path, caplog):
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder of keys should be")
    home = home_of(**PAYING, cache_dir=cache)
    wallet = await ready_to_pay(home, bob_in_roster())
    await until(lambda: "no proof of transfer was made, trying again" in caplog.text)
    assert wallet._notes.payment_under_way() and not home.contents()
    ensure_keys(transfer.NAME)
    cache.unlink()
    cache.symlink_to(default_cache_dir())
    await home.until_sent()
    assert wallet._notes.payment_under_way()


async def test_a_payment_interrupted_by_a_restart_waits_for_its_end(home_of, quick):
    """Its proof may have left; so its notes stay aside until no chain takes it any more, and only they are used then."""
    home = home_of(**PAYING)
    await ready_to_pay(home, bob_in_roster())
    await asyncio.sleep(0.2)
    wallet = await home.restart()
    await home.hear_the_chain()
    await home.hear(topics.roster(1, 0), bob_in_roster())
    await home.hear(topics.notes(0), NotesBatch(0, NOTES))
    assert wallet._notes.payment_under_way() and not wallet._payer.is_busy and wallet.purse.balance_wei() == 0
    await wallet.on_slot(NOW_SLOT + 1, 0, 0)
    assert wallet._journal.slots_seen() == 2 and not wallet._payer.is_busy


async def test_a_receiver_without_a_wallet_is_told_once(home_of, quick, caplog):
    home = home_of(**PAYING)
    wallet = await ready_to_pay(home, roster(("home-2", 0, bytes(32))))
    await asyncio.sleep(0.5)
    assert wallet.purse.balance_wei() == 100 and not wallet._notes.payment_under_way()
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["home-2 cannot be paid"]


async def test_no_secret_is_in_log_arguments_or_environment_of_the_prover(home_of, quick, caplog):
    home = home_of(**PAYING)
    await ready_to_pay(home, bob_in_roster())
    secrets_of_alice = [ALICE.seed, ALICE.account_key, ALICE.spending_key.secret.to_bytes(32, "big")]
    texts = {text for secret in secrets_of_alice for text in (secret.hex(), str(int.from_bytes(secret, "big")))}
    seen = 0
    while not home.contents():
        await asyncio.sleep(0.02)
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                shown = " ".join([*child.cmdline(), *child.environ().values()])
                seen += "openmg.zk.prove" in shown
                assert not any(text in shown for text in texts)
    assert seen and not any(text in caplog.text for text in texts)


# ---- what an observer sees, and what the chain says ---------------------------------------------------------------


async def test_an_idle_and_a_busy_wallet_send_as_many_envelopes(home_of, quick):
    """The carrier counts envelopes per slot and measures them.

    What a place's time passed by is not sent later, so the slots are long beside what a loaded machine may sleep through.
    """
    home = home_of(**PAYING)
    home.clock = VirtualClock(NOW_SLOT * 900, time.time(), SPEED / 6)
    await home.start()
    await home.hear(topics.CHAIN, CHAIN)
    await asyncio.sleep(2.5)
    assert not home.contents()
    await home.hear(topics.notes(0), NotesBatch(0, NOTES))
    await home.hear(topics.roster(1, 0), bob_in_roster())
    await home.wallet.on_slot(NOW_SLOT, 0, 0)
    await home.until_sent()
    slots = home.clock.slot() - NOW_SLOT
    assert ENVELOPES_PER_SLOT * (slots - 1) <= len(home.sent) <= ENVELOPES_PER_SLOT * (slots + 1)
    assert len({len(payload) for payload in home.sent}) == 1


async def test_a_payment_that_the_chain_took_is_not_sent_again(home_of, quick):
    """Its nullifier is on chain at once, its change in the tree an epoch later."""
    home = home_of(**PAYING)
    wallet = await ready_to_pay(home, bob_in_roster())
    (content,) = (await home.until_sent())[:1]
    _, _, nullifiers, _, _, _ = eth_abi.decode(_TRANSACT, content.actions[0].data[4:])
    await home.hear(topics.nullifiers(0), NullifiersBatch(0, tuple(nullifiers)))
    await until(lambda: not wallet._payer.is_busy)
    count = len(home.contents())
    await asyncio.sleep(0.8)
    assert len(home.contents()) == count and wallet._notes.payment_under_way()


async def test_other_circuits_are_proved_for_at_once(home_of, quick):
    home = home_of(**PAYING)
    wallet = await ready_to_pay(home, bob_in_roster())
    first = (await home.until_sent())[0]
    await home.hear(topics.CHAIN, replace(CHAIN, circuit_set=b"\x99" * 32))
    await until(lambda: home.contents()[-1].actions != first.actions)
    old, new = (eth_abi.decode(_TRANSACT, content.actions[0].data[4:]) for content in (first, home.contents()[-1]))
    assert old[0] != new[0] and old[1:] == new[1:], "the same notes, so the chain takes one of the two"
    ext = ext_hash(TRANSFER_TAG, PLASMA_ID, CHAIN.confidential_token, b"\x99" * 32, new[5][3], (new[5][5], new[5][6]))
    key = ensure_keys(transfer.NAME).verifying_key
    publics = [new[1], *new[2], *new[3], 0, 0, new[4], ext]
    assert groth16.verify(key, publics, b"".join(word.to_bytes(32, "big") for word in new[0]))
    assert wallet.malformed == 0


async def test_what_a_relay_could_not_submit_goes_out_again(home_of, quick, monkeypatch):
    monkeypatch.setattr(outbox, "RESEND_SLOTS", 10**6)
    home = home_of(**PAYING)
    await ready_to_pay(home, bob_in_roster())
    (content,) = (await home.until_sent())[:1]
    receipt = seal_receipt(Receipt(content.reference, (), "QuotaExceeded"))
    await home.hear(topics.receipt("home-1"), receipt)
    again = (await home.until_sent(2))[1]
    assert again.actions == content.actions


async def test_a_thief_is_told_of_once(home_of, quick, caplog):
    """Somebody else has the seed: a nullifier of the owner's note appears, and this wallet has spent nothing."""
    home = home_of()
    wallet = await ready_to_pay(home, bob_in_roster())
    (stolen,) = wallet._notes.spendable(0)
    for place in (0, 1):
        await home.hear(topics.nullifiers(0), NullifiersBatch(0, (*(5,) * place, stolen.nullifier)))
    assert wallet.purse.balance_wei() == 0
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "somebody else spent the owner's notes at 1"
    ]


async def test_a_rewritten_chain_is_followed_and_told_once(home_of, quick, caplog):
    home = home_of()
    wallet = await ready_to_pay(home, bob_in_roster())
    for amount in (70, 30):
        await home.hear(topics.notes(0), NotesBatch(0, tuple(whole(note(ALICE, amount)))))
        assert wallet.purse.balance_wei() == amount
    assert len(caplog.records) == 1 and "notes from 0 on are read anew" in caplog.text


# ---- kill -9 ----------------------------------------------------------------------------------------------------

_SETTLE_FOR_EVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_trader import account, make_trader, market
trader, nonce = make_trader(Path({path!r})), 0
for slot in range(10_000):
    trader.journal.add_slot(slot, 250, 0)
    trader.on_market(market(slot, slot))
    trader.on_account(account(slot, nonce))
    sent = trader.next_envelope(slot)
    print(sent.first_nonce, *(raw.hex() for raw in sent.raw), flush=True)
    nonce += len(sent.raw)
"""


@pytest.mark.parametrize("after", [1, 7, 20])
def test_a_killed_wallet_never_has_two_envelopes_for_one_nonce(tmp_path, after):
    path = tmp_path / "wallet.sqlite"
    script = _SETTLE_FOR_EVER.format(tests=str(Path(__file__).parent), path=str(path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        left = [child.stdout.readline() for _ in range(after)]
        time.sleep(secrets.randbelow(1000) / 50_000)
        child.send_signal(signal.SIGKILL)
        left += [line for line in child.stdout if line.endswith("\n")]
    nonce, *raw = left[-1].split()
    journal = Journal(path)
    waiting, due = journal.under_way(), journal.due_slots()
    journal.close()
    assert len(due) <= 1, "a slot is due, or in the envelope, or done"
    if waiting is not None and waiting.first_nonce <= int(nonce):
        assert (waiting.first_nonce, [item.hex() for item in waiting.raw]) == (int(nonce), raw)
    else:  # the last one that left is known to have executed; another may have been written and not left
        assert waiting is None or waiting.first_nonce == int(nonce) + len(raw)
