"""The wallet after its meter was replaced: restored from words, it pays and shields nothing that the old one may have."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import eth_abi
import pytest
from purse_kit import whole
from test_wallet_service import (
    _TRANSACT,
    ALICE,
    BOB,
    NOTES,
    NOW_SLOT,
    PAYING,
    Home,
    bob_in_roster,
    home_of,  # noqa: F401 - a fixture
    quick,  # noqa: F401 - a fixture
    until,
)

from edge_agent.config import ProvingKeySection, WalletSection
from edge_agent.wallet import service as wallet_service
from edge_agent.wallet.journal import Journal, WalletError
from edge_agent.wallet.keys import OwnerKeys
from edge_agent.wallet.service import DATABASE, WalletService
from openmg.keys.text import encode_address
from openmg.messages import topics
from openmg.messages.market import NoteEntry, NotesBatch
from openmg.zk.notes import Note, NoteScanner, derive_blinding, encrypt_note


def restored(folder: Path, keys: OwnerKeys = ALICE) -> None:
    """What `openmg-agent wallet restore` leaves in the state folder."""
    journal = Journal(folder / DATABASE)
    journal.claim(keys.account, restored=True)
    journal.close()


async def hear_everything(home: Home, *leaves: NoteEntry) -> WalletService:
    wallet = await home.start()
    await home.hear_the_chain()
    await home.hear(topics.notes(0), NotesBatch(0, NOTES + leaves))
    await home.hear(topics.roster(1, 0), bob_in_roster())
    await wallet.on_slot(NOW_SLOT, 0, 0)
    return wallet


async def payment_of_the_old_meter(folder: Path) -> tuple[NoteEntry, ...]:
    """Leaves of "pay 0", which the old meter sent before it was replaced."""
    folder.mkdir()
    old = Home(folder, **PAYING)
    wallet = await hear_everything(old)
    (action,) = (await old.until_sent())[0].actions
    _, _, _, commitments, _, ext = eth_abi.decode(_TRANSACT, action.data[4:])
    assert wallet._notes.payment_under_way()
    await old.stop()
    old.store.close()
    return tuple(whole(*map(NoteEntry, commitments, (ext[5], ext[6]))))


async def test_a_restored_wallet_does_not_pay_what_its_predecessor_paid(home_of, quick, tmp_path, monkeypatch):  # noqa: F811
    made = await payment_of_the_old_meter(tmp_path / "old")
    monkeypatch.setattr(wallet_service, "restore_seconds", lambda clock: 1.0)
    restored(tmp_path)
    home = home_of(**PAYING)
    wallet = await hear_everything(home, *made)
    assert wallet.purse.balance_wei() == 60 and wallet._notes.has_payment("pay 0")
    await until(lambda: wallet._restored_until is None)
    await asyncio.sleep(0.5)
    assert not home.contents() and not wallet._notes.payment_under_way() and not wallet._journal.is_restored()


async def test_a_restored_wallet_pays_after_its_wait_what_nobody_paid(home_of, quick, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(wallet_service, "restore_seconds", lambda clock: 0.5)
    restored(tmp_path)
    home = home_of(**PAYING)
    wallet = await hear_everything(home)
    assert not wallet._payer.is_busy and wallet._journal.is_restored()
    await home.until_sent()
    assert wallet._notes.payment_under_way() and not wallet._journal.is_restored()


async def test_the_wait_begins_anew_when_it_is_cut_short(home_of, quick, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(wallet_service, "restore_seconds", lambda clock: 60.0)
    restored(tmp_path)
    home = home_of(**PAYING)
    await hear_everything(home)
    await home.stop()
    wallet = await hear_everything(home)
    assert wallet._restored_until is not None and wallet._journal.is_restored() and not wallet._payer.is_busy


@pytest.mark.parametrize("shielded", [False, True])
async def test_a_shielding_is_made_once_in_the_life_of_the_owner(home_of, quick, tmp_path, monkeypatch, shielded):  # noqa: F811
    monkeypatch.setattr(wallet_service, "restore_seconds", lambda clock: 0.3)
    restored(tmp_path)
    home = home_of(shield_wei=77)
    key = ALICE.spending_key
    mine = Note(0, 77, key.public_key, derive_blinding(ALICE.seed, b"shield" + (1).to_bytes(8, "big")))
    leaf = NoteEntry(mine.commitment, encrypt_note(mine, key.address, secrets.token_bytes(32)))
    wallet = await hear_everything(home, *(whole(leaf) if shielded else []))
    assert wallet._journal.shieldings() == 0
    await until(lambda: wallet._journal.shieldings() == 1)
    await asyncio.sleep(0.5)
    assert wallet._journal.shieldings() == 1 and len(home.contents()) == (0 if shielded else 1)


def test_a_database_is_of_one_owner(tmp_path):
    section = WalletSection(tmp_path / "seed", demo=True)
    for keys in (ALICE, ALICE):
        wallet = WalletService(section, keys, tmp_path)
        wallet._journal.close()
        wallet._notes.close()
    with pytest.raises(WalletError, match=f"is the wallet of 0x{ALICE.account.hex()}.*move one away"):
        WalletService(section, BOB, tmp_path)


async def test_an_address_can_be_paid_without_a_roster(home_of, quick):  # noqa: F811
    home = home_of(**PAYING | {"pay_to": encode_address(BOB.spending_key.address, "test")})
    wallet = await home.start()
    await home.hear_the_chain()
    await home.hear(topics.notes(0), NotesBatch(0, NOTES))
    await wallet.on_slot(NOW_SLOT, 0, 0)
    (action,) = (await home.until_sent())[0].actions
    _, _, _, commitments, _, ext = eth_abi.decode(_TRANSACT, action.data[4:])
    paid = NoteScanner(BOB.spending_key.viewing_key).open(ext[5], commitments[0])
    assert paid is not None and paid.amount == 40


def test_an_address_that_is_none_is_a_wrong_configuration(tmp_path):
    good = encode_address(BOB.spending_key.address, "test")
    for pay_to, network, why in (
        (good[:-1] + ("q" if good[-1] != "q" else "p"), "test", "its checksum is wrong"),
        (good, "main", "belongs to the network 'test'"),
        (good, "moon", "network is 'moon'"),
    ):
        with pytest.raises(ValueError, match=why):
            WalletSection(tmp_path / "seed", pay_to=pay_to, network=network, demo=True)


def test_a_wallet_proves_with_a_ceremonys_keys_or_as_a_demo_and_never_with_both(tmp_path):
    seed, digest = tmp_path / "seed", "ab" * 32
    transfer, merge, mint = (ProvingKeySection(name, tmp_path / name, digest) for name in ("transfer", "merge", "mint"))
    wallet = WalletSection(seed, proving_keys=(transfer, merge, mint))
    assert wallet.proving_key("merge") == merge and wallet.proving_key("burn") is None
    for keys, demo in (((), False), ((transfer, merge), True), ((transfer,), False), ((transfer, merge, merge), False)):
        with pytest.raises(ValueError, match="proving_keys"):
            WalletSection(seed, proving_keys=keys, demo=demo)
    for circuit, sha256 in (("append", digest), ("transfer", "ab")):
        with pytest.raises(ValueError):
            ProvingKeySection(circuit, seed, sha256)
